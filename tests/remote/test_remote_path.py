"""Files and folders at URLs: names, what is there, connections that drop, and what is refused."""

import errno
import io
import sys
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFile, MemoryFileSystem
from stores import ShakyStore, names, put, stored

from dictionary_learning.command.secrets import HIDDEN
from dictionary_learning.errors import UserError
from dictionary_learning.remote.file_system import is_url
from dictionary_learning.remote.path import RemotePath, path_of, settled

pytestmark = pytest.mark.usefixtures("stores")


def refusal(url: str, doing=lambda path: path.exists()) -> str:  # type: ignore[no-untyped-def]
    with pytest.raises(UserError) as refused:
        doing(RemotePath(url))
    return str(refused.value)


@pytest.mark.parametrize("url", ["s3://bucket/a", "https://host/a?b=c", "memory://a", "file:///a", "hf://x"])
def test_a_url_is_told_from_a_path(url: str) -> None:
    assert is_url(url)


@pytest.mark.parametrize(
    "path", ["s3:/bucket", "a/b", "C://x", "demo", "user/name", "", "./x://y", "Qwen/Qwen3-0.6B"]
)
def test_what_is_no_url_is_a_path(path: str) -> None:
    assert not is_url(path)
    assert isinstance(path_of(path), Path)


def test_a_path_is_settled_in_full_and_a_url_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert settled("cache") == str(tmp_path / "cache")
    assert settled("memory://cache") == "memory://cache"


def test_names_are_those_of_pathlib() -> None:
    folder = RemotePath("memory://bucket/texts/")
    file = folder / "more/a.b.jsonl"
    assert (file.name, file.stem, file.suffix) == ("a.b.jsonl", "a.b", ".jsonl")
    assert file.relative_to(folder).as_posix() == "more/a.b.jsonl"
    assert str(file) == "memory://bucket/texts/more/a.b.jsonl"
    assert sorted([file, folder]) == [folder, file]
    assert len({file, RemotePath(str(file))}) == 1


def test_what_is_there_is_a_file_or_a_folder() -> None:
    put("bucket/texts/a.txt", "Text.")
    assert RemotePath("memory://bucket/texts").is_dir()
    assert RemotePath("memory://bucket/texts/a.txt").is_file()
    assert not RemotePath("memory://bucket/texts/a.txt").is_dir()
    assert not RemotePath("memory://bucket/other").exists()
    assert RemotePath("memory://bucket/other").files() == {}


def test_files_are_named_from_their_folder_and_a_file_has_none() -> None:
    put("bucket/a.txt", "A")
    put("bucket/in/b.txt", "BB")
    found = RemotePath("memory://bucket").files()
    assert {name: info["size"] for name, (_, info) in found.items()} == {"a.txt": 1, "in/b.txt": 2}
    assert found["in/b.txt"][0].read_bytes() == b"BB"
    assert "is a file" in refusal("memory://bucket/a.txt", lambda path: path.files())


def test_a_name_that_leads_out_of_its_folder_is_in_no_list() -> None:
    for name in ("a/../../../etc/passwd", "../b", "./c", "d//e", "f"):
        MemoryFileSystem.store[f"/bucket/{name}"] = MemoryFile(data=b"")
    assert list(RemotePath("memory://bucket").files()) == ["f"]


def test_a_full_disk_is_told_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(*arguments: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/disk/file")

    url = put("a", "A")
    monkeypatch.setattr(MemoryFileSystem, "get_file", fill)
    with pytest.raises(UserError, match="the disk is full, so memory://a could not be read: free some space"):
        RemotePath(url).fetch(tmp_path / "a")


def test_a_file_is_read_like_one_of_this_machine() -> None:
    content = bytes(range(256)) * 2000
    with RemotePath(put("a.bin", content)).open() as file:
        assert file.peek(4)[:4] == content[:4]
        assert file.read() == content


def test_a_connection_that_drops_while_a_file_is_read_loses_and_repeats_nothing() -> None:
    content = bytes(range(256)) * 5000
    put("a.bin", content)
    ShakyStore.drop_after = 700_001
    with (
        pytest.warns(UserWarning, match="the connection dropped"),
        RemotePath("shaky://a.bin").open() as file,
    ):
        assert file.read() == content
    assert ShakyStore.calls.count("open") == 2


def test_a_connection_that_stays_away_is_one_sentence() -> None:
    put("a.bin", "A")
    ShakyStore.drops = 100
    with pytest.warns(UserWarning, match="dropped"):
        said = refusal("shaky://a.bin")
    assert said == "shaky://a.bin cannot be reached (reset by peer): check the URL and the connection."


def test_a_file_that_is_not_there_is_one_sentence() -> None:
    assert refusal("memory://a", lambda path: path.open()) == "there is nothing at memory://a: check the URL."


def test_what_may_not_be_written_is_one_sentence(tmp_path: Path) -> None:
    ShakyStore.refuses = True
    (tmp_path / "a").write_text("A")
    said = refusal("shaky://bucket/a", lambda path: path.upload(tmp_path / "a"))
    assert said.startswith("shaky://bucket/a may not be written (read-only credentials)")


@pytest.mark.parametrize("protocol", ["memory", "shaky", "file"])
def test_a_file_is_sent_whole_and_has_another_mark_when_it_changes(protocol: str, tmp_path: Path) -> None:
    source, target = tmp_path / "source", RemotePath(f"{protocol}://{tmp_path}/store/in/a.bin")
    source.write_bytes(b"one")
    target.upload(source)
    first = target.mark()
    assert target.read_bytes() == b"one"
    assert first == target.mark() != ""
    source.write_bytes(b"two")
    target.upload(source)
    assert target.mark() != first
    target.fetch(tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == b"two"
    assert list(RemotePath(f"{protocol}://{tmp_path}/store").files()) == ["in/a.bin"]
    target.unlink()
    target.unlink()
    assert not target.exists()


def test_an_upload_that_ends_too_early_leaves_the_old_file_on_a_disk(tmp_path: Path) -> None:
    """Where a file does not appear as a whole, it is sent under another name first."""
    put("bucket/a", "old")
    (tmp_path / "a").write_text("new")
    ShakyStore.drops = 1
    with pytest.warns(UserWarning, match="trying again"):
        RemotePath("shaky://bucket/a").upload(tmp_path / "a")
    assert stored("bucket/a") == b"new"
    assert names("bucket") == ["a"]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (
            "htps://host/a",
            "htps://host/a has the protocol htps://, which fsspec does not know: did you mean https://?",
        ),
        ("nowhere://host/a", "which fsspec does not know: use another, such as s3://, gs://"),
        ("zip://a.txt::memory://a.zip", "is a chain of URLs, which is not followed"),
        (f"https://host/a?token={HIDDEN}", "was recorded without its secret: give the whole URL again"),
    ],
)
def test_a_url_that_cannot_be_one_is_refused_at_once(url: str, said: str) -> None:
    assert said in refusal(url)


@pytest.mark.parametrize(("url", "package"), [("s3://bucket/a", "s3fs"), ("gs://bucket/a", "gcsfs")])
def test_a_missing_package_is_named_with_the_command_that_brings_it(
    url: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # whether it is installed or not
    protocol = url.partition(":")[0]
    assert refusal(url) == (
        f"{protocol}:// needs the package {package}, which is not installed: pip install {package}."
    )


@pytest.mark.parametrize(
    "url",
    [
        "https://ann:pa55word@host/a",
        "https://host/a?token=pa55word&id=7",
        "https://host/a?X-Amz-Signature=pa55word",
        "s3://KEY:pa55/word@bucket/a",
        "https://host/a?x=" + 3 * "pa55word",
    ],
)
def test_a_secret_in_a_url_is_in_no_text(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dictionary_learning.remote.path.open_file_system", lambda url: (None, url))
    path = RemotePath(url)
    assert path.url == url
    for text in (str(path), repr(path), str(path / "b"), path.name):
        assert "pa55" not in text


def test_what_a_query_says_stays_behind_the_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dictionary_learning.remote.path.open_file_system", lambda url: (None, url))
    path = RemotePath("https://host/data?version=2") / "two words.txt"
    assert path.url == "https://host/data/two%20words.txt?version=2"
    assert path.name == "two words.txt"


def test_a_port_and_an_at_sign_in_a_path_are_no_secrets() -> None:
    from dictionary_learning.command.secrets import scrub_text

    for text in (
        "https://host:8080/a@b",
        "s3://bucket/ann@home/file?version=2",
        "http://[::1]:80/v1?api-version=1",
    ):
        assert scrub_text(text) == text


def test_a_file_is_read_at_any_place() -> None:
    file = RemotePath(put("a.bin", b"0123456789")).open_anywhere()
    file.seek(-3, io.SEEK_END)
    assert file.read(2) == b"78"
