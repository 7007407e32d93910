"""The figure of naming: how well the words of each latent find its passages, against its strongest tokens."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dictionary_learning.command import figures
from temporal_saes.experiment.results import figure_label

Result = Mapping[str, Any]
_COLUMNS = 4


def draw(results: Sequence[Result], path: Path) -> list[Path]:
    """A panel a subject, a dot a latent, the means of its splits as crosses; the files written."""
    held = str(results[0]["options"]["held"])
    with figures.style():
        columns = min(_COLUMNS, len(results))
        rows = -(-len(results) // columns)
        fig, axes = figures.subplots(
            rows, columns, figsize=(3.6 * columns + 0.4, 3.8 * rows + 0.3), squeeze=False
        )
        for axis, result in zip(axes.flat, results, strict=False):
            _draw_panel(axis, result, held)
        for axis in axes.flat[len(results) :]:
            axis.set_axis_off()
        for axis in axes[:, 0]:
            axis.set_ylabel("words it is held over")
        return figures.save(fig, path, pdf=True)


def _draw_panel(axis: Any, result: Result, held: str) -> None:
    # the split with the fewest latents on top
    splits = sorted(result["splits"], key=lambda split: -result["splits"][split][held]["n_latents"])
    for split in splits:
        areas = [one["scores"][held] for one in result["latents"] if one["split"] == split]
        known = [one for one in areas if None not in one.values()]
        colour = figures.SPLIT_COLOURS.get(split, figures.OTHER_COLOUR)
        mean = result["splits"][split][held]
        named = f"{split} ({len(known)})"
        axis.scatter(
            [one["tokens"] for one in known],
            [one["words"] for one in known],
            s=9,
            color=colour,
            alpha=0.45,
            linewidths=0,
            label=named,
        )
        if known:
            axis.plot(
                mean["tokens"]["mean"],
                mean["words"]["mean"],
                marker="P",
                markersize=11,
                color=colour,
                markeredgecolor="black",
            )
    axis.plot([0, 1], [0, 1], color="#444444", linewidth=1)
    axis.axhline(0.5, color="#444444", linewidth=0.8, linestyle="--")
    axis.axvline(0.5, color="#444444", linewidth=0.8, linestyle="--")
    axis.set_xlim(0.35, 1)
    axis.set_ylim(0.35, 1)
    axis.set_aspect("equal")
    axis.set_xlabel("tokens where it is strongest")
    axis.set_title(figure_label(result), fontsize=10)
    axis.legend(loc="lower right", fontsize=8)
