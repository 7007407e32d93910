"""Evaluate a trained dictionary of any kind on documents that its training did not see.

    python dictionary_learning/dictionary_learning/eval_temporal.py --run_name demo

Reconstruction, sparsity, smoothness over time, and the language model's loss, per split of the
latents; written to the run's `trainer_0/eval_results.json` and `eval.png`. Model, layer, texts and
tokenisation are the run's own unless a flag says otherwise. Several runs, side by side:

    python dictionary_learning/dictionary_learning/eval_temporal.py --compare demo demo-matryoshka
"""

import dataclasses
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from dictionary_learning.activations.block import Contexts
from dictionary_learning.command import cli
from dictionary_learning.command.files import check_writable, save_text
from dictionary_learning.command.memory import parse_bytes
from dictionary_learning.command.options import Parser, add_options, build, option
from dictionary_learning.command.progress import say
from dictionary_learning.errors import UserError
from dictionary_learning.runs.provenance import provenance


@dataclass(frozen=True)
class EvalOptions:
    """What is evaluated, on what, and how much of it. None means: as the run was trained.

    Raises:
        UserError: a value that cannot work, with the remedy.
    """

    # run
    run_name: str | None = option(
        None, "the run: its name in --checkpoints_path, or the path of its folder", group="run"
    )
    compare: tuple[str, ...] | None = option(
        None, "several runs (as --run_name gives one), in one table and one figure", group="run"
    )
    checkpoints_path: str = option(
        "runs", "folder that holds the runs", group="run", spellings=("save_path", "save_dir")
    )
    trainer: int = option(0, "which trainer of the run: trainer_<i>", group="run")
    checkpoint: str | None = option(
        None, "another file than ae.pt, such as checkpoints/ae_1000.pt", group="run"
    )

    # language model
    model: str | None = option(
        None, "language model instead of the run's: hub name, folder or demo", group="language model"
    )
    layer: int | None = option(
        None, "decoder layer instead of the run's, from 0; its output is read", group="language model"
    )
    lm_dtype: str | None = option(
        None,
        "dtype of the language model instead of the run's",
        group="language model",
        choices=("float32", "bfloat16", "float16"),
    )
    device: str | None = option(
        None, "cuda, mps or cpu; the best there is when left out", group="language model"
    )

    # text
    dataset: str | None = option(
        None,
        "texts instead of the run's: demo, pile, hub name, or local copy (file or folder)",
        group="text",
        spellings=("data_path",),
    )
    subset: str | None = option(None, "subset of a hub data set", group="text")
    split: str | None = option(None, "split of a hub data set", group="text")
    text_field: str | None = option(None, "field that holds the text", group="text")
    part: str = option(
        "eval",
        "eval: the documents that the run kept out of its training; all: every document, for texts "
        "that the run was not trained on",
        group="text",
        choices=("eval", "all"),
    )
    context_length: int | None = option(
        None, "tokens a context instead of the run's", group="text", spellings=("ctx_len",)
    )
    document_tokens: int | None = option(
        None, "tokens of a document that are used instead of the run's", group="text"
    )
    max_norm_ratio: float | None = option(
        None, "norm filter instead of the run's, a multiple of the median norm", group="text"
    )
    activations: str | None = option(
        None,
        "folder that cache_activations wrote with the part that is evaluated on, in place of running the "
        "language model over the texts",
        group="text",
    )

    # amount
    max_tokens: int = option(100_000, "text tokens to evaluate on, at most", group="amount")
    n_contexts: int | None = option(
        None, "contexts to evaluate on, at most", group="amount", spellings=("n_inputs",)
    )
    lm_loss: bool = option(True, "measure what the reconstruction costs the language model", group="amount")
    loss_tokens: int = option(
        16_384, "text tokens on which that is measured (three passes of the whole model)", group="amount"
    )
    batch_size: int = option(16, "contexts at a time", group="amount")
    memory: str = option("1GB", "memory for activations, such as 1GB or 512MiB", group="amount")

    # result
    output_dir: str | None = option(
        None, "folder of the results; the run's trainer folder when left out", group="result"
    )

    def __post_init__(self) -> None:
        for name in ("max_tokens", "n_contexts", "loss_tokens", "batch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"--{name} is {value}, and must be at least 1.")
        if self.trainer < 0:
            raise UserError(f"--trainer is {self.trainer}, and must not be negative.")
        if (self.run_name is None) == (self.compare is None):
            raise UserError("give one run with --run_name, or several with --compare.")
        if self.compare is not None and len(set(self.compare)) < len(self.compare):
            raise UserError(f"--compare {' '.join(self.compare)} names a run twice: leave one out.")
        parse_bytes(self.memory)

    @property
    def runs(self) -> tuple[str, ...]:
        return self.compare or (self.run_name or "",)


@dataclass(frozen=True)
class Setting:
    """What the activations are made from, after the run's config and the flags."""

    model: str
    layer: int
    lm_dtype: str
    dataset: str
    subset: str | None
    split: str
    text_field: str
    part: str
    eval_share: float
    context_length: int
    document_tokens: int | None
    max_norm_ratio: float | None
    drop_special: bool
    add_bos: bool


def parser() -> Parser:
    made = Parser(description=__doc__)
    add_options(made, EvalOptions)
    return made


def main(argv: list[str] | None = None) -> None:
    evaluate_runs(build(EvalOptions, vars(parser().parse_args(argv))))


def evaluate_runs(options: EvalOptions) -> dict[str, dict[str, Any]]:
    """Evaluate every run, write its results, print the table; the results by run.

    Activations are made once for runs that were trained in the same setting.

    Raises:
        UserError: a run, a checkpoint, a model, a layer or documents that are not there or do not fit.
    """
    from dictionary_learning.command import figures
    from dictionary_learning.evaluation import report
    from dictionary_learning.exchange.loading import find_run, weights_path, weights_sha256
    from dictionary_learning.utils import load_dictionary

    runs = {name: find_run(name, options.checkpoints_path, options.trainer) for name in options.runs}
    # beside the weights; a folder of the hub's cache is not ours to write to
    targets = {
        name: run.dictionary if run.dictionary.is_relative_to(run.results) else run.results
        for name, run in runs.items()
    }
    activations = _Activations(options)
    subjects = {}
    for name, run in runs.items():
        dictionary, config = load_dictionary(run.dictionary, options.device, options.checkpoint)
        subjects[name] = dictionary, resolve(options, config, run.dictionary)
        activations.check(subjects[name][1], config.get("buffer") or {})
        check_writable(Path(options.output_dir or targets[name]))

    results: dict[str, dict[str, Any]] = {}
    for name, (dictionary, setting) in subjects.items():
        results[name] = _evaluate(activations, dictionary, setting, options) | {
            "run": name,
            "dict_class": type(dictionary).__name__,
            "checkpoint": options.checkpoint or weights_path(runs[name].dictionary).name,
            "weights_sha256": weights_sha256(runs[name].dictionary, options.checkpoint),
            "setting": dataclasses.asdict(setting),
            "options": dataclasses.asdict(options),
            "provenance": provenance(),
        }
        path = result_path(name, targets[name], options)
        save_text(path, json.dumps(results[name], indent=1, allow_nan=False, ensure_ascii=False) + "\n")
        method = figures.method_of(type(dictionary).__name__)
        figure = report.draw({name: results[name]}, [method], _figure_path(path))
        say(f"written: {path} and {figure[0].name}")
    print(report.table(results))
    if options.compare is not None:
        methods = [figures.method_of(result["dict_class"]) for result in results.values()]
        target = (
            Path(options.output_dir or options.checkpoints_path) / f"compare_{'_'.join(map(_slug, results))}"
        )
        save_text(
            target.with_name(f"{target.name}.json"), json.dumps(results, indent=1, ensure_ascii=False) + "\n"
        )
        figure = report.draw(results, methods, target)
        say(f"written: {target}.json and {figure[0].name}")
    return results


def resolve(options: EvalOptions, config: dict[str, Any], folder: Path) -> Setting:
    """What to evaluate on: the flags, else what the run's config.json says, else the usual.

    Raises:
        UserError: the config does not say, and no flag does; the dictionary is of another place than the
            output of a decoder layer; the run kept no documents for evaluation.
    """
    from dictionary_learning.language_model.places import layer_to_read

    trainer, buffer = config["trainer"], config.get("buffer") or {}
    texts = buffer if options.dataset in (None, buffer.get("dataset")) else {}
    given = {
        "model": _first(options.model, buffer.get("model"), trainer.get("lm_name")),
        "layer": layer_to_read(config, options.layer, folder),
        "dataset": _first(options.dataset, buffer.get("dataset")),
        "context_length": _first(options.context_length, buffer.get("context_length"), buffer.get("ctx_len")),
    }
    for flag, value in given.items():
        if value is None:
            raise UserError(f"the config in {folder} does not say which {flag} to use: give --{flag}.")
    eval_share = buffer.get("eval_share", 0.1)
    if options.part == "eval" and not eval_share:
        raise UserError(
            f"{folder} was trained on all documents (eval_share 0), so none are left to evaluate on: give "
            "another --dataset, with --part all."
        )
    return Setting(
        **given,
        lm_dtype=_first(options.lm_dtype, buffer.get("lm_dtype"), "float32"),
        subset=_first(options.subset, texts.get("subset")),
        split=_first(options.split, texts.get("split"), "train"),
        text_field=_first(options.text_field, texts.get("text_field"), "text"),
        part=options.part,
        eval_share=eval_share,
        document_tokens=_first(options.document_tokens, buffer.get("document_tokens")),
        max_norm_ratio=_first(options.max_norm_ratio, buffer.get("max_norm_ratio", 10.0)),
        drop_special=buffer.get("drop_special", True),
        add_bos=buffer.get("add_bos", True),
    )


class _Activations:
    """The language model and the contexts of the setting that was asked for last."""

    def __init__(self, options: EvalOptions) -> None:
        """Raises UserError where `--activations` is no cache."""
        from dictionary_learning.activations.cache import ActivationCache

        self.options = options
        self.cache = None if options.activations is None else ActivationCache.open(options.activations)
        self.lm: Any = None
        self.store: Any = None
        self.setting: Setting | None = None

    def check(self, setting: Setting, buffer: dict[str, Any]) -> None:
        """Raise a UserError where the cache, if there is one, does not hold what the setting asks for.

        Args:
            buffer: what the run recorded of its activations; with fingerprints if they were cached, too.
        """
        if self.cache is None:
            return
        known = {name: buffer[name] for name in ("tokenizer_sha256", "weights_sha256") if name in buffer}
        remedy = "leave out --activations, or give a cache that fits the run"
        self.cache.check(dataclasses.asdict(setting) | known, remedy)
        self.cache.check_complete(setting.part)

    def prepare(self, setting: Setting) -> None:
        """Have the store of the setting ready, and the language model where it is needed."""
        if setting == self.setting:
            return
        self.store = None  # free the old one first
        if self.cache is None:
            _check_documents(setting)  # before the model is loaded
            self._load(setting)
            self.store = self._live_store(setting)
        else:
            # the store first: a damaged shard is told before the model is loaded
            self.store = self.cache.store(
                setting.part,
                max_tokens=self._max_tokens(setting),
                max_norm_ratio=setting.max_norm_ratio,
                log=say,
            )
            if self.options.lm_loss:
                from dictionary_learning.language_model.fingerprint import fingerprints

                self._load(setting)
                self.cache.check_model(fingerprints(self.lm, setting.layer))
        self.setting = setting

    def _load(self, setting: Setting) -> None:
        """Have the language model of the setting in memory."""
        from dictionary_learning.language_model import LanguageModel

        of_lm = (setting.model, setting.lm_dtype)
        if self.setting is None or of_lm != (self.setting.model, self.setting.lm_dtype):
            self.lm = None  # free the old one first
            self.lm = LanguageModel.load(
                setting.model, device=self.options.device, dtype=setting.lm_dtype, layer=setting.layer
            )

    def _live_store(self, setting: Setting) -> Any:
        from dictionary_learning.activations.live_store import ActivationStore

        return ActivationStore(
            self.lm,
            setting.layer,
            lambda start: _documents(setting, start),
            context_length=setting.context_length,
            lm_batch_size=self.options.batch_size,
            memory_bytes=parse_bytes(self.options.memory),
            max_norm_ratio=setting.max_norm_ratio,
            max_tokens=self._max_tokens(setting),
            document_tokens=setting.document_tokens,
            drop_special=setting.drop_special,
            add_bos=setting.add_bos,
            log=say,
        )

    def _max_tokens(self, setting: Setting) -> int:
        if self.options.n_contexts is None:
            return self.options.max_tokens
        return min(self.options.max_tokens, self.options.n_contexts * setting.context_length)

    def contexts(self) -> Iterator[Contexts]:
        """The contexts, as many as were asked for, under a bar of tokens."""
        from tqdm import tqdm

        left = self.options.n_contexts or sys.maxsize
        with tqdm(unit="token", unit_scale=True, desc="evaluating", disable=None, leave=False) as bar:
            for batch in self.store.contexts(self.options.batch_size):
                kept = Contexts(*(tensor[:left] for tensor in batch))
                left -= len(kept.x_NLD)
                bar.total = self.store.statistics.n_tokens
                yield kept
                bar.update(int(kept.mask_NL.sum()))
                if left == 0:
                    return


def _evaluate(
    activations: _Activations, dictionary: Any, setting: Setting, options: EvalOptions
) -> dict[str, Any]:
    from dictionary_learning.dictionaries.base import check_width
    from dictionary_learning.evaluation.measures import evaluate

    began = time.monotonic()
    activations.prepare(setting)
    check_width(dictionary, SimpleNamespace(name=setting.model, d_model=activations.store.d_model))
    results = evaluate(
        dictionary,
        activations.contexts(),
        lm=activations.lm if options.lm_loss else None,
        layer=setting.layer if options.lm_loss else None,
        loss_tokens=options.loss_tokens,
    )
    statistics = activations.store.statistics
    return results | {
        "texts": statistics._asdict() | {"dropped": statistics.dropped},
        "seconds": round(time.monotonic() - began, 1),
    }


def _check_documents(setting: Setting) -> None:
    from dictionary_learning.texts.documents import is_eval

    documents = _documents(dataclasses.replace(setting, part="all"), 0)
    if not any(setting.part == "all" or is_eval(document.id, setting.eval_share) for document in documents):
        raise UserError(
            f"{setting.dataset} has no document left to evaluate on (the share kept out of training is "
            f"{setting.eval_share:g}): give more text with --dataset, or --part all for texts that the run "
            "was not trained on."
        )


def _documents(setting: Setting, start: int) -> Any:
    from dictionary_learning.texts.documents import DocumentStream

    return DocumentStream.open(
        setting.dataset,
        text_field=setting.text_field,
        split=setting.split,
        subset=setting.subset,
        part=setting.part,
        eval_share=setting.eval_share,
        start=start,
    )


def result_path(name: str, folder: Path, options: EvalOptions) -> Path:
    """eval_results.json, with the checkpoint and the data set in its name where they are not the run's."""
    parts = ["eval_results"]
    if options.checkpoint is not None:
        parts.append(_slug(Path(options.checkpoint).stem))
    if options.dataset is not None:
        parts.append(_slug(Path(options.dataset).name))
    if options.output_dir is None:
        return folder / f"{'_'.join(parts)}.json"
    return Path(options.output_dir) / f"{'_'.join([_slug(name), *parts])}.json"


def _figure_path(path: Path) -> Path:
    return path.with_name(path.stem.replace("eval_results", "eval", 1))


def _slug(text: str) -> str:
    return "".join(c if c.isalnum() or c in "._-" else "-" for c in text).strip("-.")


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


if __name__ == "__main__":
    cli.run(main)
