"""Every option of a training run, once: flags, presets and config.yaml all come from here.

Those of the dictionary and of its trainer stand beside the trainers (`trainers.options`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Self

from dictionary_learning.activations.options import DataOptions
from dictionary_learning.command.devices import dtype_for, find_device
from dictionary_learning.command.memory import available_memory, format_bytes
from dictionary_learning.command.options import difference, is_plain_name, option, shown
from dictionary_learning.command.processes import n_processes
from dictionary_learning.dictionaries.temporal_sizes import CONTROLS
from dictionary_learning.errors import UserError
from dictionary_learning.remote.options import LocalCacheOptions
from dictionary_learning.runs.options import runs_option
from dictionary_learning.texts.spans import POOLS
from dictionary_learning.trainers.architectures import ARCHITECTURES, Architecture
from dictionary_learning.trainers.options import (
    BIAS_STARTS,
    AttentionOptions,
    DictionaryOptions,
    TemporalTermOptions,
    TrainerOptions,
)

# What may differ when a run is resumed: where it is, what is told about it, and on which device.
FREE_ON_RESUME = {
    *("checkpoints_path", "run_name", "resume", "resume_every", "log_steps", "device", "lm_device"),
    *("use_wandb", "wandb_project", "wandb_entity", "overlap", "local_cache"),
}

# In float32: a weight, its gradient, and the two moments of Adam.
_BYTES_A_WEIGHT = 16

# The seven checkpoints of the original script, as shares of the steps.
ORIGINAL_SAVE_FRACTIONS = (0.001, 0.00316, 0.01, 0.0316, 0.1, 0.316, 1.0)


@dataclass(frozen=True)
class TrainingDataOptions(DataOptions, LocalCacheOptions):
    """The activations that a run is trained on."""

    activations: str | None = option(
        None,
        "folder or URL that cache_activations wrote, in place of running the language model; options that "
        "describe activations are the cache's",
        group="activations",
    )
    normalize: bool = option(
        True,
        "scale activations to unit mean square norm for training; saved weights work on raw ones",
        group="activations",
        spellings=("normalize_activations",),
    )
    overlap: bool | None = option(
        None,
        "read the next block of activations while the present one is trained on, which takes twice --memory; "
        "on where a GPU or a device of its own runs the language model when left out",
        group="activations",
    )


@dataclass(frozen=True)
class ControlOptions(TrainingDataOptions):
    """Which dictionaries without learning are written, of which activations.

    Raises:
        UserError: a value that cannot work, with the remedy.
    """

    controls: tuple[str, ...] = option(
        CONTROLS, "what stands for the predicted part", group="controls", choices=CONTROLS
    )
    bias: tuple[str, ...] = option(
        BIAS_STARTS,
        "zero leaves activations as they are, mean takes the corpus mean away first",
        group="controls",
        choices=BIAS_STARTS,
    )
    fit_length: bool = option(
        False,
        "scale each prediction to what fits its token best, as a TemporalSAE does, which reads the token",
        group="controls",
    )
    fit_tokens: int = option(
        65_536, "training tokens on which the sharpness of recall is chosen", group="controls"
    )
    checkpoints_path: str = runs_option()

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(self.fit_tokens > 0, "fit_tokens", "must be at least 1")
        self._require(bool(self.checkpoints_path), "checkpoints_path", "must be a folder, such as runs")
        self._require(self.activations != "", "activations", "must be the folder of a cache")
        for name in ("controls", "bias"):
            values = getattr(self, name)
            self._require(len(set(values)) == len(values), name, "must differ from each other")


@dataclass(frozen=True)
class TrainOptions(
    TrainerOptions, TemporalTermOptions, AttentionOptions, DictionaryOptions, TrainingDataOptions
):
    """What a run trains, on what, and what it keeps.

    `lr`, `warmup_steps` and `temperature` that are left out become what the architecture and the form bring.

    Raises:
        UserError: a value that cannot work, with the remedy.
    """

    pool: str = option(
        "token",
        "train on single tokens, or on the mean activation of a sentence, a turn of a chat or a document "
        "(what a context has of it): of dictionaries that read single tokens, see train-baseline",
        group="activations",
        choices=POOLS,
    )
    run_name: str | None = option(
        None, "folder of the run; made from preset, architecture and seeds when left out", group="run"
    )
    checkpoints_path: str = runs_option()
    init_from: str | None = option(
        None,
        "begin with the weights of this dictionary: a run's folder, a SAELens or released folder, a name on "
        "the hub or a URL; of the same family, with as many latents; --steps are those on top",
        group="run",
        spellings=("from_pretrained_path", "init_path"),
    )
    resume: bool = option(False, "go on with the run, with the options it has", group="run")
    resume_every: int = option(
        1000,
        "steps between two saves of the full state, for --resume",
        group="run",
        spellings=("backup_steps",),
    )
    save_fractions: tuple[float, ...] = option(
        (), "keep a checkpoint at each of these shares of the steps, such as 0.1 0.5", group="run"
    )
    save_checkpoints: bool = option(
        False, "keep the original's seven checkpoints, log-spaced from 0.1 % to the end", group="run"
    )
    log_steps: int = option(
        100,
        "steps between two lines of metrics.jsonl, which has the first and the last step and one every half "
        "minute besides",
        group="run",
        spellings=("log_every",),
    )
    use_wandb: bool = option(False, "log to Weights & Biases, too", group="run", spellings=("wandb",))
    wandb_project: str = option("temporal-saes", "its project", group="run")
    wandb_entity: str = option("", "its team or user", group="run")

    def __post_init__(self) -> None:
        if self.warmup_steps is None:
            object.__setattr__(self, "warmup_steps", self.architecture.warmup_steps)
        super().__post_init__()
        self._require(
            self.pool == "token" or self.arch not in ("temporal", "attention"),
            "pool",
            "a T-SAE's pairs and a TemporalSAE's sequences are of single tokens: leave it out, or train "
            "another architecture, such as train-baseline --arch batch_top_k",
        )
        self._require(
            self.pool != "turn" or self.chat_template, "pool", "turns are those of chats: add --chat_template"
        )
        for name in ("resume_every", "log_steps"):
            self._require(getattr(self, name) > 0, name, "must be at least 1")
        self._require(
            self.max_tokens is None or self.max_tokens >= self.batch_size,
            "max_tokens",
            f"must be at least one batch ({self.batch_size})",
        )
        self._require(
            self.batch_size % self.run_length == 0,
            "batch_size",
            f"must be a multiple of the {self.run_length} pairs of a run, such as "
            f"{max(1, self.batch_size // self.run_length) * self.run_length}",
        )
        self._require(
            self.batch_size > self.run_length
            or self.arch != "temporal"
            or not (self.temporal and self.contrastive),
            "batch_size",
            "must be larger, as a pair's negatives are the other pairs, or runs of pairs, of its batch: "
            f"give {2 * self.run_length} or more, or --no_contrastive",
        )
        self._require(
            all(0 < share <= 1 for share in self.save_fractions), "save_fractions", "must lie in (0, 1]"
        )
        self._require(
            self.run_name is None or is_plain_name(self.run_name),
            "run_name",
            "must be the plain name of a folder, at most 255 bytes long (--checkpoints_path says where)",
        )
        self._require(bool(self.checkpoints_path), "checkpoints_path", "must be a folder, such as runs")
        self._require(self.init_from != "", "init_from", "must be a dictionary's folder or name")
        self._require(self.activations != "", "activations", "must be the folder of a cache")
        if self.lr is None:
            object.__setattr__(self, "lr", self.architecture.learning_rate)
        if self.expansion_factor is None:
            self.latents(d_model=0)

    def settled(self) -> Self:
        options = super().settled()
        autocast = dtype_for(self.autocast, self.device)
        return options if autocast == self.autocast else replace(options, autocast=autocast)

    @property
    def architecture(self) -> Architecture:
        return ARCHITECTURES[self.arch]

    def latents(self, d_model: int) -> int:
        """The number of latents on a model of width `d_model`.

        Raises:
            UserError: the architecture cannot have that many, such as fewer than k.
        """
        n = self.dict_size
        if self.expansion_factor is not None:
            n = int(min(self.expansion_factor * d_model, 2.0**62))
        self.architecture.check(self, n)
        return n

    def check_processes(self, n: int | None = None) -> None:
        """Refuse a batch in which a process would have no item of its own: a pair, a token, a text or a run.

        Shares need not be equal, so that a run goes on with as many processes as a machine still has.

        Args:
            n: how many there are; those that torchrun started when None.

        Raises:
            UserError: names the smallest batch for so many.
        """
        n = n or n_processes()
        each = "something" if self.run_length == 1 else f"a run of {self.run_length} pairs"
        least = n * self.run_length
        self._require(
            self.batch_size >= least,
            "batch_size",
            f"must give each of {n} processes {each}: at least {least}",
        )

    def check_memory(self, d_model: int = 1) -> None:
        """Refuse dictionaries that memory cannot hold; without a width, those that fit no model.

        Raises:
            UserError: names the bytes needed and available.
        """
        n_numbers = 2 * self.latents(d_model) * d_model * len(self.seeds)
        needed = n_numbers * _BYTES_A_WEIGHT
        available = available_memory(find_device(self.device))
        if needed > available:
            flag = "dict_size" if self.expansion_factor is None else "expansion_factor"
            raise UserError(
                f"--{flag} {shown(getattr(self, flag))} needs at least {format_bytes(needed)} of memory "
                f"for dictionary and optimiser, and {format_bytes(available)} are available: choose a "
                "smaller one."
            )

    @property
    def save_steps(self) -> list[int]:
        """The numbers of done steps at which a checkpoint is kept."""
        shares = (*self.save_fractions, *(ORIGINAL_SAVE_FRACTIONS if self.save_checkpoints else ()))
        return sorted({max(1, round(share * self.steps)) for share in shares})


def differences(options: Mapping[str, Any], recorded: Mapping[str, Any]) -> list[str]:
    """`--k 30 (the run has 20)` for each option that may not change on resuming and differs."""
    names = {field.name for field in fields(TrainOptions)} - FREE_ON_RESUME
    return [
        difference(name, value, recorded.get(name), "run")
        for name, value in options.items()
        if name in names and shown(value) != shown(recorded.get(name))
    ]
