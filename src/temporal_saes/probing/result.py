"""What a person reads of a result of probing in the terminal."""

from collections.abc import Mapping
from typing import Any

from dictionary_learning.command.progress import n_of
from temporal_saes.experiment.intervals import in_words


def table(result: Mapping[str, Any]) -> str:
    """Accuracies as text, a row a task."""
    pool = result["options"].get("pool")
    told = "" if pool is None else f", --pool {pool}"
    lines = [f"{result['name']}: test accuracy{told}, mean of {n_of(result['options']['repeats'], 'split')}"]
    columns = [f"k={k}" for k in result["options"]["k"]]
    lines.append(f"{'':10}" + "".join(f"{name:>16}" for name in columns) + f"{'majority':>10}{'chance':>8}")
    for task, numbers in result["tasks"].items():
        row = "".join(f"{in_words(accuracy):>16}" for accuracy in numbers["accuracy"])
        lines.append(f"{task:10}{row}{numbers['majority']:>10.3f}{numbers['chance']:>8.3f}")
    return "\n".join(lines)
