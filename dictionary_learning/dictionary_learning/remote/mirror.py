"""A folder at a URL and its copy on this machine, which is what commands work in.

    folder = folder_at("s3://bucket/runs")        # a Path below the cache folder; of a local folder itself
    pull(folder / "mine")                         # what is new at the URL
    with held(folder / "mine", "training in"): ...  # alone; at the end all is there
    fetch(folder / "mine" / "trainer_0" / "ae.pt")  # one more file, where it is needed

A file that is saved in the copy is sent at once (`command.files.offer`). What is known of each file that was
sent or fetched lies in a tree of its own, so that the copy holds nothing else than the folder does:

    <cache>/mirrors/s3/bucket/runs/mine/config.yaml
    <cache>/mirrors/.known/s3/bucket/runs/mine/config.yaml.json   {"remote": mark, "size": n, "mtime_ns": t}

A file that differs from what is known of it was saved and not sent: it stays, and is sent. One whose original
has changed is fetched again. Where both happened, the URL is right. Hidden files are of this machine alone.
For any other folder of this machine every function here does nothing.
"""

import fnmatch
import hashlib
import json
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from dictionary_learning.command.files import cache_folder, keep_copy
from dictionary_learning.command.lock import HOLDER, LOCK, exclusive, locked
from dictionary_learning.command.progress import say
from dictionary_learning.command.rehearsal import is_on as is_rehearsal
from dictionary_learning.errors import UserError
from dictionary_learning.remote.connection import FIRST_WAITS, WAITS
from dictionary_learning.remote.path import AnyPath, Info, RemotePath, path_of

_LARGE_BYTES = 2**25  # a file that is larger has a bar
# Hidden files, what is not finished, and what Weights & Biases keeps beside a run.
_OF_THIS_MACHINE = re.compile(r"(^|/)\.|\.part$|(^|/)wandb/(offline-)?(run-|latest-run|debug)")
_KNOWN = ".known"
_PAUSE_SECONDS = 60.0  # without an attempt where the connection has failed: a run does not wait for each file

Wanted = Callable[[str], bool]
"""Whether a file of this name (from the folder that is fetched) is needed."""


class Mirror:
    """The copy of a folder at a URL."""

    def __init__(self, remote: RemotePath, folder: Path) -> None:
        self.remote = remote
        self.folder = folder
        self._is_told = False
        self._waiting: set[Path] = set()  # saved and not sent
        self._failed_at: float | None = None

    # --- from the URL ---

    def pull(self, inside: Path, wanted: Wanted) -> None:
        """Fetch what is new of a folder in the copy; what was removed there is removed here.

        Raises:
            UserError: the URL cannot be reached, or is a file.
        """
        there = {name: found for name, found in self.at(inside).files().items() if _is_shared(name)}
        with self._fetching(inside):
            if _is_written(inside):
                return  # by a process of this machine: nothing is newer
            here = [path.relative_to(inside).as_posix() for path in _files(inside)]
            own = [name for name in here if self._is_unsent(inside / name)]
            changed = [
                name for name in own if name in there and self._has_changed(inside / name, *there[name])
            ]
            if changed:
                say(
                    f"{self.at(inside)} was written elsewhere while {', '.join(changed)} of {inside} could "
                    "not be sent: what is at the URL is taken."
                )
                own = []
            for name in here:
                if name not in own and name not in there:
                    (inside / name).unlink()
                    self._known(inside / name).unlink(missing_ok=True)
            _remove_empty_folders(inside)
            for name, (remote, info) in there.items():
                if name not in own and wanted(name) and not self._is_same(inside / name, remote, info):
                    self._fetch(inside / name, remote)

    def fetch(self, path: Path) -> None:
        """Fetch one file of the copy, unless it is as at the URL; remove it where there is none."""
        remote = self.at(path)
        info = remote.info()
        with self._fetching(path.parent):
            if _is_written(path.parent):
                return
            if info is None and path.exists() and not self._is_unsent(path):
                path.unlink()
            elif (info is not None and self._has_changed(path, remote, info)) or not path.exists():
                self._fetch(path, remote)

    def _fetch(self, path: Path, remote: RemotePath) -> None:
        info = remote.info()
        if info is None:
            return  # gone meanwhile
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name[:100]}.{os.getpid()}-{secrets.token_hex(4)}.part")
        try:
            remote.fetch(part, told=(info.get("size") or 0) > _LARGE_BYTES)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
        self._note(path, remote.mark(info))

    # --- to the URL ---

    def check_writable(self, flag: str) -> None:
        """Raise a UserError where the protocol is one for reading."""
        if self.remote.is_http:
            raise UserError(
                f"{self.remote} can only be read, over {self.remote.protocol}://: choose another {flag}."
            )

    def offer(self, path: Path) -> None:
        """Send a file that was saved; where that fails, say so once and go on, as it is sent later."""
        if not _is_shared(path.relative_to(self.folder).as_posix()):
            return
        self._waiting.add(path)
        if self._failed_at is not None and time.monotonic() - self._failed_at < _PAUSE_SECONDS:
            return
        try:
            for waiting in sorted(self._waiting):
                self.send(waiting, WAITS if self._failed_at is None else FIRST_WAITS)
            self._failed_at = None
        except UserError as error:
            if self._failed_at is None:
                say(f"warning: {error} What is saved stays in {self.folder}, and is sent later.")
            self._failed_at = time.monotonic()

    def send(self, path: Path, waits: tuple[int, ...] = WAITS) -> None:
        """Send a file.

        Raises:
            UserError: it cannot be sent.
        """
        if not path.exists():
            self._waiting.discard(path)
            return
        remote, before = self.at(path), path.stat()
        remote.upload(path, waits, told=before.st_size > _LARGE_BYTES)
        self._note(path, remote.mark(), before)
        self._waiting.discard(path)

    def settle(self) -> None:
        """Send what could not be sent when it was saved.

        Raises:
            UserError: it still cannot be sent.
        """
        self._send_all(sorted(self._waiting))

    def complete(self, inside: Path) -> None:
        """Send every file of a folder in the copy that is not at the URL.

        Raises:
            UserError: one cannot be sent.
        """
        self._send_all([path for path in _files(inside) if self._is_unsent(path)])

    def _send_all(self, paths: Sequence[Path]) -> None:
        for path in () if is_rehearsal() else paths:
            try:
                self.send(path, FIRST_WAITS)
            except UserError as error:
                raise UserError(
                    f"{error} {path} is not there yet: run the command again (a training run with --resume), "
                    "or copy the file by hand."
                ) from None

    def discard(self, inside: Path) -> None:
        """Remove at the URL what is not in a folder of the copy any more."""
        for name, (remote, _) in self.at(inside).files().items():
            if _is_shared(name) and not (inside / name).exists():
                remote.unlink()
                self._known(inside / name).unlink(missing_ok=True)

    # --- what is known of a file ---

    def at(self, path: Path) -> RemotePath:
        """The place at the URL of a file or folder in the copy."""
        inside = path.relative_to(self.folder).as_posix()
        return self.remote if inside == "." else self.remote / inside

    def _known(self, path: Path) -> Path:
        root = _root()
        return root / _KNOWN / f"{path.relative_to(root).as_posix()}.json"

    def _note(self, path: Path, mark: str, seen: os.stat_result | None = None) -> None:
        seen = seen or path.stat()
        known = self._known(path)
        known.parent.mkdir(parents=True, exist_ok=True)
        part = known.with_name(f"{known.name}.{os.getpid()}-{secrets.token_hex(4)}")
        part.write_text(json.dumps({"remote": mark, "size": seen.st_size, "mtime_ns": seen.st_mtime_ns}))
        os.replace(part, known)

    def _read_known(self, path: Path) -> dict[str, object]:
        with suppress(OSError, ValueError):
            found = json.loads(self._known(path).read_text())
            return found if isinstance(found, dict) else {}
        return {}

    def _is_unsent(self, path: Path) -> bool:
        """Whether a file of the copy was saved and not sent."""
        known = self._read_known(path)
        if not path.exists():
            return False
        stat = path.stat()
        return (known.get("size"), known.get("mtime_ns")) != (stat.st_size, stat.st_mtime_ns)

    def _has_changed(self, path: Path, remote: RemotePath, info: Info) -> bool:
        """Whether the original is another than the one that was sent or fetched."""
        known = self._read_known(path).get("remote")
        # a list of files may say less of each, or say it otherwise
        return not known or (known != remote.mark(info) and known != remote.mark())

    def _is_same(self, path: Path, remote: RemotePath, info: Info) -> bool:
        return path.exists() and not self._is_unsent(path) and not self._has_changed(path, remote, info)

    @contextmanager
    def _fetching(self, folder: Path) -> Iterator[None]:
        """One process at a time changes what is known of a folder."""
        known = self._known(folder).with_suffix("")
        known.mkdir(parents=True, exist_ok=True)
        with exclusive(known / LOCK):
            yield


_mirrors: dict[Path, Mirror] = {}


def folder_at(place: str | AnyPath) -> Path:
    """The folder of this machine for a place: that of a path, or the copy of a URL.

    Nothing is asked of a URL yet.

    Raises:
        UserError: the URL cannot be one of a folder, or its package is missing.
    """
    remote = path_of(place)
    if isinstance(remote, Path):
        return remote
    folder = _root() / _local_name(remote)
    if folder not in _mirrors:
        _mirrors[folder] = Mirror(remote, folder)
        keep_copy(folder, _mirrors[folder])
    return folder


def place_of(folder: Path) -> AnyPath:
    """What a folder of this machine stands for: a place at a URL, or itself."""
    mirror = _mirror_of(folder)
    return folder if mirror is None else mirror.at(folder)


def pull(folder: Path, wanted: Wanted = lambda name: True) -> None:
    """Fetch what is new of a folder at a URL.

    Raises:
        UserError: the URL cannot be reached, or is a file.
    """
    mirror = _mirror_of(folder)
    if mirror is not None:
        mirror.pull(folder, wanted)


def fetch(path: Path) -> None:
    """Fetch one file of a folder at a URL, if it is there."""
    mirror = _mirror_of(path)
    if mirror is not None:
        mirror.fetch(path)


def names(folder: Path, pattern: str = "*") -> list[str]:
    """Names from a folder, here or at a URL, of the files that match; a star stands for folders, too.

    Raises:
        UserError: the URL cannot be reached, or is a file.
    """
    mirror = _mirror_of(folder)
    if mirror is None:
        found = [path.relative_to(folder).as_posix() for path in _files(folder)]
    else:
        found = [name for name in mirror.at(folder).files() if _is_shared(name)]
    return [name for name in found if fnmatch.fnmatch(name, pattern)]


def discard(folder: Path) -> None:
    """Remove at a URL what was removed from its folder of this machine."""
    mirror = _mirror_of(folder)
    if mirror is not None:
        with suppress(UserError):  # it was a failed start
            mirror.discard(folder)


@contextmanager
def held(folder: Path, what: str = "writing", flag: str = "--checkpoints_path") -> Iterator[None]:
    """A folder for this process alone: locked on this machine, and claimed at its URL.

    Args:
        what, flag: for the sentence that somebody else gets, or who cannot write there.

    Raises:
        UserError: somebody else has it, it cannot be written, or (at the end) a file cannot be sent.
    """
    mirror = _mirror_of(folder)
    if mirror is None:
        with locked(folder, what):
            yield
        return
    if mirror.remote.is_file():
        raise UserError(f"{mirror.remote} is a file: give {flag} a folder.")

    from dictionary_learning.remote.claim import claimed

    with locked(folder, what), claimed(mirror.at(folder), what):
        if not mirror._is_told and not is_rehearsal():
            say(f"{mirror.remote} is worked on in {mirror.folder}; what is saved there is sent at once.")
            mirror._is_told = True
        try:
            yield
        except (Exception, SystemExit):  # the first is what the user has to hear
            with suppress(UserError):
                mirror.complete(folder)
            raise
        mirror.complete(folder)


def _root() -> Path:
    return cache_folder().resolve() / "mirrors"


def _local_name(remote: RemotePath) -> PurePosixPath:
    """Where the copy of a URL lies below the root: its parts, without what is secret."""
    host_and_path, _, query = remote.url.partition("://")[2].partition("?")
    parts = [part for part in host_and_path.split("/") if part]
    if parts:
        parts[0] = parts[0].rpartition("@")[2]
    if query:
        parts.append(f"query-{hashlib.sha256(query.encode()).hexdigest()[:12]}")
    return PurePosixPath(remote.protocol, *(_file_name(part) for part in parts))


def _file_name(part: str) -> str:
    """A part of a URL as the name of a folder: nothing that a path reads as something else."""
    name = quote(part, safe=" +,=@%()[]{}'~")
    name = re.sub(r"^\.+", lambda dots: "%2E" * len(dots[0]), name)
    return name if len(name) <= 150 else f"{name[:100]}-{hashlib.sha256(part.encode()).hexdigest()[:12]}"


def _mirror_of(path: Path) -> Mirror | None:
    """The copy that a path lies in; the innermost where one lies in another."""
    found = [folder for folder in _mirrors if path == folder or folder in path.parents]
    return _mirrors[max(found, key=lambda folder: len(folder.parts))] if found else None


def _files(folder: Path) -> list[Path]:
    """The files below a folder that are those of its URL, too."""
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and _is_shared(path.relative_to(folder).as_posix())
    ]


def _remove_empty_folders(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()


def _is_shared(name: str) -> bool:
    return not _OF_THIS_MACHINE.search(name)


def _is_written(folder: Path) -> bool:
    """Whether another process of this machine writes to a folder, or to one that it is in."""
    from filelock import Timeout

    for one in (folder, *folder.parents):
        if one == _root():
            return False
        if not (one / HOLDER).is_file():
            continue
        try:
            holder = json.loads((one / HOLDER).read_text())
            if holder["pid"] == os.getpid():
                continue  # ourselves
            with exclusive(one / LOCK, timeout=0):
                continue  # a process that was killed
        except Timeout:
            return True
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return False
