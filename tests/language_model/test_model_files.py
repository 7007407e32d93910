"""Which files a language model is read from."""

import os
import shutil
from pathlib import Path

import pytest

from dictionary_learning.language_model import model_files
from dictionary_learning.language_model.model_files import model_identity


@pytest.fixture(autouse=True)
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of its own, in which files that were written just now are remembered, too."""
    monkeypatch.setenv("TEMPORAL_SAES_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(model_files, "SETTLED_NS", -(10**12))
    return tmp_path / "cache" / "language_models.json"


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are read."""
    names = []
    sha256 = model_files._file_sha256
    monkeypatch.setattr(model_files, "_file_sha256", lambda path: names.append(path.name) or sha256(path))
    return names


def write(folder: Path, weights: bytes = b"weights") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(weights)
    return folder


def test_copies_are_one_model_and_other_weights_are_another(tmp_path: Path) -> None:
    first = model_identity(str(write(tmp_path / "a")))
    assert first is not None
    assert first.startswith("files ")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    (tmp_path / "b" / "README.md").write_text("a copy")
    assert model_identity(str(tmp_path / "b")) == first
    assert model_identity(str(write(tmp_path / "a", b"WEIGHTS"))) != first


def test_unchanged_files_are_not_read_again(tmp_path: Path, hashed: list[str], memory: Path) -> None:
    folder = write(tmp_path / "model")
    first = model_identity(str(folder))
    assert hashed == ["config.json", "model.safetensors"]
    assert model_identity(str(folder)) == first
    assert len(hashed) == 2
    weights = folder / "model.safetensors"
    times = weights.stat()
    weights.write_bytes(b"WEIGHTS")
    os.utime(weights, ns=(times.st_atime_ns, times.st_mtime_ns))  # as copies that keep times do
    assert model_identity(str(folder)) != first
    assert hashed[2:] == ["model.safetensors"]
    for damaged in ("[1]", "{", '{"x": 1}'):
        memory.write_text(damaged)
        model_identity(str(folder))
    assert len(hashed) == 9


def test_files_that_may_still_be_written_are_not_remembered(
    tmp_path: Path, hashed: list[str], memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_files, "SETTLED_NS", 10**12)
    folder = write(tmp_path / "model")
    assert model_identity(str(folder)) == model_identity(str(folder))
    assert len(hashed) == 4
    assert not memory.exists()


def test_a_cache_that_cannot_be_written_is_no_obstacle(tmp_path: Path, hashed: list[str]) -> None:
    folder = write(tmp_path / "model")
    (tmp_path / "cache").write_text("a file")
    assert model_identity(str(folder)) == model_identity(str(folder))
    assert len(hashed) == 4


def test_a_model_of_the_hub_has_its_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_files, "_hub_commit", lambda name: "new" if name == "a/known" else None)
    monkeypatch.setattr(model_files, "hub_revision", lambda name: "old" if name == "a/cached" else None)
    names = ("a/known", "a/cached", "a/missing")
    assert [model_identity(name) for name in names] == ["revision new", "revision old", None]


def test_without_the_hub_there_is_no_commit_and_no_error() -> None:
    assert model_identity("no/such-model-anywhere") is None
    assert model_identity("/nowhere/at all") is None
