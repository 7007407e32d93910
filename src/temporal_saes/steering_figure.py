"""The figure of steering: what is gained against what it costs, and two curves over strength."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dictionary_learning import figures
from temporal_saes.results import colours, label

Result = Mapping[str, Any]
UNITS = {"max": "strength (multiples of the latent's maximum)", "raw": "strength (length of what is added)"}


def draw(results: Sequence[Result], path: Path) -> list[Path]:
    """Frontiers and curves of one result, or of several in the same panels; the files written.

    Solid lines are latents, dashed ones of the same colour random directions of the same length. A line
    begins where nothing is pushed, and its points are the strengths; bars are 95 % intervals over latents.
    """
    judged = all(result["judge"] is not None for result in results)
    n = 4 if judged else 3
    with figures.style():
        fig, axes = figures.subplots(1, n, figsize=(3.5 * n + 0.4, 3.9))
        panels = list(axes)
        if judged:
            _judged_frontier(panels.pop(0), results)
        _frontier(panels.pop(0), results)
        _curve(panels.pop(0), results, "own_tokens_log10", "own top tokens", "likelier by a power of ten")
        _curve(panels.pop(0), results, "repetition_added", "repetition", "added share of repeated text")
        handles, labels = axes[0].get_legend_handles_labels()
        fig.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 4))
        return figures.save(fig, path, pdf=True)


def _parts(results: Sequence[Result]) -> list[tuple[Sequence[Any], dict[str, Any], Result]]:
    """The points, the look and the result of every line."""
    found: list[tuple[Sequence[Any], dict[str, Any], Result]] = []
    for result, colour in zip(results, colours(results), strict=True):
        summary = result["summary"]
        found.append((summary["steered"], {"color": colour, "label": label(result)}, result))
        if summary["control"]:
            look = {"color": colour, "linestyle": "--", "linewidth": 1.2, "alpha": 0.8}
            found.append((summary["control"], {**look, "label": "random directions"}, result))
    if len(results) > 1:
        for _, look, _ in found[3::2]:
            look.pop("label")  # dashes are said once
    return found


def _frontier(axis: Any, results: Sequence[Result]) -> None:
    for points, look, _ in _parts(results):
        x = [0.0, *_means(points, "nll_added")]
        y = [0.0, *_means(points, "domain_gain")]
        axis.errorbar(x, y, yerr=_errors(points, "domain_gain", y), marker="o", markersize=4, **look)
        if "linestyle" not in look:
            _name_points(axis, points, x[1:], y[1:])
    axis.axhline(0, color="#444444", linewidth=0.8)
    axis.invert_xaxis()
    axis.set_title("domain, by numbers")
    axis.set_xlabel("nats a token added (coherent: right)")
    axis.set_ylabel("added probability of the latent's domain")


def _judged_frontier(axis: Any, results: Sequence[Result]) -> None:
    for points, look, result in _parts(results):
        unsteered = result["summary"]["unsteered"]
        start = [(unsteered[name] or {}).get("mean", np.nan) for name in ("coherence", "success")]
        x = [start[0], *_means(points, "coherence")]
        y = [start[1], *_means(points, "success")]
        axis.errorbar(x, y, yerr=_errors(points, "success", y), marker="o", markersize=4, **look)
        if "linestyle" not in look:
            _name_points(axis, points, x[1:], y[1:])
    axis.set_xlim(-0.1, 3.1)
    axis.set_ylim(-0.1, 3.1)
    axis.set_title("by the judge")
    axis.set_xlabel("coherence, 0 to 3")
    axis.set_ylabel("success, 0 to 3")


def _curve(axis: Any, results: Sequence[Result], measure: str, title: str, unit: str) -> None:
    strengths = sorted({point["strength"] for points, _, _ in _parts(results) for point in points})
    at = {strength: i for i, strength in enumerate(strengths)}
    for points, look, _ in _parts(results):
        x = [at[point["strength"]] for point in points]
        y = _means(points, measure)
        axis.errorbar(
            x, y, yerr=_errors(points, measure, [np.nan, *y])[:, 1:], marker="o", markersize=4, **look
        )
    axis.axhline(0, color="#444444", linewidth=0.8)
    axis.set_xticks(range(len(strengths)), [f"{strength:g}" for strength in strengths])
    axis.set_title(title)
    axis.set_xlabel(UNITS[results[0]["options"]["unit"]], fontsize=9)
    axis.set_ylabel(unit)


def _name_points(axis: Any, points: Sequence[Any], x: Sequence[float], y: Sequence[float]) -> None:
    for point, a, b in zip(points, x, y, strict=True):
        if np.isfinite(a) and np.isfinite(b):
            axis.annotate(
                f"{point['strength']:g}",
                (a, b),
                (3, 4),
                textcoords="offset points",
                fontsize=7,
                color="#444444",
            )


def _means(points: Sequence[Any], measure: str) -> list[float]:
    """Means of a measure, NaN where there is none."""
    return [(point["measures"][measure] or {}).get("mean", np.nan) for point in points]


def _errors(points: Sequence[Any], measure: str, y: Sequence[float]) -> np.ndarray:
    """Distances [2, n + 1] of the interval's ends from the means `y`, whose first is the unsteered point."""
    ends = [(point["measures"][measure] or {}) for point in points]
    low = [0.0, *(mean - (end.get("low") or mean) for mean, end in zip(y[1:], ends, strict=True))]
    high = [0.0, *((end.get("high") or mean) - mean for mean, end in zip(y[1:], ends, strict=True))]
    return np.nan_to_num(np.maximum([low, high], 0))
