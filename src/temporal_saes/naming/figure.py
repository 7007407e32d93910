"""The figure of naming: how well the words of each latent find its passages, against its strongest tokens."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dictionary_learning.command import figures
from temporal_saes.experiment.results import label

Result = Mapping[str, Any]


def draw(results: Sequence[Result], path: Path) -> list[Path]:
    """A panel a subject, a dot a latent, the means of its splits as crosses; the files written."""
    held = str(results[0]["options"]["held"])
    with figures.style():
        fig, axes = figures.subplots(1, len(results), figsize=(3.6 * len(results) + 0.4, 4.1), squeeze=False)
        for axis, result in zip(axes[0], results, strict=True):
            _draw_panel(axis, result, held)
        axes[0, 0].set_ylabel("words it is held over")
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
    axis.set_title(label(result), fontsize=10)
    axis.legend(loc="lower right", fontsize=8)
