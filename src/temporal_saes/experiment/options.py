"""The flags that experiments share.

An experiment's options are a frozen dataclass that extends `ExperimentOptions`, or those of the blocks below
it that the experiment asks: `ComparedOptions`, `ExplainedOptions`, `JoinedTextOptions`.
"""

from dataclasses import dataclass

from dictionary_learning.activations.options import (
    device_option,
    lm_device_option,
    lm_dtype_option,
    other_site_option,
)
from dictionary_learning.command.options import MOST_SEED, is_seed, option
from dictionary_learning.errors import UserError
from dictionary_learning.runs.options import InferenceOptions
from dictionary_learning.texts.data_sets import LABELLED

BASELINE = "baseline_model"


@dataclass(frozen=True)
class ExperimentOptions(InferenceOptions):
    """What every experiment can be asked."""

    run_name: str | None = option(
        None,
        "the run to look at; baseline_model is the language model's own activations (with --model, --layer)",
        group="run",
    )
    chunk: int = option(0, "latents to use: 0 the high-level split, 1 the rest, 2 all", group="run")
    model: str | None = option(
        None, "language model instead of the run's: hub id, folder, demo or demo-gemma", group="run"
    )
    layer: int | None = option(
        None, "decoder layer instead of the run's, counted from 0; its output is read", group="run"
    )
    site: str | None = other_site_option("run")
    context_length: int | None = option(
        None, "tokens of a text that are read instead of the run's, special ones included", group="run"
    )
    dataset: str = option(
        "demo",
        f"{', '.join(LABELLED)}, sae-probes:NAME, a file, here or at a URL, or any name on the hub",
        group="data",
    )
    data_path: str | None = option(
        None, "copy of the data set (file or folder, here or at a URL) in place of the hub", group="data"
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
    lm_dtype: str | None = lm_dtype_option(
        None, "dtype of the language model instead of the run's", "machine"
    )
    device: str | None = device_option("machine")
    lm_device: str | None = lm_device_option("machine")
    cache: bool = option(
        True, "keep the language model's activations on disk for the next time", group="machine"
    )
    seed: int = option(0, "of every random choice", group="result")
    output_dir: str | None = option(
        None, "folder for the results; a folder of the experiment in the run's if not given", group="result"
    )

    def __post_init__(self) -> None:
        self.check_least(1, "max_texts", "max_records", "lm_batch_size")
        self.check_least(2, "context_length")
        self.check_least(0, "trainer")
        if not is_seed(self.seed):
            raise UserError(f"--seed {self.seed} does not exist: give one from 0 to {MOST_SEED}.")
        for name in ("checkpoints_path", "output_dir"):
            if getattr(self, name) == "":
                raise UserError(f"--{name} is empty: give a folder, or leave it out.")

    def check_least(self, least: int, *names: str) -> None:
        """Raise a UserError where one of these options is a number below `least`."""
        for name in names:
            value = getattr(self, name)
            if value is not None and value < least:
                raise UserError(f"--{name} {value} is too small: give at least {least}.")


@dataclass(frozen=True)
class ComparedOptions(ExperimentOptions):
    """For an experiment that can show several runs side by side."""

    compare: tuple[str, ...] | None = option(
        None, "several runs side by side: run, run:chunk or baseline_model", group="result"
    )


@dataclass(frozen=True)
class SeedOptions(ComparedOptions):
    """For an experiment whose numbers can be shown with their spread over trainings (`over_seeds`)."""

    trainers: tuple[int, ...] | None = option(
        None,
        "several trainers of every run, such as 0 1 2, its seeds: each is looked at as with --trainer, and a "
        "table and a figure show means and spread",
        group="result",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.trainers is None:
            return
        told = " ".join(map(str, self.trainers))
        if len(set(self.trainers)) != len(self.trainers) or len(self.trainers) < 2:
            raise UserError(f"--trainers {told} shows no spread: give two different ones or more.")
        if min(self.trainers) < 0:
            raise UserError(f"--trainers {told}: they are counted from 0.")
        if self.trainer:
            raise UserError(
                f"--trainers {told} and --trainer {self.trainer} exclude each other: leave one out."
            )


@dataclass(frozen=True)
class ChatOptions(ExperimentOptions):
    """For an experiment that can read conversations."""

    chat_template: bool = option(
        False,
        "records are conversations: they are read through the model's chat template, and what the roles say "
        "is text",
        group="data",
    )
    roles: tuple[str, ...] | None = option(
        None,
        "with --chat_template: only what these roles say is text, such as assistant; all, if not given",
        group="data",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.roles is not None and not self.chat_template:
            raise UserError(f"--roles {' '.join(self.roles)} is for conversations: add --chat_template.")


@dataclass(frozen=True)
class ExplainedOptions(ExperimentOptions):
    """For an experiment that says what latents mean."""

    explanation_path: str | None = option(
        None,
        "explanations.json of the dictionary, or the folder of a source of Neuronpedia's; the one beside its "
        "weights if not given",
        group="latents",
    )


@dataclass(frozen=True)
class JoinedTextOptions(ExperimentOptions):
    """For an experiment on passages of different documents, joined into one text (`joined_texts`)."""

    passages: tuple[str, ...] | None = option(
        None, "text files that are joined in this order, instead of passages of the data set", group="texts"
    )
    n_texts: int = option(100, "joined texts that are drawn", group="texts")
    n_passages: int = option(3, "passages of a joined text, each of another class", group="texts")
    show: int = option(0, "which text is shown, counted from 0", group="texts")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_least(1, "n_texts")
        self.check_least(0, "show")
        n_texts = 1 if self.passages else self.n_texts
        if self.show >= n_texts:
            raise UserError(f"--show {self.show} does not exist: there are the texts 0 to {n_texts - 1}.")
