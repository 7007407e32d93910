"""Where a run came from: command, time, revision, versions and machine, without secrets."""

import os
import platform
import shlex
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from dictionary_learning.command import program
from dictionary_learning.command.secrets import scrub


def provenance() -> dict[str, Any]:
    """Where a run came from: command, start time (UTC), git revision, versions, machine."""
    return {
        "command": shlex.join(scrub(program.typed())),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "git_revision": _git_revision(),
        "versions": versions(),
        "machine": _machine(),
    }


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


def versions() -> dict[str, str]:
    """Of Python and of the packages that results depend on."""
    import torch

    names = ("temporal-saes", "torch", "transformers", "datasets", "nnsight", "numpy", "safetensors")
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    found["torch"] = str(torch.__version__)
    return found


def _machine() -> dict[str, Any]:
    import torch

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
