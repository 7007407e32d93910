"""One writer a folder: whoever writes a run, a cache, a browser or answers holds the folder's lock meanwhile.

Or one a file, for which others wait (`in_turn`). The system releases the lock when its process dies, however
it dies.
"""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from dictionary_learning.command.files import LEFTOVER, naming
from dictionary_learning.command.progress import say
from dictionary_learning.command.rehearsal import is_on as is_rehearsal
from dictionary_learning.errors import UserError

if TYPE_CHECKING:
    from filelock import FileLock

LOCK = ".lock"
HOLDER = ".lock.json"  # who has it; beside the lock, which a second process opens, too


@contextmanager
def locked(folder: Path, what: str = "writing") -> Iterator[None]:
    """A folder for this process alone; made where it is missing, and removed again if it stays empty.

    A rehearsal makes none: one that is missing is nobody's.

    Args:
        what: what is done to the folder meanwhile, for the sentence that another process gets.

    Raises:
        UserError: another process has it; says which, and since when.
    """
    if is_rehearsal() and not folder.exists():
        yield
        return

    import socket

    from filelock import Timeout

    try:
        with _made(folder), exclusive(folder / LOCK, timeout=0):
            holder = {"host": socket.gethostname(), "pid": os.getpid(), "since": time.time(), "what": what}
            (folder / HOLDER).write_text(json.dumps(holder), encoding="utf-8")
            try:
                yield
            finally:
                (folder / HOLDER).unlink(missing_ok=True)
                (folder / LOCK).unlink(missing_ok=True)
    except Timeout:
        raise UserError(f"{_holder(folder)} {folder}: wait for it, or stop it.") from None


@contextmanager
def exclusive(path: Path, timeout: float = -1) -> Iterator[None]:
    """A lock file for this process alone.

    Args:
        timeout: seconds that it waits for another one; for ever if negative.

    Raises:
        Timeout: of filelock: another one has it.
        OSError: its file system has no locks, as NFS without a lock daemon; names the file.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(path, timeout=timeout)
    try:
        with naming(path):
            lock.acquire()
    except Timeout:  # an OSError, too
        raise
    except OSError:
        path.unlink(missing_ok=True)  # nobody can hold it
        raise
    try:
        yield
    finally:
        lock.release()


@contextmanager
def in_turn(path: Path) -> Iterator[None]:
    """For whoever makes a file: others that would make it wait meanwhile, and then look whether it is there.

    Args:
        path: of the file, with its suffix or without.
    """
    if is_rehearsal():
        yield
        return

    from filelock import Timeout

    with _made(path.parent):
        lock = _lock_of(path)
        try:
            with naming(lock.lock_file):
                lock.acquire(timeout=0)
        except Timeout:
            say(f"another process is at work on {path}: waiting for it")
            lock.acquire()
        with _removed(lock):
            yield


@contextmanager
def if_free(path: Path) -> Iterator[bool]:
    """Whether a file is this process's to make now: False where another one is at work on it.

    Args:
        path: of the file.
    """
    from filelock import Timeout

    lock = _lock_of(path)
    try:
        with naming(lock.lock_file):
            lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    with _removed(lock):
        yield True


def _lock_of(path: Path) -> "FileLock":
    """The lock of a file, beside it."""
    from filelock import FileLock

    return FileLock(path.with_name(f".{path.name[:100]}{LOCK}"))


@contextmanager
def _removed(lock: "FileLock") -> Iterator[None]:
    """A lock that is held, released and without its file at the end."""
    try:
        yield
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


@contextmanager
def _made(folder: Path) -> Iterator[None]:
    """A folder that is made where it is missing, and removed again if it stays empty."""
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        for path in new:
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()


def _holder(folder: Path) -> str:
    """Who has the lock, and what for, as the beginning of a sentence."""
    try:
        holder = json.loads((folder / HOLDER).read_text(encoding="utf-8"))
        seconds = max(0.0, time.time() - holder["since"])
        age = f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.0f} min"
        return f"process {holder['pid']} on {holder['host']}, for {age} now, is {holder['what']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process is writing"


def is_ours_alone(folder: Path) -> bool:
    """Whether a folder holds nothing but what an interrupted start of ours left: locks and parts of files.

    A folder that is missing or empty does, too.
    """
    return not folder.exists() or (
        folder.is_dir()
        and all(
            path.name in (LOCK, HOLDER) or (LEFTOVER.fullmatch(path.name) and path.is_file())
            for path in folder.iterdir()
        )
    )


def remove_leftovers(folder: Path) -> None:
    """Remove the parts of files that killed writers left in a folder; call it while the lock is held."""
    if is_rehearsal():
        return
    for path in folder.rglob(".*.part"):
        if LEFTOVER.fullmatch(path.name) and path.is_file():
            path.unlink(missing_ok=True)
