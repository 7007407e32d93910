"""Which files a language model is read from, told apart by what they hold: its weights need not be loaded.

    model_identity("demo")  # "files <SHA-256>"; of a model of the hub "revision <commit>"

A file is hashed once: `language_models.json` in the cache folder remembers its hash, for as long as its size
and its times stay as they are.
"""

import hashlib
import json
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

from dictionary_learning.command.files import cache_folder, read_json, save_text
from dictionary_learning.errors import UserError
from dictionary_learning.language_model.source import hub_revision
from dictionary_learning.texts.demo_assets import language_model_folder
from dictionary_learning.texts.demo_models import DEMO_MODELS

SUFFIXES = {".json", ".txt", ".model", ".safetensors", ".bin"}  # of config, tokenizer and weights
SETTLED_NS = 2 * 10**9  # a file that was written just now could be written again within a tick of its times


def model_identity(name: str) -> str | None:
    """What tells the language model of that name from another one that had the name before.

    It is the same for copies in two folders.

    Returns:
        None if there is no such model here, and the hub does not tell.

    Raises:
        UserError: the demo's model cannot be fetched.
    """
    folder = language_model_folder(name) if name in DEMO_MODELS else Path(name).expanduser()
    if folder.is_dir():
        return f"files {_folder_sha256(folder)}"
    revision = _hub_commit(name) or hub_revision(name)
    return None if revision is None else f"revision {revision}"


@cache
def _hub_commit(name: str) -> str | None:
    """The commit that the hub would give now; None if it does not tell."""
    from huggingface_hub import HfApi

    try:
        return HfApi().model_info(name, timeout=10).sha
    except Exception:  # which class that is depends on the HTTP library; loading the model tells of it
        return None


def _folder_sha256(folder: Path) -> str:
    """One hash of the names and contents of a model's files."""
    known = _remembered()
    digest = hashlib.sha256()
    found: dict[str, list[int | str]] = {}
    for path in sorted(folder.resolve().iterdir()):
        if path.suffix in SUFFIXES and path.is_file():
            status = path.stat()
            state = [status.st_size, status.st_mtime_ns, status.st_ctime_ns]
            entry = known.get(str(path))
            if isinstance(entry, list) and entry[:-1] == state:
                sha256 = str(entry[-1])
            else:
                sha256 = _file_sha256(path)
                if time.time_ns() - max(state[1:]) > SETTLED_NS:
                    found[str(path)] = [*state, sha256]
            digest.update(f"{path.name} {sha256}\n".encode())
    if found:
        _remember(known | found)
    return digest.hexdigest()


def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _memory() -> Path:
    return cache_folder() / "language_models.json"


def _remembered() -> dict[str, list[int | str]]:
    """Size, times and hash by path; nothing where the file is missing or damaged."""
    try:
        content = read_json(_memory())
    except UserError:
        return {}
    return content if isinstance(content, dict) else {}


def _remember(hashes: dict[str, list[int | str]]) -> None:
    with suppress(OSError, UserError):  # they are hashed again the next time
        save_text(_memory(), json.dumps(hashes, indent=1) + "\n")
