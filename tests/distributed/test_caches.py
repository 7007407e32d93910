"""Activation caches written by several processes: the bytes of one, whatever happens to any of them."""

import errno
import hashlib
import os
import re
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from caches import flip_a_byte, shards, write
from distributed.forks import forked
from distributed.torchrun import torchrun
from torture.kills import arm, places

from dictionary_learning.activations.cache import ActivationCache
from dictionary_learning.cache_activations import main
from dictionary_learning.command import processes
from dictionary_learning.language_model import LanguageModel

Before = Callable[[int], object]


def sums(folder: Path) -> dict[str, str]:
    """The SHA-256 of every shard."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in shards(folder)}


@pytest.fixture(scope="module")
def whole(cache_flags: list[str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """The shards that one process writes, by their dtype."""
    found = {}
    for dtype in ("float32", "bfloat16"):
        folder = tmp_path_factory.mktemp("whole") / dtype
        write(*cache_flags, "--store_dtype", dtype, "--activations", str(folder))
        found[dtype] = sums(folder)
        assert len(found[dtype]) > 5
    return found


@pytest.mark.parametrize(
    ("n", "machines", "dtype"),
    [(2, 1, "float32"), (3, 1, "bfloat16"), (4, 1, "float32"), (4, 2, "bfloat16"), (3, 3, "float32")],
)
def test_any_number_of_processes_writes_the_bytes_of_one(
    n: int, machines: int, dtype: str, cache_flags: list[str], whole: Any, tmp_path: Path
) -> None:
    flags = [*cache_flags, "--store_dtype", dtype, "--activations", "cache"]
    first, *others = forked(n, main, flags, tmp_path, machines=machines)
    assert [first.code, *(end.code for end in others)] == [0] * n, first.said
    assert sums(tmp_path / "cache") == whole[dtype]
    assert first.said.count("written: ") == len(whole[dtype])
    assert all(not end.said for end in others)
    assert {path.suffix for path in (tmp_path / "cache").iterdir()} == {".json", ".safetensors"}
    cache = ActivationCache.open(tmp_path / "cache")
    assert all(cache.is_intact(entry) for entry in cache.parts["train"].shards)


def test_layers_and_parts_are_written_by_several_processes_as_by_one(
    cache_flags: list[str], tmp_path: Path
) -> None:
    more = ["--layer", "0", "3", "--parts", "train", "eval", "--max_tokens", "2500"]
    write(*cache_flags, *more, "--activations", str(tmp_path / "one"))
    ends = forked(2, main, [*cache_flags, *more, "--activations", "two"], tmp_path)
    assert [end.code for end in ends] == [0, 0], ends[0].said
    for layer in ("layer_0", "layer_3"):
        assert sums(tmp_path / "two" / layer) == sums(tmp_path / "one" / layer)


# --- what happens to one process ---


def at_batch(number: int, of_rank: int, do: Callable[[], Any]) -> Before:
    """Have one process do something before one of its batches; NaN comes of what returns NaN."""

    def before(rank: int) -> None:
        processes._SECONDS_TO_TELL = 0.5  # nothing here takes longer
        if rank != of_rank:
            return
        record, calls = LanguageModel.record_several, []

        def recorded(*arguments: Any) -> list[torch.Tensor]:
            calls.append(1)
            factor = do() if len(calls) == number else None
            return [x if factor is None else x * factor for x in record(*arguments)]

        LanguageModel.record_several = recorded  # type: ignore[method-assign]

    return before


def goes_on(n: int, cwd: Path, right: dict[str, str], flags: Sequence[str] = ()) -> None:
    """The same command, with any number of processes, ends with the same bytes."""
    ends = forked(n, main, [*flags, "--activations", "cache"], cwd)
    assert [end.code for end in ends] == [0] * n, ends[0].said
    assert sums(cwd / "cache") == right
    assert {path.suffix for path in (cwd / "cache").iterdir()} == {".json", ".safetensors"}


def signals(number: int) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), number)


def killed_behind_a_shard() -> None:
    """The first shard is finished on another thread, which a busy machine may keep waiting."""
    until = time.monotonic() + 20
    while not [*Path("cache").glob("*.safetensors")] and time.monotonic() < until:
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGKILL)


def fill_the_disk() -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "train.part")

    os.posix_fallocate = full


@pytest.mark.parametrize(("n", "of_rank", "then"), [(2, 1, 3), (2, 0, 1), (4, 2, 2)])
def test_a_killed_process_ends_the_others_and_any_number_goes_on(
    n: int, of_rank: int, then: int, cache_flags: list[str], whole: Any, tmp_path: Path
) -> None:
    kill = at_batch(20, of_rank, killed_behind_a_shard)
    machines = n // 2  # in the last case the one that begins the files of its machine
    flags = [*cache_flags, "--activations", "cache"]
    ends = forked(n, main, flags, tmp_path, machines=machines, before=kill)
    assert ends[of_rank].code == -signal.SIGKILL
    assert all(end.code == 2 for rank, end in enumerate(ends) if rank != of_rank)
    if of_rank > 0:
        assert len(ends[0].errors) == 1
        assert "another process was killed or gave no answer" in ends[0].errors[0]
    assert 0 < len(shards(tmp_path / "cache")) < len(whole["float32"])
    goes_on(then, tmp_path, whole["float32"])


@pytest.mark.parametrize(("number", "of_rank"), [(signal.SIGTERM, 1), (signal.SIGINT, 0)])
def test_a_signal_to_one_process_stops_all_and_says_what_is_there(
    number: int, of_rank: int, cache_flags: list[str], whole: Any, tmp_path: Path
) -> None:
    stop = at_batch(20, of_rank, signals(number))
    first, other = forked(2, main, [*cache_flags, "--activations", "cache"], tmp_path, before=stop)
    assert first.code == other.code == 128 + number
    assert first.said.count(" tokens on disk; to go on: ") == 1
    assert not other.said
    goes_on(3, tmp_path, whole["float32"])


@pytest.mark.parametrize(
    ("do", "of_rank", "said"),
    [
        (lambda: float("nan"), 1, "layer 2 of .* gives NaN or infinite activations in batch"),
        (fill_the_disk, 2, "the disk is full"),
    ],
    ids=["nan", "disk"],
)
def test_what_fails_in_one_process_is_one_sentence_and_ends_all(
    do: Callable[[], Any], of_rank: int, said: str, cache_flags: list[str], whole: Any, tmp_path: Path
) -> None:
    flags = [*cache_flags, "--activations", "cache"]
    ends = forked(4, main, flags, tmp_path, machines=2, before=at_batch(10, of_rank, do))
    assert [end.code for end in ends] == [2] * 4
    errors = [error for end in ends for error in end.errors]
    assert len(errors) == 1
    assert errors[0] == ends[0].errors[0]
    assert re.search(said, errors[0])
    goes_on(2, tmp_path, whole["float32"])


@pytest.mark.parametrize("of_rank", [0, 1])
def test_a_process_killed_at_any_file_operation_leaves_a_cache_that_is_gone_on_with(
    of_rank: int, cache_flags: list[str], tmp_path: Path
) -> None:
    flags = [*cache_flags, "--max_tokens", "4000", "--activations", "cache"]

    def killing(at: int | None, cwd: Path) -> Before:
        def before(rank: int) -> None:
            processes._SECONDS_TO_TELL = 0.5
            if rank == of_rank:
                arm(at, cwd.parent / "count")

        return before

    def run(at: int | None, name: str) -> Path:
        cwd = tmp_path / name
        cwd.mkdir()
        ends = forked(2, main, flags, cwd, before=killing(at, cwd))
        assert (ends[of_rank].code == -signal.SIGKILL) == (at is not None), ends[of_rank].said
        return cwd

    right = sums(run(None, "whole") / "cache")
    operations = (tmp_path / "count").stat().st_size
    for at in places(operations, seed=5 + of_rank):
        goes_on(1 + at % 2, run(at, f"at{at}"), right, flags)


# --- what differs between processes ---


def type_another_flag(cwd: Path) -> list[str]:
    return ["--context_length", "15"]


def see_another_folder(cwd: Path) -> list[str]:
    (cwd / "elsewhere").mkdir()
    os.chdir(cwd / "elsewhere")
    return []


def change_a_weight(cwd: Path) -> list[str]:
    load = LanguageModel.load

    def changed(*arguments: Any, **named: Any) -> LanguageModel:
        lm = load(*arguments, **named)
        with torch.no_grad():
            next(lm.model.parameters())[0] += 1.0
        return lm

    LanguageModel.load = changed  # type: ignore[method-assign]
    return []


@pytest.mark.parametrize(
    ("differ", "said"),
    [
        (type_another_flag, "process 1 has other flags than process 0"),
        (change_a_weight, "process 1 has other weights_sha256 than process 0"),
        (see_another_folder, "cache is not the same folder for process 1 as for process 0"),
    ],
)
def test_processes_that_differ_are_one_sentence(
    differ: Callable[[Path], list[str]], said: str, cache_flags: list[str], tmp_path: Path
) -> None:
    def run(argv: list[str]) -> None:
        main([*argv, *(differ(tmp_path) if os.environ["RANK"] == "1" else [])])

    ends = forked(2, run, [*cache_flags, "--activations", "cache"], tmp_path)
    assert [end.code for end in ends] == [2, 2]
    assert [said in error for end in ends for error in end.errors] == [True], ends
    assert not shards(tmp_path / "cache")


def test_processes_verify_a_cache_together(cache_copy: Path, tmp_path: Path) -> None:
    words = ["--activations", str(cache_copy), "--verify"]
    ends = forked(2, main, words, tmp_path)
    assert [end.code for end in ends] == [0, 0]
    assert "every shard" in ends[0].said
    flip_a_byte(cache_copy, keep_time=True)
    ends = forked(3, main, words, tmp_path)
    assert [end.code for end in ends] == [2, 2, 2]
    [error] = [error for end in ends for error in end.errors]
    assert "train-00000.safetensors has changed since it was written" in error


# --- as a user starts them ---


def test_torchrun_writes_the_cache_of_one_process(cache_flags: list[str], whole: Any, tmp_path: Path) -> None:
    done = torchrun(2, "cache_activations", *cache_flags, "--activations", "cache", cwd=tmp_path)
    assert done.code == 0, done.said
    assert sums(tmp_path / "cache") == whole["float32"]
    assert done.said.count("cache is complete") == 1
