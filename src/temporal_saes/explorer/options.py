"""What an explorer can be asked; its flags."""

from dataclasses import dataclass

from dictionary_learning.command.options import option
from dictionary_learning.errors import UserError
from temporal_saes.experiment.options import ExplainedOptions

NOT_ASKED = (
    *("chunk", "dataset", "data_path", "text_field", "label_field", "categories", "split"),
    *("max_texts", "max_records", "lm_batch_size", "cache", "seed", "output_dir"),
)
"""Options of experiments that have no meaning here: the texts are typed, and nothing is written."""


@dataclass(frozen=True)
class ExplorerOptions(ExplainedOptions):
    """What an explorer can be asked."""

    chunk: int = option(2, "all latents are shown", group="run")
    port: int = option(8765, "of this machine, at which the page is; 0 takes a free one", group="page")
    browser: str | None = option(
        None, "folder that browse wrote, to link to; the run's newest if not given", group="page"
    )
    new_token: bool = option(False, "take another token than that of the last time", group="page")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.port <= 65535:
            raise UserError(f"--port {self.port} does not exist: give one from 0 to 65535.")
