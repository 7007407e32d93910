"""How long latents stay on, and which of them come back when a dictionary is trained again.

Persistence of a latent at a lag d is P(on at t + d | on at t) - P(on at t + d | off at t), over all pairs of
positions of one text: 1 for a latent that never changes within a text, 0 for one whose tokens have nothing to
do with each other, whatever its frequency. A latent that is on all the time, or never, has none.

Shapes: L positions of one text, F latents, G latents of another dictionary, D model width, K lags.
"""

from collections.abc import Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment


class Persistence:
    """Counts of pairs of positions, text after text.

    Attributes:
        n_on_F: positions at which each latent is on.
        n: positions.
    """

    def __init__(self, lags: Sequence[int], n_latents: int) -> None:
        self.lags = tuple(lags)
        self.n = 0
        self.n_on_F = np.zeros(n_latents, np.int64)
        shape = len(self.lags), n_latents
        self._pairs_K = np.zeros(len(self.lags), np.int64)
        self._before_KF, self._after_KF, self._both_KF = (np.zeros(shape, np.int64) for _ in range(3))

    def add(self, on_LF: np.ndarray) -> None:
        """Add a text; `on_LF` says at which positions a latent is on."""
        on_LF = on_LF.astype(np.int64)
        self.n += len(on_LF)
        self.n_on_F += on_LF.sum(axis=0)
        for k, lag in enumerate(self.lags):
            before_LF, after_LF = on_LF[:-lag], on_LF[lag:]
            self._pairs_K[k] += len(after_LF)
            self._before_KF[k] += before_LF.sum(axis=0)
            self._after_KF[k] += after_LF.sum(axis=0)
            self._both_KF[k] += (before_LF * after_LF).sum(axis=0)

    def values(self) -> np.ndarray:
        """Persistence [K, F]; NaN where a latent is on, or off, at no earlier position."""
        on_KF = self._before_KF.astype(np.float64)
        off_KF = self._pairs_K[:, None] - on_KF
        with np.errstate(invalid="ignore", divide="ignore"):
            return self._both_KF / on_KF - (self._after_KF - self._both_KF) / off_KF


def matched_cosines(own_FD: np.ndarray, other_GD: np.ndarray) -> np.ndarray:
    """The cosine [F] of each direction with its partner, where every partner has one (Hungarian matching).

    The pairs are those of the largest sum of cosines. NaN for directions without a partner, of which there
    are some where the other dictionary is smaller.
    """
    cosine_FG = unit(own_FD) @ unit(other_GD).T
    rows, columns = linear_sum_assignment(cosine_FG, maximize=True)
    found_F = np.full(len(own_FD), np.nan)
    found_F[rows] = cosine_FG[rows, columns]
    return found_F


def unit(x_FD: np.ndarray) -> np.ndarray:
    """Rows of length 1; a row of zeros stays."""
    norm_F1 = np.linalg.norm(x_FD, axis=1, keepdims=True)
    return x_FD / np.where(norm_F1 > 0, norm_F1, 1)


def best_cosines(own_FD: np.ndarray, other_GD: np.ndarray) -> np.ndarray:
    """The largest cosine [F] of each direction with any of the others, which several may share."""
    return (unit(own_FD) @ unit(other_GD).T).max(axis=1)
