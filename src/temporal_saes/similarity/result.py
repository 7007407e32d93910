"""What a person reads of the boundaries in the terminal, and how much subjects differ."""

from collections.abc import Mapping
from typing import Any

from dictionary_learning.command.progress import n_of
from temporal_saes.experiment.intervals import as_json, in_words, mean_interval


def table(result: Mapping[str, Any]) -> str:
    """Scores as text, a row a detector."""
    title = f"{result['name']}: boundaries in {n_of(result['n_texts'], 'text')}"
    if not result["detectors"]:
        name = result["options"]["detector"]
        places = zip(result["shown"]["found"][name], result["shown"]["words_at_found"][name], strict=True)
        lines = [f"  token {place}: {words}" for place, words in places]
        return "\n".join([f"{result['name']}: boundaries found ({name})", *lines])
    head = f"{'':22}{'F1':>14}{'precision':>12}{'recall':>9}{'found':>7}{'chance':>8}{'sentences':>11}"
    lines = [title, head]
    for detector, scores in result["detectors"].items():
        for number, one in scores.items():
            sentence = one["chance_f1_sentence_starts"]
            precision = "-" if one["precision"] is None else f"{one['precision']['mean']:.3f}"
            lines.append(
                f"{detector + ', ' + number.replace('_', ' '):22}{in_words(one['f1']):>14}{precision:>12}"
                f"{one['recall']['mean']:>9.3f}{one['found_a_text']:>7.1f}{one['chance_f1']:>8.3f}"
                f"{'-' if sentence is None else f'{sentence:.3f}':>11}"
            )
    return "\n".join(lines)


def f1_minus_first(result: Mapping[str, Any], first: Mapping[str, Any]) -> dict[str, Any]:
    """How much the F1 of a subject differs from that of the first, over pairs of one text."""
    return {
        detector: {number: _paired(result, first, detector, number) for number in scores}
        for detector, scores in result["detectors"].items()
    }


def _paired(result: Mapping[str, Any], first: Mapping[str, Any], detector: str, number: str) -> Any:
    own, other = (one["detectors"][detector][number]["f1_of_texts"] for one in (result, first))
    return as_json(mean_interval([a - b for a, b in zip(own, other, strict=True)]))


def difference_table(differences: Mapping[str, Any]) -> str:
    """The differences as text, a row a subject and detector."""
    lines = [f"F1 minus that of {differences['first']}, over pairs of one text"]
    for name, detectors in differences["f1_minus_first"].items():
        for detector, numbers in detectors.items():
            cells = ", ".join(
                f"{number.replace('_', ' ')} {in_words(interval)}" for number, interval in numbers.items()
            )
            lines.append(f"  {name}, {detector}: {cells}")
    return "\n".join(lines)
