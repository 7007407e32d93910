"""A marker at a URL that somebody writes there: the best that can be done where there are no locks.

    <url>/.claim.json    {"host": ..., "pid": ..., "token": ..., "touched": ..., "what": ...}

It is renewed every minute. One that nobody has renewed for five, or whose process of this machine is dead, is
taken over. Two that begin within the same second, or a clock that is five minutes off, are not noticed.
"""

import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from dictionary_learning.command.progress import say
from dictionary_learning.command.rehearsal import is_on as is_rehearsal
from dictionary_learning.errors import UserError
from dictionary_learning.remote.path import RemotePath

CLAIM = ".claim.json"
RENEWED_SECONDS, STALE_SECONDS = 60.0, 300.0


@contextmanager
def claimed(folder: RemotePath, what: str) -> Iterator[None]:
    """A folder at a URL for this process alone, as far as that can be known; a rehearsal leaves no marker.

    Args:
        what: what is done to it, such as "training in".

    Raises:
        UserError: another process writes there, or nothing can be written there.
    """
    marker = folder / CLAIM
    _check_free(folder, marker)
    if is_rehearsal():
        yield
        return
    own = {"host": socket.gethostname(), "pid": os.getpid(), "token": secrets.token_hex(8), "what": what}
    _renew(marker, own)
    over = threading.Event()
    renewing = threading.Thread(target=_keep, args=(marker, own, over), daemon=True)
    renewing.start()
    try:
        yield
    finally:
        over.set()
        renewing.join(timeout=10)
        with suppress(UserError):  # it becomes stale by itself
            if _read(marker).get("token") == own["token"]:
                marker.unlink()


def _check_free(folder: RemotePath, marker: RemotePath) -> None:
    found = _read(marker)
    if not found:
        return
    import psutil

    age = abs(time.time() - found["touched"])
    is_here = found["host"] == socket.gethostname()
    # the process of this number is another one now where it is ourselves
    is_dead = is_here and (found["pid"] == os.getpid() or not psutil.pid_exists(found["pid"]))
    if age > STALE_SECONDS or is_dead:
        if not is_rehearsal():
            say(f"{folder}: process {found['pid']} on {found['host']} has ended without saying so.")
        return
    raise UserError(
        f"process {found['pid']} on {found['host']} is {found['what']} {folder}, and said so {age:.0f} s ago:"
        f" wait for it, or stop it (if it was killed, its claim ends after {STALE_SECONDS / 60:.0f} minutes)."
    )


def _read(marker: RemotePath) -> dict[str, Any]:
    """What the marker says; nothing where there is none, or another kind of file."""
    if not marker.exists():
        return {}
    try:
        found = json.loads(marker.read_bytes())
        is_ours = isinstance(found["host"], str) and isinstance(found["what"], str)
        if is_ours and isinstance(found["pid"], int) and isinstance(found["touched"], float):
            return found
    except UserError:
        raise
    except (ValueError, KeyError, TypeError):
        pass
    return {}


def _renew(marker: RemotePath, own: dict[str, Any]) -> None:
    marker.write_bytes(json.dumps({**own, "touched": time.time()}).encode())


def _keep(marker: RemotePath, own: dict[str, Any], over: threading.Event) -> None:
    while not over.wait(RENEWED_SECONDS):
        with suppress(UserError):  # the store may be back at the next time
            _renew(marker, own)
