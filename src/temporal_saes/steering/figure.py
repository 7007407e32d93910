"""The figure of steering: what is gained against what it costs, and two curves over strength."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dictionary_learning.command import figures
from temporal_saes.experiment.results import colours, figure_label

Result = Mapping[str, Any]
UNITS = {"max": "strength (in the latent's maximum)", "raw": "strength (length of what is added)"}
DASHED: dict[str, Any] = {"linestyle": "--", "linewidth": 1.2, "marker": "o", "markersize": 3, "alpha": 0.8}
SOLID: dict[str, Any] = {"marker": "o", "markersize": 4, "elinewidth": 1.0, "capsize": 2}
SHIFT = 0.06  # between lines over the same strengths, so that their bars do not hide each other


class _Line(NamedTuple):
    points: Sequence[Mapping[str, Any]]
    unsteered: Mapping[str, Any]
    colour: str
    is_control: bool
    shift: float

    def means(self, measure: str) -> list[float]:
        """Of every strength; NaN where there is none."""
        return [self._end(point, measure, "mean") for point in self.points]

    def errors(self, measure: str) -> np.ndarray:
        """Distances [2, points] of the interval's ends from the means; NaN where there is no interval."""
        ends = np.array(
            [[self._end(point, measure, end) for point in self.points] for end in ("low", "mean", "high")]
        )
        return np.diff(ends, axis=0)

    def start(self, measure: str) -> float:
        """The mean without steering; NaN where there is none."""
        return self._end({"measures": self.unsteered}, measure, "mean")

    @staticmethod
    def _end(point: Mapping[str, Any], measure: str, end: str) -> float:
        value = (point["measures"][measure] or {}).get(end)
        return np.nan if value is None else value


def draw(results: Sequence[Result], path: Path) -> list[Path]:
    """Frontiers and curves of one result, or of several in the same panels; the files written.

    Solid lines are latents, dashed ones of the same colour random directions of the same length. A frontier
    begins where nothing is pushed, and its points are the strengths; bars are 95 % intervals over latents.
    """
    judged = all(result["judge"] is not None for result in results)
    n = 4 if judged else 3
    lines = _lines(results)
    with figures.style():
        fig, axes = figures.subplots(1, n, figsize=(3.5 * n + 0.4, 3.9))
        panels = list(axes)
        if judged:
            _judged_frontier(panels.pop(0), lines)
        _frontier(panels.pop(0), lines)
        curves = (
            ("own_tokens_log10", "own top tokens", "likelier by a power of ten"),
            ("repetition_added", "repetition", "added share of repeated text"),
        )
        for axis, (measure, title, unit) in zip(panels, curves, strict=True):
            _curve(axis, lines, measure)
            axis.set_title(title)
            axis.set_xlabel(UNITS[results[0]["options"]["unit"]])
            axis.set_ylabel(unit)
        figures.legend_below(fig, _legend(results, lines))
        return figures.save(fig, path, pdf=True)


def _lines(results: Sequence[Result]) -> list[_Line]:
    found = []
    for i, (result, colour) in enumerate(zip(results, colours(results), strict=True)):
        summary = result["summary"]
        shift = SHIFT * (i - (len(results) - 1) / 2)
        for part, is_control in (("control", True), ("steered", False)):
            if summary[part]:
                found.append(_Line(summary[part], summary["unsteered"], colour, is_control, shift))
    return found


def _legend(results: Sequence[Result], lines: Sequence[_Line]) -> list[Any]:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=colour, marker="o", markersize=4, label=figure_label(result))
        for result, colour in zip(results, colours(results), strict=True)
    ]
    if any(line.is_control for line in lines):
        colour = figures.OTHER_COLOUR if len(results) > 1 else lines[0].colour
        handles.append(Line2D([], [], color=colour, **DASHED, label="random directions, as long"))
    return handles


def _plot(axis: Any, line: _Line, x: Sequence[float], y: Sequence[float], error: np.ndarray) -> None:
    if line.is_control:
        axis.plot(x, y, color=line.colour, **DASHED)
    else:
        axis.errorbar(x, y, yerr=error, color=line.colour, **SOLID)


def _frontier(axis: Any, lines: Sequence[_Line]) -> None:
    for line in lines:
        x, y = line.means("nll_added"), line.means("domain_gain")
        _plot_from(axis, line, (0.0, 0.0), x, y, line.errors("domain_gain"))
    axis.axhline(0, color="#444444", linewidth=0.8)
    axis.invert_xaxis()
    axis.set_title("gain and cost, by numbers")
    axis.set_xlabel("added surprise, nats a token (0: coherent)")
    axis.set_ylabel("added probability of the latent's domain")


def _judged_frontier(axis: Any, lines: Sequence[_Line]) -> None:
    for line in lines:
        start = line.start("coherence"), line.start("success")
        x, y = line.means("coherence"), line.means("success")
        _plot_from(axis, line, start, x, y, line.errors("success"))
    axis.set_xlim(-0.1, 3.1)
    axis.set_ylim(-0.1, 3.1)
    axis.set_title("gain and cost, by the judge")
    axis.set_xlabel("coherence, 0 to 3")
    axis.set_ylabel("success, 0 to 3")


def _plot_from(
    axis: Any,
    line: _Line,
    start: tuple[float, float],
    x: Sequence[float],
    y: Sequence[float],
    error: np.ndarray,
) -> None:
    """A line that begins at `start`, its points named by their strengths."""
    _plot(axis, line, [start[0], *x], [start[1], *y], np.hstack([np.full((2, 1), np.nan), error]))
    if line.is_control:
        return
    for point, at_x, at_y in zip(line.points, x, y, strict=True):
        if np.isfinite(at_x) and np.isfinite(at_y):
            name = f"{point['strength']:g}"
            axis.annotate(
                name, (at_x, at_y), (4, 4), textcoords="offset points", fontsize=7, color=line.colour
            )


def _curve(axis: Any, lines: Sequence[_Line], measure: str) -> None:
    strengths = sorted({point["strength"] for line in lines for point in line.points})
    at = {strength: i for i, strength in enumerate(strengths)}
    for line in lines:
        x = [at[point["strength"]] + line.shift for point in line.points]
        _plot(axis, line, x, line.means(measure), line.errors(measure))
    axis.axhline(0, color="#444444", linewidth=0.8)
    axis.set_xticks(range(len(strengths)), [f"{strength:g}" for strength in strengths])
