"""Files: written whole or not at all, read in one way whoever made them, in folders that can be written."""

import errno
import json
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from dictionary_learning.command.rehearsal import about_to
from dictionary_learning.errors import UserError

MAX_BYTES = 2**28  # of a JSON or YAML file; the largest there are, results a latent, have some 10 MB
MAX_DEPTH = 100
FULL_DISK = (errno.ENOSPC, errno.EDQUOT)
LEFTOVER = re.compile(r"\..+\.(\d+-[0-9a-f]{8}\.)?part")  # what a writer that was killed leaves of a file


def sentence(error: Exception) -> str:
    """What a user is told of an error; "" if it is neither theirs nor of a file that the system refuses."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError) and error.errno in FULL_DISK:
        return f"the disk is full ({error.filename or 'while saving'}): free some space and run again."
    if isinstance(error, OSError) and error.filename is not None and error.strerror is not None:
        name = _name(error.filename)
        return f"{name} cannot be used ({error.strerror}): check the path and its permissions."
    return ""


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
        with open(temporary, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except (OSError, RuntimeError) as error:
        if isinstance(error.__context__, KeyboardInterrupt):
            raise error.__context__ from None  # torch's zip writer replaces it
        if not _means_full_disk(error, path.parent):
            raise
        raise UserError(
            f"the disk is full, so {path} could not be saved; every file saved before is untouched: "
            "free some space and run again (a training run goes on with --resume)."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def save_tensors(path: str | Path, content: Any) -> None:
    """`torch.save`, atomically."""
    import torch  # half a second, which the --help of a command need not wait for

    save_atomically(path, lambda file: torch.save(content, file))


def save_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text, atomically."""
    save_atomically(path, lambda file: file.write(text.encode("utf-8")))


def read_json(path: str | Path, expected: str = "JSON") -> Any:
    """What a JSON file holds.

    Args:
        expected: what should be in it, for the message.

    Raises:
        UserError: there is no such file, or it is not JSON in UTF-8, too large or nested too deep.
    """
    return _read(Path(path), expected, json.loads)


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
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"more than {MAX_BYTES // 2**20} MB")
        content = parse(path.read_text(encoding="utf-8-sig"))
        if _is_deeper(content, MAX_DEPTH):
            raise RecursionError
        return content
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): check the path.") from error
    except RecursionError as error:
        reason: Exception | str = "nested too deep"
        cause: Exception = error
    except (ValueError, TypeError, OverflowError, AttributeError) as error:
        reason, cause = error, error
    sentence = " ".join(str(reason).split())[:200]
    raise UserError(f"{path} is damaged or of another kind ({sentence}): {expected} was expected.") from cause


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


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_writable(folder: str | Path, flag: str) -> None:
    """Raise a UserError unless files can be made in `folder` (which need not exist yet).

    Args:
        flag: what to choose another folder with.
    """
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
