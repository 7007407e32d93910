"""Result files to numbers: by method, budget, chunk and measure, one value a seed."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dictionary_learning.command.files import read_json
from dictionary_learning.command.progress import say
from dictionary_learning.errors import UserError
from temporal_saes.claims.methods import BASELINE, method_and_budget

THRESHOLD = "claims"
"""The name of the threshold at which all methods have the same L0 on the held-out texts."""

Place = tuple[str, int, int, str]
"""Method, budget (0 for what was not trained), chunk, measure."""
Readings = dict[Place, dict[int, float]]
"""The values of each place by seed; -1 where there is none."""

_MEASURES = {
    "fve_context_mean": "FVE",
    "nmse": "NMSE",
    "cosine": "cosine",
    "cosine_centred": "cosine, mean subtracted",
    "l0": "L0",
    "alive": "alive",
    "smoothness_lipschitz": "smoothness",
    "norm_share": "share of the norm",
}
_GEOMETRY = {"effective_rank": "effective rank", "tortuosity": "tortuosity", "slow_share": "slow share"}
_WHOLE = 2


def read(runs: Path) -> Readings:
    """Every number of the runs in a folder that `methods.run_name` named.

    A file that is damaged is left out with a line that says so.

    Raises:
        UserError: there are none.
    """
    readings: Readings = {}
    for path in sorted(runs.rglob("*.json")):
        try:
            content = read_json(path, "a result")
            if isinstance(content, dict):
                for place, seed, value in _numbers(content):
                    readings.setdefault(place, {})[seed] = value
        except (UserError, LookupError, TypeError, AttributeError, ValueError) as error:
            say(f"left out: {path} ({error})")
    if not readings:
        raise UserError(f"there are no results of claims in {runs}: run benchmarks/claims.py first.")
    return readings


def _numbers(content: Mapping[str, Any]) -> Iterator[tuple[Place, int, float]]:
    if "measures" in content and "dict_class" in content:
        yield from _of_evaluation(content)
    elif "subject" in content and content.get("experiment") in _EXPERIMENTS:
        subject = content["subject"]
        if subject["trainer_folder"] is None:
            place, seed = (BASELINE, 0), -1
        else:
            named = method_and_budget(subject["run_name"])
            if named is None or not _is_ours(subject.get("threshold")):
                return
            place, seed = named, _seed(subject["trainer_folder"])
        for measure, value in _EXPERIMENTS[content["experiment"]](content):
            yield (*place, int(subject["chunk"]) if seed >= 0 else _WHOLE, measure), seed, value


def _of_evaluation(content: Mapping[str, Any]) -> Iterator[tuple[Place, int, float]]:
    named = method_and_budget(str(content.get("run")))
    if named is None or not _is_ours(content["options"].get("threshold")):
        return
    seed = int(content["options"]["trainer"])
    splits = [name for name in content["measures"] if name != "all"]
    for split, measures in content["measures"].items():
        chunk = _WHOLE if split == "all" else splits.index(split)
        for name, measure in _MEASURES.items():
            if name in measures and measures[name]["value"] is not None:
                yield (*named, chunk, measure), seed, float(measures[name]["value"])


def _is_ours(threshold: str | None) -> bool:
    """Not a result at the training's own threshold, or at another one, which lies beside ours."""
    return threshold in (None, THRESHOLD)


def _seed(trainer_folder: str) -> int:
    return int(trainer_folder.rpartition("_")[2])


def _probing(content: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for task, found in content["tasks"].items():
        for one in found["accuracy"]:
            yield f"{task}, k = {one['k']}", float(one["mean"])


def _similarity(content: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    found = content["detectors"].get("novelty")
    if found is not None:
        yield "boundaries, F1", float(found["given_number"]["f1"]["mean"])


def _geometry(content: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for name, measure in _GEOMETRY.items():
        if content["measures"].get(name) is not None:
            yield measure, float(content["measures"][name]["mean"])


_EXPERIMENTS = {"probing": _probing, "similarity": _similarity, "temporal_geometry": _geometry}
