"""Every option of an evaluation."""

from dataclasses import dataclass

from dictionary_learning.command.memory import parse_bytes
from dictionary_learning.command.options import option
from dictionary_learning.errors import UserError


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
