"""Windows of a corpus, half of it held out, and how well a score finds some of them.

    halves = split_contexts(codes, seed=0)
    window_U = window_of(select(codes, halves.test_C))

Windows are stretches of `WINDOW` usable tokens of one context, one behind another; what is left at the end of
a context is in none.

Shapes: C contexts, U usable positions of all of them.
"""

from typing import NamedTuple

import numpy as np

from temporal_saes.latents.codes import CodesOfContexts
from temporal_saes.naming.options import WINDOW

MIN_PLACES = 5
"""Active and silent places of each half without which there is no score."""


class Halves(NamedTuple):
    """Which contexts are learnt from and which are held out."""

    learn_C: np.ndarray  # bool

    @property
    def test_C(self) -> np.ndarray:
        return ~self.learn_C


def split_contexts(codes: CodesOfContexts, seed: int) -> Halves:
    """Half of the contexts at random to learn from, the rest held out."""
    n = len(codes.start_C) - 1
    learn_C = np.zeros(n, dtype=bool)
    learn_C[np.random.default_rng(seed).permutation(n)[: n // 2]] = True
    return Halves(learn_C)


def window_of(codes: CodesOfContexts) -> np.ndarray:
    """The window [U] of each usable position, -1 for those that are in none."""
    context_T = np.repeat(np.arange(len(codes.start_C) - 1), np.diff(codes.start_C))
    context_U = context_T[codes.usable_T]
    count_C = np.bincount(context_U, minlength=len(codes.start_C) - 1)
    rank_U = np.arange(len(context_U)) - np.repeat(np.cumsum(count_C) - count_C, count_C)
    windows_C = count_C // WINDOW
    number_U = (np.cumsum(windows_C) - windows_C)[context_U] + rank_U // WINDOW
    return np.where(rank_U < windows_C[context_U] * WINDOW, number_U, -1)


def area_under_curve(score: np.ndarray, n_active: np.ndarray, n_silent: np.ndarray) -> float | None:
    """How often an active place has a higher score than a silent one; ties count half.

    Args:
        score, n_active, n_silent: a score, and how many active and silent places have it.

    Returns:
        None with fewer than `MIN_PLACES` places of a kind.
    """
    total_active, total_silent = int(n_active.sum()), int(n_silent.sum())
    if min(total_active, total_silent) < MIN_PLACES:
        return None
    _, group = np.unique(score, return_inverse=True)
    active = np.bincount(group, n_active)
    silent = np.bincount(group, n_silent)
    below = np.cumsum(silent) - silent
    return float(np.sum(active * (below + silent / 2)) / (total_active * total_silent))
