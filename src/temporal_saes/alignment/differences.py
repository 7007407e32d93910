"""What sets chosen answers apart from rejected ones: every latent tested, with and without the confounds.

Four views of the same differences (chosen minus rejected, each a mean over the tokens of an answer):

raw            all pairs as they are
equal_length   the intercept of a regression on the difference in tokens
equal_surface  the same on length and every surface feature at once
matched        only pairs whose answers are about equally long, as they are

A latent is tested if enough pairs have a difference that is not zero; that looks at no sign, so it favours
neither side. A length latent is one whose difference goes with the difference in length over the pairs.

Shapes: P pairs, F tested latents, C latents of the chunk.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from dictionary_learning.errors import UserError
from temporal_saes.alignment.pairs import MIN_PAIRS, PreferencePair
from temporal_saes.alignment.responses import ResponseMeans
from temporal_saes.alignment.statistics import (
    Correlations,
    Effects,
    alike,
    benjamini_hochberg,
    correlations,
    paired_effects,
    separable,
    sign_flips,
)
from temporal_saes.alignment.surface_features import SURFACE_FEATURES, surface
from temporal_saes.experiment.intervals import Interval, mean_interval

LENGTH = "length"
VIEWS = ("raw", "equal_length", "equal_surface", "matched")
_PAIRS_A_COEFFICIENT = 5  # fewer, and a regression fits its own noise


class SurfaceDifference(NamedTuple):
    """One surface feature in chosen and rejected answers."""

    name: str
    rule: str
    chosen: float
    rejected: float
    difference: Interval
    effect: float
    p: float
    """Paired t test."""
    p_wilcoxon: float
    """Signed-rank test, which long tails do not sway; pairs without a difference are left out."""
    q: float
    """Of the paired t, over all surface features."""
    n_more: int
    """Pairs in which the chosen answer has more."""
    n_less: int


class Differences(NamedTuple):
    """Every tested latent in every view."""

    latent_F: np.ndarray
    """Numbers of the tested latents in the dictionary."""
    n_latents: int
    n_active: int
    """Latents that are not zero in some answer."""
    chosen_F: np.ndarray
    rejected_F: np.ndarray
    """Mean activation, over answers of means over tokens."""
    active_chosen_F: np.ndarray
    active_rejected_F: np.ndarray
    """Share of the answers in which it is not zero."""
    d_PF: np.ndarray
    views: dict[str, Effects | None]
    """None where the pairs do not allow it, see `missing`."""
    missing: dict[str, str]
    """Why a view is missing."""
    surface_names: list[str]
    """What the surface view holds equal."""
    p_flips_F: np.ndarray
    """Of the raw view, corrected for all latents, see `statistics.sign_flips`."""
    length: Correlations
    is_length_F: np.ndarray
    """Whether it is a length latent."""
    surface: list[SurfaceDifference]
    """Length first."""
    length_P: np.ndarray
    """Tokens, chosen minus rejected."""


class Settings(NamedTuple):
    """How to test."""

    fdr: float
    min_active: int
    length_correlation: float
    length_tolerance: float
    n_flips: int
    seed: int


def differences_of(
    pairs: Sequence[PreferencePair],
    n_tokens_P2: np.ndarray,
    means: ResponseMeans,
    first_latent: int,
    settings: Settings,
) -> Differences:
    """Test every latent.

    Args:
        pairs: those of `means`, in its order.
        n_tokens_P2: tokens of both answers, whole.
        first_latent: number of the first latent of the chunk in the dictionary.

    Raises:
        UserError: no latent differs in enough pairs.
    """
    d_PC = means.chosen_PF - means.rejected_PF
    counts_C = _non_zero(d_PC)
    tested = np.flatnonzero(counts_C >= settings.min_active)
    if not tested.size:
        raise UserError(
            f"no latent differs between the answers of {settings.min_active} pairs (the busiest one in "
            f"{counts_C.max(initial=0)}): give more pairs, or a lower --min_active."
        )
    d_PF = _columns(d_PC, tested)
    length_P = (n_tokens_P2[:, 0] - n_tokens_P2[:, 1]).astype(np.float64)
    sides = [np.array([surface(text) for text in texts]) for texts in _answers(pairs)]
    confound_PK = np.column_stack([length_P, sides[0] - sides[1]])
    views, missing, kept = _views(d_PF, confound_PK, n_tokens_P2, settings)
    length = correlations(d_PF, length_P)
    return Differences(
        latent_F=tested + first_latent,
        n_latents=d_PC.shape[1],
        n_active=int(((_non_zero(means.chosen_PF) + _non_zero(means.rejected_PF)) > 0).sum()),
        chosen_F=_columns(means.chosen_PF, tested).mean(axis=0),
        rejected_F=_columns(means.rejected_PF, tested).mean(axis=0),
        active_chosen_F=_non_zero(means.chosen_PF)[tested] / len(pairs),
        active_rejected_F=_non_zero(means.rejected_PF)[tested] / len(pairs),
        d_PF=d_PF,
        views=views,
        missing=missing,
        surface_names=[_confound_names()[k] for k in kept],
        p_flips_F=sign_flips(d_PF, settings.n_flips, settings.seed),
        length=length,
        is_length_F=(np.abs(length.r_F) >= settings.length_correlation) & (length.q_F <= settings.fdr),
        surface=_surface_differences(n_tokens_P2, sides[0], sides[1]),
        length_P=length_P,
    )


def smallest_effect(n_pairs: int, n_tests: int, fdr: float) -> float:
    """The |d_z| that a latent needs to be significant if it is the only one: what so many pairs can see."""
    from scipy.stats import t

    return float(t.isf(fdr / n_tests / 2, n_pairs - 1)) / n_pairs**0.5


def _views(
    d_PF: np.ndarray, confound_PK: np.ndarray, n_tokens_P2: np.ndarray, settings: Settings
) -> tuple[dict[str, Effects | None], dict[str, str], list[int]]:
    """The views, why some are missing, and the confounds of the surface view."""
    views: dict[str, Effects | None] = {"raw": paired_effects(d_PF)}
    missing = {}
    length_PK = confound_PK[:, :1]
    if not length_PK.any():
        views["equal_length"] = views["raw"]  # the answers of every pair are equally long
    elif separable(length_PK):
        views["equal_length"] = paired_effects(d_PF, length_PK)
    else:
        views["equal_length"] = None
        missing["equal_length"] = "the answers of every pair differ in length by the same number of tokens"
    kept = separable(confound_PK)
    needed = _PAIRS_A_COEFFICIENT * (len(kept) + 1)
    if "equal_length" in missing:  # length is part of the surface
        views["equal_surface"] = None
        missing["equal_surface"] = missing["equal_length"]
    elif len(d_PF) >= needed:
        views["equal_surface"] = paired_effects(d_PF, confound_PK[:, kept])
    else:
        views["equal_surface"] = None
        missing["equal_surface"] = f"{len(kept)} confounds need at least {needed} pairs"
    matched_P = alike(n_tokens_P2[:, 0], n_tokens_P2[:, 1], settings.length_tolerance)
    if matched_P.sum() >= MIN_PAIRS:
        views["matched"] = paired_effects(d_PF[matched_P])
    else:
        views["matched"] = None
        missing["matched"] = (
            f"{matched_P.sum()} pairs have answers that are alike in length within "
            f"{settings.length_tolerance:.0%}, and a test needs at least {MIN_PAIRS}"
        )
    return views, missing, kept


def _answers(pairs: Sequence[PreferencePair]) -> tuple[list[str], list[str]]:
    return [pair.chosen for pair in pairs], [pair.rejected for pair in pairs]


def _confound_names() -> list[str]:
    return [LENGTH, *(feature.name for feature in SURFACE_FEATURES)]


def _surface_differences(
    n_tokens_P2: np.ndarray, chosen_PK: np.ndarray, rejected_PK: np.ndarray
) -> list[SurfaceDifference]:
    chosen_PK = np.column_stack([n_tokens_P2[:, 0], chosen_PK])
    rejected_PK = np.column_stack([n_tokens_P2[:, 1], rejected_PK])
    rules = ["tokens of the answer", *(feature.rule for feature in SURFACE_FEATURES)]
    d_PK = chosen_PK - rejected_PK
    effects = paired_effects(d_PK)
    q_K = benjamini_hochberg(effects.p_F)
    rows = []
    for k, (name, rule) in enumerate(zip(_confound_names(), rules, strict=True)):
        difference = mean_interval(d_PK[:, k])
        assert difference is not None
        rows.append(
            SurfaceDifference(
                name=name,
                rule=rule,
                chosen=float(chosen_PK[:, k].mean()),
                rejected=float(rejected_PK[:, k].mean()),
                difference=difference,
                effect=float(effects.effect_F[k]),
                p=float(effects.p_F[k]),
                p_wilcoxon=_signed_rank(d_PK[:, k]),
                q=float(q_K[k]),
                n_more=int((d_PK[:, k] > 0).sum()),
                n_less=int((d_PK[:, k] < 0).sum()),
            )
        )
    return rows


def _signed_rank(d_P: np.ndarray) -> float:
    from scipy.stats import wilcoxon

    return float(wilcoxon(d_P).pvalue) if d_P.any() else 1.0


def _non_zero(x_PC: Any) -> np.ndarray:
    """Rows in which each column is not zero."""
    if not sparse.issparse(x_PC):
        return np.count_nonzero(x_PC, axis=0)
    return np.asarray((x_PC != 0).sum(axis=0)).ravel()


def _columns(x_PC: Any, columns: np.ndarray) -> np.ndarray:
    """Some columns, dense, in float64."""
    some = x_PC[:, columns]
    return np.asarray(some.toarray() if sparse.issparse(some) else some, dtype=np.float64)
