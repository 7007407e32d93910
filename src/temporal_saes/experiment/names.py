"""Names of files, which tell results of other data, models and options apart."""

import hashlib
import re
from pathlib import Path
from typing import NamedTuple

from dictionary_learning.command.secrets import scrub_text
from dictionary_learning.remote.file_system import is_url
from dictionary_learning.remote.path import RemotePath
from dictionary_learning.texts.data_sets import KINDS
from temporal_saes.experiment.options import ExperimentOptions


def beside(path: Path, suffix: str) -> Path:
    """The path with a suffix behind its name, which may have dots of its own."""
    return path.with_name(path.name + suffix)


def slug(text: str) -> str:
    """The text with only letters, digits, dots and dashes, to be part of a file name."""
    return re.sub(r"[^\w.-]+", "-", text.rstrip("/")).strip("-.") or "x"


class OfData(NamedTuple):
    """The options that name a data set."""

    dataset: str
    data_path: str | None = None
    text_field: str | None = None
    label_field: str | None = None
    categories: str | None = None


def dataset_name(options: ExperimentOptions | OfData) -> str:
    """The data set in a file name, with the fields that were chosen."""
    name = slug(options.dataset) if options.data_path else place_name(options.dataset)
    if options.data_path:
        name += f"-{place_name(options.data_path)}"
    fields = [slug(field) for field in (options.text_field, options.label_field) if field is not None]
    fields += [place_name(options.categories)] if options.categories is not None else []
    return "-".join([name, *fields])


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
