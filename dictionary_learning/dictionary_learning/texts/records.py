"""Records, one dict a document, from local files and from data sets on the Hugging Face hub.

Local files: .jsonl (also .jsonl.zst, .jsonl.gz), .json, .csv, .parquet, .txt. A line that cannot be read is
counted and skipped, and a warning gives the count at the end. A hub data set is streamed; when the connection
drops, it is opened again and goes on behind the last record.
"""

import csv
import gzip
import io
import json
import time
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from dictionary_learning.errors import UserError

Record = dict[str, Any]

# A text file longer than this becomes several documents, so that it can be split into train and eval.
TEXT_FILE_CHARACTERS = 10_000
# Seconds to wait before each new attempt; ten minutes of a silent hub end the stream.
_WAITS = (1, 2, 4, 8, 16, 32, 60, 120, 180, 180)
# Before the first record somebody is waiting: a wrong setting shows at once.
_FIRST_WAITS = (1, 2)
_REMEMBER_EVERY = 1_000
_NETWORK_LIBRARIES = {"aiohttp", "httpcore", "httpcore2", "httpx", "httpx2", "requests", "urllib3"}


def read_records(path: str | Path) -> Iterator[Record]:
    """The records of a local file, in its order; a .txt file gives records with the one field `text`.

    A .txt file is one document. One of more than `TEXT_FILE_CHARACTERS` characters is cut at blank lines into
    documents of about that length, because a document is what the train/eval split deals out.

    Raises:
        UserError: there is no such file, its suffix is unknown, or (while reading) nothing in it can be read.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"there is no file {path}: check the path.")
    read = _reader(path)
    if read is None:
        raise UserError(f"{path} has no suffix that can be read: give one of {', '.join(_FORMATS)}.")
    return _counted(path, read)


def is_local(dataset: str) -> bool:
    """Whether `dataset` names a local file, there or missing, rather than a data set on the hub."""
    return Path(dataset).is_file() or _reader(Path(dataset)) is not None


def is_unicode(text: str) -> bool:
    """Whether a text can be written as UTF-8: lone surrogates, from bytes that were not UTF-8, cannot."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def hub_records(
    name: str,
    *,
    subset: str | None = None,
    split: str = "train",
    start: int = 0,
    data_dir: str | None = None,
) -> Iterator[Record]:
    """The records of a hub data set (or a local folder like one) from number `start` on, streamed.

    A lost connection is met with exponential back-off. The stream is then opened again at a remembered
    position, so that nothing is read twice or left out.

    Args:
        subset: a named configuration of the data set.
        data_dir: a folder of its files, for data sets whose parts have no names but folders.

    Raises:
        UserError: the hub cannot be reached, or the data set, subset or split does not exist.
    """
    _check_reachable(name)
    try:
        stream = _open(name, subset, split, data_dir)
    except OSError as error:
        if not is_drop(error):
            raise
        raise UserError(_unreachable(name, error)) from None
    return _follow(stream, lambda: _open(name, subset, split, data_dir), name, start)


# --- local files ---


def _counted(path: Path, read: Callable[[Path], Iterable[Record | None]]) -> Iterator[Record]:
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
        if not _is_damage(error):
            raise
        damage = f"; it is damaged behind record {n_good} ({_said(error)})"
    if n_good == 0:
        bad = f"{n_bad:,} lines could not be read" if n_bad else "the file is empty"
        raise UserError(f"{path} holds no records ({damage[2:] or bad}): give a file with at least one.")
    if n_bad or damage:
        warnings.warn(
            f"{path}: {n_bad:,} of {n_good + n_bad:,} lines could not be read and were skipped{damage}"
        )


def _is_damage(error: Exception) -> bool:
    """Whether a decompressor or the parquet reader says that the file's bytes are wrong."""
    import pyarrow
    import zstandard

    kinds = (EOFError, gzip.BadGzipFile, zlib.error, zstandard.ZstdError, pyarrow.ArrowException)
    return isinstance(error, kinds)


def _json_line(line: bytes) -> Record | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def _read_lines(lines: Iterable[bytes]) -> Iterator[Record | None]:
    return (_json_line(line) for line in lines if line.strip())


def _read_jsonl(path: Path) -> Iterator[Record | None]:
    with path.open("rb") as file:
        yield from _read_lines(file)


def _read_gz(path: Path) -> Iterator[Record | None]:
    with gzip.open(path, "rb") as file:
        yield from _read_lines(file)


def _read_zst(path: Path) -> Iterator[Record | None]:
    import zstandard

    # The Pile's files are many frames one after another, with long windows.
    decompressor = zstandard.ZstdDecompressor(max_window_size=2**31)
    with path.open("rb") as raw, decompressor.stream_reader(raw, read_across_frames=True) as file:
        yield from _read_lines(io.BufferedReader(file))  # type: ignore[arg-type]


def _read_json(path: Path) -> Iterator[Record | None]:
    """A list of objects; an object whose one list holds them; or JSON lines under the wrong suffix."""
    data = path.read_bytes()
    try:
        loaded = json.loads(data)
    except (ValueError, RecursionError):
        yield from _read_lines(data.splitlines())
        return
    if isinstance(loaded, dict):
        lists = [value for value in loaded.values() if isinstance(value, list)]
        loaded = lists[0] if len(lists) == 1 else [loaded]
    for record in loaded if isinstance(loaded, list) else [loaded]:
        yield record if isinstance(record, dict) else None


def _read_csv(path: Path) -> Iterator[Record | None]:
    csv.field_size_limit(2**31 - 1)
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        rows = csv.reader(file)
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
                header = row
            elif len(row) == len(header) and is_unicode("".join(row)):
                yield dict(zip(header, row, strict=True))
            else:
                yield None


def _read_parquet(path: Path) -> Iterator[Record | None]:
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=256):
            yield from batch.to_pylist()


def _read_txt(path: Path) -> Iterator[Record | None]:
    lines: list[str] = []
    n_characters = 0
    with path.open("rb") as file:
        for line in file:
            try:
                lines.append(line.decode("utf-8-sig"))
            except UnicodeDecodeError:
                yield None
                continue
            n_characters += len(lines[-1])
            # Without blank lines a book is cut at the end of a line.
            limit = TEXT_FILE_CHARACTERS if not lines[-1].strip() else 2 * TEXT_FILE_CHARACTERS
            if n_characters >= limit:
                yield {"text": "".join(lines).strip()}
                lines, n_characters = [], 0
    rest = "".join(lines).strip()
    if rest:
        yield {"text": rest}


_FORMATS: dict[str, Callable[[Path], Iterator[Record | None]]] = {
    ".jsonl": _read_jsonl,
    ".jsonl.zst": _read_zst,
    ".jsonl.gz": _read_gz,
    ".json": _read_json,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
    ".txt": _read_txt,
}


def _reader(path: Path) -> Callable[[Path], Iterator[Record | None]] | None:
    """What reads files of this suffix; None if nothing does."""
    name = path.name.lower()
    return next((read for suffix, read in _FORMATS.items() if name.endswith(suffix)), None)


# --- the hub ---


def _check_reachable(name: str) -> None:
    """One quick question to the hub, which `load_dataset` would put half a minute of retries into."""
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HfHubHTTPError

    # Offline, a data set in the cache may still be there.
    if Path(name).is_dir() or constants.HF_HUB_OFFLINE:
        return
    n_failures = 0
    while True:
        try:
            HfApi().dataset_info(name, timeout=10)
            return
        except Exception as error:
            if is_drop(error):
                if n_failures == len(_FIRST_WAITS):
                    raise UserError(_unreachable(name, error)) from None
                time.sleep(_FIRST_WAITS[n_failures])
                n_failures += 1
            elif isinstance(error, HfHubHTTPError | ValueError):  # no such name, gated, or not a name at all
                raise UserError(_not_there(name, error)) from None
            else:
                raise


def _open(name: str, subset: str | None, split: str, data_dir: str | None) -> Any:
    """`datasets.load_dataset` in streaming mode, with its errors as sentences."""
    import datasets

    try:
        return datasets.load_dataset(name, subset, split=split, data_dir=data_dir, streaming=True)
    except (ValueError, RuntimeError, FileNotFoundError) as error:
        # In this order: a wrong subset or split, a data set that is a script, none at all or a gated one.
        raise UserError(_not_there(name, error)) from None


def _follow(stream: Any, reopen: Callable[[], Any], name: str, start: int) -> Iterator[Record]:
    """Records of a streaming data set from `start` on; where the connection drops, of a reopened one."""
    position = start
    remembered: tuple[int, dict[str, Any]] | None = None  # where a reopened stream can start without reading
    n_failures = 0
    while True:
        try:
            stream = reopen() if stream is None else stream
            if start:
                stream = stream.skip(start)
            if remembered:
                stream.load_state_dict(remembered[1])
            n_known = position - (remembered[0] if remembered else start)
            for record in islice(stream, n_known, None):
                position += 1
                n_failures = 0
                if position % _REMEMBER_EVERY == 0:
                    remembered = position, stream.state_dict()
                yield record
            return
        except Exception as error:
            if not is_drop(error):
                raise
            waits = _WAITS if position > start else _FIRST_WAITS
            if n_failures == len(waits):
                raise UserError(_unreachable(name, error, position)) from error
            wait = waits[n_failures]
            n_failures += 1
            warnings.warn(
                f"{name}: the connection dropped at record {position:,} ({_said(error)});"
                f" trying again in {wait} s"
            )
            time.sleep(wait)
            stream = None


def is_drop(error: Exception) -> bool:
    """Whether a second attempt may succeed: connection errors, time-outs and 5xx answers, not 4xx."""
    status = getattr(getattr(error, "response", None), "status_code", None) or getattr(error, "status", None)
    if isinstance(status, int) and 400 <= status < 500:
        return status in (408, 429)
    if isinstance(error, ConnectionError | TimeoutError):
        return True
    return any(kind.__module__.split(".")[0] in _NETWORK_LIBRARIES for kind in type(error).__mro__)


def _said(error: BaseException) -> str:
    """What an error says, short and on one line."""
    text = " ".join(str(error).split()).strip(" .:") or type(error).__name__
    return text if len(text) <= 200 else text[:199] + "…"


_INSTEAD = "use --dataset demo or a local file (" + ", ".join(_FORMATS) + ")"


def _not_there(name: str, error: Exception) -> str:
    return (
        f"the data set {name!r} cannot be opened ({_said(error)}): check its name, subset and split, log in"
        f" with `hf auth login` if it is gated, or {_INSTEAD}."
    )


def _unreachable(name: str, error: Exception, position: int = 0) -> str:
    where = f" behind record {position:,}" if position else ""
    return (
        f"the data set {name!r} cannot be reached on the Hugging Face hub{where} ({_said(error)}): check the"
        f" connection, or {_INSTEAD}."
    )
