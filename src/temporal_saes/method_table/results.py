"""Files to numbers: what every experiment and every evaluation says of a run's chunk."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dictionary_learning.command import figures
from dictionary_learning.command.files import read_json
from dictionary_learning.command.progress import say
from dictionary_learning.errors import UserError
from dictionary_learning.remote import mirror
from temporal_saes.experiment.options import BASELINE
from temporal_saes.experiment.results import label, read_place


class Number(NamedTuple):
    """One number of a result."""

    measure: str
    mean: float | None
    half: float | None = None  # of its interval
    chance: float | None = None


class Result(NamedTuple):
    """What one file says of one column."""

    column: str  # run:chunk, or baseline_model; with the checkpoint and the threshold that were chosen
    title: str  # of the column
    trainer: str
    experiment: str
    dataset: str
    context_length: int  # tokens; what is found depends on it
    setting: str  # the options, to tell settings apart
    started: str
    numbers: list[Number]
    path: Path
    places: tuple[str | None, ...] = ()  # what a column has one of: model, layer and folder of the run
    weights: str | None = None  # their SHA-256


def read_results(folder: str | Path) -> list[Result]:
    """Every result of an experiment or an evaluation in a folder of runs.

    A file that is damaged, or lies where results do and is none, is left out with a line that says why.

    Raises:
        UserError: there are none.
    """
    runs = mirror.folder_at(str(folder))
    mirror.pull(runs, lambda name: name.endswith(".json") and "/dashboard/" not in name)
    if not runs.is_dir():
        raise UserError(f"there is no folder {mirror.place_of(runs)}: check --checkpoints_path.")
    results: list[Result] = []
    for path in sorted(runs.rglob("*.json")):
        try:
            results += _read(path, runs)
        except UserError as error:
            say(f"left out: {error}")
    if not results:
        raise UserError(
            f"no experiment has written a result in {mirror.place_of(runs)}: run one, or check the folder."
        )
    return _told_apart(results)


def _told_apart(results: Sequence[Result]) -> list[Result]:
    """The results, where a column would have two models, layers or folders with those in its name."""
    known: dict[tuple[str, int], set[str]] = defaultdict(set)
    for result in results:
        for kind, place in enumerate(result.places):
            if place is not None:
                known[result.column, kind].add(place)
    made = []
    for result in results:
        told = [
            place
            for kind, place in enumerate(result.places)
            if place is not None and len(known[result.column, kind]) > 1
        ]
        column, title = (", ".join([name, *told]) for name in (result.column, result.title))
        made.append(result._replace(column=column, title=title))
    return made


def _read(path: Path, runs: Path) -> list[Result]:
    """The results in a file: none where it is a file of another kind.

    Raises:
        UserError: it is damaged, or has the name of a result and is none.
    """
    content = read_json(path, "a result")
    is_named = path.parent.name in EXPERIMENTS or path.name == "eval_results.json"
    try:
        results = list(_results(content, path, runs)) if isinstance(content, dict) else []
        of_several = isinstance(content, dict) and content.get("experiment") in EXPERIMENTS
        for result in results:
            _check(result)
    except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise UserError(f"{path} is no result of this version ({reason}): make it again.") from error
    if is_named and not results and not of_several:
        raise UserError(f"{path} holds no result, though it lies where results do: make it again.")
    return results


def _check(result: Result) -> None:
    """Raise a TypeError where the table could not hold the result."""
    kinds: list[tuple[Any, type]] = [(result.dataset, str), (result.context_length, int)]
    for number in result.numbers:
        kinds += [(value, int | float) for value in number[1:] if value is not None]  # type: ignore[misc]
    for value, kind in kinds:
        if not isinstance(value, kind) or isinstance(value, bool):
            raise TypeError(f"{value!r} in place of {'a number' if kind is not str else 'a name'}")


def _results(content: Mapping[str, Any], path: Path, runs: Path) -> Iterator[Result]:
    # of a file in a folder of --output_dir nobody knows
    is_in_run = path.parent.name == content.get("experiment") or path.parent.name.startswith("trainer_")
    folder = f"in {path.parent.parent.relative_to(runs).as_posix()}" if is_in_run else None
    if content.get("experiment") in EXPERIMENTS and "subject" in content:
        subject, options = content["subject"], dict(content["options"])
        baseline = subject["trainer_folder"] is None
        options.pop("explanation_path", None)  # of one dictionary each
        yield Result(
            BASELINE
            if baseline
            else _column(
                subject["run_name"], subject["chunk"], subject.get("checkpoint"), subject.get("threshold")
            ),
            label(content),
            str(subject["trainer_folder"]),
            content["experiment"],
            options["dataset"],
            subject["context_length"],
            json.dumps(options, sort_keys=True),
            str(content.get("provenance", {}).get("started", "")),
            list(EXPERIMENTS[content["experiment"]](content)),
            path,
            (subject.get("model"), str(read_place(subject)), folder),
            content.get("weights_sha256"),
        )
    elif "measures" in content and "dict_class" in content and "setting" in content:
        chunks = {"all": 2} | {name: i for i, name in enumerate(n for n in content["measures"] if n != "all")}
        method = figures.method_of(content["dict_class"])
        asked, setting = content["options"], content["setting"]
        for split, chunk in chunks.items():
            column = _column(content["run"], chunk, asked.get("checkpoint"), asked.get("threshold"))
            yield Result(
                column,
                f"{column} ({method}, {split})",
                f"trainer_{asked['trainer']}",
                "evaluation",
                setting["dataset"],
                setting["context_length"],
                json.dumps({**setting, "n": asked["max_tokens"]}, sort_keys=True),
                str(content.get("provenance", {}).get("started", "")),
                list(_evaluation(content["measures"][split])),
                path,
                (setting.get("model"), str(read_place(setting)), folder),
                content.get("weights_sha256"),
            )


def _column(run: str, chunk: int, checkpoint: str | None, threshold: str | None) -> str:
    """As `Subject.name`."""
    parts = [f"{run}:{chunk}", Path(checkpoint).stem if checkpoint else "", threshold]
    return " ".join(part for part in parts if part)


def _evaluation(measures: Mapping[str, Any]) -> Iterator[Number]:
    names = {
        "fve_context_mean": "FVE, mean over contexts",
        "cosine": "cosine",
        "l0": "L0",
        "alive": "alive latents",
        "smoothness_lipschitz": "smoothness (lower is smoother)",
        "loss_recovered": "cross-entropy recovered",
    }
    for name, written in names.items():
        if name in measures:
            yield Number(written, measures[name]["value"])


def _interval(measure: str, found: Mapping[str, Any] | None, chance: float | None = None) -> Number:
    """A number with its interval; no number where there is none."""
    if found is None:
        return Number(measure, None)
    high = found.get("high")
    return Number(measure, found["mean"], None if high is None else high - found["mean"], chance)


def _probing(content: Mapping[str, Any]) -> Iterator[Number]:
    for task, found in content["tasks"].items():
        # ten latents a class, as the T-SAE paper, or what is nearest
        one = min(
            found["accuracy"], key=lambda entry: abs(int(entry["k"]) - 10) if _is_number(entry) else 1e9
        )
        yield _interval(f"{task}, k = {one['k']}", one, found["chance"])


def _is_number(entry: Mapping[str, Any]) -> bool:
    return str(entry["k"]).isdigit()


def _map(content: Mapping[str, Any]) -> Iterator[Number]:
    among = {"pos": "other words", "domain": "other texts", "sequence": "all"}
    words = {"pos": "part of speech", "domain": "domain", "sequence": "text"}
    for score in content["scores"]:
        wanted = among.get(score["colouring"])
        if (score["space"], score["measure"], score["among"]) == ("features", "neighbours", wanted):
            yield Number(
                f"neighbours with the same {words[score['colouring']]}, among {wanted}",
                score["value"],
                None if score.get("high") is None else score["high"] - score["value"],
                score["chance"],
            )


def _sequences(content: Mapping[str, Any]) -> Iterator[Number]:
    for group, words in (("chosen", "chosen latents"), ("all", "all latents")):
        scores = content["scores"][group]
        yield _interval(
            f"bits about the passage above shifted boundaries, {words}", scores["above_shifted"], 0
        )
        yield _interval(f"tokens from a boundary to the switch, {words}", scores["distance"])
        yield _interval(f"flicker, as a share of any order's, {words}", scores["relative_flicker"], 1)


def _similarity(content: Mapping[str, Any]) -> Iterator[Number]:
    is_kept = content["options"].get("word_order", "kept") == "kept"
    told = "F1; chance: at sentence starts" if is_kept else "F1; words in any order"
    for detector, found in content["detectors"].items():
        one = found["given_number"]
        yield _interval(
            f"boundaries found ({told}), {detector}",
            one["f1"],
            one["chance_f1_sentence_starts"],
        )


def _geometry(content: Mapping[str, Any]) -> Iterator[Number]:
    names = {"effective_rank": "effective rank", "tortuosity": "tortuosity", "slow_share": "slow share"}
    for name, written in names.items():
        yield _interval(written, content["measures"][name])


def _alignment(content: Mapping[str, Any]) -> Iterator[Number]:
    tested = content["n_tested"]
    yield Number("latents tested", tested)
    for view, found in content["views"].items():
        # a view that the pairs do not allow has none
        yield Number(f"latents that differ, {view.replace('_', ' ')}", found.get("significant"))
    yield Number("latents that follow length", content["n_length_latents"])


def _steering(content: Mapping[str, Any]) -> Iterator[Number]:
    found = content["summary"]["while_coherent"]
    control = found["control"]["domain_gain"]
    chance = None if control is None else control["mean"]
    yield _interval(
        "most gain of the domain while coherent (chance: random directions)",
        found["steered"]["domain_gain"],
        chance,
    )


def _garden_paths(content: Mapping[str, Any]) -> Iterator[Number]:
    yield _interval("lean to the right reading behind a garden path", content["lean"], 0)
    yield Number("share of sentences that lean to it", content["share_right"])


def _persistence(content: Mapping[str, Any]) -> Iterator[Number]:
    for lag, ordered, shuffled in zip(
        content["lags"], content["persistence"], content["persistence_in_any_order"], strict=True
    ):
        chance = None if shuffled is None else shuffled["mean"]
        yield _interval(f"persistence at a distance of {lag} (chance: tokens in any order)", ordered, chance)
    if content["stability"] is not None:
        found = content["stability"]
        chance = found["chance_matched"]["mean"]
        yield _interval("cosine with the matched latent of another seed", found["matched"], chance)


def _naming(content: Mapping[str, Any]) -> Iterator[Number]:
    held = str(content["options"]["held"])
    for split, found in content["splits"].items():
        for kind in ("words", "tokens"):
            other = found[held][f"{kind} of another"]
            chance = None if other is None else other["mean"]
            told = f"AUC of {kind}, {split}, held over {held} (chance: of another latent)"
            yield _interval(told, found[held][kind], chance)


EXPERIMENTS: dict[str, Callable[[Mapping[str, Any]], Iterator[Number]]] = {
    "probing": _probing,
    "tsne": _map,
    "sequence_interpretability": _sequences,
    "similarity": _similarity,
    "temporal_geometry": _geometry,
    "garden_paths": _garden_paths,
    "persistence": _persistence,
    "naming": _naming,
    "alignment_study": _alignment,
    "steering": _steering,
}
