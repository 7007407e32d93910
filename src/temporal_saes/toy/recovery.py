"""Which truths a dictionary has found: one latent for each, by its direction, and when it fires.

    pairs = match(latents, on_TN)               # on the texts that choose
    firing(latents.f_TF, pairs, on_TN)           # on the texts that score

Directions are matched one to one so that the sum of their cosines is largest (Hungarian matching); their mean
is the MCC. Of latents that share a direction, as the two roles of an atom of a TemporalSAE do, the one that
correlates most with the truth stands for it.

Shapes: T tokens, F latents, U distinct directions, N truths, D width.
"""

from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.stats import rankdata

from temporal_saes.persistence.measures import unit


class Match(NamedTuple):
    """The latent that stands for each truth."""

    latent_N: np.ndarray  # -1 where there are fewer directions than truths
    cosine_N: np.ndarray  # 0 there


def match(directions_FD: np.ndarray, truths_ND: np.ndarray, f_TF: np.ndarray, on_TN: np.ndarray) -> Match:
    """Match truths with directions, then each with the latent of its direction that fires like it."""
    distinct_UD, direction_F = np.unique(directions_FD, axis=0, return_inverse=True)
    cosine_UN = unit(distinct_UD) @ unit(truths_ND).T
    rows, truths = linear_sum_assignment(cosine_UN, maximize=True)
    latent_N, cosine_N = np.full(len(truths_ND), -1), np.zeros(len(truths_ND))
    for row, truth in zip(rows, truths, strict=True):
        candidates = np.flatnonzero(direction_F.ravel() == row)
        correlations = [_correlation(f_TF[:, latent], on_TN[:, truth]) for latent in candidates]
        latent_N[truth] = candidates[int(np.argmax(correlations))]
        cosine_N[truth] = cosine_UN[row, truth]
    return Match(latent_N, cosine_N)


def chance_mcc(n_directions: int, truths_ND: np.ndarray, seed: int) -> float:
    """The MCC of so many random directions."""
    random_UD = np.random.default_rng([seed, 9]).normal(size=(n_directions, truths_ND.shape[1]))
    cosine_UN = unit(random_UD) @ unit(truths_ND).T
    rows, truths = linear_sum_assignment(cosine_UN, maximize=True)
    return float(cosine_UN[rows, truths].sum() / len(truths_ND))


class Firing(NamedTuple):
    """How well the matched latents fire with their truths, each [N]; a truth without a latent has 0."""

    precision_N: np.ndarray  # 0 where the latent is never on
    recall_N: np.ndarray
    f1_N: np.ndarray
    auc_N: np.ndarray  # by the size of the activation, without a threshold; .5 where there is no latent


def firing(f_TF: np.ndarray, latent_N: np.ndarray, on_TN: np.ndarray) -> Firing:
    """Scores of each truth that is on at some token and off at another; NaN of the others."""
    n = len(latent_N)
    precision_N, recall_N, f1_N, auc_N = (np.full(n, np.nan) for _ in range(4))
    for truth, latent in enumerate(latent_N):
        on_T = on_TN[:, truth]
        if on_T.all() or not on_T.any():
            continue
        f_T = f_TF[:, latent] if latent >= 0 else np.zeros(len(on_T))
        hits, fired = int((f_T[on_T] > 0).sum()), int((f_T > 0).sum())
        precision_N[truth] = hits / fired if fired else 0.0
        recall_N[truth] = hits / on_T.sum()
        f1_N[truth] = 2 * hits / (fired + on_T.sum())
        auc_N[truth] = auc(f_T, on_T)
    return Firing(precision_N, recall_N, f1_N, auc_N)


def auc(score_T: np.ndarray, is_positive_T: np.ndarray) -> float:
    """Probability that a positive one scores higher than a negative one; ties count one half."""
    n_positive = int(is_positive_T.sum())
    n_negative = len(is_positive_T) - n_positive
    assert n_positive
    assert n_negative
    ranks = rankdata(score_T)[is_positive_T].sum()
    return float((ranks - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative))


def _correlation(f_T: np.ndarray, on_T: np.ndarray) -> float:
    """0 where one of them is constant."""
    f_T, on_T = f_T - f_T.mean(), on_T - on_T.mean()
    size = np.sqrt((f_T**2).sum() * (on_T**2).sum())
    return float((f_T * on_T).sum() / size) if size > 0 else 0.0
