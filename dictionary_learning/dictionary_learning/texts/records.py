"""Records, one dict a document, from files, of this machine or at a URL.

.jsonl (also .jsonl.zst, .jsonl.gz), .json, .csv, .parquet, .txt. A line that cannot be read is counted and
skipped, and a warning gives the count at the end. Files of text are UTF-8, or what their byte order mark says
(see `encoding`).
"""

import csv
import gzip
import io
import json
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

from dictionary_learning.command.progress import n_of
from dictionary_learning.errors import UserError
from dictionary_learning.remote.connection import said
from dictionary_learning.remote.file_system import is_url
from dictionary_learning.remote.path import AnyPath, RemotePath, path_of
from dictionary_learning.texts.encoding import text_lines

Record = dict[str, Any]

# A text file longer than this becomes several documents, so that it can be split into train and eval.
TEXT_FILE_CHARACTERS = 10_000
TEXT = ".txt"
HEAD = 100  # records in which a field may be found; the first may lack it


def read_records(path: str | AnyPath) -> Iterator[Record]:
    """The records of a file, in its order; a .txt file gives records with the one field `text`.

    A .txt file is one document. One of more than `TEXT_FILE_CHARACTERS` characters is cut at blank lines into
    documents of about that length, because a document is what the train/eval split deals out.

    Raises:
        UserError: there is no such file, its suffix is unknown, or (while reading) nothing in it can be read.
    """
    path = path_of(path)
    if not path.is_file():
        if isinstance(path, RemotePath) and path.is_dir():
            raise UserError(f"{path} is a folder: give one of its files.")
        raise UserError(f"there is no file {path}: check the path.")
    suffix = format_of(path)
    if suffix is None:
        raise UserError(f"{path} has no suffix that can be read: give one of {', '.join(FORMATS)}.")
    return _counted(path, FORMATS[suffix])


def format_of(path: AnyPath) -> str | None:
    """The suffix by which a file is read, one of `FORMATS`; None if nothing reads it."""
    name = path.name.lower()
    return next((suffix for suffix in FORMATS if name.endswith(suffix)), None)


def is_local(dataset: str) -> bool:
    """Whether `dataset` names a file, there or missing, or a URL, rather than a data set on the hub."""
    if is_url(dataset):
        return True
    path = Path(dataset)
    return path.is_file() or (format_of(path) is not None and not path.is_dir())


def fields_of(records: Iterable[Record]) -> list[str]:
    """The fields that any of the records has, in the order in which they come."""
    return list(dict.fromkeys(str(field) for record in records for field in record))


def is_unicode(text: str) -> bool:
    """Whether a text can be written as UTF-8: lone surrogates, which JSON can name, cannot."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def as_unicode(text: str) -> str:
    """The text with a replacement character for each lone surrogate, so that it can be written and drawn."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _counted(path: AnyPath, read: Callable[[AnyPath], Iterable[Record | None]]) -> Iterator[Record]:
    """Yield what `read` could read; count its Nones, the lines that it could not."""
    n_good = n_bad = 0
    damage = ""
    try:
        for record in read(path):
            if record is None:
                n_bad += 1
            else:
                n_good += 1
                yield record
    except Exception as error:
        if isinstance(error, UserError) or not is_damage(error):
            raise
        damage = f"; it is damaged behind record {n_good} ({said(error)})"
    if n_good == 0:
        bad = f"{n_of(n_bad, 'line')} could not be read" if n_bad else "the file is empty"
        raise UserError(f"{path} holds no records ({damage[2:] or bad}): give a file with at least one.")
    if n_bad or damage:
        warnings.warn(
            f"{path}: {n_bad:,} of {n_good + n_bad:,} lines could not be read and were skipped{damage}"
        )


def is_damage(error: Exception) -> bool:
    """Whether a decompressor or the parquet reader says that the file's bytes are wrong."""
    import pyarrow
    import zstandard

    if isinstance(error, OSError):
        # of the system's errors, which have a number, none is one; pyarrow's have none
        return error.errno is None
    kinds = (EOFError, zlib.error, zstandard.ZstdError, pyarrow.ArrowException, UnicodeDecodeError)
    return isinstance(error, kinds)


def _json_line(line: str) -> Record | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def _read_lines(lines: Iterable[str]) -> Iterator[Record | None]:
    # files that were put together bring their byte order marks
    return (_json_line(line.lstrip("\ufeff")) for line in lines if line.strip())


def _read_jsonl(path: AnyPath) -> Iterator[Record | None]:
    return _read_lines(text_lines(path))


def _read_gz(path: AnyPath) -> Iterator[Record | None]:
    return _read_lines(text_lines(path, _open_gz))


@contextmanager
def _open_gz(path: AnyPath) -> Iterator[gzip.GzipFile]:
    with path.open("rb") as raw, gzip.GzipFile(fileobj=raw) as file:
        yield file


def _read_zst(path: AnyPath) -> Iterator[Record | None]:
    return _read_lines(text_lines(path, _open_zst))


@contextmanager
def _open_zst(path: AnyPath) -> Iterator[io.BufferedReader]:
    import zstandard

    # The Pile's files are many frames one after another, with long windows.
    decompressor = zstandard.ZstdDecompressor(max_window_size=2**31)
    with path.open("rb") as raw, decompressor.stream_reader(raw, read_across_frames=True) as file:
        yield io.BufferedReader(file)  # type: ignore[arg-type]


def _read_json(path: AnyPath) -> Iterator[Record | None]:
    """A list of objects; an object whose one list holds them; or JSON lines under the wrong suffix."""
    lines = list(text_lines(path))
    try:
        loaded = json.loads("".join(lines))
    except (ValueError, RecursionError):
        yield from _read_lines(lines)
        return
    if isinstance(loaded, dict):
        lists = [value for value in loaded.values() if isinstance(value, list)]
        loaded = lists[0] if len(lists) == 1 else [loaded]
    for record in loaded if isinstance(loaded, list) else [loaded]:
        yield record if isinstance(record, dict) else None


def _read_csv(path: AnyPath) -> Iterator[Record | None]:
    """With commas; with semicolons, as some spreadsheets write, or tabs where the first line has no comma."""
    csv.field_size_limit(2**31 - 1)
    lines = iter(text_lines(path, newline=""))
    first = next((line for line in lines if line.strip()), "")
    delimiter = next((one for one in ",;\t" if one in first), ",")
    rows = csv.reader(chain([first], lines), delimiter=delimiter)
    header: list[str] | None = None
    while True:
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error:
            yield None
            continue
        if not row:
            continue
        if header is None:
            header = [name.strip() for name in row]
        elif len(row) == len(header):
            # of two columns with one name, the first has it
            yield dict(zip(reversed(header), reversed(row), strict=True))
        else:
            yield None


def _read_parquet(path: AnyPath) -> Iterator[Record | None]:
    import pyarrow.parquet

    source = path.open_anywhere() if isinstance(path, RemotePath) else path
    # Checksums are compared where the writer made some.
    with pyarrow.parquet.ParquetFile(source, page_checksum_verification=True) as file:
        for batch in file.iter_batches(batch_size=256):
            yield from batch.to_pylist()


def _read_txt(path: AnyPath) -> Iterator[Record | None]:
    lines: list[str] = []
    n_characters = 0
    for line in text_lines(path, newline=None):
        lines.append(line)
        n_characters += len(line)
        # Without blank lines a book is cut at the end of a line.
        limit = TEXT_FILE_CHARACTERS if not line.strip() else 2 * TEXT_FILE_CHARACTERS
        if n_characters >= limit:
            yield {"text": "".join(lines).strip()}
            lines, n_characters = [], 0
    rest = "".join(lines).strip()
    if rest:
        yield {"text": rest}


FORMATS: dict[str, Callable[[AnyPath], Iterator[Record | None]]] = {
    ".jsonl": _read_jsonl,
    ".jsonl.zst": _read_zst,
    ".jsonl.gz": _read_gz,
    ".json": _read_json,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
    TEXT: _read_txt,
}
