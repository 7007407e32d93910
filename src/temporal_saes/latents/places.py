"""The K places with the largest keys of each of many groups, kept while a corpus goes by.

With an activation as the key these are the strongest places; with a random number, places drawn at
random, each as likely as any other; with log(random) / weight, places drawn with probability in
proportion to a weight (Efraimidis and Spirakis 2006, "Weighted random sampling with a reservoir").
Random numbers are a function of seed and place (`uniform`), so nothing depends on how the corpus was cut
into chunks.

Shapes: G groups, K places of each, N places offered, W positions of a window.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

BLOCK = 32_768  # windows at a time


class Offered(NamedTuple):
    """Places in contexts, each with its activation."""

    value_N: np.ndarray  # float32
    context_N: np.ndarray  # int32
    position_N: np.ndarray  # int32, in the context

    def some(self, which: np.ndarray) -> "Offered":
        """Those of these numbers."""
        return Offered(*(column[which] for column in self))


class Windows(NamedTuple):
    """Activations around places, as shares of the largest in the window: float16 cannot overflow so."""

    share_NW: np.ndarray  # float16
    scale_N: np.ndarray  # float32


class Places:
    """The places with the largest keys of each group, with the activations around them."""

    def __init__(self, n_groups: int, k: int, width: int) -> None:
        self.k = k
        self.key_GK = np.full((n_groups, k), -np.inf, dtype=np.float32)
        self.value_GK = np.zeros((n_groups, k), dtype=np.float32)
        self.context_GK = np.full((n_groups, k), -1, dtype=np.int32)
        self.position_GK = np.zeros((n_groups, k), dtype=np.int32)
        self.scale_GK = np.zeros((n_groups, k), dtype=np.float32)
        self.share_GKW = np.zeros((n_groups, k, width), dtype=np.float16)
        self._floor_G = np.full(n_groups, -np.inf, dtype=np.float32)

    def add(
        self,
        group_N: np.ndarray,
        key_N: np.ndarray,
        offered: Offered,
        windows: Callable[[np.ndarray], Windows],
    ) -> None:
        """Take those in whose key is among the largest of their group.

        Args:
            key_N: float32, finite.
            windows: what is around the offered places of these numbers; asked for those that come in.
        """
        if not self.k:
            return
        number_N = np.flatnonzero(key_N > self._floor_G[group_N])
        order = np.lexsort((offered.context_N[number_N], -key_N[number_N], group_N[number_N]))
        number_N = number_N[order]
        groups_U, first_U, count_U = np.unique(group_N[number_N], return_index=True, return_counts=True)
        rank_N = np.arange(len(number_N)) - np.repeat(first_U, count_U)
        row_N = np.repeat(np.arange(len(groups_U)), count_U)
        inside = rank_N < self.k
        number_N, rank_N, row_N = number_N[inside], rank_N[inside], row_N[inside]

        # old and new side by side; the K best stay where they are or take the slots of those that go
        K = self.k
        key_UK = np.full((len(groups_U), 2 * K), -np.inf, dtype=np.float32)
        context_UK = np.full((len(groups_U), 2 * K), np.iinfo(np.int32).max, dtype=np.int32)
        key_UK[:, :K], context_UK[:, :K] = self.key_GK[groups_U], self.context_GK[groups_U]
        key_UK[row_N, K + rank_N], context_UK[row_N, K + rank_N] = (
            key_N[number_N],
            offered.context_N[number_N],
        )
        order_UK = np.lexsort((context_UK, -key_UK), axis=-1)
        stays_UK = np.zeros(key_UK.shape, dtype=bool)
        np.put_along_axis(stays_UK, order_UK[:, :K], True, axis=1)
        comes_N = stays_UK[row_N, K + rank_N]
        number_N, row_N = number_N[comes_N], row_N[comes_N]
        row_of_freed_N, slot_N = np.nonzero(~stays_UK[:, :K])  # as many in each row as come
        place = groups_U[row_of_freed_N], slot_N
        self.key_GK[place] = key_N[number_N]
        self.value_GK[place] = offered.value_N[number_N]
        self.context_GK[place] = offered.context_N[number_N]
        self.position_GK[place] = offered.position_N[number_N]
        for first in range(0, len(number_N), BLOCK):
            some = slice(first, first + BLOCK)
            here = place[0][some], place[1][some]
            self.share_GKW[here], self.scale_GK[here] = windows(number_N[some])
        self._floor_G[groups_U] = self.key_GK[groups_U].min(1)

    def regroup(self, groups_N: np.ndarray, regrouped: Callable[[np.ndarray, Offered], np.ndarray]) -> None:
        """Give the places of some groups to others.

        Args:
            groups_N: no two the same.
            regrouped: the new groups of places, from their old groups; among `groups_N` all of them.
        """
        row_M, slot_M = np.nonzero(self.key_GK[groups_N] > -np.inf)
        place = groups_N[row_M], slot_M
        old = Offered(self.value_GK[place], self.context_GK[place], self.position_GK[place])
        key_M, windows = self.key_GK[place], Windows(self.share_GKW[place], self.scale_GK[place])
        self.key_GK[groups_N] = -np.inf
        self._floor_G[groups_N] = -np.inf
        self.context_GK[groups_N] = -1
        self.add(
            regrouped(place[0], old), key_M, old, lambda some: Windows(*(column[some] for column in windows))
        )


def uniform(seed: int, place: np.ndarray) -> np.ndarray:
    """A number in (0, 1) for each place (integers), by the mixing of splitmix64 (Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        z = place.astype(np.uint64) + np.uint64((seed + 1) * 0x9E3779B97F4A7C15 % 2**64)
        for _ in range(2):
            z += np.uint64(0x9E3779B97F4A7C15)
            z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            z ^= z >> np.uint64(31)
    return ((z >> np.uint64(11)).astype(np.float64) + 0.5) / 2**53
