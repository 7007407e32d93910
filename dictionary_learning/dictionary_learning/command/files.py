"""Files: written whole or not at all, read in one way whoever made them, in folders that can be written.

A folder of this machine may stand for one at a URL (`remote.mirror`). Whoever saves a file offers it, and
what keeps the copy sends it; for every other folder nothing happens, and nothing is imported.
"""

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from dictionary_learning.command.memory import is_out_of_memory
from dictionary_learning.command.rehearsal import about_to
from dictionary_learning.errors import UserError

MAX_BYTES = 2**28  # of a JSON or YAML file; the largest there are, results a latent, have some 10 MB
MAX_DEPTH = 100
_URL_IN_PATH = re.compile(r"(^|/)[A-Za-z][A-Za-z0-9+.-]+:/")  # as `Path` leaves s3://bucket
FULL_DISK = (errno.ENOSPC, errno.EDQUOT)
LEFTOVER = re.compile(r"\..+\.(\d+-[0-9a-f]{8}\.)?part")  # what a writer that was killed leaves of a file


_LONGEST_PART = 120  # bytes; a suffix, a process number and other parts come beside it


def sentence(error: BaseException) -> str:
    """What a user is told of an error; "" if it is not theirs, nor of a refused file or of memory."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError) and error.errno in FULL_DISK:
        return f"the disk is full ({error.filename or 'while saving'}): free some space and run again."
    if isinstance(error, OSError) and error.filename is not None and error.strerror is not None:
        name = _name(error.filename)
        return f"{name} cannot be used ({error.strerror}): check the path, its permissions and its disk."
    if is_out_of_memory(error):
        told = " ".join(str(error).split())[:160] or type(error).__name__
        return (
            f"there is not enough memory ({told}): ask for less, as with a smaller --batch_size, "
            "--lm_batch_size, --memory or --dict_size; what was saved is safe."
        )
    return ""


@contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Within it an error of the system names a file; where writing one has failed it says none."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = str(path)
        raise


def _name(filename: object) -> str:
    """A path as it was given, cut where it is too long to be read."""
    text = filename.decode(errors="replace") if isinstance(filename, bytes) else str(filename)
    return text if len(text) <= 200 else f"{text[:100]}...{text[-60:]} ({len(text):,} characters)"


def save_atomically(path: str | Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file so that `path` holds the old content or the new one, never a part.

    `write` fills a temporary file in the same folder, which is flushed to the disk and renamed. Its name is
    its own (`LEFTOVER`), so that two processes that save the same file do not write into each other's.

    Raises:
        UserError: the disk is full; the temporary file is gone and `path` is as before.
    """
    path = Path(path)
    about_to(f"write {path}")
    temporary = path.with_name(f".{path.name[:100]}.{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with naming(path), open(temporary, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    except (OSError, RuntimeError) as error:
        if isinstance(error.__context__, KeyboardInterrupt):
            raise error.__context__ from None  # torch's zip writer replaces it
        if not _means_full_disk(error, path.parent):
            refused = error.__context__
            if isinstance(error, RuntimeError) and isinstance(refused, OSError):
                raise OSError(refused.errno, refused.strerror, str(path)) from error
            raise
        raise UserError(
            f"the disk is full, so {path} could not be saved; every file saved before is untouched: "
            "free some space and run again (a training run goes on with --resume)."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
    offer(path)


def save_tensors(path: str | Path, content: Any) -> None:
    """`torch.save`, atomically."""
    import torch  # half a second, which the --help of a command need not wait for

    save_atomically(path, lambda file: torch.save(content, file))


def save_bytes(path: str | Path, content: bytes) -> None:
    """Write a small file, atomically."""
    save_atomically(path, lambda file: file.write(content))


def save_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text, atomically."""
    save_bytes(path, text.encode("utf-8"))


def read_json(path: str | Path, expected: str = "JSON") -> Any:
    """What a JSON file holds.

    Args:
        expected: what should be in it, for the message.

    Raises:
        UserError: there is no such file, or it is not JSON in UTF-8, too large or nested too deep.
    """
    return _read(Path(path), expected, json.loads)


def parse_json(content: bytes, name: str, expected: str = "JSON") -> Any:
    """As `read_json`, of a file whose content is at hand.

    Args:
        name: what to call it in the message.

    Raises:
        UserError: as `read_json`.
    """
    return _parsed(content, name, expected, json.loads)


def read_yaml(path: str | Path, expected: str = "YAML") -> Any:
    """What a YAML file holds; plain values alone are made of it.

    Args:
        expected: what should be in it, for the message.

    Raises:
        UserError: there is no such file, or it is not YAML in UTF-8, too large or nested too deep.
    """
    import yaml

    def parse(text: str) -> Any:
        try:
            return yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ValueError(str(error)) from error

    return _read(Path(path), expected, parse)


def _read(path: Path, expected: str, parse: Callable[[str], Any]) -> Any:
    try:
        content = path.read_bytes() if path.stat().st_size <= MAX_BYTES else None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): check the path.") from error
    return _parsed(content, str(path), expected, parse)


def _parsed(content: bytes | None, name: str, expected: str, parse: Callable[[str], Any]) -> Any:
    """What is in a file; its content is None where it is too large to be read."""
    try:
        if content is None or len(content) > MAX_BYTES:
            raise ValueError(f"more than {MAX_BYTES // 2**20} MB")
        parsed = parse(content.decode("utf-8-sig"))
        if _is_deeper(parsed, MAX_DEPTH):
            raise RecursionError
        return parsed
    except RecursionError as error:
        reason: Exception | str = "nested too deep"
        cause: Exception = error
    except (ValueError, TypeError, OverflowError, AttributeError) as error:
        reason, cause = error, error
    sentence = " ".join(str(reason).split())[:200]
    raise UserError(f"{name} is damaged or of another kind ({sentence}): {expected} was expected.") from cause


def _is_deeper(content: Any, depth: int) -> bool:
    """Whether containers stand in each other further than so; each is looked into once."""
    seen: set[int] = set()
    level = [content]
    for _ in range(depth):
        inside: list[Any] = []
        for item in level:
            if isinstance(item, dict | list) and id(item) not in seen:
                seen.add(id(item))
                inside += item.values() if isinstance(item, dict) else item
        if not inside:
            return False
        level = inside
    return True


def _means_full_disk(error: BaseException, folder: Path) -> bool:
    if isinstance(error, OSError):
        return error.errno in FULL_DISK
    # torch's zip writer hides the errno when it opens the file by itself
    failed_write = "PytorchStreamWriter" in str(error) or "inline_container" in str(error)
    cause = error.__context__
    return failed_write and (
        (isinstance(cause, OSError) and cause.errno in FULL_DISK) or shutil.disk_usage(folder).free < 2**20
    )


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def short_enough(name: str) -> str:
    """A part of a file name as it is, or its beginning with a hash where it is too long for file systems.

    What names several runs or options has no bound, and a name of 255 bytes is the longest there is.
    """
    if len(name.encode()) <= _LONGEST_PART:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{name.encode()[: _LONGEST_PART - 20].decode(errors='ignore')}-{digest}"


def cache_folder() -> Path:
    """$TEMPORAL_SAES_CACHE, or `temporal-saes` in the platform's folder for caches."""
    chosen = os.environ.get("TEMPORAL_SAES_CACHE")
    if chosen:
        return Path(chosen).expanduser().absolute()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "temporal-saes"


def check_writable(folder: str | Path, flag: str) -> None:
    """Raise a UserError unless files can be made in `folder` (which need not exist yet).

    Args:
        flag: what to choose another folder with.
    """
    if _URL_IN_PATH.search(str(folder)):
        raise UserError(
            f"{flag} {folder} is a URL, and this is written on this machine: choose a folder (docs/urls.md "
            "says which flags take a URL)."
        )
    existing = Path(folder).absolute()
    while not os.path.exists(existing):  # unlike the method, it never raises
        existing = existing.parent
    if not os.path.isdir(existing):
        raise UserError(f"{existing} is a file, not a folder: choose another {flag}.")
    try:
        with tempfile.TemporaryFile(dir=existing) as file:
            file.write(b"\0" * 4096)
    except OSError as error:
        raise UserError(
            f"nothing can be written to {existing} ({error.strerror}): choose another {flag}."
        ) from None
    copy = _copy_of(Path(folder))
    if copy is not None:
        copy.check_writable(flag)


# --- folders that have a copy elsewhere ---


class Copy(Protocol):
    """Keeps the copy of a folder up to date."""

    def check_writable(self, flag: str) -> None:
        """Raise a UserError where nothing can be sent."""

    def offer(self, path: Path) -> None:
        """A file was saved: send it, or say that it could not be sent and remember it."""

    def settle(self) -> None:
        """Send what is not there yet; a UserError where that cannot be done."""


_copies: dict[Path, Copy] = {}


def keep_copy(folder: Path, copy: Copy) -> None:
    """Have the files below a folder sent."""
    _copies[folder] = copy


def offer(path: Path) -> None:
    """A file, or a folder with all that is in it, was saved, whole and under its name."""
    copy = _copy_of(path)
    if copy is None:
        return
    for file in sorted(path.rglob("*")) if path.is_dir() else (path,):
        if file.is_file():
            copy.offer(file)


def _copy_of(path: Path) -> Copy | None:
    """The copy that a file or folder belongs to; the innermost where one lies in another."""
    around = [folder for folder in _copies if path.is_relative_to(folder)]
    return _copies[max(around, key=lambda folder: len(folder.parts))] if around else None


def settle() -> None:
    """Send what could not be sent when it was saved; called when a command ends.

    Raises:
        UserError: it still cannot be sent.
    """
    for copy in _copies.values():
        copy.settle()
