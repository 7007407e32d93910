"""The files of an activation cache: what its index says of them, and where they lie, here or at a URL.

Both are asked the same things. A shard at a URL is fetched into a folder of bounded size and compared with
its checksum before it is mapped (`remote.local_cache`). One that is written goes there when it is full, and
stays in that folder, so that a training on the same machine need not fetch it.
"""

import hashlib
import os
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from dictionary_learning.activations.block import BlockStart
from dictionary_learning.activations.shard import Shard, ShardInProgress, file_sha256, map_shard, read_shard
from dictionary_learning.command.files import cache_folder, parse_json, read_json
from dictionary_learning.errors import UserError
from dictionary_learning.remote.local_cache import LocalCache
from dictionary_learning.remote.mirror import folder_at
from dictionary_learning.remote.path import AnyPath, Info, RemotePath

INDEX = "index.json"
_CHUNK_BYTES = 1 << 20


@dataclass
class ShardEntry:
    """What the index says of a shard; the last five are None until it is written."""

    file: str
    start: BlockStart
    n_positions: int
    n_contexts: int
    texts_sha256: str
    """Of the tokens and document ids, to notice that a corpus has changed."""
    n_tokens: int | None = None
    """Usable ones, with the cache's own norm filter."""
    n_bytes: int | None = None
    sha256: str | None = None
    mtime_ns: int | None = None
    high_norm_tokens: dict[str, int] | None = None
    """What the cache's own norm filter leaves out most often; older caches do not know."""

    @property
    def written(self) -> tuple[str, int]:
        """Checksum and length of a shard that is written."""
        assert self.sha256 is not None
        assert self.n_bytes is not None
        return self.sha256, self.n_bytes


@dataclass
class Part:
    """The shards of one part of the corpus, in order."""

    max_tokens: int | None
    shards: list[ShardEntry]

    @property
    def n_written(self) -> int:
        return sum(shard.sha256 is not None for shard in self.shards)


def cache_of_layer(folder: AnyPath, layer: int) -> AnyPath:
    """The cache of one of the layers that were recorded together into a folder."""
    return folder / f"layer_{layer}"


def caches_of_layers(folder: AnyPath) -> list[AnyPath]:
    """The caches of layers that were recorded together into a folder, by their numbers."""
    if (folder / INDEX).exists():
        return []
    if isinstance(folder, RemotePath):
        names = [name.removesuffix(f"/{INDEX}") for name in folder.files() if name.endswith(f"/{INDEX}")]
    else:
        names = [path.name for path in folder.glob("layer_*") if (path / INDEX).is_file()]
    numbers = [int(name[6:]) for name in names if name.startswith("layer_") and name[6:].isdecimal()]
    return [cache_of_layer(folder, number) for number in sorted(numbers)]


class FilesHere:
    """The files of a cache in a folder of this machine.

    Attributes:
        address: what the cache is called.
        folder: where it is written.
    """

    finds_full: ClassVar[bool] = True
    """Whether a full shard that the index does not know is found by whoever goes on."""

    def __init__(self, folder: Path) -> None:
        self.address: AnyPath = folder
        self.folder = folder

    def read_index(self, name: str) -> Any:
        """The content of the index; None where there is no such file, and no such folder perhaps.

        Raises:
            UserError: it cannot be read.
        """
        path = self.folder / name
        return read_json(path) if path.is_file() else None

    def is_folder(self) -> bool:
        return self.folder.is_dir()

    def length(self, entry: ShardEntry) -> int | None:
        """Bytes of a shard's file; None where it is not there."""
        path = self.folder / entry.file
        return path.stat().st_size if path.is_file() else None

    def is_as_written(self, entry: ShardEntry, always: bool) -> bool:
        """Whether a file is the one of its checksum; not computed if its time is that of its writing.

        Args:
            always: compute it in any case.
        """
        path = self.folder / entry.file
        is_known = not always and path.stat().st_mtime_ns == entry.mtime_ns
        return is_known or file_sha256(path) == entry.sha256

    def read(self, entry: ShardEntry) -> Shard:
        """A shard, mapped into memory.

        Raises:
            UserError: it is not there, or is damaged.
        """
        return read_shard(self.folder / entry.file)

    def prefetch(self, entry: ShardEntry, after: ShardEntry) -> None:
        """A shard will be read when another one has been."""

    # --- writing ---

    def begin(self, file: str) -> None:
        """A shard is about to be filled in `folder`."""

    def deliver(self, file: str, sha256: str) -> None:
        """A shard in `folder` is full: have it where the cache is, before the index says so.

        Raises:
            UserError: it cannot be sent.
        """

    def bytes_at_once(self, missing: list[int]) -> int:
        """How much of the disk shards of these sizes take."""
        return sum(missing)


class FilesAtUrl(FilesHere):
    """The files of a cache at a URL."""

    finds_full = False

    def __init__(self, remote: RemotePath, local_bytes: int) -> None:
        """Args: local_bytes: what the fetched shards of all caches may take of this disk."""
        super().__init__(folder_at(remote))
        self.remote = remote
        self.address = remote
        self.fetched = LocalCache(cache_folder() / "shards", local_bytes)
        self._listed: dict[str, tuple[RemotePath, Info]] | None = None
        self._fetching: threading.Thread | None = None

    def read_index(self, name: str) -> Any:
        index = self.remote / name
        return parse_json(index.read_bytes(), str(index)) if index.exists() else None

    def is_folder(self) -> bool:
        return self.remote.is_http or self.remote.is_dir()  # a server need not list its folders

    def length(self, entry: ShardEntry) -> int | None:
        if self.remote.is_http:
            info = (self.remote / entry.file).info()
        else:
            self._listed = self.remote.files() if self._listed is None else self._listed
            info = self._listed.get(entry.file, (None, None))[1]
        if info is None:
            return None
        return entry.n_bytes if info.get("size") is None else int(info["size"])

    def is_as_written(self, entry: ShardEntry, always: bool) -> bool:
        if not always:
            return True  # it is compared when it is fetched
        digest = hashlib.sha256()
        with (self.remote / entry.file).open() as source:
            while chunk := source.read(_CHUNK_BYTES):
                digest.update(chunk)
        return digest.hexdigest() == entry.sha256

    def read(self, entry: ShardEntry) -> Shard:
        sha256, n_bytes = entry.written
        return self.fetched.use(self.remote / entry.file, sha256, n_bytes, map_shard)

    def prefetch(self, entry: ShardEntry, after: ShardEntry) -> None:
        sha256, n_bytes = entry.written
        if after.written[1] + n_bytes > self.fetched.max_bytes or self.fetched.has(sha256, n_bytes):
            return

        def fetch() -> None:
            with suppress(UserError):  # who reads it is told
                self.fetched.fetched(self.remote / entry.file, sha256, n_bytes)

        if self._fetching is None or not self._fetching.is_alive():
            self._fetching = threading.Thread(target=fetch, daemon=True)
            self._fetching.start()

    # --- writing ---

    def begin(self, file: str) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / file
        if path.is_file():  # full, and the process was stopped before it was sent
            os.replace(path, ShardInProgress.part_of(path))

    def deliver(self, file: str, sha256: str) -> None:
        path = self.folder / file
        (self.remote / file).upload(path, told=True)
        self._listed = None
        self.fetched.adopt(path, sha256)

    def bytes_at_once(self, missing: list[int]) -> int:
        return max(missing, default=0)


def files_at(path: AnyPath, local_bytes: int) -> FilesHere:
    """The files of a cache at a path or a URL."""
    return FilesAtUrl(path, local_bytes) if isinstance(path, RemotePath) else FilesHere(path)
