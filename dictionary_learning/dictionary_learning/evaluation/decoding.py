"""What the latents of each split add to a reconstruction, from the entries of a code.

A reconstruction is what no latent gives, plus f_j times the direction of latent j for every entry. So the
reconstructions of the whole and of all splits are sums of the same few parts, and a latent that is zero costs
nothing. Shapes: n tokens, D model width, F latents, Q entries of a dense code.
"""

import itertools
from dataclasses import replace

import torch
from torch import Tensor

from dictionary_learning.dictionaries.base import Dictionary
from dictionary_learning.dictionaries.sparse import SparseCode, on_cpu, sparse_matmul

# Above this share of entries a dense product is faster than gathering rows.
DENSE_FROM = 0.1
CHECKED_TOKENS = 8
TOLERANCE = 1e-2  # of the length of what is decoded; a decoder that is not linear is far off


class Decoder:
    """The decoder of a dictionary, by splits."""

    def __init__(self, dictionary: Dictionary) -> None:
        weight = next(dictionary.parameters())
        n_latents = dictionary.dict_size
        self.dictionary = dictionary
        self.splits = {"all": slice(0, n_latents), **dictionary.splits()}
        self.nothing_D = dictionary.decode(weight.new_zeros(1, n_latents))[0]
        edges = {edge for part in self.splits.values() for edge in (part.start, part.stop)}
        self._pieces = [slice(*piece) for piece in _pairs(sorted(edges))]
        self._directions_FD = _directions(dictionary)
        self._is_checked = False

    def parts(self, code: SparseCode) -> dict[str, Tensor]:
        """What each split, and "all", adds to `nothing_D`: [n, D]."""
        if self._directions_FD is not None and not self._is_checked:
            self._check(code)
        if self._directions_FD is None:
            return {name: self._decoded(code, part) - self.nothing_D for name, part in self.splits.items()}
        of_piece = [self._sum(code, piece, self._directions_FD) for piece in self._pieces]
        return {name: self._total(of_piece, part) for name, part in self.splits.items()}

    def _total(self, of_piece: list[Tensor], part: slice) -> Tensor:
        """The sum over the pieces of a split."""
        inside = [
            x_nD
            for x_nD, piece in zip(of_piece, self._pieces, strict=True)
            if part.start <= piece.start and piece.stop <= part.stop
        ]
        return sum(inside[1:], inside[0])

    def _sum(self, code: SparseCode, piece: slice, directions_FD: Tensor) -> Tensor:
        """f_j times the direction of j, summed over the latents j of a piece."""
        code = _within(code, piece)
        code = replace(code, values_N=code.values_N.to(directions_FD.dtype))
        if len(code.values_N) > DENSE_FROM * code.n_rows * (piece.stop - piece.start):
            width = piece.stop - piece.start
            f_Q = code.values_N.new_zeros(code.n_rows * width)
            f_Q.index_add_(0, code.row_N * width + (code.col_N - piece.start), code.values_N)
            return f_Q.view(code.n_rows, width) @ directions_FD[piece]
        return sparse_matmul(code.values_N, directions_FD, code.row_N, code.col_N, code.n_rows)

    def _decoded(self, code: SparseCode, part: slice) -> Tensor:
        return self.dictionary.decode(_within(code, part).dense())

    def _check(self, code: SparseCode) -> None:
        """Decode as the dictionary does from now on, where that is something else than the sum."""
        some = code.rows(0, min(code.n_rows, CHECKED_TOKENS))
        everything = slice(0, code.n_cols)
        assert self._directions_FD is not None
        x_hat_nD = self._decoded(some, everything).float()
        by_sum_nD = (self.nothing_D + self._sum(some, everything, self._directions_FD)).float()
        if not bool((x_hat_nD - by_sum_nD).norm() <= TOLERANCE * x_hat_nD.norm()):
            self._directions_FD = None
        self._is_checked = len(some.values_N) > 0


def _directions(dictionary: Dictionary) -> Tensor | None:
    """The directions, row behind row, for sums in float32 at least; None where they are not told."""
    try:
        directions_FD = dictionary.decoder_directions().contiguous()
    except NotImplementedError:
        return None
    return directions_FD if directions_FD.dtype == torch.float64 else directions_FD.float()


def _within(code: SparseCode, part: slice) -> SparseCode:
    """The same code with the latents of a part alone.

    On a card the others stay, with the value 0 at the first of these latents: see `SparseCode.columns`.
    """
    if (part.start, part.stop) == (0, code.n_cols):
        return code
    inside_N = (code.col_N >= part.start) & (code.col_N < part.stop)
    if not on_cpu(inside_N):
        return replace(
            code, values_N=code.values_N * inside_N, col_N=code.col_N.masked_fill(~inside_N, part.start)
        )
    inside = inside_N.nonzero().squeeze(1)
    return replace(code, values_N=code.values_N[inside], row_N=code.row_N[inside], col_N=code.col_N[inside])


def _pairs(edges: list[int]) -> list[tuple[int, int]]:
    return list(itertools.pairwise(edges))
