"""Training curves of one or several runs: a small picture for each number in the log.

for curve in training_curves([RunFiles.read("runs", "demo")]):
    folder.joinpath(f"{curve.name}.svg").write_bytes(curve.svg)
"""

import io
from collections.abc import Sequence
from typing import Any, NamedTuple

from dictionary_learning.command import figures
from temporal_saes.pages import page
from temporal_saes.pages.page import Html, element, missing
from temporal_saes.report.run_files import RunFiles

LINES = ("-", "--", ":", "-.")
L0_GROUP = "l0_group_"
SPAN = 20  # largest value over smallest, from which on a loss is drawn on a logarithmic scale
# Titles by name in the log.
LOSSES = {
    "loss": "total loss",
    "reconstruction": "reconstruction loss",
    "temporal": "temporal loss",
    "auxk": "AuxK loss, of batches with dead latents",
    "auxiliary": "auxiliary loss of the gate",
    "l1": "L1 term",
    "sparsity": "sparsity term",
}
SHARES = {"fve": "fraction of variance explained (FVE)", "dead_share": "share of dead latents"}


class Curve(NamedTuple):
    """One picture."""

    name: str
    svg: bytes
    description: str
    """The last values, in words."""


def training_curves(runs: Sequence[RunFiles]) -> list[Curve]:
    """Curves of all numbers that any of the runs logged: losses, FVE, L0 of each group, dead share."""
    logged = set().union(*(run.logged() for run in runs))
    titles = LOSSES | SHARES
    return [
        _l0_curve(runs) if name == "l0" else _curve(runs, name, titles[name])
        for name in (*LOSSES, "fve", "l0", "dead_share")
        if name in logged
    ]


def _curve(runs: Sequence[RunFiles], name: str, title: str) -> Curve:
    lines = [_Line(run, name, "-", run.name) for run in runs]
    return _draw(runs, lines, name, title)


def _l0_curve(runs: Sequence[RunFiles]) -> Curve:
    """L0 by group where there are groups, in one picture."""
    lines = []
    for run in runs:
        groups = sorted(name for name in run.logged() if name.startswith(L0_GROUP))
        for i, name in enumerate(groups or ["l0"]):
            label = f"{run.name}, {'high-level group' if i == 0 else f'group {i}'}" if groups else run.name
            lines.append(_Line(run, name, LINES[i % len(LINES)] if groups else "-.", label))
    grouped = any(line.name != "l0" for line in lines)
    title = "L0: group 0 solid, 1 dashed" if grouped else "L0"
    return _draw(runs, lines, "l0", title)


class _Line(NamedTuple):
    run: RunFiles
    name: str
    style: str
    label: str

    def points(self) -> tuple[list[int], list[float]]:
        """Steps and values; of AuxK without the zeros of batches that had no dead latent, where others had.

        A curve that jumps to 0 and back looks like a training that failed.
        """
        steps, numbers = self.run.curve(self.name)
        there = [i for i, number in enumerate(numbers) if number != 0]
        if self.name != "auxk" or not there:
            return steps, numbers
        return [steps[i] for i in there], [numbers[i] for i in there]


def _draw(runs: Sequence[RunFiles], lines: Sequence[_Line], name: str, title: str) -> Curve:
    import matplotlib

    colours = figures.run_colours([run.method for run in runs])
    colour_of = {run.name: colour for run, colour in zip(runs, colours, strict=True)}
    said = []
    # text stays text, and the same curves are the same file
    with figures.style(), matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        fig, axis = figures.subplots(figsize=(3.6, 2.4))
        values: list[float] = []
        for line in lines:
            steps, numbers = line.points()
            if numbers:
                axis.plot(steps, numbers, line.style, color=colour_of[line.run.name])
                said.append(f"{line.label} {numbers[-1]:.3g} at step {steps[-1]:,}")
                values += numbers
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("step")
        _scale(axis, name, values)
        drawn = io.BytesIO()
        fig.savefig(drawn, format="svg", metadata={"Date": None})
    return Curve(name, drawn.getvalue(), f"{title}, over training steps: {'; '.join(said)}.")


def _scale(axis: Any, name: str, values: Sequence[float]) -> None:
    if name in LOSSES and values and max(values) > SPAN * min(values) > 0:
        axis.set_yscale("log")
    elif name == "fve" and values and min(values) < 0:
        axis.set_ylim(0, 1)  # the first steps are far below, and would flatten the rest
    elif name not in LOSSES:
        axis.set_ylim(bottom=0)


# --- the section ---


def curves_section(runs: Sequence[RunFiles]) -> list[Html | None]:
    """Training curves, and which colour is which run."""
    title = element("h2", "Training")
    logged = [run for run in runs if run.logged()]
    if not logged:
        return [title, missing(f"{runs[0].name} has no metrics.jsonl, which training writes as it goes on.")]
    colours = figures.run_colours([run.method for run in logged])
    legend = [
        element(
            "li", element("span", class_="swatch", style=f"background:{colour}"), f"{run.name} ({run.method})"
        )
        for run, colour in zip(logged, colours, strict=True)
    ]
    pictures = [page.image(curve.svg, "svg+xml", curve.description) for curve in training_curves(logged)]
    dead = runs[0].trainer.get("dead_feature_threshold")
    several = (
        " Losses of different methods have different terms, so compare FVE and L0." if len(logged) > 1 else ""
    )
    return [
        title,
        element("ul", *legend, class_="legend"),
        element("div", *pictures, class_="curves"),
        element(
            "p",
            "Each point is one training batch. FVE is the share of the activations' variance that the "
            "reconstruction explains (1 is perfect), L0 the number of latents that fire at a token, and dead "
            f"latents have not fired for {f'{dead:,}' if isinstance(dead, int) else 'many'} tokens.{several}",
            class_="quiet",
        ),
    ]
