"""The figure of persistence and stability."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dictionary_learning.command import figures
from temporal_saes.experiment.results import colours, figure_label


def draw(results: Sequence[Mapping[str, Any]], path: Path) -> list[Path]:
    """Persistence over lags, with the same in any order dashed, and the stability of each subject.

    Returns:
        the files written.
    """
    with figures.style():
        fig, axes = figures.subplots(1, 2, figsize=(12, 4.8))
        for result, colour in zip(results, colours(results), strict=True):
            lags = result["lags"]
            _curve(axes[0], lags, result["persistence"], color=colour, label=figure_label(result))
            _curve(axes[0], lags, result["persistence_in_any_order"], color=colour, linestyle=":")
        axes[0].set_xscale("log", base=2)
        axes[0].xaxis.set_major_formatter("{x:g}")
        axes[0].axhline(0, color="#444444", linewidth=0.8)
        axes[0].set_title("Persistence (dotted: tokens of each text in any order)")
        axes[0].set_xlabel("distance in tokens")
        axes[0].set_ylabel("P(on | on before) - P(on | off before)")
        _draw_stability(axes[1], results)
        handles, labels = axes[0].get_legend_handles_labels()
        figures.legend_below(fig, handles, labels)
        return figures.save(fig, path, pdf=True)


def _curve(axis: Any, lags: Sequence[int], values: Sequence[Mapping[str, Any] | None], **style: Any) -> None:
    known = [(lag, value) for lag, value in zip(lags, values, strict=True) if value is not None]
    if not known:
        return
    at = [lag for lag, _ in known]
    axis.plot(at, [value["mean"] for _, value in known], **style)
    low, high = (np.array([value[end] for _, value in known], float) for end in ("low", "high"))
    axis.fill_between(at, low, high, color=style["color"], alpha=0.2, linewidth=0)


def _draw_stability(axis: Any, results: Sequence[Mapping[str, Any]]) -> None:
    axis.set_title("Stability over seeds (dotted: random directions)")
    axis.set_ylabel("decoder cosine with the matched latent")
    if all(result["stability"] is None for result in results):
        axis.text(0.5, 0.5, "one seed: nothing to compare", ha="center", transform=axis.transAxes)
        axis.set_xticks([])
        return
    for x, (result, colour) in enumerate(zip(results, colours(results), strict=True)):
        found = result["stability"]
        if found is None:
            axis.text(x, 0, "one\nseed", ha="center", va="bottom", fontsize=8, color="#444444")
            continue
        matched = found["matched"]
        error = None if matched["high"] is None else matched["high"] - matched["mean"]
        bar = axis.bar(x, matched["mean"], 0.7, yerr=error, color=colour, ecolor="#333333")
        figures.bar_numbers(axis, bar, len(results))
        chance = found["chance_matched"]["mean"]
        axis.plot([x - 0.35, x + 0.35], [chance, chance], color="#444444", linewidth=1, linestyle=":")
    names = [figures.as_written(result["name"]) for result in results]
    figures.name_bars(axis, names, rotation=20, ha="right")
    axis.margins(y=0.12)
