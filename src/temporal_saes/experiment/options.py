"""The flags that every experiment shares, and the run they point at.

An experiment's options are a frozen dataclass that extends `ExperimentOptions`. `resolve` turns them
into a `Subject`: one dictionary with the language model, layer and tokenisation it was trained on,
read from its config.json; flags that were given win. `--run_name baseline_model` is the dense
activations, through the same path.
"""

import dataclasses
import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dictionary_learning.command.options import option
from dictionary_learning.dictionaries.base import Dictionary, chunk_slice
from dictionary_learning.errors import UserError
from dictionary_learning.texts.data_sets import KINDS, LABELLED
from temporal_saes.labelled.data import LabelledText, load_labelled

BASELINE = "baseline_model"
DEFAULT_CONTEXT_LENGTH = 256
DEFAULT_MAX_NORM_RATIO = 10.0


@dataclass(frozen=True)
class ExperimentOptions:
    """What every experiment can be asked."""

    run_name: str | None = option(
        None,
        "the run to look at; baseline_model is the language model's own activations (with --model, --layer)",
        group="run",
    )
    checkpoints_path: str = option(
        "runs", "folder of the runs", group="run", spellings=("save_path", "save_checkpoints")
    )
    trainer: int = option(0, "which trainer of the run: trainer_<i>", group="run")
    checkpoint: str | None = option(
        None, "another file than ae.pt, such as checkpoints/ae_1000.pt", group="run"
    )
    chunk: int = option(0, "latents to use: 0 the high-level split, 1 the rest, 2 all", group="run")
    model: str | None = option(
        None, "language model instead of the run's: hub id, folder or demo", group="run"
    )
    layer: int | None = option(
        None, "decoder layer instead of the run's, counted from 0; its output is read", group="run"
    )
    context_length: int | None = option(
        None, "tokens of a text that are read instead of the run's, special ones included", group="run"
    )
    dataset: str = option(
        "demo", f"{', '.join(LABELLED)}, a local file, or any name on the hub", group="data"
    )
    data_path: str | None = option(
        None, "local copy of the data set (file or folder) in place of the hub", group="data"
    )
    text_field: str | None = option(None, "field of a record that holds its text", group="data")
    label_field: str | None = option(None, "field of a record that holds its class", group="data")
    categories: str | None = option(
        None,
        "classes of articles by title, for wikipedia, in place of the list that is built in: a file (a JSON "
        "object or records), or demo for the topics of the demo's extracts",
        group="data",
    )
    split: str | None = option(None, "split of a data set on the hub instead of its usual one", group="data")
    max_texts: int | None = option(
        None,
        "texts to sample, the same number for every class; as many as are needed if not given",
        group="data",
    )
    max_records: int | None = option(
        None, "read the data set up to this record; large ones have a limit of their own", group="data"
    )
    lm_batch_size: int = option(16, "texts the language model reads at a time", group="machine")
    lm_dtype: str | None = option(
        None,
        "dtype of the language model instead of the run's: float32, bfloat16 or float16",
        group="machine",
    )
    device: str | None = option(
        None, "cpu, cuda, cuda:1 or mps; the best there is if not given", group="machine"
    )
    cache: bool = option(
        True, "keep the language model's activations on disk for the next time", group="machine"
    )
    seed: int = option(0, "of every random choice", group="result")
    output_dir: str | None = option(
        None, "folder for the results; a folder of the experiment in the run's if not given", group="result"
    )

    def __post_init__(self) -> None:
        for name in ("max_texts", "max_records", "context_length", "lm_batch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"--{name} {value} is too small: give at least 1.")
        if self.trainer < 0 or self.seed < 0:
            raise UserError(f"--trainer {self.trainer} and --seed {self.seed} cannot be negative.")


@dataclass(frozen=True)
class Subject:
    """One dictionary, or the dense activations, with all that decides its features."""

    run_name: str
    folder: Path
    """The run's folder; results go below it."""
    trainer_folder: Path | None
    """None: dense activations."""
    checkpoint: str | None
    chunk: int
    split: str
    """The chunk in words: the name of its split, or `all`."""
    dict_class: str
    """Class of the dictionary; `baseline_model` for the dense activations."""
    model: str
    layer: int
    context_length: int
    max_norm_ratio: float | None
    add_bos: bool
    lm_dtype: str

    @property
    def is_baseline(self) -> bool:
        return self.trainer_folder is None

    @property
    def name(self) -> str:
        """What to call it in a legend: the run, and the chunk where there is a choice."""
        parts = [self.run_name if self.is_baseline else f"{self.run_name}:{self.chunk}"]
        return " ".join([*parts, Path(self.checkpoint).stem] if self.checkpoint else parts)

    def load_dictionary(self, device: Any = None) -> Dictionary | None:
        """The dictionary; None for the dense activations.

        Raises:
            UserError: as `dictionary_learning.utils.load_dictionary`.
        """
        from dictionary_learning.utils import load_dictionary

        if self.trainer_folder is None:
            return None
        return load_dictionary(self.trainer_folder, device, self.checkpoint)[0]

    def read_activations(
        self, texts: Sequence[str], lm: Any, options: ExperimentOptions, *, cache: bool | None = None
    ) -> Iterator[Any]:
        """`features.read_activations` of texts as the training of the dictionary saw them.

        Args:
            cache: in place of the options' `cache`.
        """
        from temporal_saes.features import read_activations

        return read_activations(
            texts,
            lm,
            self.layer,
            context_length=self.context_length,
            max_norm_ratio=self.max_norm_ratio,
            add_bos=self.add_bos,
            lm_batch_size=options.lm_batch_size,
            cache=options.cache if cache is None else cache,
        )

    def weights_hash(self) -> str | None:
        """SHA-256 of the file of weights, so that results of another training of that name are told apart."""
        if self.trainer_folder is None:
            return None
        from dictionary_learning.exchange.loading import weights_sha256

        return weights_sha256(self.trainer_folder, self.checkpoint)

    def result_name(self, options: ExperimentOptions) -> str:
        """A file name (no suffix) that no other subject, data set or seed has in the same folder."""
        parts = [dataset_name(options)]
        if self.is_baseline:
            parts += [_place_name(self.model), f"layer{self.layer}"]
        else:
            parts += [f"chunk{self.chunk}"]
            parts += [f"trainer{options.trainer}"] if options.trainer else []
            parts += [slug(Path(self.checkpoint).stem)] if self.checkpoint else []
            parts += [f"layer{options.layer}"] if options.layer is not None else []
            parts += [_place_name(options.model)] if options.model is not None else []
        return "_".join([*parts, f"seed{options.seed}"] if options.seed else parts)

    def result_path(self, options: ExperimentOptions, experiment: str) -> Path:
        """`<run>/<experiment>/<result name>`, or `<output_dir>/<run>_<result name>`; without a suffix."""
        name = self.result_name(options)
        if options.output_dir is not None:
            return Path(options.output_dir) / f"{slug(self.run_name)}_{name}"
        return self.folder / experiment / name


def slug(text: str) -> str:
    """The text with only letters, digits, dots and dashes, to be part of a file name."""
    return re.sub(r"[^\w.-]+", "-", text.rstrip("/")).strip("-.") or "x"


def dataset_name(options: ExperimentOptions) -> str:
    """The data set in a file name, with the fields that were chosen."""
    name = slug(options.dataset) if options.data_path else _place_name(options.dataset)
    if options.data_path:
        name += f"-{_place_name(options.data_path)}"
    fields = [slug(field) for field in (options.text_field, options.label_field) if field is not None]
    fields += [_place_name(options.categories)] if options.categories is not None else []
    return "-".join([name, *fields])


def _place_name(place: str) -> str:
    """A hub id or name as it is; the last part of a local path with a hash, as other folders may have it."""
    path = Path(place)
    if any(place in names for names in KINDS.values()) or not path.exists():
        return slug(place)
    digest = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:6]
    return f"{slug(path.stem if path.is_file() else path.resolve().name)}-{digest}"


def resolve(options: ExperimentOptions, *, like: Subject | None = None) -> Subject:
    """What `--run_name` and its companions point at; nothing slow happens.

    Args:
        like: where the dense activations take model, layer and tokenisation from, if no flag says.

    Raises:
        UserError: a flag is missing, or the run, the checkpoint or the chunk is not there.
    """
    if options.run_name is None:
        raise UserError(f"--run_name is missing: give a run in {options.checkpoints_path}, or {BASELINE}.")
    if options.run_name == BASELINE:
        return _baseline(options, Path(options.checkpoints_path) / BASELINE, like)

    from dictionary_learning.exchange.loading import find_run
    from dictionary_learning.language_model.places import layer_to_read
    from dictionary_learning.utils import load_dictionary

    trainer_folder, folder = find_run(options.run_name, options.checkpoints_path, options.trainer)
    dictionary, config = load_dictionary(trainer_folder, "cpu", options.checkpoint)
    chunk_slice(dictionary, options.chunk)
    trainer, buffer = config["trainer"], config.get("buffer") or {}
    model = options.model or trainer.get("lm_name") or buffer.get("model")
    layer = layer_to_read(config, options.layer, trainer_folder)
    for value, flag, key in ((model, "--model", "lm_name"), (layer, "--layer", "layer")):
        if value is None:
            raise UserError(f"the config in {trainer_folder} does not name its {key}: give {flag}.")
    assert layer is not None
    context_length = _first(
        options.context_length,
        buffer.get("context_length"),
        buffer.get("ctx_len"),
        DEFAULT_CONTEXT_LENGTH,
    )
    return Subject(
        run_name=options.run_name,
        folder=folder,
        trainer_folder=trainer_folder,
        checkpoint=options.checkpoint,
        chunk=options.chunk,
        split=_split_name(dictionary, options.chunk),
        dict_class=type(dictionary).__name__,
        model=str(model),
        layer=layer,
        context_length=int(context_length),
        max_norm_ratio=buffer.get("max_norm_ratio", DEFAULT_MAX_NORM_RATIO),
        add_bos=bool(buffer.get("add_bos", True)),
        lm_dtype=options.lm_dtype or buffer.get("lm_dtype") or "float32",
    )


def resolve_several(names: tuple[str, ...], options: ExperimentOptions) -> list[Subject]:
    """The subjects of `--compare`: each a run, with its chunk after a colon where it is not `--chunk`.

    Dense activations take model, layer and tokenisation from the first run, where no flag says.

    Raises:
        UserError: as `resolve`; a name is there twice.
    """
    asked = []
    for name in names:
        run_name, colon, chunk = name.rpartition(":")
        if not colon or not chunk.isdigit():
            run_name, chunk = name, str(options.chunk)
        asked.append(dataclasses.replace(options, run_name=run_name, chunk=int(chunk)))
    runs = {i: resolve(one) for i, one in enumerate(asked) if one.run_name != BASELINE}
    like = next(iter(runs.values()), None)
    subjects = [runs[i] if i in runs else resolve(one, like=like) for i, one in enumerate(asked)]
    if len(set(subjects)) < len(subjects):
        raise UserError(f"--compare {' '.join(names)} names the same thing twice: leave one out.")
    return subjects


def check_one_model(subjects: Sequence[Subject]) -> None:
    """For comparisons text by text.

    Raises:
        UserError: the subjects are of several language models.
    """
    models = sorted({subject.model for subject in subjects})
    if len(models) > 1:
        raise UserError(
            f"the runs are of the language models {', '.join(models)}, which cut a text into other tokens: "
            f"compare runs of one model."
        )


def labelled_texts(options: ExperimentOptions, max_texts: int | None = None) -> list[LabelledText]:
    """The data set that the flags describe, `max_texts` of it at most.

    Raises:
        UserError: as `load_labelled`.
    """
    return load_labelled(
        options.dataset,
        data_path=options.data_path,
        text_field=options.text_field,
        label_field=options.label_field,
        categories=options.categories,
        split=options.split,
        max_texts=max_texts,
        max_records=options.max_records,
        seed=options.seed,
    )


class LanguageModels:
    """The language model of one subject after another: loaded when needed, again only for another one."""

    def __init__(self, device: str | None = None) -> None:
        self.device = device
        self._key: tuple[str, str] | None = None
        self._lm: Any = None

    def get(self, subject: Subject) -> Any:
        """The subject's language model.

        Raises:
            UserError: as `LanguageModel.load`.
        """
        from dictionary_learning.language_model import LanguageModel

        if self._key != (subject.model, subject.lm_dtype):
            self._lm = None  # frees the old one first
            self._lm = LanguageModel.load(
                subject.model, device=self.device, dtype=subject.lm_dtype, layer=subject.layer
            )
            self._key = subject.model, subject.lm_dtype
        return self._lm


def _baseline(options: ExperimentOptions, folder: Path, like: Subject | None) -> Subject:
    model = options.model or (like.model if like else None)
    layer = _first(options.layer, like.layer if like else None)
    if model is None or layer is None:
        raise UserError(
            f"--run_name {BASELINE} needs --model and --layer, for example --model demo --layer 15 (in "
            f"--compare they are taken from the first run)."
        )
    return Subject(
        run_name=BASELINE,
        folder=folder,
        trainer_folder=None,
        checkpoint=None,
        chunk=2,
        split="all",
        dict_class=BASELINE,
        model=model,
        layer=int(layer),
        context_length=_first(
            options.context_length, like.context_length if like else None, DEFAULT_CONTEXT_LENGTH
        ),
        max_norm_ratio=like.max_norm_ratio if like else DEFAULT_MAX_NORM_RATIO,
        add_bos=like.add_bos if like else True,
        lm_dtype=options.lm_dtype or (like.lm_dtype if like else "float32"),
    )


def _split_name(dictionary: Dictionary, chunk: int) -> str:
    names = list(dictionary.splits())
    return "all" if chunk == 2 or not names else names[chunk]


def _first(*values: Any) -> Any:
    """The first value that is not None; None if all are."""
    return next((value for value in values if value is not None), None)
