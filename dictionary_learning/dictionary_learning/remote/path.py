"""A file or a folder at a URL, under the names that `pathlib.Path` has for the same things.

    path_of("s3://bucket/texts") / "a.jsonl"    # a RemotePath; path_of("texts") is a Path

What reads a `Path` by name, suffix, `is_dir`, `is_file` and `open` reads a `RemotePath`. As a text it is its
URL without secrets. Every error of the library behind it is a UserError.
"""

import io
import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import total_ordering
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar
from urllib.parse import quote, unquote

from dictionary_learning.command.files import FULL_DISK
from dictionary_learning.command.secrets import scrub_text
from dictionary_learning.errors import UserError
from dictionary_learning.remote.connection import (
    FIRST_WAITS,
    WAITS,
    behind,
    failure,
    is_drop,
    patiently,
)
from dictionary_learning.remote.file_system import HTTP, is_url, open_file_system, protocol_of

Answer = TypeVar("Answer")
Info = Mapping[str, Any]

_BUFFER = 1 << 18
# By what a file is known to be the same one; whatever of it a store tells.
_MARKS = ("ETag", "etag", "Content-MD5", "md5Hash", "content_md5", "generation", "blob_id")
_TIMES = ("LastModified", "Last-Modified", "last_modified", "mtime", "updated", "created")
# Stores in which a file appears when all of it has arrived; elsewhere it is sent under another name first.
_WHOLE_OR_NOT = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "hf", "memory", "oss", "oci"}


@total_ordering
class RemotePath:
    """A file or a folder at a URL; nothing is asked of it before it is used.

    Attributes:
        url: with its secrets, for whoever opens it again.
    """

    def __init__(self, url: str) -> None:
        """Raises UserError as `open_file_system`."""
        self.url = url if url.endswith("://") else url.rstrip("/")
        self.protocol = protocol_of(url)
        self._fs, self._path = open_file_system(self.url)

    def __str__(self) -> str:
        return scrub_text(self.url)

    def __repr__(self) -> str:
        return f"RemotePath({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RemotePath) and self.url == other.url

    def __lt__(self, other: "RemotePath") -> bool:
        return self.url < other.url

    def __hash__(self) -> int:
        return hash(self.url)

    # --- its name ---

    @property
    def is_http(self) -> bool:
        return self.protocol in HTTP

    @property
    def _pure(self) -> PurePosixPath:
        """What stands behind the protocol, without a query."""
        path = self.url.partition("://")[2]
        return PurePosixPath(unquote(path.partition("?")[0].partition("#")[0]) if self.is_http else path)

    @property
    def name(self) -> str:
        return self._pure.name

    @property
    def stem(self) -> str:
        return self._pure.stem

    @property
    def suffix(self) -> str:
        return self._pure.suffix

    def relative_to(self, folder: "RemotePath") -> PurePosixPath:
        return self._pure.relative_to(folder._pure)

    def __truediv__(self, name: str) -> "RemotePath":
        return self._child(quote(name) if self.is_http else name)

    def _child(self, name: str) -> "RemotePath":
        """What has this name below here, as a URL writes it; a query stays behind it."""
        if not self.is_http:
            return RemotePath(f"{self.url.rstrip('/') if not self.url.endswith('://') else self.url}/{name}")
        path, mark, query = self.url.partition("?")
        return RemotePath(f"{path.rstrip('/')}/{name}{mark}{query}")

    # --- what is there ---

    def info(self) -> Info | None:
        """What the store says of it; None where nothing is there."""

        def ask() -> Info | None:
            self._fs.invalidate_cache(self._fs._parent(self._path))
            try:
                return self._fs.info(self._path)
            except FileNotFoundError as error:
                # over HTTP every failure is one; what happened stands behind it
                causes = behind(error)[1:]
                if self.is_http and not any(getattr(one, "status", None) in (404, 410) for one in causes):
                    raise
                return None

        return self._ask(ask)

    def exists(self) -> bool:
        return self.info() is not None

    def is_dir(self) -> bool:
        info = self.info()
        return info is not None and self._is_folder(info)

    def is_file(self) -> bool:
        info = self.info()
        return info is not None and not self._is_folder(info)

    def _is_folder(self, info: Info) -> bool:
        # a server says of a folder that it is a page of links
        return info["type"] == "directory" or (self.is_http and info.get("mimetype") == "text/html")

    def files(self) -> "dict[str, tuple[RemotePath, Info]]":
        """The files below a folder, at any depth, by their names from here; empty where nothing is there.

        Raises:
            UserError: the place cannot be reached or listed, or is a file.
        """

        def find() -> Mapping[str, Info]:
            self._fs.invalidate_cache()
            try:
                return self._fs.find(self._path, detail=True)
            except FileNotFoundError:
                return {}

        found: Mapping[str, Info] = self._ask(find, "listed")
        files = {}
        for path, info in sorted(found.items()):
            inside = path.removeprefix(self._path.partition("?")[0]).lstrip("/")
            if not inside:
                raise UserError(f"{self} is a file: give the folder that it is in.")
            if self.is_http and (inside.endswith("/") or "?" in inside):
                continue  # a folder, or another order of the page of links
            name = unquote(inside) if self.is_http else inside
            if not {"", ".", ".."} & set(name.split("/")):  # nothing that leads out of a folder of its name
                files[name] = self._child(inside), info
        return files

    def mark(self, info: Info | None = None) -> str:
        """A text that is another one when the file is; empty where the store tells nothing of it."""
        info = info if info is not None and info.get("size") is not None else self.info()
        if info is None:
            return ""
        told = {name: str(info[name]) for name in _MARKS if info.get(name)}
        told = told or {name: str(info[name]) for name in _TIMES if info.get(name)}
        return json.dumps({**told, "size": info.get("size")}) if told else ""

    # --- reading ---

    def open(self, mode: str = "rb") -> io.BufferedReader:
        """The file to be read from its beginning, where a dropped connection loses nothing.

        Raises:
            UserError: (while reading, too) it is not there, cannot be read or cannot be reached.
        """
        assert mode == "rb"
        return io.BufferedReader(_Steady(self), _BUFFER)

    def open_anywhere(self) -> Any:
        """The file to be read at any place, as parquet is.

        Raises:
            UserError: as `open`; its server gives files from their beginning only.
        """

        def begin() -> Any:
            file = self._fs.open(self._path, "rb")
            try:
                file.seek(-1, io.SEEK_END)
                file.read(1)
                file.seek(0)
            except ValueError:  # the server gives whole files only
                file = tempfile.TemporaryFile()  # noqa: SIM115
                self._fs.get_file(self._path, file)
                file.seek(0)
            return file

        return self._ask(begin)

    def _open_raw(self) -> Any:
        """The file from its beginning: over HTTP as one answer, since not every server gives parts."""
        return self._fs.open(self._path, "rb", **({"block_size": 0} if self.is_http else {}))

    def read_bytes(self) -> bytes:
        return self._ask(lambda: self._fs.cat_file(self._path))

    def fetch(self, target: Path, told: bool = False) -> None:
        """Copy the file to this machine; `target` is not whole before this returns.

        Args:
            told: show how far it is.
        """
        self._ask(lambda: self._fs.get_file(self._path, str(target), callback=_bar(told, self.name)))

    # --- writing ---

    def upload(self, source: Path, waits: Sequence[float] = WAITS, told: bool = False) -> None:
        """Put a file of this machine here, whole or not at all."""

        def put() -> None:
            self._make_parent()
            target = self._path if self.protocol in _WHOLE_OR_NOT else f"{self._path}.part"
            self._fs.put_file(str(source), target, callback=_bar(told, self.name))
            if target != self._path:
                self._fs.mv(target, self._path)

        self._ask(put, "written", waits)

    def write_bytes(self, content: bytes) -> None:
        """Put a small file here."""

        def pipe() -> None:
            self._make_parent()
            self._fs.pipe_file(self._path, content)

        self._ask(pipe, "written")

    def unlink(self) -> None:
        """Remove the file, if it is there."""

        def remove() -> None:
            try:
                self._fs.rm_file(self._path)
            except FileNotFoundError:
                return

        self._ask(remove, "removed")

    def _make_parent(self) -> None:
        if self.protocol not in _WHOLE_OR_NOT or self.protocol == "memory":
            self._fs.makedirs(self._fs._parent(self._path), exist_ok=True)

    def _ask(
        self, action: Callable[[], Answer], doing: str = "read", waits: Sequence[float] = FIRST_WAITS
    ) -> Answer:
        """What the store answers; its errors as sentences."""
        try:
            return patiently(action, str(self), waits)
        except UserError:
            raise
        except (AssertionError, AttributeError, NameError):
            raise  # ours
        except Exception as error:  # of any library
            if isinstance(error, OSError) and error.errno in FULL_DISK:
                raise UserError(
                    f"the disk is full, so {self} could not be {doing}: free some space, or set "
                    "TEMPORAL_SAES_CACHE to a folder elsewhere."
                ) from error
            raise failure(self, error, doing) from error


AnyPath = Path | RemotePath


def path_of(name: str | AnyPath) -> AnyPath:
    """What stands at a path of this machine or at a URL."""
    if isinstance(name, RemotePath):
        return name
    return RemotePath(name) if isinstance(name, str) and is_url(name) else Path(os.path.expanduser(name))


def name_of(path: AnyPath) -> str:
    """What `path_of` makes the path of again; of a URL with its secrets."""
    return path.url if isinstance(path, RemotePath) else str(path)


def settled(name: str) -> str:
    """A place by a name that is good in every folder: a URL as it is, a path in full."""
    return name if is_url(name) else str(Path(os.path.expanduser(name)).resolve())


class _Steady(io.RawIOBase):
    """A remote file, read on where the connection dropped."""

    def __init__(self, path: RemotePath) -> None:
        self._remote = path
        self._at = 0
        self._file = path._ask(path._open_raw)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)

        def read() -> bytes:
            try:
                if self._file is None:
                    self._file = self._again()
                return self._file.read(len(view))
            except Exception as error:
                if any(is_drop(one) for one in behind(error)):
                    self._file = None
                raise

        content = self._remote._ask(read, waits=WAITS)
        view[: len(content)] = content
        self._at += len(content)
        return len(content)

    def _again(self) -> Any:
        """The file at the same place, opened anew."""
        file = self._remote._open_raw()
        if not self._remote.is_http:
            file.seek(self._at)
            return file
        left = self._at
        while left:
            passed = file.read(min(left, _BUFFER))
            if not passed:
                raise EOFError(f"it is shorter than it was: {self._at - left:,} bytes")
            left -= len(passed)
        return file

    def close(self) -> None:
        if not self.closed and self._file is not None:
            self._file.close()
        super().close()


def _bar(told: bool, name: str) -> Any:
    from fsspec.callbacks import DEFAULT_CALLBACK, TqdmCallback

    if not told:
        return DEFAULT_CALLBACK
    return TqdmCallback(
        tqdm_kwargs={"desc": name, "unit": "B", "unit_scale": True, "leave": False, "disable": None}
    )
