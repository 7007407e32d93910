"""Weights & Biases beside metrics.jsonl."""

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dictionary_learning.command.files import save_text
from dictionary_learning.command.progress import say
from dictionary_learning.command.secrets import scrub_values

RUN_ID = "wandb_id"  # the file in the run's folder: a resumed run goes on in the same run of wandb


class Tracker:
    """Weights & Biases, where any failure costs one warning and never the run."""

    def __init__(self, entity: str, project: str) -> None:
        self.entity, self.project = entity, project
        self._run: Any = None

    def start(self, config: Mapping[str, Any], folder: Path | None) -> None:
        try:
            import wandb

            self._run = wandb.init(
                entity=self.entity or None,
                project=self.project or None,
                id=_run_id(folder) if folder else None,
                resume="allow",
                name=folder.name if folder else None,
                dir=str(folder) if folder else None,
                config=scrub_values(dict(config)),
                settings=wandb.Settings(init_timeout=30),
            )
        except Exception as error:
            self._give_up(error)

    def log(self, record: Mapping[str, Any], step: int) -> None:
        if self._run is not None:
            try:
                self._run.log(dict(record), step=step)
            except Exception as error:
                self._give_up(error)

    def finish(self) -> None:
        if self._run is not None:
            try:
                self._run.finish()
            except Exception as error:
                self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        self._run = None
        say(f"warning: wandb failed ({error}); the run goes on, metrics.jsonl has every record.")


def _run_id(folder: Path) -> str:
    """The id of the run of wandb that belongs to a run's folder; made at its first start."""
    path = folder / RUN_ID
    known = path.read_text(encoding="utf-8").strip() if path.is_file() else ""
    if not known:
        known = secrets.token_hex(8)
        save_text(path, known + "\n")
    return known
