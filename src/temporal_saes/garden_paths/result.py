"""What a person reads of garden-path sentences in the terminal, and how much subjects differ."""

from collections.abc import Mapping
from typing import Any

from dictionary_learning.command.progress import n_of
from temporal_saes.experiment.intervals import as_json, in_words, mean_interval


def table(result: Mapping[str, Any]) -> str:
    """The leans as text."""
    lines = [
        f"{result['name']}: leans to the right reading by {in_words(result['lean'])} in "
        f"{n_of(result['n_texts'], 'triple')}, {result['share_right']:.0%} of them to the right one"
    ]
    lines += [f"  {kind:12}{in_words(lean)}" for kind, lean in result["lean_of_kinds"].items()]
    return "\n".join(lines)


def minus_first(result: Mapping[str, Any], first: Mapping[str, Any]) -> dict[str, Any] | None:
    """How much the lean of a subject differs from that of the first, over triples that both have."""
    pairs = zip(result["lean_of_triples"], first["lean_of_triples"], strict=True)
    return as_json(mean_interval([own - other for own, other in pairs if None not in (own, other)]))
