"""What the page about a run can be asked."""

from dataclasses import dataclass

from dictionary_learning.activations.options import device_option
from dictionary_learning.command.options import option
from dictionary_learning.errors import UserError
from dictionary_learning.runs.options import runs_option


@dataclass(frozen=True)
class ReportOptions:
    """What the page is about.

    Raises:
        UserError: a value that cannot work, with the remedy.
    """

    run_name: str | None = option(None, "the run", group="run")
    compare: tuple[str, ...] = option((), "other runs to show beside it", group="run")
    checkpoints_path: str = runs_option("save_checkpoints")
    trainer: int = option(0, "which trainer of each run: trainer_<i>", group="run")
    text: str | None = option(
        None, "text to colour in place of two held-out documents", group="coloured text"
    )
    text_file: str | None = option(None, "file with the text to colour", group="coloured text")
    held_out_texts: int = option(
        100, "held-out paragraphs among which each latent's strongest tokens are found", group="coloured text"
    )
    lm_batch_size: int = option(16, "texts the language model reads at a time", group="machine")
    device: str | None = device_option("machine")
    output: str | None = option(
        None, "file to write; report.html in the run's folder if not given", group="result"
    )

    def __post_init__(self) -> None:
        if self.run_name is None:
            raise UserError(f"--run_name is missing: give a run in {self.checkpoints_path}.")
        names = (self.run_name, *self.compare)
        if len(set(names)) < len(names):
            raise UserError(f"--compare {' '.join(self.compare)} names a run twice: leave one out.")
        if self.text is not None and self.text_file is not None:
            raise UserError("--text and --text_file are both given: leave one out.")
        for name, least in (("held_out_texts", 0), ("lm_batch_size", 1), ("trainer", 0)):
            if getattr(self, name) < least:
                raise UserError(f"--{name} is {getattr(self, name)}, and must be at least {least}.")
