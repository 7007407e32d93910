"""Files that hold the old content or the new one, never a part, and folders that can be written."""

import errno
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

FULL_DISK = (errno.ENOSPC, errno.EDQUOT)
LEFTOVER = re.compile(r"\..+\.(\d+-[0-9a-f]{8}\.)?part")  # what a writer that was killed leaves of a file


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


def check_writable(folder: str | Path, flag: str = "--checkpoints_path") -> None:
    """Raise a UserError unless files can be made in `folder` (which need not exist yet).

    Args:
        flag: what to choose another folder with.
    """
    existing = Path(folder).absolute()
    while not existing.exists():
        existing = existing.parent
    if not existing.is_dir():
        raise UserError(f"{existing} is a file, not a folder: choose another {flag}.")
    try:
        with tempfile.TemporaryFile(dir=existing) as file:
            file.write(b"\0" * 4096)
    except OSError as error:
        raise UserError(
            f"nothing can be written to {existing} ({error.strerror}): choose another {flag}."
        ) from None
