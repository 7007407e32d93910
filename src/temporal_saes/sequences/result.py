"""What a person reads of the scores in the terminal, and how much subjects differ."""

from collections.abc import Mapping
from typing import Any

from dictionary_learning.command.progress import n_of
from temporal_saes.experiment.intervals import as_json, in_words, mean_interval
from temporal_saes.sequences.options import SETS

Result = Mapping[str, Any]
COLUMNS = {
    "information": "bits",
    "shuffled": "any order",
    "shifted": "shifted",
    "switches": "switches",
    "delay": "delay",
    "distance": "distance",
    "flicker": "flicker",
    "relative_flicker": "of luck",
    "on_share": "on",
}


def table(result: Result) -> str:
    """Means over texts as text, a row a set of latents."""
    lines = [f"{result['name']}: {n_of(result['n_texts'], 'text')}, {n_of(result['n_tokens'], 'token')}"]
    lines.append(f"{'latents':16}" + "".join(f"{name:>10}" for name in COLUMNS.values()))
    for which in SETS:
        scores = result["scores"][which]
        cells = (scores[name] for name in COLUMNS)
        row = "".join(f"{'–' if cell is None else format(cell['mean'], '.3f'):>10}" for cell in cells)
        lines.append(f"{which:7}{scores['n_latents']['mean']:>9,.0f}{row}")
    return "\n".join(lines)


def minus_first(result: Result, first: Result) -> dict[str, Any]:
    """How much each score of a subject differs from the first's, over the texts in which both have it."""
    return {which: {name: _paired(result, first, which, name) for name in COLUMNS} for which in SETS}


def _paired(result: Result, first: Result, which: str, name: str) -> Any:
    pairs = zip(result["scores_of_texts"][which], first["scores_of_texts"][which], strict=True)
    values = [
        own[name] - other[name] for own, other in pairs if own[name] is not None and other[name] is not None
    ]
    return as_json(mean_interval(values))


def difference_table(differences: Result) -> str:
    """The differences of the chosen latents as text, a row a subject."""
    lines = [f"chosen latents, minus those of {differences['first']}, over pairs of one text"]
    for name, sets in differences["minus_first"].items():
        cells = [
            f"{COLUMNS[measure]} {in_words(sets['chosen'][measure], sign='+')}"
            for measure in ("information", "distance", "flicker", "relative_flicker")
        ]
        lines.append(f"  {name}: {', '.join(cells)}")
    return "\n".join(lines)
