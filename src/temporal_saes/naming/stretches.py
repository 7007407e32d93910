"""Stretches of tokens over which a latent stays on.

    held = stretches(codes)
    held.latent_S, held.length_S
    held.on_UF(n_latents)       # 1 at every token of a stretch

A stretch begins and ends with a token at which the latent is on; in between it may be out for `MAX_GAP`
tokens in a row. A latent is on where it is above 0. One that is above 0 at more than `DENSE` of the tokens,
as predicted codes are, is on only where it is in its strongest fifth (`on_above`).

Shapes: T positions of a chunk of contexts, U usable ones of them, F latents, S stretches.
"""

from typing import NamedTuple

import numpy as np
from scipy import sparse

from temporal_saes.latents.codes import CodesOfContexts

MAX_GAP = 2  # tokens: between two words stands an article, a comma, a half of a word
DENSE = 0.2


class Stretches(NamedTuple):
    """Ordered by latent, and then as they come."""

    latent_S: np.ndarray
    first_S: np.ndarray
    """Its first token, counted among the usable ones of the chunk."""
    length_S: np.ndarray
    """Usable tokens."""
    n_usable: int

    def on_UF(self, n_latents: int) -> sparse.csr_array:
        """1 at every token of a stretch."""
        ends_S = np.cumsum(self.length_S)
        n = int(ends_S[-1]) if len(ends_S) else 0
        row_N = np.arange(n) + np.repeat(self.first_S - (ends_S - self.length_S), self.length_S)
        below_F = np.concatenate([[0], np.cumsum(np.bincount(self.latent_S, self.length_S, n_latents))])
        by_latent = sparse.csc_array(
            (np.ones(n, dtype=np.int32), row_N.astype(np.int32), below_F.astype(np.int64)),
            shape=(self.n_usable, n_latents),
        )
        return sparse.csr_array(by_latent)


def on_above(codes: CodesOfContexts) -> np.ndarray:
    """The value [F] above which each latent is on, from some contexts: 0, but for dense latents."""
    f_UF = sparse.csc_array(codes.codes_TF[codes.usable_T])
    n_usable, n_latents = f_UF.shape
    above_F = np.zeros(n_latents, dtype=np.float32)
    n_most = int(DENSE * n_usable)
    for latent in np.flatnonzero(np.diff(f_UF.indptr) > n_most):
        value_N = f_UF.data[f_UF.indptr[latent] : f_UF.indptr[latent + 1]]
        place = len(value_N) - max(1, n_most)
        # on where it is as large or larger, so that one that has a single value is on at all
        above_F[latent] = np.nextafter(np.partition(value_N, place)[place], np.float32(0))
    return above_F


def stretches(codes: CodesOfContexts, above_F: np.ndarray, max_gap: int = MAX_GAP) -> Stretches:
    """The stretches of all latents in some contexts; none goes beyond its context."""
    by_latent = codes.codes_TF.tocsc()
    by_latent.sort_indices()
    latent_N = np.repeat(np.arange(by_latent.shape[1]), np.diff(by_latent.indptr))
    is_on_N = by_latent.data > above_F[latent_N]
    latent_N, row_N = latent_N[is_on_N], by_latent.indices[is_on_N]
    context_T = np.repeat(np.arange(len(codes.start_C) - 1), np.diff(codes.start_C))
    usable_N = (np.cumsum(codes.usable_T) - 1)[row_N]
    begins_N = np.ones(len(row_N), dtype=bool)
    begins_N[1:] = (
        (np.diff(latent_N) != 0) | (np.diff(context_T[row_N]) != 0) | (np.diff(usable_N) > max_gap + 1)
    )
    first_S = np.flatnonzero(begins_N)
    last_S = np.append(first_S[1:], len(row_N)) - 1
    return Stretches(
        latent_N[first_S],
        usable_N[first_S],
        usable_N[last_S[: len(first_S)]] - usable_N[first_S] + 1,
        int(codes.usable_T.sum()),
    )
