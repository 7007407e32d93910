"""Run folders: atomic saves, safe loads, resume states, and where a run came from.

A run folder:

    config.yaml            every option with its final value, preset, versions, git revision, command
    metrics.jsonl          one line a log step
    trainer_0/  config.json  ae.pt  checkpoints/ae_<step>.pt
    resume/state.pt        the last full state: weights, optimiser, counters, RNG, position in the data
"""

import json
import math
import os
import platform
import random
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor

from dictionary_learning.command.files import FULL_DISK, check_writable, save_tensors, save_text
from dictionary_learning.dictionaries.weights_file import load_safely
from dictionary_learning.errors import UserError


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
        if self.path.is_dir() and any(self.path.iterdir()):
            raise UserError(
                f"{self.path} is not empty: go on with that run by --resume, "
                "or choose another --run_name (or remove the folder)."
            )

    def create(self) -> None:
        """Make the folder of a new run.

        Raises:
            UserError: the folder holds something already, or the disk refuses.
        """
        self.check_new()
        check_writable(self.path)
        self.path.mkdir(parents=True, exist_ok=True)
        self._is_ours = True

    def discard_unless_saved(self) -> None:
        """Remove what `create` began when no state was saved in it: a failed start leaves nothing."""
        if self._is_ours and not self.state_path.exists():
            shutil.rmtree(self.path, ignore_errors=True)

    def write_config(self, config: Mapping[str, Any]) -> None:
        save_text(self.config_path, yaml.safe_dump(_plain(config), sort_keys=False, allow_unicode=True))

    def read_config(self) -> dict[str, Any]:
        """The content of config.yaml.

        Raises:
            UserError: there is no run here, or its config.yaml is damaged.
        """
        if not self.config_path.is_file():
            raise UserError(f"there is no run at {self.path} (no config.yaml): check --run_name.")
        try:
            config = yaml.safe_load(self.config_path.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError):
            config = None
        if not isinstance(config, dict):
            raise UserError(f"{self.config_path} is damaged: it cannot be read as YAML.")
        return config

    def append_metrics(self, record: Mapping[str, Any]) -> None:
        """Add one line to metrics.jsonl; a value that is not finite becomes null."""
        try:
            with open(self.metrics_path, "a", encoding="utf-8") as file:
                file.write(json.dumps(_finite(_plain(record))) + "\n")
        except OSError as error:
            if error.errno not in FULL_DISK:
                raise
            raise UserError(
                f"the disk is full, so {self.metrics_path} could not grow; every file saved before is "
                "untouched: free some space and go on with --resume."
            ) from error

    def read_metrics(self) -> list[dict[str, Any]]:
        """The records of metrics.jsonl; a line that a crash cut short is left out."""
        if not self.metrics_path.exists():
            return []
        records = []
        for line in self.metrics_path.read_text(encoding="utf-8").splitlines():
            try:
                records.append(json.loads(line))
            except json.JSONDecodeError:
                continue
        return records

    def cut_metrics(self, step: int) -> None:
        """Drop the records after `step`, so that a resumed run repeats none."""
        kept = [record for record in self.read_metrics() if record["step"] <= step]
        save_text(self.metrics_path, "".join(json.dumps(record) + "\n" for record in kept))

    def save_trainer(self, index: int, config: Mapping[str, Any]) -> None:
        save_text(self.trainer(index) / "config.json", json.dumps(_plain(config), indent=4) + "\n")

    def save_weights(self, index: int, weights: Mapping[str, Tensor], step: int | None = None) -> None:
        """Write ae.pt, or with `step` checkpoints/ae_<step>.pt."""
        name = "ae.pt" if step is None else f"checkpoints/ae_{step}.pt"
        save_tensors(self.trainer(index) / name, dict(weights))

    def save_state(self, state: Mapping[str, Any]) -> None:
        save_tensors(self.state_path, dict(state))

    def load_state(self) -> dict[str, Any] | None:
        """The last full state, or None when the run ended before its first save.

        Raises:
            UserError: the file is damaged.
        """
        return load_safely(self.state_path) if self.state_path.exists() else None


def _plain(value: Any) -> Any:
    """Nested containers of what JSON and YAML can hold; anything else as its text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if isinstance(value, Tensor | np.ndarray | np.generic):
        return _plain(value.tolist())
    if value is None or isinstance(value, str | bool | int | float):
        return value
    return str(value)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def random_state() -> dict[str, Any]:
    """The state of every global random generator, in a form that loads without running code."""
    kind, keys, position, has_gauss, gauss = np.random.get_state()
    version, words, next_gauss = random.getstate()
    state: dict[str, Any] = {
        "python": [version, list(words), next_gauss],
        "numpy": [str(kind), torch.from_numpy(np.asarray(keys, dtype=np.int64)), position, has_gauss, gauss],
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    if torch.backends.mps.is_available():
        state["mps"] = torch.mps.get_rng_state()
    return state


def set_random_state(state: Mapping[str, Any]) -> None:
    """Undo `random_state`; generators of a device that this machine lacks are left out."""
    version, words, next_gauss = state["python"]
    random.setstate((version, tuple(words), next_gauss))
    kind, keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, gauss))
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.device_count() == len(state["cuda"]):
        torch.cuda.set_rng_state_all(state["cuda"])
    if "mps" in state and torch.backends.mps.is_available():
        torch.mps.set_rng_state(state["mps"])


def provenance() -> dict[str, Any]:
    """Where a run came from: command, start time (UTC), git revision, versions, machine."""
    return {
        "command": shlex.join(scrub([Path(sys.executable).name, *sys.argv])),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "git_revision": _git_revision(),
        "versions": _versions(),
        "machine": _machine(),
    }


_SECRET_FLAG = re.compile(r"(^|[_-])(token|key|secret|password|passwd|credentials?)$", re.IGNORECASE)
_SECRET_VALUE = re.compile(
    r"hf_[A-Za-z0-9]{16,}|sk-[A-Za-z0-9_-]{16,}|gh[opsu]_[A-Za-z0-9]{16,}|(?<![0-9A-Za-z])[0-9a-f]{40}(?![0-9A-Za-z])"
    r"|(?<=://)[^/@\s]+(?=@)"
)


def scrub(words: list[str]) -> list[str]:
    """A command line without what looks like a token, key or password."""
    clean: list[str] = []
    hide_next = False
    for word in words:
        flag, equals, _ = word.partition("=")
        is_secret = bool(_SECRET_FLAG.search(flag))
        if hide_next and not word.startswith("--"):
            clean.append("***")
        elif equals and is_secret:
            clean.append(f"{flag}=***")
        else:
            clean.append(_SECRET_VALUE.sub("***", word))
        hide_next = word.startswith("--") and not equals and is_secret
    return clean


def _git_revision() -> str | None:
    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(Path(__file__).parent), *words], capture_output=True, text=True, timeout=10
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    # a package installed inside an unrelated repository is not one of its files
    if git("ls-files", "--error-unmatch", Path(__file__).name) is None:
        return None
    revision = git("rev-parse", "HEAD")
    changed = git("status", "--porcelain", "--untracked-files=no")
    return f"{revision} with uncommitted changes" if revision and changed else revision


def _versions() -> dict[str, str]:
    names = ("temporal-saes", "torch", "transformers", "datasets", "nnsight", "numpy", "safetensors")
    versions = {"python": platform.python_version()}
    for name in names:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    versions["torch"] = str(torch.__version__)
    return versions


def _machine() -> dict[str, Any]:
    machine: dict[str, Any] = {
        "system": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }
    if torch.cuda.is_available():
        machine["accelerator"] = torch.cuda.get_device_name()
    elif torch.backends.mps.is_available():
        machine["accelerator"] = "mps"
    return machine
