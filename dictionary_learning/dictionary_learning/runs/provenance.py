"""Where a run came from: command, time, revision, versions and machine, without secrets."""

import os
import platform
import re
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any


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
    import torch

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
