"""The figure of the toy corpus: which truths are found, and whether slow and fast ones are kept apart."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dictionary_learning.command import figures
from temporal_saes.toy.result import NAMES

_SORTS = {"slow": "#D55E00", "fast": "#56B4E9"}
_CHANCE: Any = {"color": "#444444", "linewidth": 1, "linestyle": ":"}


def draw(result: Mapping[str, Any], path: Path) -> list[Path]:
    """Four panels: directions, firing, placement, and what can be read off each part.

    Returns:
        the files written.
    """
    mean = result["mean"]
    methods = mean["methods"]
    with figures.style():
        fig, axes = figures.subplots(2, 2, figsize=(13, 8.4))
        for axis, key, title in (
            (axes[0, 0], "mcc", "Directions: cosine with the matched latent (MCC)"),
            (axes[0, 1], "f1", "Firing: F1 of the matched latent"),
        ):
            rows = {name: scores["recovery"][key] for name, scores in methods.items()}
            _pairs(axis, {NAMES[name]: row for name, row in rows.items()})
            axis.set_title(title)
            axis.set_ylabel("mean over truths")
        axes[0, 0].axhline(result["chance_mcc"]["mean"], **_CHANCE, label="random directions")
        placed = {
            NAMES[name]: {
                "slow": scores["placement"]["slow_in_first"],
                "fast": scores["placement"]["fast_in_first"],
            }
            for name, scores in methods.items()
            if scores["placement"] is not None
        }
        _pairs(axes[1, 0], placed)
        axes[1, 0].set_title("Share of the truths whose latent is in the first part")
        axes[1, 0].set_ylabel("high-level group, or predicted")
        _draw_parts(axes[1, 1], methods, mean["controls"])
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figures.legend_below(fig, handles, labels, most=3)
        return figures.save(fig, path, pdf=True)


def _pairs(axis: Any, rows: Mapping[str, Mapping[str, Any]]) -> None:
    """Two bars a row, of slow and of fast truths."""
    for at, (sort, colour) in enumerate(_SORTS.items()):
        known = [(x, row[sort]) for x, row in enumerate(rows.values()) if row[sort] is not None]
        axis.bar(
            [x + (at - 0.5) * 0.4 for x, _ in known],
            [value["mean"] for _, value in known],
            0.37,
            yerr=_errors([value for _, value in known]),
            color=colour,
            ecolor="#333333",
            label=f"{sort} truths",
        )
    axis.set_xticks(range(len(rows)), [_broken(name) for name in rows])
    axis.set_ylim(0, 1.05)


def _draw_parts(axis: Any, methods: Mapping[str, Any], controls: Mapping[str, Any]) -> None:
    """A row a part: how well truths of either sort can be read off it; a part that keeps apart is wide."""
    rows: list[tuple[str, Mapping[str, Any]]] = []
    for name, scores in methods.items():
        names = [part for part in scores["parts"] if part != "all"] or ["all"]
        rows += [(f"{NAMES[name]}: {part}", scores["parts"][part]) for part in names]
    for name in ("running_mean", "recall"):
        rows += [(f"{NAMES[name]}: {part}", controls[name][part]) for part in ("predicted", "novel")]
    means = []
    for y, (_, found) in enumerate(rows):
        known = {sort: found[sort] for sort in _SORTS if found[sort] is not None}
        ends = [value["mean"] for value in known.values()]
        axis.plot(ends, [y] * len(ends), color="#BBBBBB", linewidth=1.5, zorder=1)
        means += ends
        for sort, value in known.items():
            axis.errorbar(
                value["mean"],
                y,
                xerr=_errors([value]),
                marker="o",
                markersize=6,
                color=_SORTS[sort],
                ecolor="#333333",
                elinewidth=1,
                capsize=2,
            )
    axis.axvline(0.5, **_CHANCE)
    axis.set_yticks(range(len(rows)), [name for name, _ in rows], fontsize=8)
    axis.invert_yaxis()
    axis.set_xlim(min([0.45, *(mean - 0.02 for mean in means)]), 1.02)
    axis.grid(axis="y", visible=False)
    axis.grid(axis="x")
    axis.set_title("What can be read off a part")
    axis.set_xlabel("AUC of a linear probe for the truths (dotted: chance)")


def _errors(values: list[Mapping[str, Any]]) -> np.ndarray:
    """Lower and upper lengths [2, n]; NaN, which draws nothing, where there is no interval."""
    ends = np.array([[value[end] for value in values] for end in ("low", "mean", "high")], float)
    return np.diff(ends, axis=0)


def _broken(name: str) -> str:
    return name.replace(", ", ",\n")
