"""What a process ends with when another one failed, by what torchrun's store still says."""

import io
import sys
from contextlib import nullcontext
from typing import Any

import pytest
import torch.distributed as dist

from dictionary_learning.command import processes, program
from dictionary_learning.errors import UserError


class Gone:
    """A store whose machine went down."""

    def __getattr__(self, name: str) -> Any:
        def fail(*_: object) -> None:
            raise RuntimeError("Connection reset by peer")

        return fail


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dist, "get_rank", lambda: 0)
    monkeypatch.setattr(processes, "_SECONDS_TO_TELL", 0.2)


@pytest.mark.usefixtures("first")
def test_the_sentence_of_the_one_that_failed_is_told() -> None:
    store = dist.HashStore()
    store.set(processes._FAILURE, "process 2: the texts are gone.")
    ended = processes._failure_of_another(store, RuntimeError("Connection closed by peer"))
    assert isinstance(ended, UserError)
    assert str(ended) == "process 2: the texts are gone."
    assert store.check([processes._TELLING])


@pytest.mark.usefixtures("first")
def test_what_another_process_tells_already_is_not_told_again() -> None:
    store = dist.HashStore()
    store.set(processes._FAILURE, "process 2: the texts are gone.")
    assert processes._may_tell(store)
    ended = processes._failure_of_another(store, RuntimeError("Connection closed by peer"))
    assert isinstance(ended, SystemExit)
    assert ended.code == 2


@pytest.mark.usefixtures("first")
@pytest.mark.parametrize("store", [Gone(), dist.HashStore()], ids=["gone", "silent"])
def test_a_store_that_says_nothing_leaves_a_sentence_of_our_own(store: Any) -> None:
    ended = processes._failure_of_another(store, RuntimeError("Connection closed by peer"))
    assert isinstance(ended, UserError)
    assert "another process was killed or gave no answer (Connection closed by peer)" in str(ended)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (FileNotFoundError(2, "No such file or directory", "a.safetensors"), "a.safetensors cannot be used"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB."), "there is not enough memory (CUDA"),
        (KeyboardInterrupt(), "stopped."),
        (ZeroDivisionError("division by zero\nand more"), "ZeroDivisionError: division by zero"),
    ],
)
def test_what_a_process_leaves_to_the_first_is_what_it_would_have_said_itself(
    error: BaseException, said: str
) -> None:
    assert processes._sentence(error).startswith(said)
    assert "\n" not in processes._sentence(error)


SLURM = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "8", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}


@pytest.mark.parametrize(
    ("environment", "launcher"),
    [
        ({**SLURM, "SLURM_STEP_NUM_TASKS": "8"}, "srun"),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, "mpirun"),
        ({"PMI_SIZE": "2"}, "mpiexec"),
        ({**SLURM, "SLURM_STEP_NUM_TASKS": "8", "WORLD_SIZE": "1"}, None),  # each has work of its own
        (SLURM, None),  # a batch script, which may start 8 tasks and runs once
        ({**SLURM, "SLURM_STEP_NUM_TASKS": "1"}, None),  # the shell of salloc
    ],
)
def test_equal_processes_that_nothing_joins_are_refused_and_a_single_one_is_not(
    environment: dict[str, str], launcher: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.stdin", None)
    sentence = rf"{launcher} started . processes of this command .* one torchrun a machine"
    with pytest.raises(UserError, match=sentence) if launcher else nullcontext(), processes.together():
        pass


def test_a_shell_in_a_task_of_srun_is_a_single_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "8")
    monkeypatch.setattr("sys.stdin", Terminal())
    with processes.together():
        pass


@pytest.mark.parametrize(
    ("environment", "started_as", "told"),
    [
        ({}, (), "python train.py --k 4"),
        ({"WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "8"}, (), "torchrun --nproc_per_node 8 train.py --k 4"),
        (
            {"WORLD_SIZE": "16", "LOCAL_WORLD_SIZE": "8", "GROUP_WORLD_SIZE": "2"},
            ("temporal-saes", "train"),
            "torchrun --nnodes 2 --rdzv_backend c10d --rdzv_endpoint HOST:29500 --nproc_per_node 8 "
            "-m temporal_saes train --k 4",
        ),
    ],
    ids=["one", "a machine", "two machines"],
)
def test_a_command_of_several_processes_is_told_with_what_starts_them(
    environment: dict[str, str], started_as: tuple[str, ...], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    argv = ["temporal_saes", "train", "--k", "4"] if started_as else ["train.py", "--k", "4"]
    monkeypatch.setattr(sys, "argv", argv)
    monkeypatch.setattr(sys, "executable", "/bin/python")
    monkeypatch.setattr(program, "_started_as", list(started_as))
    assert " ".join(program.typed()) == told
