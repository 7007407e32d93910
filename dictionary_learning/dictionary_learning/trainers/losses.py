"""The terms of the training losses: pure functions of tensors.

Each is this process's share of a mean over the whole batch: a sum over its rows, divided by the tokens of all
processes. Shares add up to the loss, and their gradients to its gradient; for one process it is the loss.

Shapes: B tokens of this process, N of all, D model width, F latents, G groups. T-SAE is arXiv 2511.05541.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dictionary_learning import distributed
from dictionary_learning.dictionaries.sparse import SparseCode, dot_products, gathered
from dictionary_learning.trainers.trainer import batch_variance


def reconstruction_losses(x_BD: Tensor, x_hat_BGD: Tensor, n_tokens: int) -> Tensor:
    """Mean squared distance of each group's reconstruction, [G]: mean over b of ||x - x_hat_g||^2."""
    return (x_BD.unsqueeze(1) - x_hat_BGD).square().sum(-1).sum(0) / n_tokens


def matryoshka_loss(losses_G: Tensor, weights: Sequence[float], form: str) -> Tensor:
    """One number from the groups' reconstruction losses.

    `paper` sums them (T-SAE, section 3); `code`, the released implementation, weighs them and
    takes the mean, so it is smaller by a factor of about G / w_g.
    """
    if form == "paper":
        return losses_G.sum()
    return (losses_G * losses_G.new_tensor(weights)).mean()


def contrastive_loss(z: SparseCode, z_earlier: SparseCode, form: str, temperature: float = 1.0) -> Tensor:
    """Symmetric InfoNCE between high-level codes of tokens and of earlier tokens of their texts.

    Row b of `z` should be nearer to row b of `z_earlier` than to any other row, and conversely. The rows of
    `z_earlier` of all processes are compared with; they are sent as what is not zero of them.
    `paper` compares by cosine similarity (T-SAE, section 3), `code` by the dot product.
    """
    if form == "paper":
        z, z_earlier = unit_rows(z), unit_rows(z_earlier)
    z_earlier, first = gathered(z_earlier)
    return _SymmetricInfoNCE.apply(dot_products(z, z_earlier) / temperature, first)


class _SymmetricInfoNCE(torch.autograd.Function):
    """Minus the mean over n of the log-softmax at (n, n), by rows and by columns, halved.

    Of the logits [N, N] between all tokens each process has its own rows, from `first` on. A row's softmax is
    its own affair; a column's log-sum-exp is put together from all processes. The gradient is
    (softmax by rows + softmax by columns - 2 I) / 2N. Made where the log-softmax still stands, it takes a
    fifth of the time that autograd takes through two log-sum-exps.
    """

    @staticmethod
    def forward(ctx: Any, logits_BN: Tensor, first: int) -> Tensor:
        n_tokens = logits_BN.shape[1]
        by_row_BN = logits_BN.log_softmax(1)
        by_col_BN = logits_BN - distributed.log_sum_exp(logits_BN)
        loss = -(by_row_BN.diagonal(first) + by_col_BN.diagonal(first)).sum() / (2 * n_tokens)
        gradient_BN = by_row_BN.exp_().add_(by_col_BN.exp_())
        gradient_BN.diagonal(first).sub_(2)
        ctx.save_for_backward(gradient_BN.div_(2 * n_tokens))
        return loss

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (gradient_BN,) = ctx.saved_tensors
        return gradient_BN * grads[0], None


def unit_rows(z: SparseCode) -> SparseCode:
    """The same codes with rows of norm 1; a row of zeros stays zero."""
    squares_B = z.values_N.new_zeros(z.n_rows).index_add(0, z.row_N, z.values_N.square())
    inverse_B = squares_B.clamp_min(1e-12).rsqrt()
    return SparseCode(z.values_N * inverse_B[z.row_N], z.row_N, z.col_N, z.n_rows, z.n_cols)


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
