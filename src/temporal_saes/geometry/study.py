"""The geometry of one subject's part of the activations: every measure, and its mean over texts."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dictionary_learning.command.progress import LoopProgress
from dictionary_learning.language_model import LanguageModel
from temporal_saes.experiment.intervals import INTERVAL, as_json, mean_interval
from temporal_saes.experiment.subjects import Subject
from temporal_saes.geometry import measures
from temporal_saes.geometry.options import MIN_TEXTS, GeometryOptions
from temporal_saes.geometry.parts import Parts, errors, sizes
from temporal_saes.geometry.trajectories import Trajectory, read_trajectories

CUTS = np.linspace(0.02, 1, 50)  # shares of Nyquist at which the figure has the power up to there


def study(
    subject: Subject, options: GeometryOptions, texts: Sequence[str], lm: LanguageModel
) -> dict[str, Any]:
    """All measures of one subject, with their means over texts.

    Raises:
        UserError: as `read_trajectories`.
    """
    trajectories = read_trajectories(subject, options, texts, lm)
    vectors = [one.v_uD for one in trajectories]
    with LoopProgress(len(vectors), subject.name, "spectra") as progress:
        spectra = [measures.spectrum(v_uD) for v_uD in progress.over(vectors)]
    of_all = measures.spectrum_of_all(vectors)
    n_positions = round(float(np.mean([len(v_uD) for v_uD in vectors])))
    parts = [one.parts for one in trajectories]
    mean_D = np.concatenate([one.x_uD for one in parts]).mean(axis=0, dtype=np.float64)
    return {
        "n_texts": len(texts),
        "n_tokens": sum(map(len, vectors)),
        "n_positions": n_positions,
        "measures": {
            "effective_rank": _mean(_of(measures.effective_rank, spectra)),
            "participation_ratio": _mean(_of(measures.participation_ratio, spectra)),
            "tortuosity": _mean([measures.tortuosity(v_uD, options.steps) for v_uD in vectors]),
            "slow_share": _mean([measures.slow_share(v_uD, options.slow) for v_uD in vectors]),
            "cosine_with_slow": _mean([one.cosine_with_slow for one in trajectories]),
            "cosine_with_fast": _mean([one.cosine_with_fast for one in trajectories]),
        },
        "parts": {**_sizes(parts, mean_D), **_uncentred_ranks(parts)},
        "all_texts": {
            "effective_rank": _of(measures.effective_rank, [of_all])[0],
            "participation_ratio": _of(measures.participation_ratio, [of_all])[0],
        },
        "independent_positions": {
            "largest_rank": n_positions - 1,
            "tortuosity": options.steps,
            "slow_share": measures.slow_share_of_noise(n_positions, options.slow),
        },
        "power_up_to": _power(vectors),
        "autocorrelation": _autocorrelation(vectors, options.max_lag),
        "dimension_at_position": _dimensions(trajectories),
        "interval": INTERVAL,
    }


def _of(measure: Callable[[np.ndarray], float], spectra: Sequence[np.ndarray | None]) -> list[float | None]:
    return [None if spectrum is None else measure(spectrum) for spectrum in spectra]


def _sizes(parts: Sequence[Parts], mean_D: np.ndarray) -> dict[str, Any]:
    """Means over texts of how large the part is and how much it misses, where that is defined."""
    of_texts = [sizes(one, mean_D) | errors(one, mean_D) for one in parts]
    return {name: _mean([one[name] for one in of_texts]) for name in of_texts[0]}


def _uncentred_ranks(parts: Sequence[Parts]) -> dict[str, Any]:
    """Effective ranks around zero and around the mean over all texts, not around each text's own mean."""
    paths = [one.whole_uD for one in parts]
    mean_D = np.concatenate(paths).mean(axis=0, dtype=np.float64)
    points = {"effective_rank_with_bias": np.zeros_like(mean_D), "effective_rank_less_mean": mean_D}
    return {
        name: _mean(_of(measures.effective_rank, [measures.spectrum(path, point_D) for path in paths]))
        for name, point_D in points.items()
    }


def _mean(values: Sequence[float | None]) -> dict[str, Any]:
    """Mean and interval over the texts that have a value, and how many have none."""
    known = [value for value in values if value is not None]
    interval = as_json(mean_interval(known)) or {"mean": None, "low": None, "high": None}
    return {**interval, "texts_without": len(values) - len(known)}


def _means(rows: Sequence[np.ndarray | None]) -> dict[str, Any]:
    """As `_mean`, number by number; rows are texts."""
    known = [row for row in rows if row is not None]
    columns = [_mean(column) for column in zip(*known, strict=True)]
    ends = {key: [column[key] for column in columns] for key in ("mean", "low", "high")}
    return {**ends, "texts_without": len(rows) - len(known)}


def _power(vectors: Sequence[np.ndarray]) -> dict[str, Any]:
    """Share of the variance at frequencies up to each of `CUTS`, interpolated between frequencies."""
    rows: list[np.ndarray | None] = []
    for v_uD in vectors:
        shares_K = measures.power_shares(v_uD)
        if shares_K is None:
            rows.append(None)
            continue
        at = np.concatenate([[0], measures.frequencies(len(v_uD))])
        rows.append(np.interp(CUTS, at, np.concatenate([[0], np.cumsum(shares_K)])))
    return {"share_of_nyquist": CUTS.tolist(), **_means(rows)}


def _autocorrelation(vectors: Sequence[np.ndarray], max_lag: int) -> dict[str, Any]:
    mean_D = np.concatenate(vectors).mean(axis=0, dtype=np.float64)
    rows = [measures.autocorrelation(v_uD, mean_D, max_lag) for v_uD in vectors]
    return {"lag": list(range(max_lag + 1)), **_means(rows)}


def _dimensions(trajectories: Sequence[Trajectory]) -> list[dict[str, Any]]:
    """Dimension over texts at the positions 1, 2, 4, ... and the last, counted from 0."""
    last = max(int(one.positions_u[-1]) for one in trajectories)
    positions = [2**i for i in range(20) if 2**i < last]
    found = []
    for position in [*positions, last]:
        there = [one.v_uD[one.positions_u == position] for one in trajectories]
        v_ND = np.concatenate(there)
        if len(v_ND) >= MIN_TEXTS:
            interval = as_json(measures.dimension(v_ND)) or {"mean": None, "low": None, "high": None}
            found.append({"position": position, "n_texts": len(v_ND), **interval})
    return found
