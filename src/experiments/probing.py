"""Probing: what a few latents tell about domain, part of speech, and which text a token is from.

    python src/experiments/probing.py --run_name demo --chunk 0
    python src/experiments/probing.py --compare demo:0 demo:1 baseline_model --dataset demo

Three tasks (T-SAE, arXiv 2511.05541), each a logistic regression on the k latents a class whose class
mean exceeds the rest most:

semantics  one token of a text -> the text's class (domain, topic, subject)
syntax     the same token -> its part of speech, tagged in the whole text
context    25 tokens of each of 160 texts -> which text; tokens of one text are in both parts

The paper takes the last token of a truncated text. A text's own last token is mostly a full stop, so
each text is cut after a random token of its second half: what a causal model and a dictionary make of
that token depends on nothing behind it, so the language model runs over the uncut text, once.
Semantics and syntax keep texts apart: none gives a token to the training and to the test part.

Writes <run>/probing/<dataset>_chunk<c>.json with all options, and the figure beside it. --compare puts
several runs in one figure; results that were computed with the same options are taken from there.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dictionary_learning.command import cli
from dictionary_learning.command.files import check_writable, save_text
from dictionary_learning.command.options import Parser, add_options, build, option
from dictionary_learning.command.progress import say
from dictionary_learning.errors import UserError
from dictionary_learning.runs.provenance import provenance
from temporal_saes.experiment.options import (
    ExperimentOptions,
    LanguageModels,
    Subject,
    labelled_texts,
    resolve,
    resolve_several,
)
from temporal_saes.experiment.results import asked, comparison_path, finished
from temporal_saes.features import Features, Tokens, extract_features, readable
from temporal_saes.labelled.data import LabelledText
from temporal_saes.labelled.parts_of_speech import check_tagger, tag_tokens
from temporal_saes.probing import probes

TASKS = ("semantics", "syntax", "context")


@dataclass(frozen=True)
class ProbingOptions(ExperimentOptions):
    """What probing can be asked."""

    tasks: tuple[str, ...] = option(TASKS, "which probes", group="probes", choices=TASKS)
    k: tuple[str, ...] = option(
        ("1", "5", "10", "20", "all"), "latents chosen for each class, or all", group="probes"
    )
    n_train: int = option(3000, "training examples; fewer where the data do not have them", group="probes")
    n_test: int = option(1000, "test examples; fewer where the data do not have them", group="probes")
    context_texts: int = option(160, "texts of the context task", group="probes")
    context_tokens: int = option(25, "tokens of each text of the context task", group="probes")
    repeats: int = option(5, "random splits, for the mean and the 95 % interval", group="probes")
    compare: tuple[str, ...] | None = option(
        None, "several runs in one figure: run, run:chunk or baseline_model", group="result"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for k in self.k:
            if k != "all" and not (k.isdigit() and int(k) >= 1):
                raise UserError(f"--k {k} is not a number of latents: give numbers from 1 on, or all.")
        for name in ("n_train", "n_test", "repeats"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name} {getattr(self, name)} is too small: give at least 1.")
        for name in ("context_texts", "context_tokens"):
            if getattr(self, name) < 2:
                raise UserError(f"--{name} {getattr(self, name)} is too small: give at least 2.")

    @property
    def n_texts(self) -> int:
        """Texts to sample; for the context task twice as many as it needs, as some are too short."""
        one_a_text = self.n_train + self.n_test if {"semantics", "syntax"} & set(self.tasks) else 0
        return self.max_texts or max(one_a_text, 2 * self.context_texts if "context" in self.tasks else 0)


def parser() -> Parser:
    """The command line."""
    made = Parser(description=__doc__)
    add_options(made, ProbingOptions)
    return made


def main(argv: list[str] | None = None) -> None:
    """Probe one run, or compare several.

    Raises:
        UserError: a mistake in the options, the run or the data, before the language model is loaded
            wherever it can be seen then.
    """
    options = build(ProbingOptions, vars(parser().parse_args(argv)))
    subjects = resolve_several(options.compare, options) if options.compare else [resolve(options)]
    for subject in subjects:
        check_writable(subject.result_path(options, "probing").parent)
    if "syntax" in options.tasks:
        check_tagger()
    texts = labelled_texts(options, options.n_texts)
    models = LanguageModels(options.device)
    results = []
    for subject in subjects:
        path = subject.result_path(options, "probing")
        question = asked(subject, options, [f"{text.id:016x}{text.label}" for text in texts])
        result = finished(path, question) if options.compare else None
        if result is None:
            result = _probe(subject, options, texts, models, question)
            save_text(path.with_name(path.name + ".json"), json.dumps(result, indent=2) + "\n")
        else:
            say(f"{subject.name}: taken from {path}.json")
        results.append(result)
        if not options.compare:
            _draw([result], path)
        print(_table(result))
    if options.compare:
        _draw(results, comparison_path(subjects, options, "probing"))


# --- examples ---


class Positions:
    """Chooses the tokens of all tasks, text by text: seeded by the text itself, not by its place."""

    def __init__(self, texts: Sequence[LabelledText], options: ProbingOptions) -> None:
        self._texts = texts
        self._options = options
        self.cut: dict[int, int] = {}
        """The token of semantics and syntax, of every text that has one."""
        self.context: dict[int, np.ndarray] = {}
        """The tokens of the context task, of its texts."""

    def __call__(self, index: int, tokens: Tokens) -> np.ndarray:
        text = self._texts[index]
        candidates = readable(text.text, tokens)
        generator = np.random.default_rng([self._options.seed, text.id])
        chosen: list[int] = []
        tasks = self._options.tasks
        if candidates.size and {"semantics", "syntax"} & set(tasks):
            self.cut[index] = int(generator.choice(candidates[len(candidates) // 2 :]))
            chosen.append(self.cut[index])
        size = self._options.context_tokens
        if "context" in tasks and len(self.context) < self._options.context_texts and size <= len(candidates):
            # another generator, so that these tokens do not depend on which other tasks are asked for
            generator = np.random.default_rng([self._options.seed, text.id, 1])
            self.context[index] = generator.choice(candidates, size, replace=False)
            chosen += self.context[index].tolist()
        return np.unique(np.array(chosen, dtype=np.int64))


class Examples(NamedTuple):
    """What one task learns from: rows of `Features.x` with a class each."""

    rows: np.ndarray
    labels: list[str]


def task_examples(
    task: str, texts: Sequence[LabelledText], features: Features, positions: Positions
) -> Examples:
    """The examples of a task; a token without a part of speech is none of syntax."""
    places = zip(features.text_N.tolist(), features.position_N.tolist(), strict=True)
    row_of = {place: row for row, place in enumerate(places)}
    if task == "context":
        pairs = [
            (row_of[index, position], f"{texts[index].id:016x}")
            for index, chosen in positions.context.items()
            for position in chosen.tolist()
        ]
    elif task == "semantics":
        pairs = [(row_of[index, cut], texts[index].label) for index, cut in positions.cut.items()]
    else:
        indices = list(positions.cut)
        offsets = [features.tokens[index].offsets for index in indices]
        tags = tag_tokens([texts[index].text for index in indices], offsets)
        pairs = []
        for index, tags_L in zip(indices, tags, strict=True):
            cut = positions.cut[index]
            tag = tags_L[cut]
            if tag is not None:
                pairs.append((row_of[index, cut], tag))
    return Examples(np.array([row for row, _ in pairs], dtype=np.int64), [label for _, label in pairs])


def _part_sizes(task: str, options: ProbingOptions, n_examples: int) -> tuple[int, int]:
    """Examples wanted in the training and the test part; the context task uses all tokens it has."""
    if task != "context":
        return options.n_train, options.n_test
    n_test = round(n_examples * options.n_test / (options.n_train + options.n_test))
    return n_examples - n_test, n_test


# --- results ---


def _probe(
    subject: Subject,
    options: ProbingOptions,
    texts: Sequence[LabelledText],
    models: LanguageModels,
    question: dict[str, Any],
) -> dict[str, Any]:
    from tqdm import tqdm

    lm = models.get(subject)
    positions = Positions(texts, options)
    features = extract_features(
        [text.text for text in texts],
        lm,
        subject.layer,
        subject.load_dictionary(lm.device),
        subject.chunk,
        context_length=subject.context_length,
        max_norm_ratio=subject.max_norm_ratio,
        add_bos=subject.add_bos,
        choose=positions,
        lm_batch_size=options.lm_batch_size,
        cache=options.cache,
    )
    ks = [k if k == "all" else int(k) for k in options.k]
    tasks = {}
    with tqdm(
        total=len(options.tasks) * len(ks) * options.repeats,
        desc=subject.name,
        unit=" probes",
        dynamic_ncols=True,
        disable=None,
    ) as bar:
        for task in options.tasks:
            examples = task_examples(task, texts, features, positions)
            n_train, n_test = _part_sizes(task, options, len(examples.rows))
            try:
                result = probes.probe(
                    features.x[examples.rows],
                    examples.labels,
                    ks=ks,
                    n_train=n_train,
                    n_test=n_test,
                    repeats=options.repeats,
                    seed=options.seed,
                    by_magnitude=subject.is_baseline,
                    after_fit=bar.update,
                )
            except UserError as error:
                raise UserError(f"{task}: {error}") from None
            _report(task, result, n_train, n_test)
            tasks[task] = _as_json(task, result)
    return {
        "experiment": "probing",
        **question,
        "name": subject.name,
        "n_texts": len(texts),
        "text_classes": _counts([text.label for text in texts]),
        "outlier_share": features.outlier_share,
        "n_features": features.x.shape[1],
        "tasks": tasks,
        "interval": probes.INTERVAL,
        "provenance": provenance(),
    }


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


def _table(result: dict[str, Any]) -> str:
    """Accuracies as text, a row a task."""
    lines = [f"{result['name']}: test accuracy, mean of {result['options']['repeats']} splits"]
    columns = [f"k={k}" for k in result["options"]["k"]]
    lines.append(f"{'':10}" + "".join(f"{name:>16}" for name in columns) + f"{'majority':>10}{'chance':>8}")
    for task, numbers in result["tasks"].items():
        cells = []
        for accuracy in numbers["accuracy"]:
            half = "" if accuracy["high"] is None else f" ± {accuracy['high'] - accuracy['mean']:.3f}"
            cells.append(f"{accuracy['mean']:.3f}{half}")
        row = "".join(f"{cell:>16}" for cell in cells)
        lines.append(f"{task:10}{row}{numbers['majority']:>10.3f}{numbers['chance']:>8.3f}")
    return "\n".join(lines)


# --- the figure ---


def _draw(results: Sequence[dict[str, Any]], path: Path) -> None:
    """Accuracy against k, a panel a task, a line a subject, with interval, chance and majority."""
    from dictionary_learning.command import figures

    tasks = [task for task in TASKS if task in results[0]["tasks"]]
    methods = [figures.method_of(result["subject"]["dict_class"]) for result in results]
    colours = figures.run_colours(methods)
    ks = [str(k) for k in results[0]["options"]["k"]]
    at = np.arange(len(ks))
    with figures.style():
        fig, axes = figures.subplots(1, len(tasks), figsize=(3.4 * len(tasks) + 0.6, 3.6), squeeze=False)
        for axis, task in zip(axes[0], tasks, strict=True):
            for result, method, colour in zip(results, methods, colours, strict=True):
                numbers = result["tasks"][task]["accuracy"]
                mean, low, high = (
                    np.array([one[key] for one in numbers], float) for key in ("mean", "low", "high")
                )
                name = result["name"] if method == figures.method_of("baseline_model") else None
                label = name or f"{result['name']} ({method})"
                axis.plot(at, mean, marker="o", markersize=4, color=colour, label=label)
                axis.fill_between(at, low, high, color=colour, alpha=0.2, linewidth=0)
            first = results[0]["tasks"][task]
            axis.axhline(
                first["majority"], color="#444444", linewidth=1, linestyle="--", label="majority class"
            )
            axis.axhline(first["chance"], color="#444444", linewidth=1, linestyle=":", label="chance")
            axis.set_title(f"{task} ({first['n_classes']} classes)")
            axis.set_xticks(at, ks)
            axis.set_xlabel("latents a class")
            axis.set_ylim(0, 1)
        axes[0, 0].set_ylabel("test accuracy")
        handles, labels = axes[0, 0].get_legend_handles_labels()
        fig.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 4))
        for file in figures.save(fig, path):
            print(file)


if __name__ == "__main__":
    cli.run(main)
