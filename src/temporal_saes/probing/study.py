"""Probes on one subject: the examples of every task, and the accuracies on them."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from dictionary_learning.command.progress import LoopProgress, say
from dictionary_learning.errors import UserError
from dictionary_learning.language_model import LanguageModel
from temporal_saes.experiment.subjects import Subject
from temporal_saes.labelled.data import LabelledText
from temporal_saes.probing import probes
from temporal_saes.probing.examples import task_examples
from temporal_saes.probing.last_read import LastRead
from temporal_saes.probing.options import ProbingOptions


def study(
    subject: Subject,
    options: ProbingOptions,
    texts: Sequence[LabelledText],
    lm: LanguageModel,
    last: LastRead,
    which: tuple[int, int] = (1, 1),
) -> dict[str, Any]:
    """Accuracies of the probes of every task.

    Args:
        which: the subject's number, counted from 1, and how many there are, for the progress that is shown.

    Raises:
        UserError: the dictionary does not fit the model, or a task has too few examples.
    """
    features, positions = last.features(subject, lm)
    examples = {task: task_examples(task, texts, features, positions) for task in options.tasks}
    ks = [k if k == "all" else int(k) for k in options.k]
    tasks = {}
    name = subject.name if which[1] == 1 else f"{subject.name} ({which[0]} of {which[1]})"
    with LoopProgress(len(options.tasks) * len(ks) * options.repeats, name, "fits") as progress:
        for task in options.tasks:

            def around_fit(k: int | str, repeat: int, task: str = task) -> AbstractContextManager[None]:
                return progress.piece(f"{task}, k {k}, repeat {repeat + 1} of {options.repeats}")

            rows, labels = examples[task]
            n_train, n_test = _part_sizes(task, options, len(rows))
            try:
                result = probes.probe(
                    features.x[rows],
                    labels,
                    ks=ks,
                    n_train=n_train,
                    n_test=n_test,
                    repeats=options.repeats,
                    seed=options.seed,
                    by_magnitude=_by_magnitude(subject, options),
                    scaled=options.scale_choice,
                    around_fit=around_fit,
                )
            except UserError as error:
                others = " ".join(other for other in options.tasks if other != task)
                remedy = f"; --tasks {others} leaves {task} out." if others else "."
                raise UserError(f"{task}: {str(error).removesuffix('.')}{remedy}") from None
            _report(task, result, n_train, n_test)
            tasks[task] = _as_json(task, result)
    return {
        "n_texts": len(texts),
        "text_classes": _counts([text.label for text in texts]),
        "outlier_share": features.outlier_share,
        "n_features": features.x.shape[1],
        **({"averaged": _averaged(subject)} if options.is_pooled else {}),
        "tasks": tasks,
        "interval": probes.INTERVAL,
    }


def _by_magnitude(subject: Subject, options: ProbingOptions) -> bool:
    return subject.is_baseline if options.direction == "auto" else options.direction == "either"


def _averaged(subject: Subject) -> str:
    """What is averaged over a span."""
    return "codes" if subject.trained_on == "token" and not subject.is_baseline else "activations"


def _part_sizes(task: str, options: ProbingOptions, n_examples: int) -> tuple[int, int]:
    """Examples wanted in the training and the test part; the context task uses all tokens it has."""
    if task != "context":
        return options.n_train, options.n_test
    n_test = round(n_examples * options.n_test / (options.n_train + options.n_test))
    return n_examples - n_test, n_test


def _report(task: str, result: probes.Result, n_train: int, n_test: int) -> None:
    """Say where less than asked was used, and where a probe did not converge."""
    if (result.n_train, result.n_test) != (n_train, n_test):
        say(
            f"{task}: {result.n_train} training and {result.n_test} test examples instead of {n_train} and "
            f"{n_test}: the data have no more."
        )
    if result.left_out:
        rare = ", ".join(f"{label} ({n})" for label, n in result.left_out.items())
        say(f"{task}: left out, with fewer than {probes.MIN_EXAMPLES} examples: {rare}.")
    for accuracy in result.accuracies:
        missing = len(accuracy.values) - accuracy.n_converged
        if missing:
            say(f"{task}, k {accuracy.k}: {missing} of {len(accuracy.values)} fits did not converge.")


def _as_json(task: str, result: probes.Result) -> dict[str, Any]:
    return {
        "accuracy": [
            {
                "k": accuracy.k,
                **accuracy.interval._asdict(),
                "values": accuracy.values,
                "n_features": accuracy.n_features,
                "strengths": accuracy.strengths,
                "n_converged": accuracy.n_converged,
            }
            for accuracy in result.accuracies
        ],
        "chance": result.chance,
        "majority": result.majority,
        "n_train": result.n_train,
        "n_test": result.n_test,
        "n_classes": len(result.classes),
        # which text a token is from is a class, too, and its name says nothing
        "classes": None if task == "context" else result.classes,
        "left_out": result.left_out,
    }


def _counts(labels: Sequence[str]) -> dict[str, int]:
    names, counts = np.unique(np.array(labels), return_counts=True)
    return dict(zip(names.tolist(), counts.tolist(), strict=True))
