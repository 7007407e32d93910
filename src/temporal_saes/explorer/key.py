"""The token in the address: whoever has it may ask.

It is kept in a file that only its owner can read, so that a page that is open goes on when the server is
started anew, and a bookmark stays right.
"""

import os
import re
import secrets
from contextlib import suppress
from pathlib import Path

from dictionary_learning.command.files import cache_folder

_TOKEN = re.compile(r"[A-Za-z0-9_-]{32,}")


def find_token(*, new: bool = False) -> str:
    """The token of the last time; another one if there is none, or if it is asked for.

    Where it cannot be kept it is good for this time alone.
    """
    path = cache_folder() / "explorer" / "token"
    with suppress(OSError, UnicodeDecodeError):
        kept = path.read_text("ascii").strip()
        is_private = os.name != "posix" or path.stat().st_mode & 0o077 == 0
        if not new and is_private and _TOKEN.fullmatch(kept):
            return kept
    token = secrets.token_urlsafe(32)
    with suppress(OSError):
        _keep(path, token)
    return token


def _keep(path: Path, token: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.unlink(missing_ok=True)
    # never readable by others, not even for a moment
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
        file.write(token)
