"""The training commands under torchrun: the same run, and no process that is left waiting."""

import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from caches import write
from distributed.torchrun import KILL, end, start, torchrun, wait_for

from dictionary_learning import train_temporal

RUN = [
    "--dict_size",
    "64",
    "--k",
    "4",
    "--steps",
    "12",
    "--batch_size",
    "47",  # which no number of processes divides
    "--warmup_steps",
    "2",
    "--threshold_start_step",
    "3",
    "--calibration_tokens",
    "300",
    "--log_steps",
    "4",
    "--resume_every",
    "4",
]

# What is left of threads when a process ends, but for the one of the bars.
THREADS = """
import atexit
from contextlib import suppress
from pathlib import Path
def note():
    names = set()
    for task in Path("/proc/self/task").iterdir():
        with suppress(OSError):  # it has ended meanwhile
            names.add((task / "comm").read_text().strip())
    Path(f"threads{rank}").write_text(" ".join(sorted(names)))
atexit.register(note)
"""


@pytest.fixture(scope="module")
def cache(cache_flags: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parallel") / "cache"
    write("--activations", str(folder), *cache_flags)
    return folder


@pytest.fixture(scope="module")
def alone(cache: Path) -> Path:
    """The run of one process."""
    flags = ["--activations", str(cache), "--checkpoints_path", str(cache.parent / "runs"), "--device", "cpu"]
    train_temporal.main([*flags, *RUN, "--run_name", "alone"])
    return cache.parent / "runs" / "alone"


def flags(cache: Path, name: str) -> list[str]:
    return ["--activations", str(cache), "--checkpoints_path", "runs", "--device", "cpu", "--run_name", name]


def weights(run: Path) -> dict[str, torch.Tensor]:
    return torch.load(run / "trainer_0" / "ae.pt", weights_only=True)


def same(run: Path, other: Path) -> None:
    for name, value in weights(other).items():
        torch.testing.assert_close(weights(run)[name], value, atol=1e-5, rtol=1e-5, msg=name)


def config(run: Path) -> dict[str, Any]:
    return yaml.safe_load((run / "config.yaml").read_text("utf-8"))


def test_two_processes_leave_the_run_of_one_and_only_the_first_one_speaks(
    cache: Path, alone: Path, tmp_path: Path
) -> None:
    done = torchrun(2, "train_temporal", *flags(cache, "two"), *RUN, cwd=tmp_path, code=THREADS, cold=True)
    assert done.code == 0, done.said
    # a thread that outlives its process group aborts the process now and then
    assert [(tmp_path / f"threads{rank}").read_text() for rank in (0, 1)] == ["python", "python"]
    run = tmp_path / "runs" / "two"
    same(run, alone)
    assert "12 steps of 47 pairs (2 processes x 24 at most)" in done.said
    assert done.said.count("12 steps done") == 1
    assert config(run)["processes"] == 2
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    expected = [json.loads(line) for line in (alone / "metrics.jsonl").read_text().splitlines()]
    assert [(r["step"], r["tokens"]) for r in records] == [(r["step"], r["tokens"]) for r in expected]
    for record, other in zip(records, expected, strict=True):
        assert record["trainer_0"] == pytest.approx(other["trainer_0"], rel=1e-4, abs=1e-5)


def test_a_killed_process_ends_all_and_the_run_goes_on_with_another_number_of_them(
    cache: Path, alone: Path, tmp_path: Path
) -> None:
    killing = f"""{KILL}
from dictionary_learning.runs.keeper import Keeper
save_state = Keeper.save_state
def save_and_die(keeper):
    save_state(keeper)
    if keeper.state.done == 8 and rank == 1:
        kill_self()
Keeper.save_state = save_and_die
"""
    done = torchrun(2, "train_temporal", *flags(cache, "killed"), *RUN, cwd=tmp_path, code=killing)
    assert done.code != 0
    run = tmp_path / "runs" / "killed"
    again = torchrun(
        3, "train_temporal", "--run_name", "killed", "--checkpoints_path", "runs", "--resume", cwd=tmp_path
    )
    assert again.code == 0, again.said
    same(run, alone)
    resumed = config(run)["resumed"]
    assert [(entry["step"], entry["processes"]) for entry in resumed] == [(8, 3)]


def test_torchrun_starts_a_run_again_from_its_last_save(cache: Path, alone: Path, tmp_path: Path) -> None:
    killing = f"""{KILL}
from dictionary_learning.runs.keeper import Keeper
save_state = Keeper.save_state
def save_and_die(keeper):
    save_state(keeper)
    if keeper.state.done == 4 and rank == 1 and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
        kill_self()
Keeper.save_state = save_and_die
"""
    done = torchrun(2, "train_temporal", *flags(cache, "again"), *RUN, cwd=tmp_path, restarts=1, code=killing)
    assert done.code == 0, done.said
    run = tmp_path / "runs" / "again"
    same(run, alone)
    assert [entry["step"] for entry in config(run)["resumed"]] == [4]


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (
            "from dictionary_learning.errors import UserError\n"
            "from dictionary_learning.runs.source import Source\n"
            "peek, calls = Source.peek, []\n"
            "def broken(source):\n"
            "    calls.append(1)\n"
            "    if rank == 1 and len(calls) == 8:\n"
            "        raise UserError('the texts of process 1 are gone.')\n"
            "    return peek(source)\n"
            "Source.peek = broken",
            "the texts of process 1 are gone; training stopped, and in .* step 6 is safe",
        ),
        (
            "import errno\n"
            "from dictionary_learning.runs.folder import RunFolder\n"
            "def full(run, state):\n"
            "    raise OSError(errno.ENOSPC, 'No space left on device', 'state.pt')\n"
            "RunFolder.save_state = full",
            "the disk is full",
        ),
        ("import sys\nsys.argv += ['--k', str(3 + rank)]", "process 1 has other flags than process 0"),
    ],
    ids=["data", "disk", "flags"],
)
def test_what_fails_in_one_process_ends_all_with_one_sentence(
    code: str, said: str, cache: Path, tmp_path: Path
) -> None:
    done = torchrun(2, "train_temporal", *flags(cache, "broken"), *RUN, cwd=tmp_path, code=code)
    assert done.code != 0
    assert len(done.errors) == 1, done.said
    assert re.search(said, done.errors[0]), done.errors


def test_a_batch_that_leaves_a_process_without_a_pair_is_refused(cache: Path, tmp_path: Path) -> None:
    wrong = [*RUN, "--batch_size", "1", "--no_contrastive"]
    done = torchrun(2, "train_temporal", *flags(cache, "small"), *wrong, cwd=tmp_path)
    assert done.code != 0
    assert done.errors == [
        "error: --batch_size is 1, and must give each of 2 processes something: at least 2."
    ]
    assert not (tmp_path / "runs").exists()


def test_ctrl_c_stops_all_after_the_same_step_and_saves(cache: Path, alone: Path, tmp_path: Path) -> None:
    slow = """
import time
from dictionary_learning.runs.loop import _Loop
step = _Loop._step
def slow_step(loop, *arguments):
    step(loop, *arguments)
    open(f"step{loop.state.done}", "w").close()
    time.sleep(0.5)
_Loop._step = slow_step
"""
    process = start(2, "train_temporal", *flags(cache, "stopped"), *RUN, cwd=tmp_path, code=slow)
    wait_for((tmp_path / "step5").exists, process)
    os.kill(process.pid, signal.SIGTERM)  # torchrun hands it on
    done = end(process)
    assert "to go on: torchrun --nproc_per_node 2 " in done.said, done.said
    run = tmp_path / "runs" / "stopped"
    assert (run / "resume" / "state.pt").is_file()
    resume = ["--run_name", "stopped", "--checkpoints_path", str(tmp_path / "runs"), "--resume"]
    train_temporal.main(resume)
    same(run, alone)


def test_processes_with_documents_of_their_own_train_and_go_on(
    cache_flags: list[str], tmp_path: Path
) -> None:
    words = ["--checkpoints_path", "runs", "--run_name", "live", *cache_flags, *RUN]
    done = torchrun(2, "train_temporal", *words, cwd=tmp_path)
    assert done.code == 0, done.said
    run = tmp_path / "runs" / "live"
    assert config(run)["processes"] == 2
    state = torch.load(run / "resume" / "state.pt", weights_only=True)
    assert len(state["positions"]) == 2
    assert state["positions"][0] != state["positions"][1]  # each has come to another place of the corpus
