"""Result files to numbers: by method, budget, chunk and measure, one value a seed."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dictionary_learning.command.files import read_json
from dictionary_learning.command.progress import say
from dictionary_learning.errors import UserError
from dictionary_learning.evaluation.results import is_of_the_runs_setting
from temporal_saes.claims.methods import BASELINE, CONTROLS, method_and_budget
from temporal_saes.experiment.numbers import OF_EXPERIMENT, Number, of_evaluation

THRESHOLD = "claims"
"""The name of the threshold at which all methods have the same L0 on the held-out texts."""
NO_SEED = -1

Place = tuple[str, int, int, str]
"""Method, budget (0 for what was not trained), chunk, measure."""
Readings = dict[Place, dict[int, float]]
"""The values of each place by seed; `NO_SEED` where there is none."""
OfTexts = dict[Place, dict[int, Sequence[float | None]]]
"""Of some places the values of single texts, the same texts for all, by seed."""
_WHOLE = 2


def read(runs: Path) -> Readings:
    """Every number of the runs in a folder that `methods.run_name` named, and of what was not trained.

    A file that is damaged is left out with a line that says so, and so is what a file has otherwise than one
    that comes later in the order of names: which of them is meant nobody can say.

    Raises:
        UserError: there are none.
    """
    readings: Readings = {}
    sources: dict[tuple[Place, int], Path] = {}
    contradictions: dict[tuple[Path, Path], list[str]] = {}
    for path, place, seed, number in _all_numbers(runs, is_told=True):
        before = readings.setdefault(place, {}).get(seed, number.value)
        if before != number.value:
            told = f"{place[-1]} {number.value:.4g} and not {before:.4g}"
            contradictions.setdefault((path, sources[place, seed]), []).append(told)
        readings[place][seed], sources[place, seed] = number.value, path
    for (path, other), numbers in contradictions.items():
        more = f" and {len(numbers) - 1} more" if len(numbers) > 1 else ""
        say(f"taken from {path}: {numbers[0]}{more}, as in {other}; remove the one that is not meant.")
    if not readings:
        raise UserError(f"there are no results of claims in {runs}: run benchmarks/claims.py first.")
    return readings


def read_of_texts(runs: Path) -> OfTexts:
    """The same, text by text, of the experiments that keep these."""
    found: OfTexts = {}
    for _, place, seed, number in _all_numbers(runs, is_told=False):
        if number.of_texts:
            found.setdefault(place, {})[seed] = number.of_texts
    return found


def _all_numbers(runs: Path, *, is_told: bool) -> Iterator[tuple[Path, Place, int, Number]]:
    for path in sorted(runs.rglob("*.json")):
        try:
            content = read_json(path, "a result")
            numbers = list(_numbers(content)) if isinstance(content, dict) else []
        except (UserError, LookupError, TypeError, AttributeError, ValueError) as error:
            if is_told:
                say(f"left out: {path} ({error})")
            continue
        yield from ((path, *found) for found in numbers)


def _numbers(content: Mapping[str, Any]) -> Iterator[tuple[Place, int, Number]]:
    if "measures" in content and "dict_class" in content:
        yield from _of_evaluation(content)
    elif "subject" in content and content.get("experiment") in OF_EXPERIMENT:
        subject = content["subject"]
        if subject["trainer_folder"] is None:
            method, budget, chunk, seed = BASELINE, 0, _WHOLE, NO_SEED
        elif subject["run_name"] in CONTROLS:
            method, budget, chunk, seed = subject["run_name"], 0, int(subject["chunk"]), NO_SEED
        else:
            named = method_and_budget(subject["run_name"])
            if named is None or not _is_ours(subject.get("threshold")):
                return
            (method, budget), chunk = named, int(subject["chunk"])
            seed = int(subject["trainer_folder"].rpartition("_")[2])
        for number in OF_EXPERIMENT[content["experiment"]](content):
            own = seed if number.seed is None else number.seed
            yield (method, budget, chunk, number.measure), own, number


def _of_evaluation(content: Mapping[str, Any]) -> Iterator[tuple[Place, int, Number]]:
    named = method_and_budget(str(content.get("run")))
    options = content["options"]
    if named is None or not _is_ours(options.get("threshold")) or not is_of_the_runs_setting(options):
        return
    seed = int(options["trainer"])
    splits = [name for name in content["measures"] if name != "all"]
    for split, measures in content["measures"].items():
        chunk = _WHOLE if split == "all" else splits.index(split)
        for number in of_evaluation(measures):
            yield (*named, chunk, number.measure), seed, number


def _is_ours(threshold: str | None) -> bool:
    """Not a result at the training's own threshold, or at another one, which lies beside ours."""
    return threshold in (None, THRESHOLD)
