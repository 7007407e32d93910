"""The figure of garden-path sentences: which reading each subject leans to, kind by kind."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dictionary_learning.command import figures
from temporal_saes.experiment.results import colours, figure_label

_ALL = "all"


def draw(results: Sequence[Mapping[str, Any]], path: Path) -> list[Path]:
    """Bars with intervals, a group a kind of ambiguity, a bar a subject.

    Returns:
        the files written.
    """
    kinds = [_ALL, *results[0]["lean_of_kinds"]]
    width = 0.8 / len(results)
    with figures.style():
        fig, axis = figures.subplots(
            1, 1, figsize=(max(6.0, 1.1 * len(kinds) * len(results) ** 0.5 + 3), 4.4)
        )
        for i, (result, colour) in enumerate(zip(results, colours(results), strict=True)):
            leans = {_ALL: result["lean"], **result["lean_of_kinds"]}
            for at, kind in enumerate(kinds):
                found = leans[kind]
                if found is None:
                    continue
                error = None if found["high"] is None else found["high"] - found["mean"]
                x = at + (i - (len(results) - 1) / 2) * width
                name = figure_label(result) if at == 0 else None
                axis.bar(
                    x, found["mean"], 0.92 * width, yerr=error, color=colour, ecolor="#333333", label=name
                )
        axis.axhline(0, color="#444444", linewidth=0.8)
        figures.name_bars(axis, kinds)
        axis.set_xlabel("what is ambiguous")
        axis.set_ylabel("cosine with the right reading\nless that with the wrong one")
        axis.set_title("Codes behind a garden path")
        figures.legend_below(fig, most=3)
        return figures.save(fig, path, pdf=True)
