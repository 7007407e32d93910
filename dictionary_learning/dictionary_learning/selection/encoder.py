"""relu((x - b_dec) W_enc + b_enc) with what is largest kept: codes as entries, with their gradients.

A product without a graph finds out which entries to keep, in whatever number format is quick (`search`); the
values of those are float32 dot products, and their gradients cost what few entries cost.

Under several processes a batch is the rows of all of them (`distributed`): each holds its rows, and the
largest entries of all are kept.

Shapes: B tokens, D model width, F latents, N entries, P parts of the rows.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from dictionary_learning import distributed
from dictionary_learning.dictionaries.sparse import SparseCode, gather_sum, gather_sum_transposed
from dictionary_learning.selection.search import Entries, Search


class Encoder:
    """BatchTopK codes that carry gradients.

    Args:
        product_dtype: of the product that finds candidates; see `Search`.
        selection: `global` keeps the largest entries of the batch that all processes hold together,
            `local` those of each process's own rows.
    """

    def __init__(self, product_dtype: torch.dtype = torch.float32, selection: str = "global") -> None:
        self.product_dtype = product_dtype
        self.selection = selection
        self._search = Search(product_dtype)

    @property
    def product(self) -> str | None:
        """The product that looks for candidates; None before the first step."""
        return self._search.product

    def __call__(
        self,
        x_BD: Tensor,
        W_enc_DF: Tensor,
        b_enc_F: Tensor,
        b_dec_D: Tensor,
        k: int,
        stops: Sequence[int | None] = (None,),
    ) -> list[SparseCode]:
        """The codes of equal parts of the rows, each of which is selected on its own.

        Args:
            k: entries to keep a row, on average over a part.
            stops: a part each: the number of latents that are wanted of it, the first ones. The others take
                part in the selection alone. None for all.
        """
        n_rows = len(x_BD) // len(stops)
        with torch.no_grad(), distributed.alone() if self.selection == "local" else nullcontext():
            centred_BD = x_BD - b_dec_D
            W_enc_FD = W_enc_DF.T.contiguous()
            self._search.set_weights(W_enc_FD, b_enc_F)
            parts = self._select([centred_BD[i * n_rows : (i + 1) * n_rows] for i in range(len(stops))], k)
            parts = [
                part if stop is None else part.at(part.col_N < stop)
                for part, stop in zip(parts, stops, strict=True)
            ]
            every = Entries.joined([p._replace(row_N=p.row_N + i * n_rows) for i, p in enumerate(parts)])
        values_N = _Values.apply(x_BD, W_enc_DF, b_enc_F, b_dec_D, centred_BD, *every)
        values_P = values_N.split([len(part.pre_N) for part in parts])
        return [
            SparseCode(values, part.row_N, part.col_N, n_rows, len(b_enc_F))
            for part, values in zip(parts, values_P, strict=True)
        ]

    def _select(self, centred_PBD: list[Tensor], k: int) -> list[Entries]:
        """The entries to keep of each part, ordered by row, then by column."""
        n_keep = k * distributed.total_count(len(centred_PBD[0]))
        found_P = [self._search.largest(centred_BD, k, n_keep) for centred_BD in centred_PBD]
        sizes = [len(found.pre_N) for found in found_P]
        part_N = torch.arange(len(found_P)).repeat_interleave(torch.tensor(sizes))
        pre_N = torch.cat([found.pre_N for found in found_P])
        kept_P = distributed.keep_largest(pre_N, n_keep, part_N, len(found_P)).split(sizes)
        return [found.at(kept) for found, kept in zip(found_P, kept_P, strict=True)]


class TokenTopKEncoder(Encoder):
    """The sparse encoder with the largest latents of each token, instead of the batch, kept."""

    def _select(self, centred_PBD: list[Tensor], k: int) -> list[Entries]:
        return [self._search.largest_of_rows(centred_BD, k) for centred_BD in centred_PBD]


class _Values(torch.autograd.Function):
    """relu of pre-activations that are known, with the gradients of (x - b_dec) W_enc + b_enc at them."""

    @staticmethod
    def forward(
        ctx: Any,
        x_BD: Tensor,
        W_enc_DF: Tensor,
        b_enc_F: Tensor,
        b_dec_D: Tensor,
        centred_BD: Tensor,
        pre_N: Tensor,
        row_N: Tensor,
        col_N: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(W_enc_DF, centred_BD, pre_N, row_N, col_N)
        return pre_N.relu()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        W_enc_DF, centred_BD, pre_N, row_N, col_N = ctx.saved_tensors
        needs_x, needs_W, needs_b_enc, needs_b_dec, *_ = ctx.needs_input_grad
        grad_N = grads[0] * (pre_N > 0)
        d_x = d_W = d_b_enc = d_b_dec = None
        if needs_x:
            d_x = gather_sum(grad_N, W_enc_DF.T, row_N, col_N, len(centred_BD))
        if needs_W:
            d_W = gather_sum_transposed(grad_N, centred_BD, row_N, col_N, W_enc_DF.shape[1]).T
        if needs_b_enc or needs_b_dec:
            d_b_enc = grad_N.new_zeros(W_enc_DF.shape[1]).index_add_(0, col_N, grad_N)
        if needs_b_dec:
            d_b_dec = -(W_enc_DF @ d_b_enc)  # every entry of a latent moves b_dec against the same direction
        return d_x, d_W, d_b_enc, d_b_dec, None, None, None, None
