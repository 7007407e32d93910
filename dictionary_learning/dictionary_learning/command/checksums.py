"""The SHA-256 of files of weights, in a `checksums.json` beside them: a flipped bit has no other sign.

    {"ae.pt": ["2c26b46b68ff..."]}

While a file is replaced it has two: the old one's and the new one's, so that whichever is there when the
machine stops is known. A folder without a checksums.json, or a file that is not in it, is read as it is.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from dictionary_learning.command.files import read_json, save_atomically, save_text
from dictionary_learning.errors import UserError

CHECKSUMS = "checksums.json"


def save_with_checksum(path: str | Path, write: Callable[[BinaryIO], object]) -> None:
    """`save_atomically`, with the file's SHA-256 recorded beside it.

    Raises:
        UserError: the disk is full.
    """
    path = Path(path)
    digest = ""

    def write_and_record(file: BinaryIO) -> None:
        nonlocal digest
        write(file)
        file.flush()
        digest = sha256_of(file.name)
        before = _recorded(path) or ([sha256_of(path)] if path.is_file() else [])
        _record(path, [*before, digest])

    save_atomically(path, write_and_record)
    _record(path, [digest])


def record_checksum(path: str | Path) -> None:
    """Record the SHA-256 of a file that is there."""
    _record(Path(path), [sha256_of(path)])


def check_checksum(path: str | Path) -> None:
    """Compare a file with its checksum, where one is recorded.

    Raises:
        UserError: it is another file.
    """
    path = Path(path)
    recorded = _recorded(path)
    if recorded and sha256_of(path) not in recorded:
        raise UserError(
            f"{path} is damaged or was replaced (its SHA-256 is not the one in {CHECKSUMS} beside it): copy "
            f"it again, or remove {CHECKSUMS} if you replaced it yourself."
        )


def sha256_of(path: str | Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _recorded(path: Path) -> list[str]:
    """The digests of a file; none where it is not in the record."""
    return _read(path.with_name(CHECKSUMS)).get(path.name, [])


def _record(path: Path, digests: list[str]) -> None:
    record = path.with_name(CHECKSUMS)
    save_text(record, json.dumps({**_read(record), path.name: digests}, indent=1) + "\n")


def _read(record: Path) -> dict[str, Any]:
    if not record.is_file():
        return {}
    expected = "a JSON object of file names and lists of SHA-256"
    content = read_json(record, expected)
    if not isinstance(content, dict) or not all(isinstance(value, list) for value in content.values()):
        raise UserError(f"{record} is damaged or of another kind: {expected} was expected.")
    return content
