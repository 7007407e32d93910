"""The files of one training run.

config.yaml            every option with its final value, preset, versions, git revision, command
metrics.jsonl          one line a log step
trainer_0/  config.json  ae.pt  checksums.json  checkpoints/ae_<step>.pt
wandb_id               the run of Weights & Biases, where it is logged to
resume/state.pt        the last full state: weights, optimiser, counters, RNG, position in the data

One process writes it at a time: whoever does stands in `RunFolder.alone`. Of a run at a URL this is the copy
on this machine (`remote.mirror`).
"""

import json
import math
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from dictionary_learning.command.fields import OBJECT, Kind, above, check_fields, whole
from dictionary_learning.command.files import (
    FULL_DISK,
    check_writable,
    naming,
    offer,
    read_yaml,
    save_tensors,
    save_text,
)
from dictionary_learning.command.lock import HOLDER, LOCK, is_ours_alone, remove_leftovers
from dictionary_learning.command.progress import say
from dictionary_learning.command.rehearsal import about_to
from dictionary_learning.command.secrets import scrub_values
from dictionary_learning.errors import UserError
from dictionary_learning.remote import mirror

if TYPE_CHECKING:
    from torch import Tensor


_STATE = {
    **dict.fromkeys(("step", "tokens"), whole()),
    "norm_factor": above(0),
    "options": OBJECT,
    "trainers": Kind("a list", lambda value: isinstance(value, list)),
}


class RunFolder:
    """The files of one training run."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.config_path = self.path / "config.yaml"
        self.metrics_path = self.path / "metrics.jsonl"
        self.state_path = self.path / "resume" / "state.pt"
        self._is_ours = False

    def trainer(self, index: int) -> Path:
        return self.path / f"trainer_{index}"

    def check_new(self) -> None:
        """Raise a UserError when a run, or anything else, is here already."""
        if self.path.is_file():
            raise UserError(f"{self.path} is a file: choose another --run_name.")
        if not is_ours_alone(self.path):
            raise self._taken()

    def _taken(self) -> UserError:
        return UserError(
            f"{mirror.place_of(self.path)} is not empty: go on with that run by --resume, "
            "or choose another --run_name (or remove the folder)."
        )

    @contextmanager
    def alone(self, is_new: bool = False) -> Iterator[None]:
        """The folder for this process alone, without what killed writers left in it.

        Args:
            is_new: a run is to begin here, so that what a run at a URL has saved need not be fetched.

        Raises:
            UserError: another process has it, or it cannot be written.
        """
        if self.path.is_file():
            raise UserError(f"{self.path} is a file: choose another --run_name.")
        check_writable(self.path, "--checkpoints_path")
        with mirror.held(self.path, "training in"):
            if is_new and mirror.place_of(self.path) != self.path and mirror.names(self.path, "*.pt"):
                raise self._taken()
            mirror.pull(self.path, lambda name: "/checkpoints/" not in name or not name.endswith(".pt"))
            remove_leftovers(self.path)
            yield

    def is_unsaved(self) -> bool:
        """Whether it holds a run that was killed before anything of it was worth keeping."""
        return self.config_path.is_file() and not any(self.path.rglob("*.pt"))

    def create(self) -> None:
        """Make the folder of a new run.

        Raises:
            UserError: the folder holds something already, or the disk refuses.
        """
        self.check_new()
        check_writable(self.path, "--checkpoints_path")
        about_to(f"make {self.path}")
        self.path.mkdir(parents=True, exist_ok=True)
        self._is_ours = True

    def discard_unless_saved(self) -> None:
        """Remove what `create` began when no state was saved in it: a failed start leaves nothing."""
        if not self._is_ours or self.state_path.exists() or not self.path.exists():
            return
        # config.yaml last: while it is there, the same command knows what the rest is
        for path in sorted(self.path.iterdir(), key=lambda path: path == self.config_path):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name not in (LOCK, HOLDER):
                path.unlink(missing_ok=True)
        mirror.discard(self.path)
        if not any(self.path.iterdir()):
            self.path.rmdir()

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Write config.yaml, without what looks like a secret."""
        save_text(
            self.config_path, yaml.safe_dump(scrub_values(plain(config)), sort_keys=False, allow_unicode=True)
        )

    def read_config(self) -> dict[str, Any]:
        """The content of config.yaml.

        Raises:
            UserError: there is no run here, or its config.yaml is damaged.
        """
        if not self.config_path.is_file():
            raise UserError(f"there is no run at {self.path} (no config.yaml): check --run_name.")
        config = read_yaml(self.config_path, "YAML with the options of a run")
        if not isinstance(config, dict):
            raise UserError(f"{self.config_path} is damaged: it cannot be read as YAML.")
        return config

    def append_metrics(self, record: Mapping[str, Any]) -> None:
        """Add one line to metrics.jsonl; a value that is not finite becomes null."""
        try:
            with naming(self.metrics_path), open(self.metrics_path, "a", encoding="utf-8") as file:
                file.write(json.dumps(_finite(plain(record))) + "\n")
        except OSError as error:
            if error.errno not in FULL_DISK:
                raise
            raise UserError(
                f"the disk is full, so {self.metrics_path} could not grow; every file saved before is "
                "untouched: free some space and go on with --resume."
            ) from error

    def read_metrics(self) -> list[dict[str, Any]]:
        """The records of metrics.jsonl; lines that are none, as a crash leaves one, are left out and counted.

        Raises:
            UserError: it is no file of text.
        """
        if not self.metrics_path.exists():
            return []
        try:
            lines = self.metrics_path.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{self.metrics_path} cannot be read ({error}): move it away.") from error
        records = []
        for line in lines:
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(record, dict) and _is_step(record.get("step")):
                records.append(record)
        if len(records) < len(lines):
            say(f"{self.metrics_path}: {len(lines) - len(records)} of {len(lines)} lines cannot be read.")
        return records

    def cut_metrics(self, step: int) -> None:
        """Drop the records after `step`, so that a resumed run repeats none."""
        kept = [record for record in self.read_metrics() if record["step"] <= step]
        save_text(self.metrics_path, "".join(json.dumps(record) + "\n" for record in kept))

    def save_trainer(self, index: int, config: Mapping[str, Any]) -> None:
        save_text(
            self.trainer(index) / "config.json", json.dumps(scrub_values(plain(config)), indent=4) + "\n"
        )

    def save_weights(self, index: int, weights: "Mapping[str, Tensor]", step: int | None = None) -> None:
        """Write ae.pt, or with `step` checkpoints/ae_<step>.pt."""
        from dictionary_learning.dictionaries.weights_file import save_weights

        name = "ae.pt" if step is None else f"checkpoints/ae_{step}.pt"
        save_weights(self.trainer(index) / name, weights)

    def save_state(self, state: Mapping[str, Any]) -> None:
        if self.metrics_path.exists():
            offer(self.metrics_path)  # it grows line by line
        save_tensors(self.state_path, dict(state))

    def load_state(self) -> dict[str, Any] | None:
        """The last full state, or None when the run ended before its first save.

        Raises:
            UserError: the file is damaged, or weights or the norm factor in it are no numbers.
        """
        from dictionary_learning.dictionaries.weights_file import load_safely

        if not self.state_path.exists():
            return None
        state = load_safely(self.state_path)
        if not isinstance(state, dict):
            raise UserError(
                f"{self.state_path} is damaged or of another kind: the state of a run was expected."
            )
        check_fields(self.state_path, state, _STATE)
        for i, trainer in enumerate(state.get("trainers") or ()):
            weights = trainer.get("ae") if isinstance(trainer, dict) else None
            for name, tensor in weights.items() if isinstance(weights, dict) else ():
                if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
                    raise UserError(
                        f"{name} of trainer_{i} in {self.state_path} holds NaN or infinite numbers: the run "
                        "cannot go on, start another one with another --run_name."
                    )
        return state


def _is_step(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def plain(value: Any) -> Any:
    """Nested containers of what JSON and YAML can hold; anything else as its text."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):  # of torch or numpy, neither of which is loaded for its name alone
        return plain(value.tolist())
    if value is None or isinstance(value, str | bool | int | float):
        return value
    return str(value)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
