"""Which latents fire at the same tokens, in bounded memory.

    together = Coactivation(n_latents)
    together.add(codes_TF)                  # chunk after chunk
    indices_FK, share_FK = together.nearest(8)

The share of two latents is the number of tokens at which both are active over the number at which either is
(Jaccard). Of the pairs of a latent only those with the largest shares so far are kept between chunks, so the
count of a pair that was dropped on the way and came again is a lower bound. Where a chunk has more pairs than
`MAX_PAIRS`, as dense codes do, evenly spaced tokens stand for all.

Shapes: T tokens, F latents, K neighbours, M pairs.
"""

import numpy as np
from scipy import sparse

N_KEPT = 128  # pairs of a latent, between chunks
MAX_PAIRS = 2**25  # looked at in one chunk
_PRUNE_AT = 2**24  # pairs


class Coactivation:
    """Counts of tokens at which two latents are both active."""

    def __init__(self, n_latents: int, n_kept: int = N_KEPT) -> None:
        self.n_latents, self.n_kept = n_latents, n_kept
        self.count_F = np.zeros(n_latents, dtype=np.int64)
        self._together = sparse.csr_array((n_latents, n_latents), dtype=np.int32)

    def add(self, codes_TF: sparse.csr_array) -> None:
        """Count the tokens of a chunk."""
        n_active_T = np.diff(codes_TF.indptr).astype(np.int64)
        step = -(-int((n_active_T**2).sum()) // MAX_PAIRS)
        some_TF = codes_TF[:: max(1, step)]
        active_TF = sparse.csr_array(
            (np.ones(some_TF.nnz, dtype=np.int32), some_TF.indices, some_TF.indptr), shape=some_TF.shape
        )
        self.count_F += np.bincount(active_TF.indices, minlength=self.n_latents)
        self._together = sparse.csr_array(self._together + active_TF.T @ active_TF)
        if self._together.nnz > _PRUNE_AT:
            self._keep(self.n_kept)

    def nearest(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        """The n latents with the largest shares of each, and the shares [F, n]; -1 and 0 for lack of any."""
        row_M, column_M, share_M = self._keep(n)
        first_F = np.searchsorted(row_M, np.arange(self.n_latents))
        place = row_M, np.arange(len(row_M)) - first_F[row_M]
        indices_FK = np.full((self.n_latents, n), -1)
        share_FK = np.zeros((self.n_latents, n))
        indices_FK[place], share_FK[place] = column_M, share_M
        return indices_FK, share_FK

    def _keep(self, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Drop all but the n largest shares of each latent; what is left, by latent and then by share."""
        pairs = self._together.tocoo()
        row_M, column_M, both_M = pairs.row, pairs.col, pairs.data
        other = row_M != column_M
        row_M, column_M, both_M = row_M[other], column_M[other], both_M[other]
        share_M = both_M / (self.count_F[row_M] + self.count_F[column_M] - both_M)
        order_M = np.lexsort((column_M, -share_M, row_M))
        row_M = row_M[order_M]
        rank_M = np.arange(len(row_M)) - np.searchsorted(row_M, np.arange(self.n_latents))[row_M]
        order_M = order_M[rank_M < n]
        row_M, column_M, both_M = pairs.row[other][order_M], column_M[order_M], both_M[order_M]
        self._together = sparse.csr_array(
            (both_M, (row_M, column_M)), shape=(self.n_latents, self.n_latents), dtype=np.int32
        )
        return row_M, column_M, share_M[order_M]
