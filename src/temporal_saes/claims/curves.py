"""Every measure over the length of training, a line a method: the figure."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dictionary_learning.command import figures
from temporal_saes.claims.methods import BASELINE, METHODS
from temporal_saes.claims.readings import Readings
from temporal_saes.claims.report import budgets, length_in_words

CURVES = (
    ("smoothness", 0, "smoothness, high level"),
    ("FVE", 2, "FVE"),
    ("alive", 2, "alive latents"),
    ("semantics, k = 5", 0, "semantics, 5 latents"),
    ("context, k = 5", 0, "context, 5 latents"),
    ("syntax, k = 5", 0, "syntax, 5 latents"),
    ("boundaries, F1", 0, "boundaries of passages, F1"),
    ("effective rank", 0, "effective rank, first part"),
    ("tortuosity", 0, "tortuosity, first part"),
)
"""Measure, chunk and title of each panel; a method without that chunk is shown by all its latents."""
_LINES = {
    BASELINE: ("activations", ":"),
    "running_mean": ("running mean", "--"),
    "recall": ("recall, untrained", "-."),
}
_COLOUR_OF = {
    "tsae": "T-SAE",
    "matryoshka": "Matryoshka",
    "batch_top_k": "BatchTopK",
    "top_k": "TopK",
    "tfa": "TFA",
}


def draw(readings: Readings, path: Path) -> list[Path]:
    """Every curve over the length of training: mean over seeds, bars from the lowest to the highest seed."""
    lengths = budgets(readings)
    with figures.style():
        fig, axes = figures.subplots(3, 3, figsize=(11, 8.6), squeeze=False)
        for axis, (measure, chunk, title) in zip(axes.flat, CURVES, strict=True):
            for method in METHODS:
                if measure == "smoothness" and METHODS[method].script == "train-attention":
                    continue  # predicted codes are in units of their own
                _draw_curve(axis, method, chunk, measure, readings, lengths)
            for method, (name, style) in _LINES.items():
                known = readings.get((method, 0, 2 if method == BASELINE else 0, measure))
                if known:
                    value = statistics.mean(known.values())
                    axis.axhline(value, color="#444444", linestyle=style, linewidth=1, label=name)
            axis.set_title(title)
            axis.set_xscale("log")
            axis.set_xticks(lengths, [length_in_words(length) for length in lengths])
            axis.minorticks_off()
        for axis in axes[-1]:
            axis.set_xlabel("pairs or tokens trained on")
        labels = {
            text: handle
            for axis in axes.flat
            for handle, text in zip(*axis.get_legend_handles_labels(), strict=True)
        }
        figures.legend_below(fig, list(labels.values()), list(labels))
        return figures.save(fig, path)


def _draw_curve(
    axis: Any, method: str, chunk: int, measure: str, readings: Readings, lengths: Sequence[int]
) -> None:
    own = chunk if chunk in METHODS[method].chunks else 2
    found = [(length, readings.get((method, length, own, measure))) for length in lengths]
    known = [(length, list(values.values())) for length, values in found if values]
    if known:
        means = [statistics.mean(values) for _, values in known]
        below = [mean - min(values) for mean, (_, values) in zip(means, known, strict=True)]
        above = [max(values) - mean for mean, (_, values) in zip(means, known, strict=True)]
        is_variant = method.endswith(("_narrow", "_0", "_start"))
        axis.errorbar(
            [length for length, _ in known],
            means,
            yerr=[below, above],
            marker="o",
            markersize=6 if is_variant else 4,
            markerfacecolor="white" if is_variant else None,
            linestyle="--" if is_variant else "-",
            color=figures.colour(_COLOUR_OF.get(_parent(method), method)),
            label=METHODS[method].title,
        )


def _parent(method: str) -> str:
    """The method whose colour a variant has."""
    return method.removesuffix("_narrow").removesuffix("_strength_0").removesuffix("_paper_start")
