"""Large files that are fetched when they are needed, in a folder of bounded size: the least recently used go.

    <folder>/<sha256>                  a file, whole and compared with its checksum before it got this name
             <sha256>.<process>.part   what is being fetched
             <sha256>.<process>.room   as long as that will be, an empty file that counts for the bound
             <sha256>.lock             who fetches it: a second process waits, and finds it there

A file is known by its SHA-256 alone, so that one of a copied or moved cache is not fetched twice. Any number
of processes may use the folder. A file that another process removes while it is mapped stays readable, and
its place on the disk becomes free when it is let go; whoever comes too late fetches it again (`use`).
"""

import os
import secrets
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from dictionary_learning.command.checksums import sha256_of
from dictionary_learning.command.files import sync_folder
from dictionary_learning.command.lock import exclusive
from dictionary_learning.command.memory import format_bytes
from dictionary_learning.command.rehearsal import about_to
from dictionary_learning.errors import UserError
from dictionary_learning.remote.path import RemotePath

Used = TypeVar("Used")

_ATTEMPTS = 2  # at fetching a file whose checksum is wrong, and at using one that others remove
_LOCK = ".lock"
_TOLD_BYTES = 2**25  # a file that is larger has a bar


class LocalCache:
    """A folder of fetched files."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder = folder
        self.max_bytes = max_bytes

    def use(self, source: RemotePath, sha256: str, n_bytes: int, read: Callable[[Path], Used]) -> Used:
        """What `read` makes of a file, which is fetched where it is not there.

        Args:
            read: opens or maps the file; a FileNotFoundError means that another process has removed it.

        Raises:
            UserError: it cannot be reached, is not the one of that checksum, or the disk has no room.
        """
        for _ in range(_ATTEMPTS):
            path = self.fetched(source, sha256, n_bytes)
            try:
                return read(path)
            except FileNotFoundError:
                continue
        raise UserError(
            f"{self.folder} is used by so many processes that {source} is removed before it is read: give "
            "more room with --local_cache."
        )

    def fetched(self, source: RemotePath, sha256: str, n_bytes: int) -> Path:
        """The file in the folder, fetched where it is not there.

        Raises:
            UserError: as `use`.
        """
        path = self.folder / sha256
        if self._touch(path, n_bytes):
            return path
        about_to(f"fetch {source}")
        self.folder.mkdir(parents=True, exist_ok=True)
        with exclusive(self.folder / f"{sha256}{_LOCK}"):
            if not self._touch(path, n_bytes):
                self._fetch(source, path, n_bytes)
        return path

    def has(self, sha256: str, n_bytes: int) -> bool:
        """Whether the file is there."""
        try:
            return (self.folder / sha256).stat().st_size == n_bytes
        except OSError:
            return False

    def adopt(self, file: Path, sha256: str) -> None:
        """Take in a file of this machine, so that nobody fetches it; where there is no room, remove it."""
        n_bytes = file.stat().st_size
        self.folder.mkdir(parents=True, exist_ok=True)
        room = self.folder / f"{sha256}.{os.getpid()}-{secrets.token_hex(4)}.room"
        with exclusive(self.folder / f"{sha256}{_LOCK}"):
            try:
                self._make_room(n_bytes, room)
                shutil.move(file, self.folder / sha256)  # to another disk, perhaps
                self._touch(self.folder / sha256, n_bytes)
            except (UserError, OSError):
                file.unlink(missing_ok=True)
            finally:
                room.unlink(missing_ok=True)

    def _fetch(self, source: RemotePath, path: Path, n_bytes: int) -> None:
        name = f"{path.name}.{os.getpid()}-{secrets.token_hex(4)}"
        part, room = path.with_name(f"{name}.part"), path.with_name(f"{name}.room")
        try:
            self._make_room(n_bytes, room)
            for _ in range(_ATTEMPTS):
                source.fetch(part, told=n_bytes > _TOLD_BYTES)
                if part.stat().st_size == n_bytes and sha256_of(part) == path.name:
                    break
            else:
                raise UserError(
                    f"{source} has changed since it was written (its checksum is another): write it again, "
                    "or take another copy."
                )
            with open(part, "rb") as file:
                os.fsync(file.fileno())
            os.replace(part, path)
            sync_folder(self.folder)
        finally:
            part.unlink(missing_ok=True)
            room.unlink(missing_ok=True)

    def _touch(self, path: Path, n_bytes: int) -> bool:
        """Whether a file is there; it counts as used now."""
        try:
            found = path.stat()
            if found.st_size != n_bytes:
                return False
            with suppress(PermissionError):  # another user's
                os.utime(path, ns=(time.time_ns(), found.st_mtime_ns))
        except FileNotFoundError:
            return False
        return True

    def _make_room(self, n_bytes: int, room: Path) -> None:
        """Remove what was not used for longest until a file is within the bound and on the disk.

        Args:
            room: keeps the place for it, until it is removed.

        Raises:
            UserError: there is no room.
        """
        if n_bytes > self.max_bytes:
            raise UserError(
                f"a file of {format_bytes(n_bytes)} does not fit into the {format_bytes(self.max_bytes)} of "
                "--local_cache: give more."
            )
        with exclusive(self.folder / _LOCK):
            found = self._files()
            total = sum(stat.st_size for stat in found.values())
            for path in sorted(found, key=lambda path: found[path].st_atime_ns):
                if total + n_bytes <= self.max_bytes and self._free_bytes() >= n_bytes:
                    break
                if not path.suffix:
                    path.unlink(missing_ok=True)
                    total -= found[path].st_size
            room.touch()
            os.truncate(room, n_bytes)
        if self._free_bytes() < n_bytes:
            raise UserError(
                f"a file of {format_bytes(n_bytes)} does not fit on the disk of {self.folder}, which has "
                f"{format_bytes(self._free_bytes())} free: free some, or set TEMPORAL_SAES_CACHE to a folder "
                "elsewhere."
            )

    def _free_bytes(self) -> int:
        return shutil.disk_usage(self.folder).free

    def _files(self) -> dict[Path, os.stat_result]:
        """Whole files, and the room of those that are being fetched; what killed processes left goes."""
        files = {}
        for path in self.folder.iterdir():
            if path.suffix in (".part", ".room") and self._is_dead(path):
                path.unlink(missing_ok=True)
            elif path.suffix in ("", ".room") and path.name != _LOCK:
                with suppress(FileNotFoundError):  # others are at work here
                    files[path] = path.stat()
        return files

    def _is_dead(self, part: Path) -> bool:
        """Whether nobody fetches the file that this is of."""
        from filelock import Timeout

        try:
            with exclusive(part.with_name(f"{part.name.partition('.')[0]}{_LOCK}"), timeout=0):
                return True
        except Timeout:
            return False
