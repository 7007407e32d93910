"""Where latents are not active: windows all over a corpus that all latents share.

Shapes: F latents, C contexts, T positions of all of them, P places.
"""

import numpy as np

from temporal_saes.latents.codes import CodesOfContexts
from temporal_saes.latents.places import uniform

N_SILENT = 1024  # places all over the corpus at which it is known which latents are silent


class Silence:
    """Places all over the corpus, and which latents are active around them."""

    def __init__(self, n_latents: int, window: int, seed: int) -> None:
        self.window, self.seed = window, seed
        self.context_P = np.full(N_SILENT, -1, dtype=np.int64)
        self.position_P = np.zeros(N_SILENT, dtype=np.int64)
        self.active_PF = np.zeros((N_SILENT, n_latents), dtype=bool)
        self._key_P = np.full(N_SILENT, -np.inf)

    def add(self, codes: CodesOfContexts, first_context: int) -> None:
        """Take contexts in at random, with one place each."""
        number_C = np.arange(len(codes.start_C) - 1)
        key_C = uniform(self.seed + 1, first_context + number_C)
        for number in number_C[key_C > self._key_P.min()].tolist():
            weakest = int(self._key_P.argmin())
            start, stop = codes.start_C[number], codes.start_C[number + 1]
            usable = np.flatnonzero(codes.usable_T[start:stop])
            if key_C[number] <= self._key_P[weakest] or not usable.size:
                continue
            context = first_context + number
            position = int(usable[int(uniform(self.seed + 2, np.array([context]))[0] * len(usable))])
            near = slice(
                start + max(0, position - self.window), min(stop, start + position + self.window + 1)
            )
            self._key_P[weakest] = key_C[number]
            self.context_P[weakest], self.position_P[weakest] = context, position
            self.active_PF[weakest] = False
            indptr = codes.codes_TF.indptr
            self.active_PF[weakest, codes.codes_TF.indices[indptr[near.start] : indptr[near.stop]]] = True

    def ordered(self) -> "Silence":
        """The same places in the order of the corpus, so that chunks leave no trace."""
        order = np.argsort(np.where(self.context_P >= 0, self.context_P, np.iinfo(np.int64).max))
        self.context_P, self.position_P = self.context_P[order], self.position_P[order]
        self.active_PF, self._key_P = self.active_PF[order], self._key_P[order]
        return self
