"""The largest pre-activations of a batch on a CPU, found tile by tile: never are all of them in memory.

A tile is every n-th row of the batch, so that the first one is a sample of it. In it the floor is estimated
that a few more entries exceed than are to be kept; of the other tiles only what exceeds it is looked at, and
a floor that proves too high is lowered. A value is a float32 dot product whatever the screen was: what is
found is the same on every machine that sums alike.

Shapes: B rows, D model width, F latents, N entries, T rows of a tile.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dictionary_learning import distributed
from dictionary_learning.dictionaries.sparse import ascending, sampled
from dictionary_learning.selection.quickest import screens_for
from dictionary_learning.selection.screens import Screen

ENTRIES = 2**21  # pre-activations of a tile: enough rows for the product to run at full speed
ROWS = 256  # at least, because every tile reads all weights
STRIDE = 97  # of a sample of a tile, a prime, so that it visits every latent
SAMPLE_FROM = 1 << 18  # entries; with fewer all are looked at
FIRST_MARGIN = 1.5  # how many more entries the first floor of all is to let through: its sample is small
# To multiply so many latents more quickly repays one candidate too many: both take time by width.
LATENTS_A_VALUE = 64
JUDGED = 16  # batches
FEW = 1 / 8  # of the rows of a tile
DEVIATIONS = 4.0  # of the mean L0 of a tile's rows: by so many a floor is rarely too high


class Entries(NamedTuple):
    """Pre-activations [N], exact, at a row and a latent."""

    pre_N: Tensor
    row_N: Tensor
    col_N: Tensor

    def at(self, mask_N: Tensor) -> "Entries":
        """Those where a mask holds."""
        return self.picked(mask_N.nonzero().squeeze(1))

    def picked(self, index_M: Tensor) -> "Entries":
        """Those at some places."""
        return Entries(*(of_N.index_select(0, index_M) for of_N in self))

    def of_rows(self, rows: range) -> "Entries":
        """Those of some rows; all are in order."""
        edges = torch.tensor([rows.start, rows.stop], device=self.row_N.device)
        first, stop = torch.searchsorted(self.row_N, edges).tolist()
        return Entries(*(of_N[first:stop] for of_N in self))

    def split(self, sizes: list[int]) -> "list[Entries]":
        """Some after others."""
        return [Entries(*of_part) for of_part in zip(*(of_N.split(sizes) for of_N in self), strict=True)]

    def by_row(self, n_rows: int, width: int) -> "Iterator[tuple[Tensor, Tensor]]":
        """The values of some rows at a time [C, R], and where each begins [C, 1]; all are in order.

        Args:
            width: the least R; behind a row's values stands -inf.
        """
        start_B = torch.searchsorted(self.row_N, torch.arange(n_rows + 1))
        for first in range(0, max(1, n_rows), ROWS):
            start_C = start_B[first : first + ROWS + 1]
            n_most = int(start_C.diff().max()) if len(start_C) > 1 else 0
            rank_CR = start_C[:-1, None] + torch.arange(max(n_most, width))
            is_in_CR = rank_CR < start_C[1:, None]
            pre_CR = self.pre_N.new_full(rank_CR.shape, -math.inf)
            pre_CR.masked_scatter_(is_in_CR, self.pre_N[start_C[0] : start_C[-1]])
            yield pre_CR, start_C[:-1, None]

    @staticmethod
    def joined(parts: "Sequence[Entries]") -> "Entries":
        return Entries(*(torch.cat(of_parts) for of_parts in zip(*parts, strict=True)))

    def in_order(self, n_rows: int, n_latents: int) -> "Entries":
        """By row, then by column."""
        _, by_col_N = ascending(self.col_N, n_latents)
        _, by_row_N = ascending(self.row_N.index_select(0, by_col_N), n_rows)
        return self.picked(by_col_N.index_select(0, by_row_N))


def do_overlap(parts: Sequence[range]) -> bool:
    """Whether a row is in several parts."""
    return any(part.stop > following.start for part, following in itertools.pairwise(parts))


class Places(NamedTuple):
    """Where candidates are."""

    row_N: Tensor
    col_N: Tensor

    def of(self, rows_T: Tensor) -> "Places":
        """The same with the numbers `rows_T` of the rows that were looked at."""
        return Places(rows_T.index_select(0, self.row_N), self.col_N)

    @staticmethod
    def of_arrays(arrays: tuple[np.ndarray, np.ndarray]) -> "Places":
        return Places(*(torch.from_numpy(of_N) for of_N in arrays))

    def filled_up(self, n_rows: int, k: int) -> "Places":
        """The same, with the first `k` latents of rows that have fewer places.

        Those are rows of NaN, which exceed no floor: their codes are to be NaN, not those of other rows.
        """
        lacking_R = (self.row_N.bincount(minlength=n_rows) < k).nonzero().squeeze(1)
        if not len(lacking_R):
            return self
        kept_N = ~torch.isin(self.row_N, lacking_R)
        filled = Places(lacking_R.repeat_interleave(k), torch.arange(k).repeat(len(lacking_R)))
        return Places.joined([Places(*(of_N[kept_N] for of_N in self)), filled])

    @staticmethod
    def none() -> "Places":
        return Places(*torch.empty(2, 0, dtype=torch.int64))

    @staticmethod
    def joined(parts: "Sequence[Places]") -> "Places":
        return Places(*(torch.cat(of_parts) for of_parts in zip(*parts, strict=True)))


def rows_of(x_BD: Tensor, tile: range) -> Tensor:
    """Every so-manieth row, as a view."""
    return x_BD[tile.start : tile.stop : tile.step]


Look = Callable[[Tensor, Sequence[Screen]], tuple[Places, Tensor]]
"""With some screens at rows [T]: where candidates are among them, and which [C] are left to the last one."""


class Estimate(NamedTuple):
    """A floor, and what of the tile that it was found in exceeds a lower one, `over`."""

    entries: Entries | None
    over: float
    floor: float


class Search:
    """Finds entries; the memory of a tile is kept between steps.

    Args:
        product_dtype: float32 for the quickest screen that excludes nothing wrongly; bfloat16 also for one
            without bounds, whose estimate is off by a few thousandths.
        screens: instead of the quickest; what one cannot tell is asked of the next, the last one is exact.
    """

    def __init__(
        self, product_dtype: torch.dtype = torch.float32, screens: Sequence[Screen] | None = None
    ) -> None:
        self._product_dtype = product_dtype
        self._screens = list(screens or ())
        self._with_weights: list[Screen] = []
        self._n_rows = self._n_coarse = 0  # looked at by the first screen; what it could not tell of them
        self._n_judged, self._vague = 0, 0.0  # batches, and how vague they were: above 1 it does not repay

    @property
    def product(self) -> str | None:
        """Which product looks for candidates; None before the first step."""
        return self._screens[0].name if self._screens else None

    def set_weights(self, W_enc_FD: Tensor, b_enc_F: Tensor) -> None:
        """Take the weights of this step, stored by latent."""
        self._W_FD, self._b_F = W_enc_FD, b_enc_F
        self._with_weights = []
        if not self._screens:
            self._screens = screens_for(W_enc_FD, b_enc_F, self._product_dtype)

    def _multiply(self, screen: Screen, x_TD: Tensor) -> None:
        if screen not in self._with_weights:  # some of them are hardly ever asked
            screen.set_weights(self._W_FD, self._b_F)
            self._with_weights.append(screen)
        screen.multiply(x_TD)

    def largest(self, x_BD: Tensor, parts: Sequence[range], k: int, n_keep: int) -> tuple[Entries, list[int]]:
        """Positive entries that hold the `n_keep` largest of each part, and how many are of each.

        Each part is selected from the rows of all processes; what they have to agree on is asked for all
        parts at once.

        Args:
            parts: rows, as many in each; a row may be in several.
            k: entries to keep a row, on average.

        Returns:
            part by part, each in order; of a row that is in several parts what is found, for each of them.
        """
        overlap = do_overlap(parts)
        groups = [range(len(x_BD))] if overlap else parts  # of rows that share a floor
        wanted = float(k)
        while True:
            entries, floor_G = self._candidates(x_BD, groups, wanted, is_exact=not overlap)
            entries = entries.in_order(len(x_BD), len(self._W_FD))
            found = [entries.of_rows(part) for part in parts]
            sizes = [len(of_part.pre_N) for of_part in found]
            if bool(((floor_G <= 0) | (distributed.total(torch.tensor(sizes)) >= n_keep)).all()):
                return Entries.joined(found) if overlap else entries, sizes
            wanted *= 1.5

    def _candidates(
        self, x_BD: Tensor, groups: Sequence[range], wanted: float, is_exact: bool
    ) -> tuple[Entries, Tensor]:
        """Entries over a floor that about `wanted` a row exceed, in no order, and the floor of each group.

        Args:
            is_exact: where a group is all looked at at once, exactly so many are enough. Parts of it may need
                a lower floor than the whole.
        """
        tiles_G = [list(self._tiles(group)) for group in groups]
        is_exact = is_exact and distributed.size() == 1
        first_G = [
            self._estimate(rows_of(x_BD, tile), wanted, is_all=is_exact and not rest)
            for (tile, *rest) in tiles_G
        ]
        floor_G = distributed.smallest(torch.tensor([first.floor for first in first_G]))
        floor_G = torch.where((floor_G > 0) & (floor_G < math.inf), floor_G, 0.0)
        n_rows = max(1, len(groups[0]))
        found, tiles = [], []
        for (tile, *rest), first, floor in zip(tiles_G, first_G, floor_G.tolist(), strict=True):
            if first.entries is None or floor < first.over:
                tiles.append(tile)
            else:
                here = first.entries.at(first.entries.pre_N > floor)
                found.append(here._replace(row_N=here.row_N * tile.step + tile.start))
            tiles += rest
        others = self._values(x_BD, self._over(x_BD, floor_G.repeat_interleave(n_rows), tiles))
        over = others.at(others.pre_N > floor_G.index_select(0, others.row_N // n_rows))
        self._judge(len(others.pre_N), len(over.pre_N), len(x_BD))
        return Entries.joined([*found, over]), floor_G

    def _judge(self, candidates: int, over: int, n_rows: int) -> None:
        """Go on without the first screen where it does not tell enough of data such as these.

        One batch among many may be odd: the last `JUDGED` count, and of a run that begins its first alone.
        """
        repaid = max(1.0, n_rows * len(self._W_FD) / LATENTS_A_VALUE)
        vague = max((candidates - over) / repaid, 2 * self._n_coarse / max(1, self._n_rows))
        self._n_judged += 1
        self._vague += (min(vague, 2.0) - self._vague) / min(self._n_judged, JUDGED)
        if len(self._screens) > 1 and self._vague > 1:
            del self._screens[0]
            self._n_judged = 0
        self._n_coarse = self._n_rows = 0

    def above(self, x_BD: Tensor, floor: float) -> Entries:
        """All entries that exceed a floor above 0, in order."""
        floor_B = torch.full((len(x_BD),), floor)
        entries = self._values(x_BD, self._over(x_BD, floor_B, self._tiles(range(len(x_BD)))))
        over = entries.at(entries.pre_N > floor)
        self._judge(len(entries.pre_N), len(over.pre_N), len(x_BD))
        return over.in_order(len(x_BD), len(self._W_FD))

    def largest_of_rows(self, x_BD: Tensor, k: int) -> Entries:
        """The `k` largest entries of each row, in order, whatever their sign."""

        def look(row_T: Tensor, screens: Sequence[Screen]) -> tuple[Places, Tensor]:
            x_TD = x_BD[row_T]
            floor_T = self._kth_of_some(x_TD, k, screens[0])
            return self._over_floors(x_TD, floor_T, screens, is_multiplied=True)

        places = self._of_all_tiles(self._tiles(range(len(x_BD))), look).filled_up(len(x_BD), k)
        entries = self._values(x_BD, places).in_order(len(x_BD), len(self._W_FD))
        kept = [
            (pre_CR.topk(k, dim=1, sorted=False).indices + start_C1).flatten()
            for pre_CR, start_C1 in entries.by_row(len(x_BD), k)
        ]
        self._judge(len(entries.pre_N), k * len(x_BD), len(x_BD))
        return entries.picked(torch.cat(kept).sort().values)

    def _tiles(self, rows: range) -> Iterator[range]:
        """Of some rows those of one tile after another; at least one tile, be it empty."""
        n_tiles = max(1, math.ceil(len(rows) / max(ROWS, ENTRIES // len(self._W_FD))))
        for i in range(n_tiles):
            yield rows[i::n_tiles]

    def _estimate(self, x_TD: Tensor, wanted: float, is_all: bool) -> "Estimate":
        """The floor that about `wanted` entries a row exceed, by the first tile.

        It is 0 where that is most of the entries, or no floor above 0 lets so many through.

        Args:
            is_all: whether this tile is all that there is.
        """
        if not len(x_TD):
            return Estimate(None, math.inf, math.inf)
        n_entries = len(x_TD) * len(self._W_FD)
        stride = STRIDE if n_entries >= SAMPLE_FROM else 1
        n_first = wanted * len(x_TD) * FIRST_MARGIN
        screen = self._screens[0]
        self._multiply(screen, x_TD)
        while n_first < n_entries / 2:
            sample = screen.sample(stride)
            tried = float(sample.kthvalue(len(sample) - math.ceil(n_first / stride) + 1).values)
            if not tried > 0:  # NaN, too, which nothing exceeds
                break
            tried_T = torch.full((len(x_TD),), tried)
            here = self._values(x_TD, self._over(x_TD, tried_T, [range(len(x_TD))], is_multiplied=True))
            here = here.at(here.pre_N > tried)
            # rows differ in how many latents they need, so a tile has more or fewer of them by chance
            chance = 0.0 if is_all else DEVIATIONS * _spread(here.row_N, len(x_TD)) / math.sqrt(len(x_TD))
            place = math.ceil(wanted * len(x_TD) * (1 + chance)) + 1
            if place <= len(here.pre_N):
                floor = float(here.pre_N.kthvalue(len(here.pre_N) - place + 1).values)
                return Estimate(here, tried, floor)
            n_first *= 2
        return Estimate(None, 0.0, 0.0)

    def _over(
        self, x_BD: Tensor, floor_B: Tensor, tiles: Iterable[range], is_multiplied: bool = False
    ) -> Places:
        """Where entries of some tiles may exceed their rows' floors: all that do, and a few more.

        Args:
            is_multiplied: whether the first screen has made the only tile already.
        """

        def look(row_T: Tensor, screens: Sequence[Screen]) -> tuple[Places, Tensor]:
            is_made = is_multiplied and screens is self._screens
            return self._over_floors(x_BD[row_T], floor_B[row_T], screens, is_made)

        return self._of_all_tiles(tiles, look)

    def _of_all_tiles(self, tiles: Iterable[range], look: Look) -> Places:
        """What is found tile by tile, and then in the rows of all of them that were left to the last screen.

        Its product reads all weights, which for the few rows of one tile takes longer than to multiply them.
        """
        found, left = [Places.none()], [torch.empty(0, dtype=torch.int64)]
        for tile in tiles:
            row_T = torch.arange(tile.start, tile.stop, tile.step)
            here, left_C = look(row_T, self._screens)
            found.append(here.of(row_T))
            left.append(row_T[left_C])
        left_C = torch.cat(left)
        if len(left_C):
            for part in self._tiles(range(len(left_C))):
                row_T = rows_of(left_C, part)
                found.append(look(row_T, self._screens[-1:])[0].of(row_T))
        return Places.joined(found)

    def _kth_of_some(self, x_TD: Tensor, k: int, screen: Screen) -> Tensor:
        """A value [T] that at least k entries of each row reach: the k-th of the entries of large bounds.

        -inf in a row of which the screen cannot tell them.
        """
        self._multiply(screen, x_TD)
        places = Places.of_arrays(screen.over(screen.kth_bound(k)))
        some = self._values(x_TD, places).in_order(len(x_TD), len(self._W_FD))
        tops = [pre_CR.topk(k, dim=1, sorted=False).values for pre_CR, _ in some.by_row(len(x_TD), k)]
        return torch.cat(tops).amin(1)

    def _over_floors(
        self, x_TD: Tensor, floor_T: Tensor, screens: Sequence[Screen], is_multiplied: bool = False
    ) -> tuple[Places, Tensor]:
        """Where entries may exceed the floors, and the few rows [C] that are left to the last screen."""
        screen, *others = screens
        if others and not (floor_T > 0).any():
            return self._over_floors(x_TD, floor_T, others[-1:])
        if not is_multiplied:
            self._multiply(screen, x_TD)
        found = Places.of_arrays(screen.over(floor_T))
        coarse_C = screen.coarse(floor_T).nonzero().squeeze(1)
        if screen is self._screens[0]:
            self._n_rows += len(x_TD)
            self._n_coarse += len(coarse_C)
        if len(coarse_C) <= FEW * len(x_TD):  # for a few rows another screen would not repay its preparations
            return found, coarse_C
        here, left_C = self._over_floors(x_TD[coarse_C], floor_T[coarse_C], others)
        return Places.joined([found, here.of(coarse_C)]), coarse_C[left_C]

    def _values(self, x_BD: Tensor, places: Places) -> Entries:
        """The pre-activations there. A latent's weights are read once for all rows: rows are nearer."""
        col_N, by_col_N = ascending(places.col_N, len(self._W_FD))
        row_N = places.row_N.index_select(0, by_col_N)
        pre_N = sampled(self._W_FD, x_BD, col_N, row_N) + self._b_F.index_select(0, col_N)
        return Entries(pre_N, row_N, col_N)


def _spread(row_N: Tensor, n_rows: int) -> float:
    """How much rows differ in their number of entries: standard deviation over mean; 0 without entries."""
    if not len(row_N):
        return 0.0
    counts_B = row_N.bincount(minlength=n_rows).float()
    return float(counts_B.std(correction=0) / counts_B.mean())
