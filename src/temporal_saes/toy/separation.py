"""Whether a dictionary keeps slow truths and fast ones apart.

placement    how many truths of either sort have their latent in the first part: the balanced accuracy of
             "slow means first part" is .5 by chance, whatever the sizes of the parts
parts        how well the truths of either sort can be read, linearly, off what one part adds to the
             reconstruction; this takes no matching, and also scores means of earlier tokens
persistence  how well the persistence of its latent tells whether a truth is slow, which needs no parts

Shapes: T tokens, L tokens of a text, D width, N truths, F latents.
"""

from collections.abc import Sequence

import numpy as np

from temporal_saes.persistence.measures import Persistence
from temporal_saes.toy.recovery import auc

RIDGE = 1e-3  # of the mean variance of a dimension


def placement(latent_N: np.ndarray, is_slow_N: np.ndarray, first: slice) -> dict[str, float | None]:
    """Shares of the truths whose latent is in the first part, and the balanced accuracy."""
    has_latent_N = latent_N >= 0
    is_first_N = (latent_N >= first.start) & (latent_N < first.stop)
    shares = {
        name: float(is_first_N[group_N].mean()) if group_N.any() else None
        for name, group_N in (("slow", is_slow_N & has_latent_N), ("fast", ~is_slow_N & has_latent_N))
    }
    slow, fast = shares["slow"], shares["fast"]
    accuracy = None if slow is None or fast is None else (slow + 1 - fast) / 2
    return {"slow_in_first": slow, "fast_in_first": fast, "balanced_accuracy": accuracy}


def read_off(v_TD: np.ndarray, on_TN: np.ndarray, is_chosen_T: np.ndarray) -> np.ndarray:
    """AUC [N] of a ridge regression from a part to each truth, fitted on the chosen tokens, scored on others.

    .5 where the part says nothing; NaN where a truth is not both on and off among the scored tokens.
    """
    fit_TD, fit_TN = v_TD[is_chosen_T].astype(np.float64), on_TN[is_chosen_T].astype(np.float64)
    centre_D = fit_TD.mean(axis=0)
    fit_TD = fit_TD - centre_D
    gram_DD = fit_TD.T @ fit_TD
    size = np.trace(gram_DD) / len(gram_DD)
    if size <= 1e-12 * len(fit_TD):
        return _auc_of_each(np.zeros(((~is_chosen_T).sum(), on_TN.shape[1])), on_TN[~is_chosen_T])
    weights_DN = np.linalg.solve(
        gram_DD + RIDGE * size * np.eye(len(gram_DD)), fit_TD.T @ (fit_TN - fit_TN.mean(axis=0))
    )
    return _auc_of_each((v_TD[~is_chosen_T] - centre_D) @ weights_DN, on_TN[~is_chosen_T])


def _auc_of_each(score_TN: np.ndarray, on_TN: np.ndarray) -> np.ndarray:
    return np.array(
        [
            auc(score_T, on_T) if on_T.any() and not on_T.all() else np.nan
            for score_T, on_T in zip(score_TN.T, on_TN.T, strict=True)
        ]
    )


def persistence(f_BLF: np.ndarray, lag: int) -> np.ndarray:
    """Persistence [F] of the latents of texts; 0 where a latent has none, being never on or never off."""
    counts = Persistence([lag], f_BLF.shape[2])
    for f_LF in f_BLF:
        counts.add(f_LF > 0)
    return np.nan_to_num(counts.values()[0])


def told_by_persistence(
    persistence_F: np.ndarray, latent_N: np.ndarray, is_slow_N: np.ndarray
) -> float | None:
    """AUC of the persistence of a truth's latent for whether the truth is slow."""
    has_latent_N = latent_N >= 0
    slow_N = is_slow_N[has_latent_N]
    if slow_N.all() or not slow_N.any():
        return None
    return auc(persistence_F[latent_N[has_latent_N]], slow_N)


def mean_of(values_N: np.ndarray, group_N: np.ndarray) -> float | None:
    """The mean over a sort of truths, of those that have a value."""
    known = values_N[group_N & ~np.isnan(values_N)]
    return float(known.mean()) if len(known) else None


def in_parts(
    parts: dict[str, np.ndarray], on_TN: np.ndarray, is_slow_N: np.ndarray, is_chosen_T: np.ndarray
) -> dict[str, dict[str, float | None]]:
    """Of every part [T, D] the mean AUC of slow and of fast truths."""
    found = {}
    for name, v_TD in parts.items():
        auc_N = read_off(v_TD, on_TN, is_chosen_T)
        found[name] = {"slow": mean_of(auc_N, is_slow_N), "fast": mean_of(auc_N, ~is_slow_N)}
    return found


def lags(length: int) -> Sequence[int]:
    """Lags at which persistence is told, within texts of this length."""
    return [lag for lag in (1, 2, 4, 8, 16, 32) if lag < length]
