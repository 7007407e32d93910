"""What one result file says: its numbers, and those of single texts where it has them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from temporal_saes.experiment.intervals import OF_PAIRS

Result = Mapping[str, Any]

_EVALUATION = {
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
_PARTS = {
    "norm_share_with_bias": "share of both norms, the bias predicted",
    "norm_share_less_mean": "share of both norms, mean subtracted",
    "nmse_less_mean": "NMSE alone, mean subtracted",
    "effective_rank_less_mean": "effective rank, mean subtracted",
}


class Number(NamedTuple):
    """One number of a subject."""

    measure: str
    value: float
    of_texts: Sequence[float | None] = ()  # of which it is the mean, where the result has them
    seed: int | None = None  # where a result has all seeds of a run; else it is the subject's


def right_reading(lean: float) -> float:
    """1 where codes lean to the right reading, 0 where to the wrong one, ½ where to neither."""
    return ((lean > 0) + (lean >= 0)) / 2


def of_evaluation(measures: Result) -> Iterator[Number]:
    """Of one split of a dictionary."""
    for name, measure in _EVALUATION.items():
        if name in measures and measures[name]["value"] is not None:
            yield Number(measure, float(measures[name]["value"]))


def _probing(content: Result) -> Iterator[Number]:
    for task, found in content["tasks"].items():
        for one in found["accuracy"]:
            yield Number(f"{task}, k = {one['k']}", float(one["mean"]))


def _similarity(content: Result) -> Iterator[Number]:
    order = content["options"].get("word_order", "kept")
    found = content["detectors"].get("novelty")
    if found is not None:
        one = found["given_number"]
        name = "boundaries, F1" if order == "kept" else f"boundaries, F1, words {order}"
        yield Number(name, float(one["f1"]["mean"]), one["f1_of_texts"])


def _geometry(content: Result) -> Iterator[Number]:
    for names, found in ((_GEOMETRY, content["measures"]), (_PARTS, content.get("parts", {}))):
        for name, measure in names.items():
            if (found.get(name) or {}).get("mean") is not None:
                yield Number(measure, float(found[name]["mean"]))


def _sequences(content: Result) -> Iterator[Number]:
    for name, measure in (("above_shifted", "passage, bits"), ("relative_flicker", "flicker")):
        one = content["scores"]["all"][name]
        if one is not None:
            of_texts = [text[name] for text in content["scores_of_texts"]["all"]]
            yield Number(measure, float(one["mean"]), of_texts)


def _garden_paths(content: Result) -> Iterator[Number]:
    leans = content["lean_of_triples"]
    is_right = [None if lean is None else right_reading(lean) for lean in leans]
    yield Number("garden paths, lean", float(content["lean"]["mean"]), leans)
    yield Number("garden paths, share right", float(content["share_right"]), is_right)


def _alignment(content: Result) -> Iterator[Number]:
    tested = content["n_tested"]
    if not tested:
        return
    for view in ("raw", "equal_length"):
        found = content["views"][view]
        if "significant" in found:
            yield Number(f"preferences, share that differs, {view}", found["significant"] / tested)
    yield Number("preferences, share that follows length", content["n_length_latents"] / tested)
    if content["predicted_by_length"] is not None:
        yield Number("preferences, effects that length predicts", float(content["predicted_by_length"]))


def _persistence(content: Result) -> Iterator[Number]:
    for seed, one in enumerate(content["of_seeds"]):
        for lag, ordered, shuffled in zip(
            content["lags"], one["persistence"], one["in_any_order"], strict=True
        ):
            if None not in (ordered, shuffled):
                yield Number(f"persistence at {lag}", ordered, seed=seed)
                yield Number(f"persistence at {lag}, above any order", ordered - shuffled, seed=seed)
    stability = content["stability"] or {}
    for seed, value in enumerate((stability.get("matched") or {}).get(OF_PAIRS, ())):
        yield Number("stability over seeds", value, seed=seed)


def _steering(content: Result) -> Iterator[Number]:
    mode = content["options"]["mode"]
    for name, told in (("steered", ""), ("control", ", random directions")):
        one = content["summary"]["while_coherent"][name]["domain_gain"]
        if one is not None:
            yield Number(f"steering, {mode}{told}", float(one["mean"]))
    floor = [
        point["measures"]["domain_gain"]
        for point in content["summary"]["steered"]
        if point["strength"] == 0 and point["measures"]["domain_gain"] is not None
    ]
    if floor:
        yield Number(f"steering, {mode}, strength 0", float(floor[0]["mean"]))


def _naming(content: Result) -> Iterator[Number]:
    for split, found in content["splits"].items():
        for least, one in found.items():
            for kind in ("words", "tokens"):
                if one[kind] is not None:
                    held = "" if least == "1" else f", held over {least}"
                    yield Number(f"AUC of {kind}, {split}{held}", float(one[kind]["mean"]))


OF_EXPERIMENT: dict[str, Callable[[Result], Iterator[Number]]] = {
    "probing": _probing,
    "similarity": _similarity,
    "temporal_geometry": _geometry,
    "sequence_interpretability": _sequences,
    "garden_paths": _garden_paths,
    "alignment_study": _alignment,
    "naming": _naming,
    "persistence": _persistence,
    "steering": _steering,
}
