"""Means over seeds, and what a person reads of them in the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from dictionary_learning.command.progress import n_of
from temporal_saes.experiment.intervals import as_json, in_words, mean_interval

NAMES = {
    "tsae": "T-SAE",
    "tsae_strength_0": "T-SAE, strength 0",
    "matryoshka": "Matryoshka",
    "batch_top_k": "BatchTopK",
    "top_k": "TopK",
    "tfa": "TFA",
    "activations": "activations",
    "running_mean": "running mean",
    "recall": "recall",
}
_RECOVERY = (("mcc", "MCC"), ("precision", "precision"), ("recall", "recall"), ("f1", "F1"), ("auc", "AUC"))

_QUALITY = ("MCC, slow", "MCC, fast", "F1, slow", "F1, fast", "FVE", "L0", "alive")
_APART = ("balanced", "slow in first", "fast in first", "persistence AUC")


def over_seeds(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The scores of several seeds with each number replaced by its mean and 95 % interval over them."""
    return {key: _together([result[key] for result in results]) for key in ("methods", "controls")}


def _together(values: Sequence[Any]) -> Any:
    first = values[0]
    if isinstance(first, Mapping):
        return {key: _together([value[key] for value in values]) for key in first}
    known = [value for value in values if value is not None]
    return as_json(mean_interval(known))


def minus_first(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How much each later method differs from the first in the same worlds, with intervals over seeds."""
    first, *others = results[0]["methods"]
    chosen = {
        "mcc": ("recovery", "mcc", "all"),
        "f1": ("recovery", "f1", "all"),
        "f1 of slow truths": ("recovery", "f1", "slow"),
        "f1 of fast truths": ("recovery", "f1", "fast"),
        "told by persistence": ("told_by_persistence",),
    }
    found: dict[str, Any] = {"first": first}
    for other in others:
        found[other] = {
            name: as_json(mean_interval(_differences(results, other, first, path)))
            for name, path in chosen.items()
        }
    return found


def _differences(
    results: Sequence[Mapping[str, Any]], other: str, first: str, path: Sequence[str]
) -> list[float]:
    """Of one score, in the worlds in which both methods have it."""
    pairs = [[_at(result["methods"][method], path) for method in (other, first)] for result in results]
    return [own - theirs for own, theirs in pairs if own is not None and theirs is not None]


def _at(scores: Any, path: Sequence[str]) -> float | None:
    for key in path:
        scores = scores[key]
    return None if scores is None else float(scores)


def table(result: Mapping[str, Any]) -> str:
    """The scores as text."""
    methods, controls = result["mean"]["methods"], result["mean"]["controls"]
    width = max(map(len, NAMES.values())) + 2
    worlds = n_of(len(result["options"]["seeds"]), "world")
    lines = [f"{worlds}, mean ± half of the 95 % interval over them", ""]
    lines.append(f"{'truths found':{width}}" + "".join(f"{name:>16}" for _, name in _RECOVERY))
    for method, scores in methods.items():
        cells = [in_words(scores["recovery"][key]["all"]) for key, _ in _RECOVERY]
        lines.append(f"{NAMES[method]:{width}}" + "".join(f"{cell:>16}" for cell in cells))
    chance = in_words(result["chance_mcc"])
    lines += [f"{'random directions':{width}}{chance:>16}", ""]

    lines.append(f"{'slow and fast':{width}}" + "".join(f"{name:>16}" for name in _QUALITY))
    for method, scores in methods.items():
        cells = [
            in_words(scores["recovery"][key][sort]) for key in ("mcc", "f1") for sort in ("slow", "fast")
        ]
        cells += [in_words(scores[key], 2 if key == "l0" else 3) for key in ("fve", "l0", "alive")]
        lines.append(f"{NAMES[method]:{width}}" + "".join(f"{cell:>16}" for cell in cells))

    lines += ["", "slow and fast apart (chance .5; of all truths' latents in the first part, slow and fast)"]
    lines.append(" " * width + "".join(f"{name:>16}" for name in _APART))
    for method, scores in methods.items():
        placed = scores["placement"] or {}
        cells = [in_words(placed.get(key)) for key in ("balanced_accuracy", "slow_in_first", "fast_in_first")]
        cells.append(in_words(scores["told_by_persistence"]))
        lines.append(f"{NAMES[method]:{width}}" + "".join(f"{cell:>16}" for cell in cells))

    lines += ["", "read off what a part adds (AUC of a linear probe)"]
    lines.append(f"{'':{width + 12}}{'slow truths':>16}{'fast truths':>16}")
    for method, scores in {**methods, **controls}.items():
        for part, found in (scores.get("parts") or scores).items():
            cells = [in_words(found[sort]) for sort in ("slow", "fast")]
            lines.append(f"{NAMES[method]:{width}}{part:12}" + "".join(f"{cell:>16}" for cell in cells))
    return "\n".join(lines)
