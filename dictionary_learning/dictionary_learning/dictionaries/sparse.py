"""Sparse codes in training: selection, encoding and decoding that cost O(non-zeros), not O(B * F).

At k = 20 of 16,384 latents a code is 99.9 % zeros. After selection it is never a dense [B, F]
tensor: it is (row, column, value), and everything that touches a weight is one of two products,

    sparse_matmul    S @ M                  decoding, contrastive logits
    sampled_matmul   (A @ M.T) at (i, j)    the pre-activations that were selected

whose gradients are again the same two. Both run on `embedding_bag`, a gather-and-sum kernel that
every backend has. Only one product stays dense: the encoder's, which finds out what to select.

Under several processes a batch is the rows of all of them (`distributed`): each holds its rows, and the
`Encoder` keeps the largest entries of all.

Shapes: B tokens, D model width, F latents, N non-zero entries, K entries to keep, G groups.
"""

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dictionary_learning import distributed

# The threshold that bounds the candidates is estimated from one entry in this many (a prime, so
# that the sample visits every latent); with fewer entries than the second number nothing is gained.
SAMPLE_STRIDE = 97
SAMPLE_FROM = 1 << 18
# Candidates asked of that estimate per entry that is needed: a sample of K / 97 entries is rarely
# off by 20 %, and then a lower threshold is tried.
CANDIDATE_MARGIN = 1.2
# Candidates needed per kept entry where pre-activations are bf16: they are ranked again in float32,
# and their rounding moves an entry by far fewer ranks than this.
BF16_MARGIN = 1.1


@dataclass(frozen=True)
class SparseCode:
    """The non-zero entries of codes [B, F], ordered by row, then by column.

    `values_N` carries the gradient; `row_N` and `col_N` are int64.
    """

    values_N: Tensor
    row_N: Tensor
    col_N: Tensor
    n_rows: int
    n_cols: int

    @classmethod
    def of(cls, f_BF: Tensor) -> "SparseCode":
        """The entries of dense codes [B, F], with gradient."""
        row_N, col_N = f_BF.nonzero(as_tuple=True)
        return cls(f_BF[row_N, col_N], row_N, col_N, *f_BF.shape)

    @classmethod
    def stacked(cls, codes: Sequence["SparseCode"]) -> "SparseCode":
        """The codes of several batches, at least one, with the rows of one behind those of the other."""
        first, firsts = 0, []
        for code in codes:
            firsts.append(first)
            first += code.n_rows
        return cls(
            torch.cat([code.values_N for code in codes]),
            torch.cat([code.row_N + first for code, first in zip(codes, firsts, strict=True)]),
            torch.cat([code.col_N for code in codes]),
            first,
            codes[0].n_cols,
        )

    def dense(self) -> Tensor:
        """The same codes as a dense tensor [B, F], with gradient."""
        f_BF = self.values_N.new_zeros(self.n_rows, self.n_cols)
        return f_BF.index_put((self.row_N, self.col_N), self.values_N)

    def columns(self, stop: int) -> "SparseCode":
        """The first `stop` latents alone."""
        inside = (self.col_N < stop).nonzero().squeeze(1)
        return SparseCode(
            self.values_N[inside], self.row_N[inside], self.col_N[inside], self.n_rows, min(stop, self.n_cols)
        )

    def rows(self, start: int, stop: int) -> "SparseCode":
        """The codes of tokens `start` to `stop`."""
        edges = torch.tensor([start, stop], device=self.row_N.device)
        first, last = torch.searchsorted(self.row_N, edges).tolist()
        part = slice(first, last)
        return SparseCode(
            self.values_N[part], self.row_N[part] - start, self.col_N[part], stop - start, self.n_cols
        )


def batch_topk(pre_BF: Tensor, n_keep: int) -> Tensor:
    """Flat indices, ascending, of the `n_keep` largest positive entries of `pre_BF` (BatchTopK).

    Fewer are returned when fewer are positive. Exact; of equal values at the edge the first stay.
    Source: BatchTopK, Bussmann et al. 2024, section 3.
    """
    with distributed.alone():
        return _select([pre_BF], n_keep, 1.0)


def _select(pre_PBF: Sequence[Tensor], n_keep: int, share: float) -> Tensor:
    """Flat indices, ascending, of the `n_keep` largest positive entries of each part of the rows."""
    index_N, value_N, part_N = _candidates(pre_PBF, n_keep, share)
    return index_N[distributed.keep_largest(value_N, n_keep, part_N, len(pre_PBF))]


def _candidates(
    pre_PBF: Sequence[Tensor], n_needed: int, share: float = 1.0
) -> tuple[Tensor, Tensor, Tensor]:
    """Entries that hold the `n_needed` largest positive ones of each part, over all processes.

    A floor is estimated from a sample. The processes agree on one, and lower it together while too few
    entries lie above.

    Args:
        share: of the batch's rows that this process holds.

    Returns:
        flat indices, ascending, into all parts; values [N]; the part of each [N].
    """
    flat_P = [pre.reshape(-1) for pre in pre_PBF]
    n_wanted = n_needed * share * CANDIDATE_MARGIN
    while True:
        floor_P = distributed.smallest(
            torch.tensor([_candidate_floor(flat, int(n_wanted)) for flat in flat_P], dtype=torch.float32)
        )
        index_P = [
            (flat > floor).nonzero().squeeze(1) for flat, floor in zip(flat_P, floor_P.tolist(), strict=True)
        ]
        n_found_P = torch.tensor([len(index_N) for index_N in index_P])
        if ((floor_P == 0) | (distributed.total(n_found_P) >= n_needed)).all():
            break
        n_wanted *= 2
    value_N = torch.cat([flat[index_N].float() for flat, index_N in zip(flat_P, index_P, strict=True)])
    index_N = torch.cat([index_N + i * flat_P[0].numel() for i, index_N in enumerate(index_P)])
    return index_N, value_N, torch.repeat_interleave(n_found_P).to(index_N.device)


def _candidate_floor(flat: Tensor, n_wanted: int) -> float:
    """A value that about `n_wanted` entries exceed, estimated from a strided sample; at least 0."""
    if flat.numel() < SAMPLE_FROM or n_wanted >= flat.numel() // 2:
        return 0.0
    sample = flat[::SAMPLE_STRIDE]
    k = math.ceil(n_wanted / SAMPLE_STRIDE)
    return max(float(sample.float().topk(k).values[-1]), 0.0)


class Encoder:
    """relu((x - b_dec) W_enc + b_enc) with BatchTopK, as a `SparseCode` that carries gradients.

    The dense product runs without a graph into a buffer that is kept between steps, in
    `product_dtype`; the values that were selected are computed again in float32, with their graph.

    Args:
        selection: `global` keeps the largest entries of the batch that all processes hold together,
            `local` those of each process's own rows.
    """

    def __init__(self, product_dtype: torch.dtype = torch.float32, selection: str = "global") -> None:
        self.product_dtype = product_dtype
        self.selection = selection
        self._pre_BF: Tensor | None = None

    def __call__(
        self, x_BD: Tensor, W_enc_DF: Tensor, b_enc_F: Tensor, b_dec_D: Tensor, k: int, parts: int = 1
    ) -> SparseCode:
        """The codes of `x_BD`.

        Args:
            k: entries to keep a row, on average over the batch.
            parts: BatchTopK is taken over each of this many equal parts of the rows on its own.
        """
        centred_BD = x_BD - b_dec_D
        W_enc_FD = W_enc_DF.T
        with torch.no_grad(), distributed.alone() if self.selection == "local" else nullcontext():
            pre_BF = self._product(centred_BD, W_enc_DF, b_enc_F)
            index_N = self._select(pre_BF, parts, k, centred_BD, W_enc_FD, b_enc_F)
        return self._values(index_N, centred_BD, W_enc_FD, b_enc_F)

    def _product(self, centred_BD: Tensor, W_enc_DF: Tensor, b_enc_F: Tensor) -> Tensor:
        shape = (len(centred_BD), W_enc_DF.shape[1])
        buffer = self._pre_BF
        if buffer is None or buffer.shape != shape or buffer.device != centred_BD.device:
            # Fresh memory of this size costs a third of the product itself in page faults.
            buffer = self._pre_BF = centred_BD.new_empty(shape, dtype=self.product_dtype)
        dtype = self.product_dtype
        return torch.addmm(b_enc_F.to(dtype), centred_BD.to(dtype), W_enc_DF.to(dtype), out=buffer)

    def _select(
        self, pre_BF: Tensor, parts: int, k: int, centred_BD: Tensor, W_enc_FD: Tensor, b_enc_F: Tensor
    ) -> Tensor:
        """Flat indices, ascending, of the entries to keep."""
        pre_PBF = pre_BF.chunk(parts) if len(pre_BF) else (pre_BF,) * parts
        n_rows = len(pre_BF) // parts
        n_all_rows = distributed.total_count(n_rows)
        n_keep, share = k * n_all_rows, n_rows / max(n_all_rows, 1)
        if self.product_dtype == torch.float32:
            return _select(pre_PBF, n_keep, share)
        # The product's rounding may exchange neighbours in rank: choose among some more in float32.
        index_N, _, part_N = _candidates(pre_PBF, math.ceil(n_keep * BF16_MARGIN), share)
        exact_N = self._values(index_N, centred_BD, W_enc_FD, b_enc_F).values_N
        return index_N[distributed.keep_largest(exact_N, n_keep, part_N, parts)]

    def _values(self, index_N: Tensor, centred_BD: Tensor, W_enc_FD: Tensor, b_enc_F: Tensor) -> SparseCode:
        n_latents = len(W_enc_FD)
        row_N, col_N = index_N // n_latents, index_N % n_latents
        pre_N = sampled_matmul(centred_BD, W_enc_FD, row_N, col_N) + b_enc_F[col_N]
        return SparseCode(pre_N.relu(), row_N, col_N, len(centred_BD), n_latents)


def decode_groups(code: SparseCode, W_dec_FD: Tensor, group_ends: Sequence[int]) -> Tensor:
    """What the latents of each group add up to, [B, G, D]: sum over j in group g of f_j W_dec_j."""
    n_groups = len(group_ends)
    bag_N = code.row_N
    if n_groups > 1:
        ends = torch.tensor(group_ends, device=code.col_N.device)
        bag_N = bag_N * n_groups + torch.bucketize(code.col_N, ends, right=True)
    sums = sparse_matmul(code.values_N, W_dec_FD, bag_N, code.col_N, code.n_rows * n_groups)
    return sums.view(code.n_rows, n_groups, -1)


def gathered(code: SparseCode) -> tuple[SparseCode, int]:
    """The codes of the rows of all processes, one rank's behind the other's, and the first own row.

    The values carry the gradient. Only what is not zero is sent: 0.6 MB of 8,192 tokens with 6 active of
    3,277 latents, instead of 107.
    """
    if distributed.size() == 1:
        return code, 0
    n_rows_W, n_entries_W = distributed.counts(code.n_rows, len(code.values_N))
    first = sum(n_rows_W[: distributed.rank()])
    place_N2 = torch.stack([code.row_N + first, code.col_N], dim=1).int()
    row_N, col_N = distributed.gather(place_N2, n_entries_W).long().unbind(1)
    values_N = distributed.gather(code.values_N, n_entries_W)
    return SparseCode(values_N, row_N, col_N, sum(n_rows_W), code.n_cols), first


def dot_products(z: SparseCode, other: SparseCode) -> Tensor:
    """All dot products [B, B] between the rows of two codes."""
    return sparse_matmul(z.values_N, other.dense().T.contiguous(), z.row_N, z.col_N, z.n_rows)


def sparse_matmul(values_N: Tensor, M_FD: Tensor, row_N: Tensor, col_N: Tensor, n_rows: int) -> Tensor:
    """S @ M [n_rows, D], where S holds `values_N` at (row_N, col_N) and `row_N` ascends."""
    return _SparseMatmul.apply(values_N, M_FD, row_N, col_N, n_rows)


def sampled_matmul(A_BD: Tensor, M_FD: Tensor, row_N: Tensor, col_N: Tensor) -> Tensor:
    """The entries (row_N, col_N) of A @ M.T [N], where `row_N` ascends."""
    return _SampledMatmul.apply(A_BD, M_FD, row_N, col_N)


def _gather_sum(values_N: Tensor, M: Tensor, row_N: Tensor, col_N: Tensor, n_rows: int) -> Tensor:
    if len(values_N) == 0:
        return M.new_zeros(n_rows, M.shape[1])
    offsets = torch.searchsorted(row_N, torch.arange(n_rows, device=row_N.device))
    return F.embedding_bag(col_N, M, offsets, mode="sum", per_sample_weights=values_N)


def _gather_sum_transposed(values_N: Tensor, A: Tensor, row_N: Tensor, col_N: Tensor, n: int) -> Tensor:
    """S.T @ A: the same sum with rows and columns exchanged, so ordered by column first."""
    by_col = torch.argsort(col_N, stable=True)
    return _gather_sum(values_N[by_col], A, col_N[by_col], row_N[by_col], n)


def _sampled(A: Tensor, M: Tensor, row_N: Tensor, col_N: Tensor) -> Tensor:
    """<A[row], M[col]> a pair: the gradient of a gather-and-sum with respect to its weights."""
    with torch.enable_grad():
        weights = M.new_zeros(len(row_N)).requires_grad_()
        sums = _gather_sum(weights, M.detach(), row_N, col_N, len(A))
        if not sums.requires_grad:
            return weights.detach()
        return torch.autograd.grad(sums, weights, A)[0]


class _SparseMatmul(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values_N: Tensor, M: Tensor, row_N: Tensor, col_N: Tensor, n_rows: int) -> Tensor:
        ctx.save_for_backward(values_N, M, row_N, col_N)
        return _gather_sum(values_N, M, row_N, col_N, n_rows)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        values_N, M, row_N, col_N = ctx.saved_tensors
        grad = grads[0].contiguous()
        d_values = _sampled(grad, M, row_N, col_N) if ctx.needs_input_grad[0] else None
        d_M = (
            _gather_sum_transposed(values_N, grad, row_N, col_N, len(M)) if ctx.needs_input_grad[1] else None
        )
        return d_values, d_M, None, None, None


class _SampledMatmul(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, A: Tensor, M: Tensor, row_N: Tensor, col_N: Tensor) -> Tensor:
        ctx.save_for_backward(A, M, row_N, col_N)
        return _sampled(A, M, row_N, col_N)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        A, M, row_N, col_N = ctx.saved_tensors
        grad_N = grads[0]
        d_A = _gather_sum(grad_N, M, row_N, col_N, len(A)) if ctx.needs_input_grad[0] else None
        d_M = _gather_sum_transposed(grad_N, A, row_N, col_N, len(M)) if ctx.needs_input_grad[1] else None
        return d_A, d_M, None, None
