"""One writer a folder, and what killed writers leave."""

import errno
import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from caches import refused

from dictionary_learning.command.files import LEFTOVER, save_text
from dictionary_learning.command.lock import (
    HOLDER,
    LOCK,
    exclusive,
    in_turn,
    is_ours_alone,
    locked,
    remove_leftovers,
)
from dictionary_learning.errors import UserError

HOLD = """
import sys, time
from pathlib import Path
from dictionary_learning.command.lock import locked
with locked(Path(sys.argv[1]), "training in"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_process_is_told_who_has_the_folder_and_a_killed_one_holds_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UserError) as raised, locked(folder):
            pass
        said = str(raised.value)
        assert f"process {holder.pid} on " in said
        assert f"is training in {folder}: wait for it, or stop it." in said
    finally:
        holder.kill()
        holder.wait()
    assert is_ours_alone(folder)
    with locked(folder):
        assert json.loads((folder / HOLDER).read_text())["pid"] == os.getpid()


def test_a_folder_that_was_made_for_the_lock_and_stays_empty_goes_again(tmp_path: Path) -> None:
    with locked(tmp_path / "a" / "b"):
        assert (tmp_path / "a" / "b" / LOCK).exists()
    assert not (tmp_path / "a").exists()
    with locked(tmp_path / "a" / "b"):
        (tmp_path / "a" / "b" / "kept").touch()
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["kept"]


@pytest.mark.parametrize(
    "use",
    [locked, lambda folder: exclusive(folder / LOCK), lambda folder: in_turn(folder / "codes.npz")],
    ids=["folder", "file", "turn"],
)
def test_a_file_system_without_locks_is_one_sentence_and_keeps_nothing(
    use: Callable[[Path], AbstractContextManager[Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def without(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    def command() -> None:
        with use(tmp_path / "run"):
            raise AssertionError

    (tmp_path / "run").mkdir()
    monkeypatch.setattr(fcntl, "flock", without)
    assert f"{tmp_path / 'run'}/." in (said := refused(capsys, command))
    assert "cannot be used (No locks available)" in said
    assert not (tmp_path / "run" / LOCK).exists()


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        (".config.yaml.part", True),
        (".config.yaml.123-0a1b2c3d.part", True),
        (LOCK, True),
        (HOLDER, True),
        ("config.yaml", False),
        ("notes.part", False),
        (".hidden", False),
    ],
)
def test_what_a_killed_start_left_is_told_from_what_is_somebodys(
    tmp_path: Path, name: str, ours: bool
) -> None:
    assert is_ours_alone(tmp_path)
    (tmp_path / name).touch()
    assert is_ours_alone(tmp_path) is ours


def test_leftovers_go_and_files_stay(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name in (".ae.pt.7-00ff00ff.part", "deep/.x.part", "deep/x.part", "ae.pt"):
        (tmp_path / name).touch()
    remove_leftovers(tmp_path)
    left = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
    assert left == ["ae.pt", "deep/x.part"]


WRITE = """
import sys
from dictionary_learning.command.files import save_text
for i in range(200):
    save_text(sys.argv[1], sys.argv[2] * 20_000)
"""


def test_two_processes_that_save_one_file_never_tear_it(tmp_path: Path) -> None:
    path = tmp_path / "state.txt"
    save_text(path, "a" * 20_000)
    writers = [subprocess.Popen([sys.executable, "-c", WRITE, str(path), letter]) for letter in "ab"]
    reads = 0
    while any(writer.poll() is None for writer in writers):
        assert path.read_text() in ("a" * 20_000, "b" * 20_000)
        reads += 1
    assert reads > 10
    assert [writer.returncode for writer in writers] == [0, 0]
    assert [name for name in os.listdir(tmp_path) if LEFTOVER.fullmatch(name)] == []


def test_a_ctrl_c_inside_torchs_writer_stays_one(tmp_path: Path) -> None:
    import torch

    from dictionary_learning.command.files import save_atomically

    class Interrupting:
        """A file whose second write is interrupted."""

        def __init__(self, file: object) -> None:
            self.file, self.writes = file, 0

        def write(self, data: bytes) -> int:
            self.writes += 1
            if self.writes > 1:
                raise KeyboardInterrupt
            return self.file.write(data)  # type: ignore[attr-defined]

        def flush(self) -> None:
            self.file.flush()  # type: ignore[attr-defined]

    with pytest.raises(KeyboardInterrupt):
        save_atomically(
            tmp_path / "x.pt", lambda file: torch.save({"a": torch.zeros(10_000)}, Interrupting(file))
        )
    assert list(tmp_path.iterdir()) == []
