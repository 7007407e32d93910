"""The figure of maps: a row a dictionary, a panel a colouring, the scores below each."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dictionary_learning.command import figures
from temporal_saes.experiment.results import figure_label
from temporal_saes.maps.feature_map import OTHER_COLOUR, Class
from temporal_saes.maps.options import COLOURINGS, METHOD_NAMES
from temporal_saes.maps.page import class_name, how_it_was_made, shared_classes
from temporal_saes.maps.points import labels

Result = Mapping[str, Any]
_MARKERS = {"circle": "o", "triangle": "^"}


def draw(results: Sequence[Result], path: Path) -> list[Path]:
    """Write the PNG and the PDF; `path` is without a suffix."""
    colourings = results[0]["options"]["colourings"]
    method = METHOD_NAMES[results[0]["options"]["method"]]
    with figures.style():
        n_rows, n_columns = len(results), len(colourings)
        fig, axes = figures.subplots(
            n_rows, n_columns, figsize=(3.7 * n_columns, 3.9 * n_rows + 1.7), squeeze=False
        )
        for column, colouring in enumerate(colourings):
            shared = shared_classes(results, colouring)
            for row, result in enumerate(results):
                axis = axes[row, column]
                _draw_points(axis, result, colouring, shared)
                axis.set_xlabel(_scores(result, colouring), fontsize=8)
                axis.set_title(COLOURINGS[colouring])
            axes[0, column].set_title(f"{COLOURINGS[colouring]} ({len(shared)} classes)")
            _legend(axes[-1, column], shared, colouring, results[0])
        for row, result in enumerate(results):
            axes[row, 0].set_ylabel(figure_label(result), fontsize=10, fontweight="bold")
        fig.suptitle(f"{method} of features of tokens. {how_it_was_made(results)}", fontsize=9, wrap=True)
        return figures.save(fig, path, pdf=True)


def _draw_points(axis: Any, result: Result, colouring: str, shared: Sequence[Class]) -> None:
    xy_N2 = np.array([(point["x"], point["y"]) for point in result["points"]])
    of_points = np.array(labels(colouring, result["points"], result["texts"]), dtype=object)
    drawn = [one for one in shared if one.coloured]
    rest_N = ~np.isin(of_points.astype(str), [str(one.label) for one in drawn])
    # thousands of points are a picture in the PDF, too; the letters around it stay letters
    look: Any = {"s": 9, "linewidths": 0, "rasterized": True}
    axis.scatter(*xy_N2[rest_N].T, color=OTHER_COLOUR, alpha=0.5, **look)
    for one in drawn:
        axis.scatter(*xy_N2[of_points == one.label].T, color=one.colour, marker=_MARKERS[one.shape], **look)
    axis.set_xticks([])
    axis.set_yticks([])
    axis.grid(False)


def _legend(axis: Any, shared: Sequence[Class], colouring: str, result: Result) -> None:
    from matplotlib.lines import Line2D

    entries = [
        (figures.as_written(class_name(colouring, one.label, result["texts"], 24)), one.colour, one.shape)
        for one in shared
        if one.coloured
    ]
    n_other = sum(not one.coloured for one in shared)
    if n_other:
        entries.append((f"{n_other} others", OTHER_COLOUR, "circle"))
    handles = [
        Line2D([], [], marker=_MARKERS[shape], color=colour, linestyle="none", markersize=5, label=name)
        for name, colour, shape in entries
    ]
    axis.legend(
        handles=handles,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.2),
        ncols=3 if colouring == "pos" else 2,
        fontsize=7,
        handletextpad=0.1,
        columnspacing=0.8,
    )


def _scores(result: Result, colouring: str) -> str:
    """The scores below a panel: those of all features, as the map's own are of what is seen."""
    k = result["options"]["neighbours"]
    told = []
    for one in result["scores"]:
        if (one["colouring"], one["space"]) == (colouring, "features"):
            name = "silhouette" if one["measure"] == "silhouette" else f"{k} neighbours"
            name += "" if one["among"] == "all" else f" among {one['among']}"
            told.append(f"{name} {one['value']:.2f} (chance {one['chance']:.2f})")
    return "all features: " + "\n".join(told)
