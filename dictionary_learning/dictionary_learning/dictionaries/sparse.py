"""Sparse codes in training: selection, encoding and decoding that cost O(non-zeros), not O(B * F).

At k = 20 of 16,384 latents a code is 99.9 % zeros. After selection it is never a dense [B, F]
tensor: it is (row, column, value), and everything that touches a weight is one of two products,

    sparse_matmul    S @ M                  decoding, contrastive logits
    sampled          (A @ M.T) at (i, j)    the pre-activations that were selected

each of which is the other's gradient. Both run on `embedding_bag`, a gather-and-sum kernel that
every backend has, or on what a CPU has that is faster. Only one product stays dense: the encoder's, which
finds out what to select (`encoder`).

Shapes: B tokens, D model width, F latents, N non-zero entries.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dictionary_learning import distributed

# A selection looks first at a sample of one entry in this many (a prime, so that it visits every latent);
# with fewer entries than the second number nothing is gained.
SAMPLE_STRIDE = 97
SAMPLE_FROM = 1 << 18
# Candidates asked of the sample per entry that is needed: it is rarely off by 20 %, and then a lower
# threshold is tried.
CANDIDATE_MARGIN = 1.2


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

    @torch.no_grad()
    def fired(self) -> Tensor:
        """Mask [F] of the latents that are above 0 somewhere; none is below."""
        return self.values_N.new_zeros(self.n_cols).index_add_(0, self.col_N, self.values_N) > 0

    def dense(self) -> Tensor:
        """The same codes as a dense tensor [B, F], with gradient."""
        place_N = torch.add(self.col_N, self.row_N, alpha=self.n_cols)
        return _filled(self.values_N, place_N, (self.n_rows, self.n_cols))

    def places_by_latent(self) -> Tensor:
        """Where the entries are in codes [F, B], of which one row lies behind the other."""
        return torch.add(self.row_N, self.col_N, alpha=self.n_rows)

    def dense_by_latent(self, place_N: Tensor) -> Tensor:
        """The same codes as a dense tensor [F, B], with gradient; `place_N` as of `places_by_latent`."""
        return _filled(self.values_N, place_N, (self.n_cols, self.n_rows))

    def columns(self, stop: int) -> "SparseCode":
        """The first `stop` latents alone.

        On a CPU the other entries are dropped. Elsewhere their number is not asked for, which would make the
        host wait: they stay, with the value 0, at latent 0.
        """
        if stop >= self.n_cols:
            return self
        inside_N = self.col_N < stop
        n_cols = min(stop, self.n_cols)
        if on_cpu(inside_N):
            index = inside_N.nonzero().squeeze(1)
            values_N, row_N, col_N = (
                of_N.index_select(0, index) for of_N in (self.values_N, self.row_N, self.col_N)
            )
            return SparseCode(values_N, row_N, col_N, self.n_rows, n_cols)
        return SparseCode(self.values_N * inside_N, self.row_N, self.col_N * inside_N, self.n_rows, n_cols)

    def rows(self, start: int, stop: int) -> "SparseCode":
        """The codes of tokens `start` to `stop`."""
        edges = torch.tensor([start, stop], device=self.row_N.device)
        first, last = torch.searchsorted(self.row_N, edges).tolist()
        part = slice(first, last)
        return SparseCode(
            self.values_N[part], self.row_N[part] - start, self.col_N[part], stop - start, self.n_cols
        )


def on_cpu(x: Tensor) -> bool:
    """Whether a tensor is where reading a value costs nothing; a device would have to be waited for."""
    return x.device.type == "cpu"


def _filled(values_N: Tensor, place_N: Tensor, shape: tuple[int, int]) -> Tensor:
    """Zeros with values at places; at one that is named more than once, their sum."""
    return values_N.new_zeros(shape[0] * shape[1]).index_add_(0, place_N, values_N).view(shape)


def batch_topk(pre_BF: Tensor, n_keep: int) -> Tensor:
    """Flat indices, ascending, of the `n_keep` largest positive entries of `pre_BF` (BatchTopK).

    Fewer are returned when fewer are positive. Exact; of equal values at the edge the first stay.
    Source: BatchTopK, Bussmann et al. 2024, section 3.
    """
    flat = pre_BF.reshape(-1)
    n_wanted = n_keep * CANDIDATE_MARGIN
    while True:
        floor = _candidate_floor(flat, int(n_wanted))
        index_N = (flat > floor).nonzero().squeeze(1)
        if floor == 0 or len(index_N) >= n_keep:
            break
        n_wanted *= 2
    with distributed.alone():
        return index_N[distributed.keep_largest(flat[index_N].float(), n_keep)]


def _candidate_floor(flat: Tensor, n_wanted: int) -> float:
    """A value that about `n_wanted` entries exceed, estimated from a strided sample; at least 0."""
    if flat.numel() < SAMPLE_FROM or n_wanted >= flat.numel() // 2:
        return 0.0
    sample = flat[::SAMPLE_STRIDE]
    k = math.ceil(n_wanted / SAMPLE_STRIDE)
    return max(float(sample.float().topk(k).values[-1]), 0.0)


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


def sparse_matmul(values_N: Tensor, M_FD: Tensor, row_N: Tensor, col_N: Tensor, n_rows: int) -> Tensor:
    """S @ M [n_rows, D], where S holds `values_N` at (row_N, col_N) and `row_N` ascends."""
    return _SparseMatmul.apply(values_N, M_FD, row_N, col_N, n_rows)


def gather_sum(
    values_N: Tensor, M: Tensor, row_N: Tensor, col_N: Tensor, n_rows: int, start_B: Tensor | None = None
) -> Tensor:
    """S @ M without gradient; `start_B` as of `starts`, where they are known."""
    if len(values_N) == 0:
        return M.new_zeros(n_rows, M.shape[1])
    start_B = starts(row_N, n_rows) if start_B is None else start_B
    return F.embedding_bag(col_N, M, start_B[:-1], mode="sum", per_sample_weights=values_N)


def gather_sum_transposed(values_N: Tensor, A: Tensor, row_N: Tensor, col_N: Tensor, n: int) -> Tensor:
    """S.T @ A without gradient: the same sum with rows and columns exchanged, so ordered by column first."""
    sorted_N, by_col_N = ascending(col_N, n)
    row_N, values_N = (of_N.index_select(0, by_col_N) for of_N in (row_N, values_N))
    return gather_sum(values_N, A, sorted_N, row_N, n)


def sampled(
    A_BD: Tensor, M_FD: Tensor, row_N: Tensor, col_N: Tensor, start_B: Tensor | None = None
) -> Tensor:
    """<A[row], M[col]> a pair [N], without gradient; `row_N` ascends.

    It is the gradient of a gather-and-sum by its weights. A CPU has half the time to spend on it where the
    pairs are given as a sparse matrix.
    """
    if on_cpu(A_BD):
        start_B = starts(row_N, len(A_BD)) if start_B is None else start_B
        zeros_N = A_BD.new_zeros(len(row_N))
        places = _csr(start_B, col_N, zeros_N, (len(A_BD), len(M_FD)))
        return torch.sparse.sampled_addmm(places, A_BD, M_FD.T, beta=0).values()
    return torch.ops.aten._embedding_bag_per_sample_weights_backward(
        A_BD,
        M_FD,
        col_N,
        row_N[:1],
        row_N,
        0,
        -1,  # with rows given, where they begin is not looked at
    )


def ascending(index_N: Tensor, stop: int) -> tuple[Tensor, Tensor]:
    """Whole numbers from 0 up to `stop` in order, and where they stood; equal ones stay as they are.

    NumPy counts numbers of 16 bits, and merges what comes in runs: less than half the time of PyTorch's sort.
    """
    if not on_cpu(index_N):
        return index_N.sort(stable=True)
    numbers_N = index_N.numpy()
    if stop <= 1 << 16:
        numbers_N = numbers_N.astype(np.uint16)
    order_N = torch.from_numpy(np.argsort(numbers_N, kind="stable"))
    return index_N.index_select(0, order_N), order_N


def starts(row_N: Tensor, n_rows: int) -> Tensor:
    """Where the entries of each row begin, and where those of the last end [n_rows + 1]; `row_N` ascends."""
    return torch._convert_indices_from_coo_to_csr(row_N, n_rows)


def _csr(start_B: Tensor, col_N: Tensor, values_N: Tensor, size: tuple[int, int]) -> Tensor:
    with warnings.catch_warnings():  # the form is called "beta"; said once in a process
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(start_B, col_N, values_N, size, check_invariants=False)


class _SparseMatmul(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values_N: Tensor, M: Tensor, row_N: Tensor, col_N: Tensor, n_rows: int) -> Tensor:
        ctx.save_for_backward(values_N, M, row_N, col_N)
        return gather_sum(values_N, M, row_N, col_N, n_rows)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        values_N, M, row_N, col_N = ctx.saved_tensors
        grad = grads[0].contiguous()
        d_values = sampled(grad, M, row_N, col_N) if ctx.needs_input_grad[0] else None
        d_M = gather_sum_transposed(values_N, grad, row_N, col_N, len(M)) if ctx.needs_input_grad[1] else None
        return d_values, d_M, None, None, None
