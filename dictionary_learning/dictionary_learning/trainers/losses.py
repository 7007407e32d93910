"""The terms of the training losses: pure functions of tensors.

Each is this process's share of a mean over the whole batch: a sum over its rows, divided by the tokens of all
processes. Shares add up to the loss, and their gradients to its gradient; for one process it is the loss.

Shapes: B tokens of this process, N of all (of a code: its entries), C rows at a time, D model width,
F latents, G groups. T-SAE is arXiv 2511.05541.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from dictionary_learning import distributed
from dictionary_learning.dictionaries.sparse import (
    SparseCode,
    gather_sum,
    gather_sum_transposed,
    gathered,
    on_cpu,
    sampled,
    starts,
)
from dictionary_learning.trainers.trainer import CHUNK, batch_variance

SAFE_EXPONENT = 60.0  # the exponential, and the sum of many, is far from both ends of float32


def reconstruction_losses(
    x_BD: Tensor,
    code: SparseCode,
    W_dec_FD: Tensor,
    b_dec_D: Tensor,
    group_ends: Sequence[int],
    n_tokens: int,
) -> tuple[Tensor, Tensor]:
    """Mean squared distance of each group's reconstruction, [G], and the last group's residual [B, D].

    The mean over b of ||x - x_hat_g||^2, where x_hat_g = b_dec + what latents up to the end of group g add up
    to. The residual carries no gradient.
    """
    return _Reconstruction.apply(
        code.values_N, W_dec_FD, b_dec_D, x_BD, code.row_N, code.col_N, list(group_ends), n_tokens
    )


class _Reconstruction(torch.autograd.Function):
    """Every group's residual from one gather of decoder rows, and their gradients from one more.

    A group's reconstruction holds all groups before it, so the gradient of what group g adds is that of its
    own residual and of all behind it.
    """

    @staticmethod
    def forward(
        ctx: Any,
        values_N: Tensor,
        W_dec_FD: Tensor,
        b_dec_D: Tensor,
        x_BD: Tensor,
        row_N: Tensor,
        col_N: Tensor,
        group_ends: list[int],
        n_tokens: int,
    ) -> tuple[Tensor, Tensor]:
        B, G = len(x_BD), len(group_ends)
        bag_N = torch.add(col_N >= group_ends[0], row_N, alpha=G) if G > 1 else row_N
        for end in group_ends[1:-1]:
            bag_N = bag_N + (col_N >= end)
        start_b = starts(bag_N, B * G)
        residual_BGD = gather_sum(values_N, W_dec_FD, bag_N, col_N, B * G, start_b).view(B, G, -1)
        before_BD = x_BD - b_dec_D
        for residual_BD in residual_BGD.unbind(1):
            before_BD = torch.sub(before_BD, residual_BD, out=residual_BD)
        ctx.save_for_backward(values_N, W_dec_FD, residual_BGD, bag_N, col_N, start_b)
        ctx.set_materialize_grads(False)  # zeros for the residual, which has none
        ctx.n_tokens = n_tokens
        last_BD = residual_BGD[:, -1]
        ctx.mark_non_differentiable(last_BD)
        return _squares(residual_BGD) / n_tokens, last_BD

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        values_N, W_dec_FD, residual_BGD, bag_N, col_N, start_b = ctx.saved_tensors
        grad_BGD = residual_BGD * (grads[0] * (-2 / ctx.n_tokens))[:, None]
        for g in reversed(range(grad_BGD.shape[1] - 1)):
            grad_BGD[:, g].add_(grad_BGD[:, g + 1])
        grad_CD = grad_BGD.flatten(0, 1)
        d_values = sampled(grad_CD, W_dec_FD, bag_N, col_N, start_b)
        d_W_dec = gather_sum_transposed(values_N, grad_CD, bag_N, col_N, len(W_dec_FD))
        return d_values, d_W_dec, grad_BGD[:, 0].sum(0), None, None, None, None, None


def _squares(residual_BGD: Tensor) -> Tensor:
    """Summed squares of each group, [G]; on a CPU row by row, without a copy of all of them."""
    if on_cpu(residual_BGD):
        return torch.linalg.vector_norm(residual_BGD, dim=2).square().sum(0)
    return residual_BGD.square().sum((0, 2))


def matryoshka_weights(group_weights: Sequence[float], form: str) -> list[float]:
    """What each group's reconstruction loss counts in their sum.

    `paper` sums them (T-SAE, section 3); `code`, the released implementation, weighs them and
    takes the mean, so it is smaller by a factor of about G / w_g.
    """
    if form == "paper":
        return [1.0] * len(group_weights)
    return [weight / len(group_weights) for weight in group_weights]


def contrastive_loss(
    z: SparseCode,
    z_earlier: SparseCode,
    form: str,
    temperature: float = 1.0,
    run_length: int = 1,
    text_B: Tensor | None = None,
) -> Tensor:
    """Symmetric InfoNCE between high-level codes of tokens and of earlier tokens of their texts.

    Row b of `z` should be nearer to row b of `z_earlier` than to any other row, and conversely. The rows of
    `z_earlier` of all processes are compared with; they are sent as what is not zero of them.
    `paper` compares by cosine similarity (T-SAE, section 3), `code` by the dot product.

    Args:
        run_length: r, where rows are r pairs of each of B / r runs of adjacent tokens, position by position
            (row i * B / r + j is pair i of run j). A run's pairs are then left out of each other's sums: a
            token's neighbours are nearly itself, and no example of what it should be far from.
        text_B: the text of each pair, equal ids for one: then all pairs of one text, of whichever process,
            are left out of each other's sums. A pair without any other text has a loss of 0.
    """
    if form == "paper":
        z, z_earlier = unit_rows(z), unit_rows(z_earlier)
    if temperature != 1:
        z = replace(z, values_N=z.values_N / temperature)
    z_earlier, first = gathered(z_earlier)
    no_negatives = NoNegatives(
        first, run_length, text_B, None if text_B is None else distributed.gather(text_B)
    )
    return _SymmetricInfoNCE.apply(z.values_N, z_earlier.values_N, z, z_earlier, no_negatives)


class NoNegatives(NamedTuple):
    """Which of the other pairs are no negatives of a pair: those of its run, or of its text."""

    first: int
    """Of the rows of this process among all."""
    run_length: int
    text_B: Tensor | None
    text_N: Tensor | None
    """Of all processes."""

    def set(self, x_BN: Tensor, value: float) -> Tensor:
        """The same tensor with a value written for such pairs, and never for a pair itself."""
        if self.text_B is not None and self.text_N is not None:
            own_B = x_BN.diagonal(self.first).clone()
            C = CHUNK if on_cpu(x_BN) else max(1, len(x_BN))
            for x_CN, text_C in zip(x_BN.split(C), self.text_B.split(C), strict=True):
                x_CN.masked_fill_(text_C[:, None] == self.text_N, value)
            x_BN.diagonal(self.first).copy_(own_B)
        elif self.run_length > 1:
            B, r = len(x_BN), self.run_length
            by_run = x_BN[:, self.first : self.first + B].unflatten(0, (r, -1)).unflatten(2, (r, -1))
            of_runs_rrR = by_run.diagonal(dim1=1, dim2=3)
            for i in range(r):
                of_runs_rrR[i, :i] = value
                of_runs_rrR[i, i + 1 :] = value
        return x_BN


def dot_products(z: SparseCode, other_FN: Tensor, z_BF: Tensor | None = None) -> Tensor:
    """All dot products [B, N] of the rows of a code and the columns of `other_FN`, without gradient.

    Args:
        z_BF: the same code where a dense product is quicker than gathering.
    """
    if z_BF is not None:
        return z_BF @ other_FN
    return gather_sum(z.values_N, other_FN, z.row_N, z.col_N, z.n_rows)


class _SymmetricInfoNCE(torch.autograd.Function):
    """Minus the mean over n of the log-softmax at (n, n), by rows and by columns, halved.

    Of the logits [N, N] between all tokens each process has its own rows, from `first` on. A row's softmax is
    its own affair; a column's is put together from all processes. The gradient by the logits is
    (softmax by rows + softmax by columns - 2 I) / 2N, made where they stand; what it means for the codes is
    worked out at once, so that nothing of that size waits for the backward pass.
    """

    @staticmethod
    def forward(
        ctx: Any,
        values_N: Tensor,
        other_N: Tensor,
        z: SparseCode,
        other: SparseCode,
        no_negatives: NoNegatives,
    ) -> Tensor:
        z, other = replace(z, values_N=values_N), replace(other, values_N=other_N)
        place_N = other.places_by_latent()
        other_FN = other.dense_by_latent(place_N)
        z_BF = None if on_cpu(other_FN) else z.dense()
        logits_BN = dot_products(z, other_FN, z_BF)
        n_tokens = logits_BN.shape[1]
        log_likelihood_B, gradient_BN = _softmax_both_ways(logits_BN, no_negatives)
        if z_BF is None:
            d_values = sampled(gradient_BN, other_FN, z.row_N, z.col_N)
            d_other_FN = gather_sum_transposed(z.values_N, gradient_BN, z.row_N, z.col_N, z.n_cols)
        else:
            d_values = (other_FN @ gradient_BN.T)[z.col_N, z.row_N]
            d_other_FN = z_BF.T @ gradient_BN
        ctx.save_for_backward(d_values, d_other_FN.view(-1).index_select(0, place_N))
        ctx.n_tokens = n_tokens
        return log_likelihood_B.sum() * (-0.5 / n_tokens)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        scale = grads[0] * (0.5 / ctx.n_tokens)
        d_values, d_other = torch._foreach_mul(ctx.saved_tensors, scale)
        return d_values, d_other, None, None, None


def _softmax_both_ways(logits_BN: Tensor, no_negatives: NoNegatives) -> tuple[Tensor, Tensor]:
    """Log-softmax by rows and by columns at (b, first + b), added up [B]; the sum of both softmaxes less 2 I.

    The memory of the logits is used up. Pairs that are no negatives have no part in each other's sums.
    """
    first = no_negatives.first
    if on_cpu(logits_BN) and distributed.largest(_extent(logits_BN)) < SAFE_EXPONENT:
        own_B = logits_BN.diagonal(first).clone()
        e_BN = no_negatives.set(logits_BN.exp_(), 0.0)  # one exponential for both
        sum_B, sum_N = e_BN.sum(1), distributed.total(e_BN.sum(0))
        for e_CN, inverse_C in zip(e_BN.split(CHUNK), sum_B.reciprocal().split(CHUNK), strict=True):
            e_CN.mul_(inverse_C[:, None] + sum_N.reciprocal())
        log_likelihood_B = 2 * own_B - sum_B.log() - sum_N[first : first + len(own_B)].log()
        both_BN = e_BN
    else:
        logits_BN = no_negatives.set(logits_BN, -torch.inf)
        by_row_BN = logits_BN.log_softmax(1)
        by_col_BN = logits_BN.sub_(distributed.log_sum_exp(logits_BN))
        log_likelihood_B = by_row_BN.diagonal(first) + by_col_BN.diagonal(first)
        torch._foreach_exp_([by_row_BN, by_col_BN])
        both_BN = by_row_BN.add_(by_col_BN)
    both_BN.diagonal(first).sub_(2)
    return log_likelihood_B, both_BN


def _extent(logits_BN: Tensor) -> Tensor:
    """The largest absolute value."""
    return torch.stack([part.abs().max() for part in logits_BN.aminmax()]).max()


def unit_rows(z: SparseCode) -> SparseCode:
    """The same codes with rows of norm 1; a row of zeros stays zero."""
    squares_B = z.values_N.new_zeros(z.n_rows).index_add(0, z.row_N, z.values_N.square())
    inverse_B = squares_B.clamp_min(1e-12).rsqrt()
    return replace(z, values_N=z.values_N * inverse_B.index_select(0, z.row_N))


def temporal_l1_loss(
    x_BD: Tensor, x_earlier_BD: Tensor, z: SparseCode, z_earlier: SparseCode, n_tokens: int
) -> Tensor:
    """Mean over b of cos(x, x') * ||z - z'||_1: similar activations should have similar codes."""
    distance_B = (z.dense() - z_earlier.dense()).abs().sum(-1)
    return (F.cosine_similarity(x_BD, x_earlier_BD, dim=-1) * distance_B).sum() / n_tokens


def auxk_loss(residual_BD: Tensor, f_BK: Tensor, W_dec_KD: Tensor, n_tokens: int) -> Tensor:
    """How badly dead latents reconstruct what the others missed, relative to its variance.

    The residual is a target and carries no gradient. Undefined values (a residual without
    variance) are 0. `f_BK` holds the codes of the K dead latents alone: there are few of them, and
    many are on, so these are dense. Source: Gao et al. 2024, appendix A.2.
    """
    residual_BD = residual_BD.detach()
    missed = (residual_BD - f_BK @ W_dec_KD).square().sum()
    return torch.nan_to_num(missed / batch_variance(residual_BD, n_tokens), nan=0.0, posinf=0.0)
