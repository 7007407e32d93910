"""The largest pre-activations of a batch in a fixed number, for devices that a host should not wait for.

All shapes are known beforehand: what is asked for is what comes out, and where fewer entries are positive the
rest are entries that relu makes 0. The numbers are those of the search on a CPU.

Shapes: B rows, D model width, F latents, N entries, T rows of a tile.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor

from dictionary_learning import distributed
from dictionary_learning.dictionaries.sparse import sampled
from dictionary_learning.selection.search import Entries, do_overlap

ENTRIES = 2**27  # pre-activations of a tile
# Candidates asked of a rounded product per entry to keep: rounding moves an entry by far fewer ranks.
MARGIN = 1.1
TOKEN_MARGIN = 1.2


class FixedSelection:
    """Selects by `topk` over a dense product.

    Args:
        product_dtype: of the product. What a rounded one finds is ranked again by float32 values.
        tf32: whether a float32 product may round its factors to the 10 bits of TF32, where a card can.
    """

    def __init__(self, product_dtype: torch.dtype = torch.float32, tf32: bool = False) -> None:
        self.product_dtype = product_dtype
        self.tf32 = tf32 and product_dtype == torch.float32
        self.product = "tf32" if self.tf32 else str(product_dtype).removeprefix("torch.")

    def set_weights(self, W_enc_FD: Tensor, b_enc_F: Tensor) -> None:
        """Take the weights of this step, stored by latent."""
        self._W_FD, self._b_F = W_enc_FD, b_enc_F
        self._W_DF, self._bias_F = W_enc_FD.to(self.product_dtype).T, b_enc_F.to(self.product_dtype)

    def largest(self, x_BD: Tensor, parts: Sequence[range], k: int, n_keep: int) -> tuple[Entries, list[int]]:
        """Entries that hold the `n_keep` largest of each part, over all processes; how many of each.

        Exactly that many of one process; of several each gives as many as it may have of them. They come part
        by part, each in order; see `Search.largest`.
        """
        n_rows, n_latents, n_parts = len(parts[0]), len(self._b_F), len(parts)
        n_keep = min(n_keep, n_rows * n_latents)
        n_found = min(math.ceil(n_keep * MARGIN), n_rows * n_latents) if self._is_rounded else n_keep
        place_PN = torch.stack(self._tops_of(x_BD, parts, n_found)).sort(dim=1).values
        if do_overlap(parts):  # all rows at once would be in no order
            entries = Entries.joined([self._values(x_BD, place_N) for place_N in place_PN])
        else:
            entries = self._values(x_BD, place_PN.flatten())
        if n_found == n_keep or distributed.size() > 1:
            return entries, [n_found] * n_parts
        return _largest_of_each(entries, n_parts, n_keep), [n_keep] * n_parts

    def _tops_of(self, x_BD: Tensor, parts: Sequence[range], n_found: int) -> list[Tensor]:
        """Of each part the flat places, in all rows, of the largest entries by one product, in no order."""
        n_latents = len(self._b_F)
        tops: list[list[tuple[Tensor, Tensor]]] = [[] for _ in parts]
        start = parts[0].start
        for first, x_TD in self._tiles(x_BD[start : parts[-1].stop]):
            pre_TF, tile = self._multiply(x_TD), range(start + first, start + first + len(x_TD))
            for part, found in zip(parts, tops, strict=True):
                rows = range(max(part.start, tile.start), min(part.stop, tile.stop))
                if rows or tile == part:
                    pre_N = pre_TF[rows.start - tile.start : rows.stop - tile.start].flatten()
                    top = pre_N.topk(min(n_found, len(pre_N)), sorted=False)
                    place_N = top.indices + rows.start * n_latents if rows.start else top.indices
                    found.append((top.values, place_N))
        return [_largest_of_tiles(found, n_found) for found in tops]

    def largest_of_rows(self, x_BD: Tensor, k: int) -> Entries:
        """The `k` largest entries of each row, in order, whatever their sign."""
        n_latents = len(self._b_F)
        n_found = min(math.ceil(k * TOKEN_MARGIN), n_latents) if self._is_rounded else k
        col_BC = torch.cat(
            [self._multiply(x_TD).topk(n_found, dim=1).indices for _, x_TD in self._tiles(x_BD)]
        )
        start_B1 = torch.arange(len(x_BD), device=x_BD.device)[:, None] * n_latents
        place_BC = (col_BC + start_B1).sort(dim=1).values
        entries = self._values(x_BD, place_BC.flatten())
        return entries if n_found == k else _largest_of_each(entries, len(x_BD), k)

    @property
    def _is_rounded(self) -> bool:
        is_allowed = self.tf32 or torch.get_float32_matmul_precision() != "highest"
        return is_allowed or self.product_dtype != torch.float32

    def _tiles(self, x_BD: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Some rows after others, with the number of the first; at least one tile, be it empty."""
        rows = max(1, ENTRIES // len(self._b_F))
        for first in range(0, max(1, len(x_BD)), rows):
            yield first, x_BD[first : first + rows]

    def _multiply(self, x_TD: Tensor) -> Tensor:
        with allow_tf32() if self.tf32 else nullcontext():
            return torch.addmm(self._bias_F, x_TD.to(self.product_dtype), self._W_DF)

    def _values(self, x_BD: Tensor, place_N: Tensor) -> Entries:
        n_latents = len(self._b_F)
        row_N, col_N = place_N.div(n_latents, rounding_mode="floor"), place_N.remainder(n_latents)
        return Entries(
            sampled(x_BD, self._W_FD, row_N, col_N) + self._b_F.index_select(0, col_N), row_N, col_N
        )


def _largest_of_tiles(found: list[tuple[Tensor, Tensor]], n_found: int) -> Tensor:
    """The places of the largest of what tiles gave, values and places."""
    if len(found) == 1:
        return found[0][1]
    values_N, place_N = (torch.cat(of_tiles) for of_tiles in zip(*found, strict=True))
    return place_N[values_N.topk(n_found, sorted=False).indices]


def _largest_of_each(entries: Entries, n_parts: int, n_keep: int) -> Entries:
    """The `n_keep` largest of each of some equal parts of the entries, in order."""
    of_parts = [of_N.view(n_parts, -1) for of_N in entries]
    kept_PK = of_parts[0].topk(n_keep, dim=1, sorted=False).indices.sort(dim=1).values
    return Entries(*(of_PN.gather(1, kept_PK).flatten() for of_PN in of_parts))


@contextmanager
def allow_tf32() -> Iterator[None]:
    """Within it PyTorch's float32 products round their factors to TF32 on a card that can."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
