"""Every option of an evaluation."""

from dataclasses import dataclass

from dictionary_learning.activations.options import (
    device_option,
    lm_device_option,
    lm_dtype_option,
    other_site_option,
)
from dictionary_learning.command.memory import parse_bytes
from dictionary_learning.command.options import option
from dictionary_learning.errors import UserError
from dictionary_learning.remote.options import LocalCacheOptions
from dictionary_learning.runs.options import InferenceOptions
from dictionary_learning.texts.spans import POOLS


@dataclass(frozen=True)
class EvalOptions(InferenceOptions, LocalCacheOptions):
    """What is evaluated, on what, and how much of it. None means: as the run was trained.

    Raises:
        UserError: a value that cannot work, with the remedy.
    """

    # run
    compare: tuple[str, ...] | None = option(
        None, "several runs (as --run_name gives one), in one table and one figure", group="run"
    )

    # language model
    model: str | None = option(
        None,
        "language model instead of the run's: hub name, folder, demo or demo-gemma",
        group="language model",
    )
    layer: int | None = option(
        None, "decoder layer instead of the run's, from 0; its output is read", group="language model"
    )
    site: str | None = other_site_option("language model")
    lm_dtype: str | None = lm_dtype_option(
        None, "dtype of the language model instead of the run's", "language model"
    )
    device: str | None = device_option("language model")
    lm_device: str | None = lm_device_option("language model")

    # text
    dataset: str | None = option(
        None,
        "texts instead of the run's: demo, pile, hub name, or a file or folder, here or at a URL",
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
    pool: str | None = option(
        None,
        "measure on single tokens, or on means over sentences, turns or documents; as the run was trained, "
        "if not given; of means there is no cross-entropy",
        group="text",
        choices=POOLS,
    )
    activations: str | None = option(
        None,
        "folder or URL that cache_activations wrote with the part that is evaluated on, in place of running "
        "the language model over the texts",
        group="text",
    )

    # amount
    max_tokens: int = option(100_000, "text tokens to evaluate on, at most", group="amount")
    n_contexts: int | None = option(
        None, "contexts to evaluate on, at most", group="amount", spellings=("n_inputs",)
    )
    lm_loss: bool = option(True, "measure what the reconstruction costs the language model", group="amount")
    loss_tokens: int = option(
        16_384,
        "text tokens on which that is measured (three passes of the whole model); 0 is --no_lm_loss",
        group="amount",
    )
    batch_size: int = option(16, "contexts at a time", group="amount")
    memory: str = option("1GB", "memory for activations, such as 1GB or 512MiB", group="amount")

    # result
    output_dir: str | None = option(
        None, "folder of the results; the run's trainer folder when left out", group="result"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (("max_tokens", 1), ("n_contexts", 1), ("loss_tokens", 0), ("batch_size", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise UserError(f"--{name} is {value}, and must be at least {least}.")
        if self.trainer < 0:
            raise UserError(f"--trainer is {self.trainer}, and must not be negative.")
        if (self.run_name is None) == (self.compare is None):
            raise UserError("give one run with --run_name, or several with --compare.")
        if self.compare is not None and len(set(self.compare)) < len(self.compare):
            raise UserError(f"--compare {' '.join(self.compare)} names a run twice: leave one out.")
        parse_bytes(self.memory)

    @property
    def measures_loss(self) -> bool:
        """Whether the language model's cross-entropy is wanted."""
        return self.lm_loss and self.loss_tokens > 0

    @property
    def runs(self) -> tuple[str, ...]:
        return self.compare or (self.run_name or "",)


@dataclass(frozen=True)
class CalibrationOptions(EvalOptions):
    """For which run an inference threshold is set, on which texts, and what it is called."""

    name: str | None = option(None, "what the threshold is called, such as news", group="threshold")
    k: int | None = option(
        None,
        "mean number of latents a token that it lets through; the dictionary's own k if not given",
        group="threshold",
    )
    part: str = option(
        "all",
        "all: every document; eval: those that the run kept out of its training",
        group="text",
        choices=("eval", "all"),
    )
    max_tokens: int = option(65_536, "text tokens to set it on, at most", group="amount")
    lm_loss: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dataset is None or self.name is None:
            missing = "--dataset" if self.dataset is None else "--name"
            raise UserError(
                f"{missing} is missing: a threshold is set on texts (--dataset texts.jsonl) and has a name "
                "(--name news)."
            )
        if self.k is not None and self.k < 1:
            raise UserError(f"--k is {self.k}, and must be at least 1.")
