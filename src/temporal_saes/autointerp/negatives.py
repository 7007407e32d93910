"""Harder windows without a latent: those in which latents with decoder directions next to its own are active.

    neighbours = Neighbours(dictionary, local_K, columns)
    near = join([neighbours.of(codes) for codes in chunks])
    beside = neighbours.beside(near, learn_C)
    places(codes, beside, k, n, window, seed)

As delphi's `non_activating_source="neighbours"` with decoder similarity (eai-delphi 0.1.3). On windows drawn
at random it is enough to know what kind of text a latent is about; here it is not.

Shapes: K latents of the sample, F of the chunk, U of them that are somebody's neighbours, C contexts, T
positions of all of them.
"""

from typing import NamedTuple

import numpy as np
from scipy import sparse

from dictionary_learning.dictionaries.base import Dictionary
from temporal_saes.autointerp.scores import active_thresholds, keep_active
from temporal_saes.latents.codes import CodesOfContexts
from temporal_saes.latents.facts import nearest_directions

N_NEIGHBOURS = 10


class Place(NamedTuple):
    """A position of a context."""

    context: int
    position: int


class Neighbours:
    """The `N_NEIGHBOURS` latents of the chunk with the largest cosines to each latent of a sample."""

    def __init__(self, dictionary: Dictionary, local_K: np.ndarray, columns: slice) -> None:
        """`local_K` are the sample's latents, numbered in the chunk."""
        directions_FD = dictionary.decoder_directions().detach()[columns].float()
        nearest_KN = nearest_directions(directions_FD, N_NEIGHBOURS).indices_FK[local_K]
        self.local_U = np.unique(nearest_KN[nearest_KN >= 0])
        row_K, column_N = np.nonzero(nearest_KN >= 0)
        place_N = np.searchsorted(self.local_U, nearest_KN[row_K, column_N])
        shape = len(self.local_U), len(local_K)
        ones = np.ones(len(place_N), dtype=np.float32)
        self._is_near_UK = sparse.csr_array((ones, (place_N, row_K)), shape=shape)

    def of(self, codes: CodesOfContexts) -> CodesOfContexts:
        """Their codes alone, [T, U]."""
        return codes._replace(codes_TF=sparse.csr_array(codes.codes_TF[:, self.local_U].astype(np.float32)))

    def beside(self, near: CodesOfContexts, learn_C: np.ndarray) -> CodesOfContexts:
        """How many neighbours of each latent [T, K] are active, each above its own threshold."""
        active = keep_active(near, active_thresholds(near, learn_C)).codes_TF
        active.data[:] = 1
        return near._replace(codes_TF=sparse.csr_array(active @ self._is_near_UK))


def places(
    codes: CodesOfContexts, beside: CodesOfContexts, k: int, n: int, window: int, seed: list[int]
) -> list[Place]:
    """At most n places, in random order, where a neighbour is active and the latent is not, nor near them.

    No two are of one context.

    Args:
        codes: of the sample's latents, 0 where one is not active.
        beside: of the same contexts.
        window: positions to each side in which the latent has to be silent.
    """
    near_T = np.flatnonzero(beside.codes_TF[:, [k]].toarray().ravel())
    context_N = np.searchsorted(codes.start_C, near_T, side="right") - 1
    below_T = np.concatenate([[0], np.cumsum(codes.codes_TF[:, [k]].toarray().ravel() > 0)])
    first_N = np.maximum(codes.start_C[context_N], near_T - window)
    last_N = np.minimum(codes.start_C[context_N + 1], near_T + window + 1)
    is_silent_N = below_T[last_N] == below_T[first_N]
    context_N, position_N = context_N[is_silent_N], (near_T - codes.start_C[context_N])[is_silent_N]
    order = np.random.default_rng(seed).permutation(len(context_N))
    _, first = np.unique(context_N[order], return_index=True)
    chosen = order[np.sort(first)][:n]
    pairs = zip(context_N[chosen].tolist(), position_N[chosen].tolist(), strict=True)
    return [Place(context, position) for context, position in pairs]
