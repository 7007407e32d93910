"""Data sets and models in the names of files: other ones have other names."""

import hashlib
import re
from pathlib import Path

from dictionary_learning.command.secrets import scrub_text
from dictionary_learning.remote.file_system import is_url
from dictionary_learning.remote.path import RemotePath
from dictionary_learning.texts.data_sets import KINDS


def slug(text: str) -> str:
    """The text with only letters, digits, dots and dashes, to be part of a file name."""
    return re.sub(r"[^\w.-]+", "-", text.rstrip("/")).strip("-.") or "x"


def place_name(place: str) -> str:
    """A hub id or name as it is; the last part of a path or URL with a hash, as other folders may have it."""
    if is_url(place):
        told = scrub_text(place)
        return f"{slug(RemotePath(place).stem)}-{hashlib.sha256(told.encode()).hexdigest()[:6]}"
    path = Path(place)
    if any(place in names for names in KINDS.values()) or not path.exists():
        return slug(place)
    digest = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:6]
    return f"{slug(path.stem if path.is_file() else path.resolve().name)}-{digest}"
