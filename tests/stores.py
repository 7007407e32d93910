"""Stores behind URLs: one in memory, one whose connection drops, and machines that share them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from dictionary_learning.command import files
from dictionary_learning.remote import connection, mirror


class ShakyStore(MemoryFileSystem):
    """`shaky://`: the store in memory, over a connection that drops.

    Attributes:
        drops: how many of the next calls fail; each fails before it has done anything.
        drop_after: a file is read so many bytes far, then the connection drops once.
        calls: names of all calls.
        refuses: nothing may be written.
    """

    protocol = "shaky"
    drops = 0
    drop_after: int | None = None
    refuses = False
    calls: list[str] = []  # noqa: RUF012

    @classmethod
    def _strip_protocol(cls, path: Any) -> str:
        return MemoryFileSystem._strip_protocol(str(path).removeprefix("shaky://"))

    def _call(self, name: str) -> None:
        ShakyStore.calls.append(name)
        if ShakyStore.drops > 0:
            ShakyStore.drops -= 1
            raise ConnectionResetError("reset by peer")

    def info(self, path: str, **kwargs: Any) -> Any:
        self._call("info")
        return super().info(path, **kwargs)

    def find(self, path: str, **kwargs: Any) -> Any:  # type: ignore[override]
        self._call("find")
        return super().find(path, **kwargs)

    def get_file(self, rpath: str, lpath: str, **kwargs: Any) -> Any:
        self._call("get")
        return super().get_file(rpath, lpath, **kwargs)

    def put_file(self, lpath: str, rpath: str, **kwargs: Any) -> Any:
        self._call("put")
        if ShakyStore.refuses:
            raise PermissionError("read-only credentials")
        return super().put_file(lpath, rpath, **kwargs)

    def pipe_file(self, path: str, value: bytes, **kwargs: Any) -> Any:
        self._call("pipe")
        if ShakyStore.refuses:
            raise PermissionError("read-only credentials")
        return super().pipe_file(path, value, **kwargs)

    def _open(self, path: str, mode: str = "rb", **kwargs: Any) -> Any:
        self._call("open")
        file = super()._open(path, mode, **kwargs)
        return _Dropping(file) if "r" in mode else file


class _Dropping:
    """A file of the store, whose connection drops once behind `ShakyStore.drop_after` bytes."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def read(self, n: int = -1) -> bytes:
        limit = ShakyStore.drop_after
        if limit is not None and self._file.tell() + n > limit:
            if self._file.tell() >= limit:
                ShakyStore.drop_after = None
                raise ConnectionResetError("reset by peer")
            n = limit - self._file.tell()
        return self._file.read(n)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> "_Dropping":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


@contextmanager
def empty_stores(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing is in the stores, and no attempt has to wait for the next."""
    fsspec.register_implementation("shaky", ShakyStore, clobber=True)
    monkeypatch.setattr(connection.time, "sleep", lambda seconds: None)

    def clear() -> None:
        MemoryFileSystem.store.clear()
        MemoryFileSystem.pseudo_dirs[:] = [""]
        ShakyStore.drops, ShakyStore.drop_after, ShakyStore.refuses = 0, None, False
        ShakyStore.calls.clear()

    clear()
    yield
    clear()


def on_machine(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """From here on this is a machine whose cache folder is `folder`, and that knows of no URL yet."""
    monkeypatch.setenv("TEMPORAL_SAES_CACHE", str(folder))
    mirror._mirrors.clear()
    files._copies.clear()
    return folder.resolve()


def stored(name: str) -> bytes:
    """The content of a file in the store."""
    return MemoryFileSystem.store[f"/{name}"].getvalue()


def names(folder: str = "") -> list[str]:
    """The files in the store, from a folder of it, hidden ones left out."""
    inside = [name.removeprefix(f"/{folder}").lstrip("/") for name in MemoryFileSystem.store]
    return sorted(name for name in inside if not any(part.startswith(".") for part in name.split("/")))


def put(name: str, content: bytes | str) -> str:
    """A file in the store; its URL in memory."""
    fsspec.filesystem("memory").pipe_file(
        f"/{name}", content.encode() if isinstance(content, str) else content
    )
    return f"memory://{name}"


def put_folder(folder: Path, name: str) -> str:
    """A copy of a folder of this machine in the store; its URL in memory."""
    for path in folder.rglob("*"):
        if path.is_file():
            put(f"{name}/{path.relative_to(folder).as_posix()}", path.read_bytes())
    return f"memory://{name}"
