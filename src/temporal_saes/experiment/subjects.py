"""What an experiment looks at: dictionaries of runs, and the language model's own activations.

`subjects_of` turns options into `Subject`s: each one dictionary with the language model, layer and
tokenisation it was trained on, read from its config.json; flags that were given win. `--run_name
baseline_model` is the dense activations, through the same path.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dictionary_learning.command.devices import dtype_for
from dictionary_learning.command.progress import say
from dictionary_learning.command.secrets import scrub_text
from dictionary_learning.errors import UserError
from dictionary_learning.language_model.places import RESIDUAL, Place
from dictionary_learning.remote.file_system import told
from dictionary_learning.remote.mirror import folder_at, pull
from dictionary_learning.texts.names import place_name, slug
from temporal_saes.experiment.names import dataset_name
from temporal_saes.experiment.options import BASELINE, ComparedOptions, ExperimentOptions
from temporal_saes.reading import Reading

if TYPE_CHECKING:
    from dictionary_learning.dictionaries.base import Dictionary
    from dictionary_learning.language_model import LanguageModel

DEFAULT_CONTEXT_LENGTH = 256
DEFAULT_MAX_NORM_RATIO = 10.0


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
    threshold: str | None = None
    """Name of the inference threshold; None: that of the training."""
    threshold_value: float | None = None
    """Of a threshold that was chosen by its name, under which another can be written."""
    site: str = RESIDUAL
    """What is read of the layer, one of `SITES`."""
    trained_on: str = "token"
    """Over what the activations were averaged on which it was trained, one of `POOLS`."""

    @property
    def place(self) -> Place:
        """Where in the language model its activations are read."""
        return Place(self.layer, site=self.site)

    @property
    def is_baseline(self) -> bool:
        return self.trainer_folder is None

    @property
    def name(self) -> str:
        """What to call it in a legend: the run, and the chunk where there is a choice."""
        parts = [self.run_name if self.is_baseline else f"{self.run_name}:{self.chunk}"]
        parts += [Path(self.checkpoint).stem] if self.checkpoint else []
        return " ".join([*parts, self.threshold] if self.threshold else parts)

    def load_dictionary(self, device: Any = None) -> "Dictionary | None":
        """The dictionary; None for the dense activations.

        Raises:
            UserError: as `dictionary_learning.utils.load_dictionary`.
        """
        from dictionary_learning.utils import load_dictionary

        if self.trainer_folder is None:
            return None
        return load_dictionary(self.trainer_folder, device, self.checkpoint, threshold=self.threshold)[0]

    def reading(self, options: ExperimentOptions) -> Reading:
        """How to read texts so that they are what the training of the dictionary saw."""
        return Reading(
            context_length=self.context_length,
            max_norm_ratio=self.max_norm_ratio,
            add_bos=self.add_bos,
            lm_batch_size=options.lm_batch_size,
            cache=options.cache,
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
            parts += [place_name(self.model), f"layer{self.layer}"]
            parts += [self.site] if self.place.is_added else []
        else:
            parts += [f"chunk{self.chunk}"]
            parts += [f"trainer{options.trainer}"] if options.trainer else []
            parts += [slug(Path(self.checkpoint).stem)] if self.checkpoint else []
            parts += [f"threshold-{self.threshold}"] if self.threshold else []
            parts += [f"layer{options.layer}"] if options.layer is not None else []
            parts += [options.site] if options.site is not None else []
            parts += [place_name(options.model)] if options.model is not None else []
        return "_".join([*parts, f"seed{options.seed}"] if options.seed else parts)

    def result_path(self, options: ExperimentOptions, experiment: str) -> Path:
        """`<run>/<experiment>/<result name>`, or `<output_dir>/<run>_<experiment>_...`; without a suffix."""
        name = self.result_name(options)
        if options.output_dir is not None:
            return Path(options.output_dir) / f"{slug(self.run_name)}_{experiment}_{name}"
        return self.folder / experiment / name


def resolve(options: ExperimentOptions, *, like: Subject | None = None) -> Subject:
    """What `--run_name` and its companions point at; nothing slow happens.

    Args:
        like: where the dense activations take model, layer and tokenisation from, if no flag says.

    Raises:
        UserError: a flag is missing, the run, the checkpoint or the chunk is not there, or --model has
            another width.
    """
    if options.run_name is None:
        where = scrub_text(options.checkpoints_path)
        raise UserError(f"--run_name is missing: give a run in {where}, or {BASELINE}.")
    if options.run_name == BASELINE:
        folder = folder_at(options.checkpoints_path) / BASELINE
        pull(folder)  # for the results that are there
        return _baseline(options, folder, like)

    from dictionary_learning.dictionaries.base import chunk_slice
    from dictionary_learning.exchange.loading import find_run
    from dictionary_learning.exchange.thresholds import facts
    from dictionary_learning.language_model.places import place_to_read
    from dictionary_learning.language_model.sizes import check_width
    from dictionary_learning.utils import load_dictionary

    trainer_folder, folder = find_run(options.run_name, options.checkpoints_path, options.trainer)
    threshold = options.threshold
    dictionary, config = load_dictionary(trainer_folder, "cpu", options.checkpoint, threshold=threshold)
    chosen = None if threshold is None else facts(dictionary, threshold)
    chunk_slice(dictionary, options.chunk)
    trainer, buffer = config["trainer"], config.get("buffer") or {}
    model = options.model or trainer.get("lm_name") or buffer.get("model")
    place = place_to_read(config, options.layer, options.site, trainer_folder)
    layer = None if place is None else place.layer
    trained_on = str(buffer.get("pool", "token"))
    if trained_on != "token" and not getattr(options, "is_pooled", False):
        say(
            f"{told(options.run_name)} was trained on means of activations, each over a {trained_on}, and is "
            "read here on single tokens."
        )
    for value, flag, key in ((model, "--model", "lm_name"), (layer, "--layer", "layer")):
        if value is None:
            raise UserError(f"the config in {trainer_folder} does not name its {key}: give {flag}.")
    assert place is not None
    assert layer is not None
    if options.model is not None:
        check_width(dictionary, str(model))
    context_length = _first(
        options.context_length,
        buffer.get("context_length"),
        buffer.get("ctx_len"),
        DEFAULT_CONTEXT_LENGTH,
    )
    return Subject(
        run_name=told(options.run_name),
        folder=folder,
        trainer_folder=trainer_folder,
        checkpoint=options.checkpoint,
        chunk=options.chunk,
        split=_split_name(dictionary, options.chunk),
        dict_class=type(dictionary).__name__,
        model=str(model),
        layer=layer,
        site=place.site,
        context_length=int(context_length),
        max_norm_ratio=buffer.get("max_norm_ratio", DEFAULT_MAX_NORM_RATIO),
        add_bos=bool(buffer.get("add_bos", True)),
        lm_dtype=_dtype(options, buffer.get("lm_dtype")),
        threshold=threshold,
        threshold_value=None if chosen is None else chosen["value"],
        trained_on=trained_on,
    )


def subjects_of(options: ComparedOptions) -> list[Subject]:
    """What `--compare` names, or the one that `--run_name` points at.

    Raises:
        UserError: as `resolve` and `resolve_several`.
    """
    return resolve_several(options.compare, options) if options.compare else [resolve(options)]


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


def cut_alike(subjects: Sequence[Subject]) -> list[Subject]:
    """The subjects, all with the context length of the shortest, so that they see the same tokens."""
    shortest = min(subject.context_length for subject in subjects)
    return [dataclasses.replace(subject, context_length=shortest) for subject in subjects]


def check_latents(latents: Sequence[int], subject: Subject, dictionary: "Dictionary") -> None:
    """For `--latents`, which are numbered over the whole dictionary.

    Raises:
        UserError: one does not exist, or is not in the subject's chunk.
    """
    from dictionary_learning.dictionaries.base import chunk_slice

    columns = chunk_slice(dictionary, subject.chunk)
    for latent in latents:
        if not 0 <= latent < dictionary.dict_size:
            raise UserError(
                f"--latents {latent} is out of range: {subject.name} has the latents 0 to "
                f"{dictionary.dict_size - 1}."
            )
        if not columns.start <= latent < columns.stop:
            raise UserError(
                f"--latents {latent} is not in chunk {subject.chunk}, which is {columns.start} to "
                f"{columns.stop - 1}: give the --chunk it is in, or 2 for all."
            )


class LanguageModels:
    """The language model of one subject after another: loaded when needed, again only for another one."""

    def __init__(self, device: str | None = None) -> None:
        self.device = device
        self._key: tuple[str, str] | None = None
        self._lm: LanguageModel | None = None

    @classmethod
    def of(cls, options: ExperimentOptions) -> "LanguageModels":
        """Those of an experiment, on the device that it asks for."""
        return cls(options.lm_device or options.device)

    def get(self, subject: Subject) -> "LanguageModel":
        """The subject's language model.

        Raises:
            UserError: as `LanguageModel.load`.
        """
        from dictionary_learning.language_model import LanguageModel

        if self._lm is None or self._key != (subject.model, subject.lm_dtype):
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
        site=options.site or (like.site if like else RESIDUAL),
        context_length=_first(
            options.context_length, like.context_length if like else None, DEFAULT_CONTEXT_LENGTH
        ),
        max_norm_ratio=like.max_norm_ratio if like else DEFAULT_MAX_NORM_RATIO,
        add_bos=like.add_bos if like else True,
        lm_dtype=_dtype(options, like.lm_dtype if like else None),
    )


def _dtype(options: ExperimentOptions, own: str | None) -> str:
    """The language model's: the one that is asked for, or else the run's own."""
    return dtype_for(
        options.lm_dtype or own or "float32",
        options.lm_device or options.device,
        "--lm_device" if options.lm_device else "--device",
    )


def _split_name(dictionary: "Dictionary", chunk: int) -> str:
    names = list(dictionary.splits())
    return "all" if chunk == 2 or not names else names[chunk]


def _first(*values: Any) -> Any:
    """The first value that is not None; None if all are."""
    return next((value for value in values if value is not None), None)
