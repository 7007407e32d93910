"""The claims with their verdicts: a table, the same as JSON, and the learning curves as a figure."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dictionary_learning.command import figures
from temporal_saes.claims.methods import BASELINE, METHODS
from temporal_saes.claims.readings import Readings
from temporal_saes.claims.rows import ROWS, Reading, Row
from temporal_saes.claims.verdicts import paired, verdict
from temporal_saes.experiment.intervals import as_json, in_words

CURVES = (
    ("smoothness", 0, "smoothness, high level (lower is smoother)"),
    ("FVE", 2, "FVE"),
    ("alive", 2, "alive latents"),
    ("semantics, k = 5", 0, "semantics, 5 latents"),
    ("context, k = 5", 0, "context, 5 latents"),
    ("syntax, k = 5", 0, "syntax, 5 latents"),
)
"""Measure, chunk and title of each panel; a method without that chunk is shown by all its latents."""
_COLOUR_OF = {
    "tsae": "T-SAE",
    "matryoshka": "Matryoshka",
    "batch_top_k": "BatchTopK",
    "top_k": "TopK",
    "tfa": "TFA",
}


def budgets(readings: Readings) -> list[int]:
    """The lengths of training for which there are numbers."""
    return sorted({budget for method, budget, _, _ in readings if method != BASELINE})


def judged(readings: Readings, rows: Sequence[Row] = ROWS) -> list[dict[str, Any]]:
    """Each claim with what was found at every budget, as plain values."""
    return [
        {
            "name": row.name,
            "says": row.says,
            "better": row.better,
            "margin": row.margin,
            "ours": row.ours._asdict(),
            "theirs": row.theirs._asdict(),
            "changes": row.changes,
            "at": {str(budget): _found(row, readings, budget) for budget in budgets(readings)},
        }
        for row in rows
    ]


def _found(row: Row, readings: Readings, budget: int) -> dict[str, Any]:
    ours, theirs = (_values(reading, readings, budget) for reading in (row.ours, row.theirs))
    found = paired(ours, theirs)
    return {
        "ours": _mean(ours),
        "theirs": _mean(theirs),
        "seeds": found.seeds,
        "differences": found.differences,
        "difference": as_json(found.interval),
        "verdict": verdict(found.interval, row.better, row.margin),
    }


def _values(reading: Reading, readings: Readings, budget: int) -> Mapping[int, float]:
    at = 0 if reading.method == BASELINE else budget
    return readings.get((reading.method, at, reading.chunk, reading.measure), {})


def _mean(values: Mapping[int, float]) -> float | None:
    return statistics.mean(values.values()) if values else None


def markdown(claims: Sequence[Mapping[str, Any]]) -> str:
    """A row a claim: both means, the difference with its interval, the verdict at each budget.

    A claim without numbers is left out.
    """
    lengths = list(claims[0]["at"])
    told = [_length(int(length)) for length in lengths]
    lines = [
        f"| claim | ours | other | difference ({told[-1]}) | " + " | ".join(told) + " |",
        "|---" * (4 + len(lengths)) + "|",
    ]
    for claim in claims:
        last = claim["at"][lengths[-1]]
        if all(found["difference"] is None for found in claim["at"].values()):
            continue
        cells = [claim["name"], _number(last["ours"]), _number(last["theirs"])]
        cells.append(in_words(last["difference"], sign="+"))
        cells += [claim["at"][length]["verdict"] for length in lengths]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" if abs(value) < 100 else f"{value:.1f}"


def _length(budget: int) -> str:
    return f"{budget / 1e6:g} M" if budget >= 100_000 else f"{budget:,}"


def draw(readings: Readings, path: Path) -> list[Path]:
    """Every curve over the length of training: mean over seeds, bars from the lowest to the highest seed."""
    lengths = budgets(readings)
    with figures.style():
        fig, axes = figures.subplots(2, 3, figsize=(11, 6), squeeze=False)
        for axis, (measure, chunk, title) in zip(axes.flat, CURVES, strict=True):
            for method in METHODS:
                _draw_curve(axis, method, chunk, measure, readings, lengths)
            dense = readings.get((BASELINE, 0, 2, measure))
            if dense:
                dense_colour = figures.colour("dense activations")
                axis.axhline(_mean(dense), color=dense_colour, linestyle=":", label="dense activations")
            axis.set_title(title)
            axis.set_xscale("log")
            axis.set_xticks(lengths, [_length(length) for length in lengths])
            axis.minorticks_off()
        for axis in axes[1]:
            axis.set_xlabel("pairs or tokens trained on")
        labels = {
            text: handle
            for axis in axes.flat
            for handle, text in zip(*axis.get_legend_handles_labels(), strict=True)
        }
        fig.legend(labels.values(), labels.keys(), loc="outside lower center", ncols=4)
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
        narrow = method.endswith(("_narrow", "_0"))
        axis.errorbar(
            [length for length, _ in known],
            means,
            yerr=[below, above],
            marker="o",
            markersize=4,
            linestyle="--" if narrow else "-",
            color=figures.colour(_COLOUR_OF.get(_parent(method), method)),
            label=METHODS[method].title,
        )


def _parent(method: str) -> str:
    """The method whose colour a variant has."""
    return method.removesuffix("_narrow").removesuffix("_strength_0")
