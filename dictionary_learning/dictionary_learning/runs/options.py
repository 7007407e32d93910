"""Which run, and which dictionary of it: the flags that commands share."""

from dataclasses import dataclass
from typing import Any

from dictionary_learning.command.options import option


def runs_option(*spellings: str) -> Any:
    """The option `checkpoints_path`, for every command that writes or reads runs.

    Args:
        spellings: more of them.
    """
    return option(
        "runs",
        "folder or URL that holds the runs",
        group="run",
        spellings=("save_path", "save_dir", *spellings),
    )


@dataclass(frozen=True)
class RunOptions:
    """For a command that reads the dictionary of a run."""

    run_name: str | None = option(
        None, "the run: its name in --checkpoints_path, or the path or URL of its folder", group="run"
    )
    checkpoints_path: str = runs_option("save_checkpoints")
    trainer: int = option(0, "which trainer of the run: trainer_<i>", group="run")
    checkpoint: str | None = option(
        None, "another file than ae.pt, such as checkpoints/ae_1000.pt", group="run"
    )


@dataclass(frozen=True)
class InferenceOptions(RunOptions):
    """For a command that encodes with it."""

    threshold: str | None = option(
        None,
        "inference threshold: a name that calibrate wrote, or topk for the k largest latents of each token; "
        "that of the training if not given",
        group="run",
    )
