"""The activation cache, written: size, wrong inputs, repairs, and what a kill or Ctrl-C leaves."""

import json
import os
import re
import shlex
import shutil
import signal
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from caches import contents, cut_short, flip_a_byte, index, refused, shards, write
from safetensors import safe_open
from stopping import stop_at

from dictionary_learning import cache_activations
from dictionary_learning.activations.cache import ActivationCache
from dictionary_learning.activations.piece import PieceInProgress
from dictionary_learning.command import progress
from dictionary_learning.command.lock import locked
from dictionary_learning.command.options import read_preset
from dictionary_learning.errors import UserError
from dictionary_learning.language_model import LanguageModel

# --- writing ---


def test_the_size_is_told_and_has_to_be_on_the_disk_before_the_model_runs(
    cache_flags: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=100_000))
    monkeypatch.setattr(LanguageModel, "record_several", None)
    folder = tmp_path / "cache"
    told = refused(capsys, lambda: write(*cache_flags, "--activations", str(folder)))
    assert re.search(r"take another [\d.]+ [KM]B, and the disk of .*cache has 100 KB free", told)
    assert list(tmp_path.iterdir()) == []


def test_tokens_per_second_and_the_time_left_are_told_where_there_is_no_terminal(
    cache_flags: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    write(*cache_flags, "--activations", str(tmp_path / "cache"), "--max_tokens", "1000")
    [line, *_] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("activations:")]
    total = sum(shard["n_positions"] for shard in index(tmp_path / "cache")["parts"]["train"]["shards"])
    # four contexts of 16 tokens a batch
    assert re.fullmatch(rf"activations: 64 of {total:,} tokens, [\d,]+ tokens/s, [\d.]+ min left", line)


def fill_a_folder(folder: Path) -> str:
    folder.mkdir()
    (folder / "thesis.txt").write_text("mine")
    return "is not empty and holds no activation cache"


def put_a_file(folder: Path) -> str:
    folder.write_text("mine")
    return "is a file"


@pytest.mark.parametrize("prepare", [fill_a_folder, put_a_file])
def test_what_is_no_cache_is_left_alone(
    cache_flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], prepare: Callable[[Path], str]
) -> None:
    folder = tmp_path / "folder"
    sentence = prepare(folder)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert sentence in refused(capsys, lambda: write(*cache_flags, "--activations", str(folder)))
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


WRONG = [
    ([], "--activations is missing"),
    (["--activations", "new/one", "--layer", "4"], "no layer 4"),
    (["--activations", "new", "--model", "no/such-model"], "no/such-model"),
    (["--activations", "new", "--dataset", "some/corpus"], "say with --max_tokens"),
    (["--activations", "new", "--dataset", "none.jsonl"], "none.jsonl"),
    (["--activations", "new", "--text_field", "body"], "'body'"),
    (["--activations", "new", "--memory", "1KB"], "--memory"),
    (["--activations", "new", "--eval_tokens", "0"], "--eval_tokens is 0"),
    (["--activations", "new", "--parts", "eval", "--eval_share", "0"], "'eval' at --eval_share 0"),
    (["--activations", "new", "--parts", "test"], "invalid choice"),
    (["--activations", "new", "--verify"], "there is no folder new"),
    (["--activations", "new", "--device", "abacus"], "abacus"),
    (["--activations", "new", "--lm_device", "abacus"], "--lm_device 'abacus' is not a device"),
    (["--activations", "new", "--site", "head"], "invalid choice"),
    (["--activations", "new", "--layer", "1", "2", "1"], "--layer 1 2 1 names layer 1 twice"),
    (["--activations", "new", "--layer", "1", "4"], "no layer 4"),
    (["--activations", "new", "--layer", "-1", "2"], "--layer is -1"),
]


@pytest.mark.parametrize(("words", "sentence"), WRONG, ids=[" ".join(words[-2:]) for words, _ in WRONG])
def test_wrong_options_are_one_sentence_and_leave_nothing_behind(
    cache_flags: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    sentence: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert sentence in refused(capsys, lambda: write(*cache_flags, *words))
    assert list(tmp_path.iterdir()) == []


def test_a_preset_gives_the_values_that_it_has_for_an_architecture() -> None:
    def values(*words: str) -> dict[str, Any]:
        typed = vars(cache_activations.parser().parse_args(list(words)))
        return cache_activations.preset(typed["config"], typed["arch"])

    assert values() == {}
    ours, theirs = read_preset("gemma-2-2b"), read_preset("gemma-2-2b")["attention"]
    assert values("--config", "gemma-2-2b")["context_length"] == ours["context_length"]
    attention = values("--config", "gemma-2-2b", "--arch", "attention")
    assert attention["context_length"] == theirs["context_length"] != ours["context_length"]
    # a preset for nothing else needs no --arch
    only = read_preset("llama-3.1-8b")
    assert values("--config", "llama-3.1-8b")["context_length"] == only["attention"]["context_length"]


def test_a_cache_gets_another_part_and_keeps_the_first(
    cache_flags: list[str], written_cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "cache"
    write(*cache_flags, "--activations", str(folder))
    first = contents(folder)
    write("--activations", str(folder), "--parts", "eval")
    del first["index.json"]
    assert first.items() < contents(folder).items()
    assert [path.name for path in shards(folder)] == [path.name for path in shards(written_cache)]
    assert [path.read_bytes() for path in shards(folder)] == [
        path.read_bytes() for path in shards(written_cache)
    ]
    capsys.readouterr()
    write(*cache_flags, "--activations", str(folder))
    assert "is complete" in capsys.readouterr().err


@pytest.mark.parametrize("harm", [cut_short, flip_a_byte, lambda folder: shards(folder)[1].unlink()])
def test_a_damaged_shard_is_written_again_and_the_others_are_kept(
    written_cache: Path, cache_copy: Path, harm: Callable[[Path], object], capsys: pytest.CaptureFixture[str]
) -> None:
    harm(cache_copy)
    times = {path: path.stat().st_mtime_ns for path in shards(cache_copy)}
    write("--activations", str(cache_copy))
    assert "is written again" in capsys.readouterr().err
    assert [path.read_bytes() for path in shards(cache_copy)] == [
        path.read_bytes() for path in shards(written_cache)
    ]
    assert sum(path.stat().st_mtime_ns != times.get(path) for path in shards(cache_copy)) == 1


def test_two_processes_do_not_write_one_cache(cache_copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shards(cache_copy)[0].unlink()
    with locked(cache_copy):
        assert f"process {os.getpid()} on " in refused(
            capsys, lambda: write("--activations", str(cache_copy))
        )
    write("--activations", str(cache_copy))


def test_texts_that_changed_since_a_cache_was_begun_are_noticed(
    cache_flags: list[str], marked_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = Path(shutil.copy(marked_corpus, tmp_path / "texts.jsonl"))
    words = [str(texts) if word == str(marked_corpus) else word for word in cache_flags]
    write(*words, "--activations", str(tmp_path / "cache"))
    shards(tmp_path / "cache")[1].unlink()
    lines = texts.read_text().splitlines(keepends=True)
    texts.write_text("".join(lines[:5] + lines[6:]))
    told = refused(capsys, lambda: write("--activations", str(tmp_path / "cache")))
    assert "the texts have changed since" in told


# --- stopped and killed ---


@pytest.fixture(scope="module")
def slow_flags(cache_flags: list[str]) -> list[str]:
    """One context after the other, so that a stop can come in the middle of a shard."""
    return [*cache_flags, "--lm_batch_size", "1"]


def n_filled(part: Path) -> int:
    """How many positions of a shard in progress are there."""
    with safe_open(part, "pt") as file:
        return int(file.get_tensor("norm").count_nonzero())


def test_a_cache_that_was_killed_and_stopped_ends_with_the_bytes_of_one_that_was_not(
    slow_flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    write(*slow_flags, "--activations", str(whole))
    # a shard of 900 positions takes some 60 contexts of 16
    here = ["cache_activations", "--activations", "cut"]
    read = "dictionary_learning.language_model.LanguageModel.record_several"
    code, _ = stop_at(90, read, signal.SIGKILL, *here, *slow_flags, cwd=tmp_path)
    assert code == -signal.SIGKILL
    finished = {path: path.stat().st_mtime_ns for path in shards(cut)}
    assert 1 <= len(finished) < len(shards(whole))
    assert any(n_filled(part) for part in cut.glob("*.part"))  # one more is begun ahead

    code, said = stop_at(60, read, signal.SIGINT, *here, cwd=tmp_path)
    assert code == 130, said
    told = re.search(r"stopped with ([\d,]+) of [\d,]+ tokens on disk; to go on: (.*)", said)
    assert told
    [part] = cut.glob("*.part")
    n_kept = int(told[1].replace(",", ""))
    done = sum(s["n_positions"] for s in index(cut)["parts"]["train"]["shards"] if s["sha256"])
    assert n_kept == done + n_filled(part)

    # in this process, to count what the model reads: only what is not on disk
    seen = 0
    record = LanguageModel.record_several

    def counted(self: LanguageModel, tokens_BL: Any, mask_BL: Any, layers: Any) -> Any:
        nonlocal seen
        seen += int(mask_BL.sum())
        return record(self, tokens_BL, mask_BL, layers)

    monkeypatch.setattr(LanguageModel, "record_several", counted)
    monkeypatch.chdir(tmp_path)
    words = shlex.split(told[2])
    assert Path(words[1]).name == "cache_activations.py"
    write(*words[2:])
    total = sum(shard["n_positions"] for shard in index(cut)["parts"]["train"]["shards"])
    assert seen == total - n_kept
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    assert [path.name for path in cut.iterdir() if path.suffix not in (".json", ".safetensors")] == []
    assert [path.read_bytes() for path in shards(cut)] == [path.read_bytes() for path in shards(whole)]


@pytest.mark.parametrize("fails", [False, True])
def test_an_index_that_takes_long_is_not_written_for_every_shard_and_lacks_none_at_the_end(
    cache_flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    folder, times = tmp_path / "cache", []
    save, finish = ActivationCache.save_index, PieceInProgress.finish

    def slow(self: ActivationCache) -> None:
        times.append(time.monotonic())
        save(self)
        time.sleep(0.1)

    def failing(self: PieceInProgress) -> Any:
        if fails and self.piece.number == 3:
            raise UserError("the fourth shard fails.")
        return finish(self)

    monkeypatch.setattr(ActivationCache, "save_index", slow)
    monkeypatch.setattr(PieceInProgress, "finish", failing)
    with pytest.raises(UserError, match="fourth shard") if fails else nullcontext():
        write(*cache_flags, "--activations", str(folder))
    entries = index(folder)["parts"]["train"]["shards"]
    assert len(entries) >= 4
    assert len(times) <= 3, "the plan, the first shard, and the end"
    is_there = [(folder / entry["file"]).is_file() for entry in entries]
    assert [entry["sha256"] is not None for entry in entries] == is_there
    assert sum(is_there) == (3 if fails else len(entries))


def half_a_shard(cache_flags: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache whose first shard lacks its last activations."""
    record, calls = LanguageModel.record_several, []

    def failing(self: LanguageModel, *arguments: Any) -> list[torch.Tensor]:
        calls.append(1)
        if len(calls) == 8:
            raise MemoryError
        return record(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(LanguageModel, "record_several", failing)
        with pytest.raises(MemoryError):
            write(*cache_flags, "--activations", str(folder))
    [part] = folder.glob("*.part")
    assert n_filled(part) > 100
    return part


def lose_a_page(part: Path) -> None:
    """As after a power cut: the norms are on the disk, some activations are not."""
    content = bytearray(part.read_bytes())
    header = int.from_bytes(content[:8], "little")
    begin, end = json.loads(content[8 : 8 + header])["x"]["data_offsets"]
    middle = 8 + header + (begin + end) // 2
    content[middle : middle + 4096] = bytes(4096)
    part.write_bytes(content)


def spoil(part: Path) -> None:
    part.write_bytes(os.urandom(part.stat().st_size))


def shorten(part: Path) -> None:
    os.truncate(part, 5000)


@pytest.mark.parametrize("harm", [lose_a_page, spoil, shorten, Path.unlink])
def test_a_half_written_shard_is_made_whole_whatever_happened_to_it(
    cache_flags: list[str],
    written_cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    harm: Callable[[Path], object],
) -> None:
    part = half_a_shard(cache_flags, tmp_path / "cache", monkeypatch)
    harm(part)
    write("--activations", str(tmp_path / "cache"))
    names = [path.name for path in shards(tmp_path / "cache")]
    assert names == [path.name for path in shards(written_cache) if path.name.startswith("train")]
    for name in names:
        assert (tmp_path / "cache" / name).read_bytes() == (written_cache / name).read_bytes()


def test_a_disk_that_fills_up_meanwhile_is_one_sentence_and_keeps_what_is_there(
    cache_flags: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import errno

    folder = tmp_path / "cache"
    allocate, calls = os.posix_fallocate, []

    def full(*arguments: Any) -> None:
        calls.append(1)
        if len(calls) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        allocate(*arguments)

    monkeypatch.setattr(os, "posix_fallocate", full)
    assert "the disk is full" in refused(capsys, lambda: write(*cache_flags, "--activations", str(folder)))
    assert len(shards(folder)) == 2
    assert not list(folder.glob("*.part"))
    monkeypatch.undo()
    write("--activations", str(folder))
    ActivationCache.open(folder).check_complete("train")
