"""How often each latent was on at each of many things, such as words or documents, of which more keep coming.

Shapes: G things, F latents, N pairs of them.
"""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from scipy import sparse

from temporal_saes.naming.log_odds import log_odds

_PRUNE_AT = 2**25  # pairs
_KEPT = 512  # things of a latent, between chunks


class Ranked(NamedTuple):
    """The things of a latent that it holds more than the rest, the most so first."""

    index_K: np.ndarray
    z_K: np.ndarray
    inside_K: np.ndarray
    """How often the latent was on there."""


class Counts:
    """Sparse counts [G, F]; above 2^25 pairs a latent keeps the 512 things that tell most of it so far.

    A pair that was dropped and comes again is then counted too low, as with `latents.coactivation`.
    """

    def __init__(self, n_latents: int, prune_at: int = _PRUNE_AT) -> None:
        self.n_latents, self.prune_at = n_latents, prune_at
        self.total_G = np.zeros(0, dtype=np.int64)
        self.inside_F = np.zeros(n_latents, dtype=np.int64)
        self.on_GF = sparse.csr_array((0, n_latents), dtype=np.int32)

    def add(self, total_G: np.ndarray, on_GF: sparse.csr_array) -> None:
        """Add what a chunk holds; G is no smaller than before."""
        n = len(total_G)
        self.total_G = np.pad(self.total_G, (0, n - len(self.total_G))) + total_G
        self.inside_F += np.bincount(on_GF.indices, on_GF.data, self.n_latents).astype(np.int64)
        self.on_GF.resize(n, self.n_latents)
        self.on_GF = sparse.csr_array(self.on_GF + on_GF)
        if self.on_GF.nnz > self.prune_at:
            self._prune()

    def best(self, k: int, least: float) -> list[Ranked]:
        """Of each latent the k things with the largest log odds, of at least so many standard errors."""
        thing_N, latent_N, inside_N, z_N = self._ordered(least)
        first_F = np.searchsorted(latent_N, np.arange(self.n_latents + 1))
        found = []
        for start, stop in pairwise(first_F.tolist()):
            some = slice(start, min(stop, start + k))
            found.append(Ranked(thing_N[some], z_N[some], inside_N[some]))
        return found

    def grouped(self, group_G: np.ndarray, n_groups: int) -> "Counts":
        """The counts of groups of things; -1 is in none."""
        known = group_G >= 0
        ones = np.ones(int(known.sum()), dtype=np.int32)
        of_group = sparse.csr_array(
            (ones, (group_G[known], np.flatnonzero(known))), shape=(n_groups, len(group_G))
        )
        made = Counts(self.n_latents, self.prune_at)
        made.add(
            np.bincount(group_G[known], self.total_G[known], n_groups).astype(np.int64), of_group @ self.on_GF
        )
        return made

    def _ordered(self, least: float) -> tuple[np.ndarray, ...]:
        """Things, latents, counts and log odds of pairs above the least, by latent and then by log odds."""
        pairs = self.on_GF.tocoo()
        thing_N, latent_N = pairs.coords
        z_N = log_odds(
            pairs.data.astype(np.float64),
            self.total_G[thing_N].astype(np.float64),
            self.inside_F[latent_N].astype(np.float64),
            float(self.total_G.sum()),
        )
        enough_N = z_N >= least
        thing_N, latent_N, inside_N, z_N = (
            column[enough_N] for column in (thing_N, latent_N, pairs.data, z_N)
        )
        order_N = np.lexsort((thing_N, -z_N, latent_N))
        return thing_N[order_N], latent_N[order_N], inside_N[order_N], z_N[order_N]

    def _prune(self) -> None:
        thing_N, latent_N, inside_N, _ = self._ordered(-np.inf)
        rank_N = np.arange(len(latent_N)) - np.searchsorted(latent_N, np.arange(self.n_latents))[latent_N]
        kept = rank_N < _KEPT
        self.on_GF = sparse.csr_array(
            (inside_N[kept], (thing_N[kept], latent_N[kept])), shape=self.on_GF.shape, dtype=np.int32
        )
