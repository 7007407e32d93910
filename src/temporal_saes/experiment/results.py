"""What a result says of itself, and where a comparison of several goes.

Every experiment writes one JSON a subject that holds all that decided its numbers (`asked`), and
what several subjects share, a figure, below the folder of runs (`comparison_path`).
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from dictionary_learning.command import figures
from dictionary_learning.command.files import read_json, save_text, short_enough
from dictionary_learning.command.progress import say
from dictionary_learning.command.secrets import scrub_values
from dictionary_learning.errors import UserError
from dictionary_learning.language_model.places import RESIDUAL, Place
from dictionary_learning.remote.mirror import folder_at, place_of
from dictionary_learning.texts.names import slug
from temporal_saes.experiment.intervals import INTERVAL
from temporal_saes.experiment.names import beside, dataset_name
from temporal_saes.experiment.options import ExperimentOptions
from temporal_saes.experiment.subjects import Subject
from temporal_saes.labelled.passages import Joined

Options = TypeVar("Options", bound=ExperimentOptions)

MODEL = "model_identity"  # the key under which a result says which weights of the language model it is of
# where a result goes, or how fast it is made; or what the subject says with its final value
_LEFT_OUT = {
    "run_name",
    "checkpoints_path",
    "chunk",
    "compare",
    "output_dir",
    "device",
    "cache",
    "layer",
    "site",
}
_LEFT_OUT |= {
    "model",
    "checkpoint",
    "trainer",
    "trainers",
    "context_length",
    "lm_dtype",
    "lm_batch_size",
    "lm_device",
    "threshold",
    "local_cache",
}
# options that are younger than results which still count: told where they are not as ever
_YOUNGER = {"pool", "chat_template", "roles"}


def asked(subject: Subject, options: ExperimentOptions, texts: Iterable[str]) -> dict[str, Any]:
    """All that decides a result: two with the same answer here have the same numbers.

    The weights of the language model are told apart by their files, so they need not be loaded.

    Args:
        texts: what was read, or what stands for it (an id and a label).
    """
    from dictionary_learning.language_model.model_files import model_identity

    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode())
    defaults = {field.name: field.default for field in dataclasses.fields(options)}
    place = {"folder": str(place_of(subject.folder)), "trainer_folder": None}
    if subject.trainer_folder is not None:
        place["trainer_folder"] = subject.trainer_folder.name
    return {
        "options": {
            key: scrub_values(list(value) if isinstance(value, tuple) else value)
            for key, value in dataclasses.asdict(options).items()
            if key not in _LEFT_OUT and (key not in _YOUNGER or value != defaults[key])
        },
        "subject": {**scrub_values(_facts(subject)), **place},
        "weights_sha256": subject.weights_hash(),
        MODEL: model_identity(subject.model),
        "texts_sha256": digest.hexdigest(),
    }


def _facts(subject: Subject) -> dict[str, Any]:
    """The fields of a subject; without those that say the usual, so that earlier results still count."""
    facts = dataclasses.asdict(subject)
    if not subject.place.is_added:
        del facts["site"]
    if subject.trained_on == "token":
        del facts["trained_on"]
    if subject.threshold is None:
        del facts["threshold"], facts["threshold_value"]
    return facts


def finished(path: Path, question: Mapping[str, Any]) -> dict[str, Any] | None:
    """The result at `<path>.json` if it answers the same question, what `asked` says of it; None if not."""
    try:
        result = read_json(beside(path, ".json"))
    except UserError:
        return None
    if not isinstance(result, dict):
        return None
    other = [key for key, value in question.items() if result.get(key) != value]
    if other == [MODEL] and MODEL not in result:
        _tell_once(
            "Results of an older version do not say which weights of the language model they are of, so they "
            "are computed again."
        )
    return None if other else result


@cache
def _tell_once(sentence: str) -> None:
    say(sentence)


def save_json(path: Path, content: Mapping[str, Any], **style: Any) -> None:
    """Write `<path>.json`, whole or not at all; `style` is as `json.dumps` takes it."""
    save_text(beside(path, ".json"), json.dumps(content, **style) + "\n")


def differences(
    results: Sequence[Mapping[str, Any]],
    key: str,
    compare: Callable[[Mapping[str, Any], Mapping[str, Any]], Any],
) -> dict[str, Any]:
    """How much each later subject differs from the first, over pairs of one text.

    Args:
        key: what the differences are called.
        compare: from a result and the first one to their differences.
    """
    from dictionary_learning.runs.provenance import provenance

    first = results[0]
    return {
        "experiment": first["experiment"],
        "first": first["name"],
        "subjects": [result["name"] for result in results],
        "n_texts": first["n_texts"],
        "options": first["options"],
        key: {result["name"]: compare(result, first) for result in results[1:]},
        "interval": INTERVAL,
        "provenance": provenance(),
    }


def label(result: Mapping[str, Any]) -> str:
    """What a figure calls the subject of a result: `demo:0 (T-SAE, high)`, or `dense activations`."""
    subject = result["subject"]
    method = figures.method_of(subject["dict_class"])
    if subject["trainer_folder"] is None:
        return method
    return f"{result['name']} ({method}, {subject['split']})"


def figure_label(result: Mapping[str, Any]) -> str:
    """The same for a figure, which would read some names in its own way."""
    return figures.as_written(label(result))


def read_place(subject: Mapping[str, Any]) -> Place:
    """Where the activations are read of the subject that a result is of."""
    return Place(subject.get("layer"), site=subject.get("site", RESIDUAL))


def model_and_place(subject: Mapping[str, Any]) -> str:
    """The same with the language model, such as `demo, the MLP of layer 8`."""
    return f"{subject['model']}, {read_place(subject)}"


def colours(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """A colour for each result: its method's, lighter for a second subject of the method."""
    return figures.run_colours([figures.method_of(result["subject"]["dict_class"]) for result in results])


def comparison_path(subjects: Sequence[Subject], options: ExperimentOptions, experiment: str) -> Path:
    """`<runs>/comparisons/<experiment>/<data set>_<subjects>`, or `<output_dir>/<experiment>_...`."""
    names = short_enough("_".join(slug(subject.name) for subject in subjects))
    told = f"_trainer{options.trainer}" if options.trainer else ""
    told += f"_seed{options.seed}" if options.seed else ""
    name = f"{dataset_name(options)}_{names}{told}"
    if options.output_dir is not None:
        return Path(options.output_dir) / f"{experiment}_{name}"
    return folder_at(options.checkpoints_path) / "comparisons" / experiment / name


def named_for(given: Joined, options: Options) -> Options:
    """The options with a data set's name that stands for the given files, so that results do not collide."""
    digest = hashlib.sha256(given.text.encode()).hexdigest()[:6]
    name = f"{slug(given.passages[0].title)}-{digest}"
    return dataclasses.replace(options, dataset=name, data_path=None, text_field=None, label_field=None)


def told_apart(path: Path, word: str, question: Mapping[str, Any]) -> Path:
    """The path with what no other options (of `asked`) have in their names."""
    written = json.dumps(question["options"], sort_keys=True)
    return path.with_name(f"{path.name}_{word}-{hashlib.sha256(written.encode()).hexdigest()[:6]}")
