"""The figure of the temporal geometry."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dictionary_learning.command import figures
from temporal_saes.experiment.results import colours, figure_label

Result = Mapping[str, Any]
_REFERENCE: Any = {"color": "#444444", "linewidth": 1, "linestyle": ":"}


def draw(results: Sequence[Result], path: Path) -> list[Path]:
    """Six panels: rank, tortuosity, power by frequency, slow and fast, autocorrelation, dimension.

    Returns:
        the files written.
    """
    first = results[0]
    options, noise = first["options"], first["independent_positions"]
    with figures.style():
        fig, axes = figures.subplots(2, 3, figsize=(13, 7.2))
        ranks = [("effective_rank", "effective\nrank"), ("participation_ratio", "participation\nratio")]
        _bars(axes[0, 0], results, ranks)
        axes[0, 0].axhline(noise["largest_rank"], **_REFERENCE)
        axes[0, 0].set_title(f"Dimensions of {first['n_positions']} positions of a text")
        axes[0, 0].set_ylabel("dimensions (dotted: the most)")
        _bars(axes[0, 1], results, [("tortuosity", f"pieces of {options['steps']} steps")])
        axes[0, 1].axhline(noise["tortuosity"], **_REFERENCE)
        axes[0, 1].set_ylim(bottom=0)  # where an interval reaches below
        axes[0, 1].set_title("Tortuosity")
        axes[0, 1].set_ylabel("path / distance (dotted: independent)")
        _bars(
            axes[0, 2],
            results,
            [("cosine_with_slow", "with the slow\nmotion"), ("cosine_with_fast", "with the fast\nmotion")],
        )
        axes[0, 2].set_title("Cosine with the activations' motion")
        _draw_power(axes[1, 0], results, options["slow"])
        _draw_autocorrelation(axes[1, 1], results)
        _draw_dimensions(axes[1, 2], results)
        handles, labels = axes[1, 0].get_legend_handles_labels()
        figures.legend_below(fig, handles, labels)
        return figures.save(fig, path, pdf=True)


def _bars(axis: Any, results: Sequence[Result], groups: Sequence[tuple[str, str]]) -> None:
    width = 0.8 / len(results)
    for i, (result, colour) in enumerate(zip(results, colours(results), strict=True)):
        for at, (key, _) in enumerate(groups):
            measure = result["measures"][key]
            if measure["mean"] is None:
                continue
            error = None if measure["high"] is None else measure["high"] - measure["mean"]
            x = at + (i - (len(results) - 1) / 2) * width
            bar = axis.bar(x, measure["mean"], 0.92 * width, yerr=error, color=colour, ecolor="#333333")
            figures.bar_numbers(axis, bar, len(groups) * len(results))
    figures.name_bars(axis, [name for _, name in groups])
    axis.axhline(0, color="#444444", linewidth=0.8)
    axis.margins(y=0.12)


def _curve(axis: Any, result: Result, colour: str, at: Sequence[float], curve: Any, **style: Any) -> None:
    if any(value is not None for value in curve["mean"]):
        mean, low, high = (np.array(curve[key], float) for key in ("mean", "low", "high"))
        axis.plot(at, mean, color=colour, label=figure_label(result), **style)
        axis.fill_between(at, low, high, color=colour, alpha=0.2, linewidth=0)


def _draw_power(axis: Any, results: Sequence[Result], slow: float) -> None:
    for result, colour in zip(results, colours(results), strict=True):
        curve = result["power_up_to"]
        _curve(axis, result, colour, curve["share_of_nyquist"], curve)
    axis.plot([0, 1], [0, 1], **_REFERENCE, label="independent positions")
    axis.axvline(slow, color="#444444", linewidth=1, linestyle="--", label=f"slow: up to {slow:g} of Nyquist")
    axis.set_xlim(0, 1)
    axis.set_ylim(0, 1)
    axis.set_title("Power up to a frequency")
    axis.set_xlabel("frequency, as a share of Nyquist's (a change every token)")
    axis.set_ylabel("share of the variance in a text")


def _draw_autocorrelation(axis: Any, results: Sequence[Result]) -> None:
    for result, colour in zip(results, colours(results), strict=True):
        curve = result["autocorrelation"]
        _curve(axis, result, colour, curve["lag"], curve)
    axis.axhline(0, color="#444444", linewidth=0.8)
    axis.set_title("Autocorrelation")
    axis.set_xlabel("distance in tokens")
    axis.set_ylabel("around the mean of all texts")


def _draw_dimensions(axis: Any, results: Sequence[Result]) -> None:
    from matplotlib.ticker import LogLocator

    for result, colour in zip(results, colours(results), strict=True):
        known = [one for one in result["dimension_at_position"] if one["mean"] is not None]
        curve = {key: [one[key] for one in known] for key in ("mean", "low", "high")}
        _curve(axis, result, colour, [one["position"] for one in known], curve, marker="o", markersize=4)
    axis.set_xscale("log", base=2)
    axis.set_yscale("log")
    axis.xaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_formatter("")
    axis.set_title("Dimension over texts")
    axis.set_xlabel("position in the text")
    axis.set_ylabel("participation ratio over texts")
