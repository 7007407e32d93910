"""Large files in a folder of bounded size: fetched once, whole, the right ones, by many processes."""

import hashlib
import os
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stores import ShakyStore, put

from dictionary_learning.errors import UserError
from dictionary_learning.remote.local_cache import LocalCache
from dictionary_learning.remote.path import RemotePath

pytestmark = pytest.mark.usefixtures("stores")


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def fetched(cache: LocalCache, content: bytes, protocol: str = "memory") -> Path:
    put(f"files/{sha256(content)}", content)
    return cache.fetched(RemotePath(f"{protocol}://files/{sha256(content)}"), sha256(content), len(content))


def held(folder: Path) -> list[bytes]:
    return sorted(path.read_bytes() for path in folder.iterdir() if not path.name.endswith(".lock"))


def test_a_file_is_fetched_once(tmp_path: Path) -> None:
    cache = LocalCache(tmp_path, 100)
    first = fetched(cache, b"one", "shaky")
    assert first.read_bytes() == b"one"
    assert fetched(cache, b"one", "shaky") == first
    assert ShakyStore.calls.count("get") == 1


def test_the_least_recently_used_goes(tmp_path: Path) -> None:
    cache = LocalCache(tmp_path, 9)
    for content in (b"aaa", b"bbb", b"ccc"):
        fetched(cache, content)
    fetched(cache, b"aaa")
    fetched(cache, b"ddd")
    assert held(tmp_path) == [b"aaa", b"ccc", b"ddd"]


@settings(max_examples=30)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=12))
def test_the_folder_never_holds_more_than_its_bound(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("bounded")
    cache = LocalCache(folder, 8)
    for number, size in enumerate(sizes):
        content = bytes([number]) * size
        assert fetched(cache, content).read_bytes() == content
        assert sum(map(len, held(folder))) <= 8


def test_a_file_that_the_bound_cannot_hold_is_refused_before_anything_goes(tmp_path: Path) -> None:
    cache = LocalCache(tmp_path, 4)
    fetched(cache, b"aaa")
    with pytest.raises(
        UserError, match="a file of 5 B does not fit into the 4 B of --local_cache: give more"
    ):
        fetched(cache, b"bbbbb")
    assert held(tmp_path) == [b"aaa"]


def test_a_file_of_another_content_is_refused_and_nothing_of_it_stays(tmp_path: Path) -> None:
    url = put("files/a", b"other")
    with pytest.raises(UserError, match="memory://files/a has changed since it was written"):
        LocalCache(tmp_path, 100).fetched(RemotePath(url), sha256(b"right"), 5)
    assert held(tmp_path) == []


def test_a_file_that_arrives_cut_short_once_is_fetched_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, calls = RemotePath.fetch, []

    def fetch(self: RemotePath, target: Path, told: bool = False) -> None:
        whole(self, target, told)
        calls.append(target)
        if len(calls) == 1:
            os.truncate(target, 2)

    monkeypatch.setattr(RemotePath, "fetch", fetch)
    assert fetched(LocalCache(tmp_path, 100), b"whole").read_bytes() == b"whole"
    assert len(calls) == 2


def test_a_file_that_is_half_fetched_never_has_its_name(tmp_path: Path) -> None:
    ShakyStore.drops = 100
    with pytest.warns(UserWarning, match="dropped"), pytest.raises(UserError, match="cannot be reached"):
        fetched(LocalCache(tmp_path, 100), b"one", "shaky")
    assert held(tmp_path) == []


def test_a_file_that_was_cut_short_on_the_disk_is_fetched_again(tmp_path: Path) -> None:
    cache = LocalCache(tmp_path, 100)
    os.truncate(fetched(cache, b"whole"), 2)
    assert fetched(cache, b"whole").read_bytes() == b"whole"


def test_what_a_killed_process_left_half_fetched_is_removed_and_what_a_living_one_fetches_stays(
    tmp_path: Path,
) -> None:
    from filelock import FileLock

    dead, living = tmp_path / f"{sha256(b'd')}.1-0.part", tmp_path / f"{sha256(b'l')}.2-0.part"
    rooms = dead.with_suffix(".room"), living.with_suffix(".room")
    for part in (dead, living, *rooms):
        part.write_bytes(b"half")
    with FileLock(tmp_path / f"{sha256(b'l')}.lock"):
        fetched(LocalCache(tmp_path, 100), b"one")
    assert [path.exists() for path in (dead, living, *rooms)] == [False, True, False, True]


def test_a_file_that_another_process_removes_before_it_is_read_is_fetched_again(tmp_path: Path) -> None:
    cache, seen = LocalCache(tmp_path, 100), []

    def read(path: Path) -> bytes:
        seen.append(path)
        if len(seen) == 1:
            path.unlink()
        return path.read_bytes()

    url = put("files/a", b"one")
    assert cache.use(RemotePath(url), sha256(b"one"), 3, read) == b"one"
    assert len(seen) == 2


def test_a_file_of_this_machine_is_taken_in_and_makes_room(tmp_path: Path) -> None:
    cache = LocalCache(tmp_path / "cache", 6)
    fetched(cache, b"aaaa")
    (tmp_path / "made").write_bytes(b"bbbb")
    cache.adopt(tmp_path / "made", sha256(b"bbbb"))
    assert held(tmp_path / "cache") == [b"bbbb"]
    assert fetched(cache, b"bbbb", "shaky").read_bytes() == b"bbbb"
    assert "get" not in ShakyStore.calls
    (tmp_path / "large").write_bytes(b"cccccccc")
    cache.adopt(tmp_path / "large", sha256(b"cccccccc"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache"]


def test_what_others_are_fetching_counts_for_the_bound(tmp_path: Path) -> None:
    cache, seen = LocalCache(tmp_path, 9), []
    fetched(cache, b"aaa")

    def fetch_beside() -> None:
        """While one file of three bytes arrives, another one does."""
        whole = RemotePath.fetch

        def fetch(self: RemotePath, target: Path, told: bool = False) -> None:
            whole(self, target, told)
            if b"bbb" in target.read_bytes():
                fetched(cache, b"cccc")
                seen.append(held(tmp_path))

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(RemotePath, "fetch", fetch)
            fetched(cache, b"bbb")

    fetch_beside()
    with suppress(ValueError):
        seen[0].remove(b"\0\0\0")  # the room of the first
    assert seen == [[b"bbb", b"cccc"]], "3 + 3 + 4 bytes are one too many"


def test_threads_that_want_the_same_file_fetch_it_once(tmp_path: Path) -> None:
    contents = []

    def want() -> None:
        contents.append(fetched(LocalCache(tmp_path, 100), b"one", "shaky").read_bytes())

    threads = [threading.Thread(target=want) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert contents == [b"one"] * 4
    assert ShakyStore.calls.count("get") == 1


PROCESS = """
import hashlib, random, sys
from pathlib import Path
from dictionary_learning.remote.local_cache import LocalCache
from dictionary_learning.remote.path import RemotePath

store, folder, seed = sys.argv[1:]
draw = random.Random(int(seed))
cache = LocalCache(Path(folder), 40_000)
for _ in range(60):
    source = draw.choice(sorted(Path(store).iterdir()))
    content = cache.use(RemotePath(f"file://{source}"), source.name, source.stat().st_size, Path.read_bytes)
    assert hashlib.sha256(content).hexdigest() == source.name
"""


def test_processes_that_remove_each_others_files_all_read_the_right_ones(tmp_path: Path) -> None:
    """Eight files of 10 kB, and room for four."""
    store = tmp_path / "store"
    store.mkdir()
    for number in range(8):
        content = bytes([number]) * 10_000
        (store / sha256(content)).write_bytes(content)
    words = [sys.executable, "-c", PROCESS, str(store), str(tmp_path / "cache")]
    running = [subprocess.Popen([*words, str(seed)], stderr=subprocess.PIPE) for seed in range(3)]
    for process in running:
        assert process.wait(120) == 0, process.stderr.read().decode()  # type: ignore[union-attr]
        process.stderr.close()  # type: ignore[union-attr]
    assert sum(map(len, held(tmp_path / "cache"))) <= 40_000
    assert not list((tmp_path / "cache").glob("*.part"))
