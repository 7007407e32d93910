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
from dictionary_learning.dictionaries.sparse import (
    SparseCode,
    gather_sum,
    gather_sum_transposed,
    on_cpu,
)
from dictionary_learning.selection.fixed import FixedSelection
from dictionary_learning.selection.search import Entries, Search


class Encoder:
    """BatchTopK codes that carry gradients.

    Args:
        product_dtype: of the product that finds candidates; see `Search`.
        selection: `global` keeps the largest entries of the batch that all processes hold together,
            `local` those of each process's own rows.
        tf32: on a card, let a float32 product that finds candidates round to TF32; see `FixedSelection`.
    """

    def __init__(
        self, product_dtype: torch.dtype = torch.float32, selection: str = "global", tf32: bool = True
    ) -> None:
        self.product_dtype = product_dtype
        self.selection = selection
        self.tf32 = tf32
        self._finder: Search | FixedSelection | None = None

    @property
    def product(self) -> str | None:
        """The product that looks for candidates; None before the first step."""
        return None if self._finder is None else self._finder.product

    def _finder_for(self, x_BD: Tensor) -> Search | FixedSelection:
        """A search on a CPU, shapes that are known beforehand elsewhere; both find the same."""
        if on_cpu(x_BD) and not isinstance(self._finder, Search):
            self._finder = Search(self.product_dtype)
        elif not on_cpu(x_BD) and not isinstance(self._finder, FixedSelection):
            self._finder = FixedSelection(self.product_dtype, self.tf32 and x_BD.device.type != "mps")
        assert self._finder is not None
        return self._finder

    def __call__(
        self,
        x_BD: Tensor,
        W_enc_DF: Tensor,
        b_enc_F: Tensor,
        b_dec_D: Tensor,
        k: int,
        stops: Sequence[int | None] = (None,),
        starts: Sequence[int] | None = None,
        n_tokens: int | None = None,
    ) -> list[SparseCode]:
        """The codes of equally long parts of the rows, each of which is selected on its own.

        Args:
            k: entries to keep a row, on average over a part.
            stops: a part each: the number of latents that are wanted of it, the first ones. The others take
                part in the selection, and are only given where dropping them would make the host wait (the
                code's `n_cols` says which). None for all.
            starts: the first row of each part, from 0 up; the last part ends with the rows. Rows of several
                parts are multiplied once, and selected in each. None: the parts lie one behind another.
            n_tokens: rows of a part in all processes, where they have been counted.
        """
        parts = _parts(len(x_BD), len(stops), starts)
        with torch.no_grad(), distributed.alone() if self.selection == "local" else nullcontext():
            centred_BD = x_BD - b_dec_D
            finder = self._finder_for(centred_BD)
            finder.set_weights(W_enc_DF.T.contiguous(), b_enc_F)
            if n_tokens is None or self.selection == "local":
                n_tokens = distributed.total_count(len(parts[0]))
            kept, sizes = self._select(finder, centred_BD, parts, k, n_tokens)
            if not on_cpu(x_BD):  # where it is not asked how many they are, all are given
                stops = [None] * len(parts)
            if any(stop is not None for stop in stops):
                kept, sizes = _below(kept, sizes, stops)
        values_N = _Values.apply(x_BD, W_enc_DF, b_enc_F, b_dec_D, centred_BD, *kept)
        codes = []
        of_parts = (of_N.split(sizes) for of_N in (values_N, kept.row_N, kept.col_N))
        for values, row_N, col_N, stop, part in zip(*of_parts, stops, parts, strict=True):
            n_latents = len(b_enc_F) if stop is None else stop
            row_N = row_N - part.start if part.start else row_N
            codes.append(SparseCode(values, row_N, col_N, len(part), n_latents))
        return codes

    def _select(
        self,
        finder: Search | FixedSelection,
        centred_BD: Tensor,
        parts: Sequence[range],
        k: int,
        n_tokens: int,
    ) -> tuple[Entries, list[int]]:
        """The entries to keep, part by part, by row, then by column, and how many are of each part."""
        n_keep = k * n_tokens
        found, sizes = finder.largest(centred_BD, parts, k, n_keep)
        if distributed.size() == 1 and max(sizes) <= n_keep:
            return found, sizes
        n_parts = len(parts)
        part_N = torch.arange(n_parts).repeat_interleave(torch.tensor(sizes)).to(found.pre_N.device)
        kept_N = distributed.keep_largest(found.pre_N.relu(), n_keep, part_N, n_parts)
        return found.at(kept_N), [int(of_part.sum()) for of_part in kept_N.split(sizes)]


class TokenTopKEncoder(Encoder):
    """The sparse encoder with the largest latents of each token, instead of the batch, kept."""

    def _select(
        self,
        finder: Search | FixedSelection,
        centred_BD: Tensor,
        parts: Sequence[range],
        k: int,
        n_tokens: int,
    ) -> tuple[Entries, list[int]]:
        return finder.largest_of_rows(centred_BD, k), [k * len(part) for part in parts]


def _parts(n_rows: int, n_parts: int, starts: Sequence[int] | None) -> list[range]:
    """The rows of each part."""
    size = n_rows // n_parts if starts is None else n_rows - starts[-1]
    starts = [i * size for i in range(n_parts)] if starts is None else starts
    return [range(start, start + size) for start in starts]


def _below(entries: Entries, sizes: list[int], stops: Sequence[int | None]) -> tuple[Entries, list[int]]:
    """The entries of the first latents of each part."""
    kept = [
        part if stop is None else part.at(part.col_N < stop)
        for part, stop in zip(entries.split(sizes), stops, strict=True)
    ]
    return Entries.joined(kept), [len(part.pre_N) for part in kept]


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
        needs_x, needs_W, _, needs_b_dec, *_ = ctx.needs_input_grad
        grad_N = torch.ops.aten.threshold_backward(grads[0], pre_N, 0)  # of relu
        d_x = d_W = d_b_dec = None
        d_b_enc = grad_N.new_zeros(W_enc_DF.shape[1]).index_add_(0, col_N, grad_N)
        if needs_x:
            d_x = gather_sum(grad_N, W_enc_DF.T, row_N, col_N, len(centred_BD))
        if needs_W:
            d_W = gather_sum_transposed(grad_N, centred_BD, row_N, col_N, W_enc_DF.shape[1]).T
        if needs_b_dec:
            # every entry of a latent moves b_dec against the same direction
            d_b_dec = torch.addmv(W_enc_DF[:, 0], W_enc_DF, d_b_enc, beta=0, alpha=-1)
        return d_x, d_W, d_b_enc, d_b_dec, None, None, None, None
