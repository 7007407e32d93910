"""The scores of a map in words, for the page and for the terminal."""

from collections.abc import Mapping
from typing import Any

from dictionary_learning.command.progress import n_of
from temporal_saes.experiment.intervals import in_words
from temporal_saes.maps.options import COLOURINGS

Result = Mapping[str, Any]


def score_of(
    result: Result, colouring: str, space: str, measure: str, among: str
) -> Mapping[str, Any] | None:
    """One score of a result; None if it was not asked for."""
    key = (colouring, space, measure, among)
    names = ("colouring", "space", "measure", "among")
    return next((one for one in result["scores"] if tuple(one[name] for name in names) == key), None)


def score_rows(result: Result) -> list[tuple[str, tuple[str, str]]]:
    """Every measure with its scores in all features and in the map, in words."""
    rows = []
    for one in result["scores"]:
        if one["space"] != "features":
            continue
        other = score_of(result, one["colouring"], "map", one["measure"], one["among"])
        name = f"{COLOURINGS[one['colouring']]} ({one['n_classes']}), "
        name += (
            "silhouette"
            if one["measure"] == "silhouette"
            else f"{result['options']['neighbours']} neighbours"
        )
        name += "" if one["among"] == "all" else f" among {one['among']}"
        assert other is not None
        rows.append((name, (_number(one), _number(other))))
    return rows


def _number(one: Mapping[str, Any]) -> str:
    return f"{in_words({**one, 'mean': one['value']})} ({one['chance']:.3f})"


def table(result: Result) -> str:
    """Scores as text, a row a measure."""
    silent = f", {result['n_silent']:,} more without an active latent" if result["n_silent"] else ""
    lines = [
        f"{result['name']}: {n_of(result['n_points'], 'token')} of {n_of(result['n_texts'], 'text')}{silent}"
    ]
    rows = score_rows(result)
    width = max(len(name) for name, _ in rows)
    lines.append(f"{'':{width}}{'all features':>26}{'map':>26}")
    for name, cells in rows:
        lines.append(f"{name:{width}}" + "".join(f"{cell:>26}" for cell in cells))
    return "\n".join(lines)
