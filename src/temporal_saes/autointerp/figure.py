"""The figure of automatic interpretation: how the scores of latents are spread, split by split."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dictionary_learning.command import figures
from temporal_saes.autointerp.scores import CHANCE

OFFLINE_TITLES = {
    "token_share": ("told by the token", "share of the variance"),
    "token_auc": ("which tokens, by the token", "area under the curve"),
    "window_auc": ("which windows, by words", "area under the curve"),
}
ASKED_TITLES = {"detection": "detection", "fuzzing": "fuzzing"}
SHUFFLED_COLOUR = "#BBBBBB"
LOWEST_SHARE = -0.5  # that is drawn; lower ones stand at the edge


class _Panel(NamedTuple):
    title: str
    unit: str
    chance: float
    values: dict[str, list[float]]  # of each split
    shuffled: dict[str, list[float]]  # of each split; empty where there is no such control


def draw(result: Mapping[str, Any], path: Path) -> list[Path]:
    """A panel a score, a column a split: every latent a dot, the median a line; the files written."""
    records = result["latents"]
    splits = list(dict.fromkeys(record["split"] for record in records))
    panels = _panels(records, splits)
    with figures.style():
        fig, axes = figures.subplots(1, len(panels), figsize=(3.1 * len(panels) + 0.3, 3.7), squeeze=False)
        for axis, panel in zip(axes[0], panels, strict=True):
            _draw_panel(axis, panel, splits)
        fig.suptitle(figures.as_written(_heading(result)), fontsize=11, wrap=True)
        figures.legend_below(fig, _legend(), most=3)
        return figures.save(fig, path, pdf=True)


def _heading(result: Mapping[str, Any]) -> str:
    about = result["explainer"]
    asked = f", explained and scored by {about['model']}" if about is not None else ""
    method = figures.method_of(result["subject"]["dict_class"])
    return f"{result['subject']['run_name']} ({method}){asked}"


def _legend() -> list[Any]:
    from matplotlib.lines import Line2D

    dot: dict[str, Any] = {"linestyle": "", "marker": "o", "markersize": 5}
    return [
        Line2D([], [], color="black", linewidth=1.6, label="median over latents (dots)"),
        Line2D([], [], color=SHUFFLED_COLOUR, **dot, label="learnt from activations dealt out at random"),
        Line2D([], [], color="#444444", linewidth=1.0, linestyle="--", label="chance"),
    ]


def _panels(records: Sequence[Mapping[str, Any]], splits: Sequence[str]) -> list[_Panel]:
    def of_splits(read: Any) -> dict[str, list[float]]:
        return {
            split: [value for one in records if one["split"] == split and (value := read(one)) is not None]
            for split in splits
        }

    panels = []
    for kind, title in ASKED_TITLES.items():
        values = of_splits(lambda one, kind=kind: (one[kind] or {}).get("score"))
        if any(values.values()):
            panels.append(_Panel(title, "balanced accuracy", 0.5, values, {}))
    for measure, (title, unit) in OFFLINE_TITLES.items():
        values = of_splits(lambda one, measure=measure: one["offline"][measure])
        shuffled = of_splits(lambda one, measure=measure: one["offline"]["shuffled"][measure])
        panels.append(_Panel(title, unit, CHANCE[measure], values, shuffled))
    return panels


def _draw_panel(axis: Any, panel: _Panel, splits: Sequence[str]) -> None:
    axis.axhline(panel.chance, color="#444444", linewidth=1.0, linestyle="--", zorder=1)
    lowest = LOWEST_SHARE if panel.chance == 0 else 0.0
    for place, split in enumerate(splits):
        colour = figures.SPLIT_COLOURS.get(split, figures.OTHER_COLOUR)
        if panel.shuffled:
            _strip(axis, place + 0.22, panel.shuffled[split], SHUFFLED_COLOUR, 0.12, lowest)
        _strip(axis, place - (0.12 if panel.shuffled else 0), panel.values[split], colour, 0.2, lowest)
    axis.set_xticks(range(len(splits)), [f"{split}\nn {len(panel.values[split])}" for split in splits])
    axis.set_xlim(-0.6, len(splits) - 0.4)
    axis.set_ylim(lowest - 0.03, 1.03)
    axis.set_title(panel.title)
    axis.set_ylabel(panel.unit)


def _strip(axis: Any, x: float, values: Sequence[float], colour: str, half: float, lowest: float) -> None:
    """Dots of equal distance across, in an order that follows no value, and their median."""
    if not values:
        return
    across = np.random.default_rng(0).permutation(np.linspace(-1, 1, len(values))) if len(values) > 1 else [0]
    axis.scatter(
        x + half * np.asarray(across),
        np.maximum(values, lowest),
        s=9,
        color=colour,
        alpha=0.55,
        linewidths=0,
        zorder=2,
    )
    median = max(float(np.median(values)), lowest)
    axis.plot([x - half * 1.25, x + half * 1.25], [median, median], color="black", linewidth=1.6, zorder=3)
