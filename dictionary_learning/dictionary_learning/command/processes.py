"""Several processes that torchrun started: how they begin, and how one's failure ends all.

    torchrun --nproc_per_node 8 .../train_temporal.py --config gemma-2-2b

torchrun finds the processes of all machines and starts them again (`--max_restarts`); `torch.distributed`
carries what they tell each other. What they compute together is in `distributed`. Only the first process
speaks, and writes what is written once. The one that fails leaves its sentence in torchrun's store, from
which the first one tells it.
"""

import argparse
import os
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, NamedTuple

from dictionary_learning.command.devices import agreed
from dictionary_learning.command.files import sentence
from dictionary_learning.command.memory import shared_among
from dictionary_learning.command.progress import n_of
from dictionary_learning.errors import UserError

DEFAULT_TIMEOUT = 1800
# How long a failed process waits until the first one has told its sentence, and that one for a sentence.
_SECONDS_TO_TELL = 5.0
_SECONDS_TO_BE_HEARD = 1.0  # from then on, for what it still has to do before it speaks
_FAILURE, _TELLING = "temporal_saes/failure", "temporal_saes/telling"
_TAKEN, _READY = "temporal_saes/taken", "temporal_saes/ready"
# Where launchers that join nothing say how many equal processes they started. SLURM_NTASKS is no sign of it:
# a batch script, which runs once, has the number of the tasks that it may start.
_LAUNCHERS = {"srun": "SLURM_STEP_NUM_TASKS", "mpirun": "OMPI_COMM_WORLD_SIZE", "mpiexec": "PMI_SIZE"}


def n_processes() -> int:
    """How many processes torchrun started; 1 without it, and where each works `apart`."""
    return 1 if _apart else int(os.environ.get("WORLD_SIZE") or 1)


def told_shares(n_items: int, n: int, together: int = 1) -> str:
    """How `n` processes share a batch: `8 processes x 1,024`, or `3 processes x 2,731 at most`.

    Args:
        together: so many items always go to one process.
    """
    largest = -(-n_items // together // n) * together
    at_most = "" if largest * n == n_items else " at most"
    return f"{n_of(n, 'process')} x {largest:,}{at_most}"


def n_restarts() -> int:
    """How often torchrun has started the processes again after a failure."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT") or 0)


def add_timeout(parser: argparse.ArgumentParser) -> None:
    """The flag `--timeout`, of every command that several processes can run together."""
    parser.add_argument(
        "--timeout",
        type=_seconds,
        default=DEFAULT_TIMEOUT,
        help=f"seconds that a process waits for the others, under torchrun (default: {DEFAULT_TIMEOUT})",
    )


def _seconds(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is no number of seconds: give at least 1.")
    return int(text)


class Machine(NamedTuple):
    """Where a process stands among those of its machine, and the machine among all."""

    number: int
    n_machines: int
    rank: int
    size: int


def machine() -> Machine:
    """This process's, as torchrun says; without its word each process has a machine of its own."""
    if n_processes() == 1:
        return Machine(0, 1, 0, 1)

    def told(name: str) -> int:
        return int(os.environ.get(name) or 0)

    if not told("LOCAL_WORLD_SIZE"):
        return Machine(told("RANK"), n_processes(), 0, 1)
    n_machines = told("GROUP_WORLD_SIZE") or 1
    return Machine(told("GROUP_RANK"), n_machines, told("LOCAL_RANK"), told("LOCAL_WORLD_SIZE"))


def is_first() -> bool:
    """Whether this is the process that speaks, and writes what is written once."""
    return int(os.environ.get("RANK") or 0) == 0 or n_processes() == 1


def check_alike(facts: Mapping[str, Any]) -> None:
    """Refuse processes that were started with other flags, versions or data than the first one.

    Args:
        facts: what has to be the same, under the names that a sentence uses; JSON can hold it.

    Raises:
        UserError: names what differs, in every process.
    """
    if n_processes() == 1:
        return
    from dictionary_learning import distributed

    of_all = distributed.values_of_all({name: str(value) for name, value in facts.items()})
    for name, first in of_all[0].items():
        for rank, others in enumerate(of_all):
            if others.get(name) != first:
                raise UserError(
                    f"process {rank} has other {name} than process 0 ({others.get(name)}, not {first}): "
                    "start all with the same command, from the same installation, on the same data."
                )


@contextmanager
def apart() -> Iterator[None]:
    """Within it this process works by itself, as if torchrun had started no other."""
    from dictionary_learning import distributed

    _apart.append(True)
    try:
        with distributed.alone():
            yield
    finally:
        _apart.pop()


_apart: list[bool] = []


def dealt_out(n: int) -> Iterator[int]:
    """Numbers from 0 to below `n`, each to the process that is first free for it; ends when all are done.

    To be gone through once; meanwhile each process works `apart`. A process that has nothing left to do waits
    for the others however long they take: it is torchrun that ends it when one of them fails.
    """
    import torch.distributed as dist

    store: Any = dist.distributed_c10d._get_default_store()
    while (number := store.add(_TAKEN, 1) - 1) < n:
        yield number
    store.set(f"{_READY}/{dist.get_rank()}", "1")
    while not store.check([f"{_READY}/{rank}" for rank in range(dist.get_world_size())]):
        time.sleep(0.5)


@contextmanager
def together(timeout: int = DEFAULT_TIMEOUT) -> Iterator[None]:
    """Within it the processes that torchrun started work as one; for a single process nothing changes.

    Args:
        timeout: seconds that a process waits for the others before it gives up.

    Raises:
        UserError: they cannot find each other, or another one has failed: with its sentence, in the first;
            several were started without torchrun.
    """
    _check_joined()
    if n_processes() == 1:
        yield
        return
    import torch.distributed as dist

    from dictionary_learning import distributed

    speaking = sys.stdout, sys.stderr
    try:
        with _told_by_first():
            _begin(timeout)
            if dist.get_rank() > 0:
                sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
            with agreed(distributed.value_of_first), shared_among(machine().size):
                yield
            dist.barrier()
    finally:
        sys.stdout, sys.stderr = speaking
        if dist.is_initialized():
            dist.destroy_process_group()


def _check_joined() -> None:
    """Refuse several equal processes that are to know nothing of each other, and would do all the same.

    Raises:
        UserError: srun or the like started several of this command.
    """
    # who types here is in a shell that `srun --pty` opened
    if os.environ.get("WORLD_SIZE") or (sys.stdin is not None and sys.stdin.isatty()):
        return
    for launcher, name in _LAUNCHERS.items():
        n = os.environ.get(name, "")
        if n.isdigit() and int(n) > 1:
            raise UserError(
                f"{launcher} started {n} processes of this command ({name}), and only torchrun joins them to "
                f"one: have {launcher} start one torchrun a machine, with --nnodes, --nproc_per_node and "
                "--rdzv_endpoint; or set WORLD_SIZE=1 if each is to do something else."
            )


def _begin(timeout: int) -> None:
    """Find the other processes.

    Raises:
        UserError: they are not there within the time.
    """
    import torch
    import torch.distributed as dist

    # Its functions have the process group of the moment as a default argument (torch 2.13). An optimiser
    # imports it; after the group is there it would hold the group, whose threads abort a process that ends.
    import torch.distributed.nn

    backend = "gloo"
    if torch.cuda.is_available():
        local = int(os.environ.get("LOCAL_RANK") or 0)
        if local >= torch.cuda.device_count():
            raise UserError(
                f"torchrun started {os.environ.get('LOCAL_WORLD_SIZE')} processes on a machine with "
                f"{torch.cuda.device_count()} GPUs: start as many as there are, with --nproc_per_node."
            )
        torch.cuda.set_device(local)
        backend = "cpu:gloo,cuda:nccl"
    limit = timedelta(seconds=timeout)
    try:
        store, rank, size = next(dist.rendezvous("env://", timeout=limit))
        store = dist.PrefixStore(_name_of_meeting(store, rank, size, timeout), store)
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=limit)
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"the {n_processes()} processes did not find each other ({_first_line(error)}): start them with "
            "torchrun, and with its --rdzv_endpoint on several machines."
        ) from None


def _name_of_meeting(store: Any, rank: int, size: int, timeout: int) -> str:
    """A name that only the processes of this start have, so that they find no addresses of an earlier one.

    torchrun (torch 2.13) keeps its store when it starts the processes again, with the addresses of those that
    have died, and its count of restarts differs from machine to machine. So every process asks the first one
    by a word that nobody has used before.
    """
    word = uuid.uuid4().hex
    if rank > 0:
        store.set(f"ask/{rank}", word)
        store.wait([f"answer/{word}"], timedelta(seconds=timeout))
        name = store.get(f"answer/{word}").decode()
        store.add(f"here/{name}", 1)
        return str(name)
    until = time.monotonic() + timeout
    while store.add(f"here/{word}", 0) < size - 1:
        if time.monotonic() > until:
            raise RuntimeError(f"not all {size} processes came within {timeout} s")
        for other in range(1, size):
            if store.check([f"ask/{other}"]):
                store.set(f"answer/{store.get(f'ask/{other}').decode()}", word)
        time.sleep(0.01)
    return word


@contextmanager
def _told_by_first() -> Iterator[None]:
    """Leave this process's failure where the first one finds it, or tell the one that is there."""
    import torch.distributed as dist

    try:
        yield
    except BaseException as error:
        if not dist.is_initialized() or (isinstance(error, SystemExit) and not error.code):
            raise
        store: Any = dist.distributed_c10d._get_default_store()
        if _is_of_another(error):
            raise _failure_of_another(store, error) from None
        if isinstance(error, SystemExit) and error.code in (130, 143):
            raise  # all were asked to stop
        if not isinstance(error, UserError):
            error.add_note(f"(in process {dist.get_rank()} of {dist.get_world_size()})")
        if dist.get_rank() == 0:
            if _may_tell(store):
                raise
            raise SystemExit(2) from None
        _quietly(store.set, _FAILURE, f"process {dist.get_rank()}: {_sentence(error)}")
        dist.destroy_process_group()  # whoever waits for this process learns now that it is gone
        if _first_has_told(store) or not _may_tell(store):
            raise SystemExit(2) from None
        raise


def _is_of_another(error: BaseException) -> bool:
    """Whether a collective ended because another process did, or did not answer in time."""
    import torch.distributed as dist

    if isinstance(error, dist.DistError):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and any(
        sign in text for sign in ("gloo/transport", "Connection closed by peer", "Timed out waiting", "NCCL")
    )


def _failure_of_another(store: Any, error: BaseException) -> BaseException:
    """What this process ends with when a collective failed."""
    import torch.distributed as dist

    if dist.get_rank() > 0:
        _first_has_told(store)
        return SystemExit(2)
    told = _quietly(store.get, _FAILURE) if _appears(store, _FAILURE) else None
    if not _may_tell(store):
        return SystemExit(2)
    if told is not None:
        return UserError(told.decode())
    return UserError(
        f"another process was killed or gave no answer ({_first_line(error)}): its own lines say why, if "
        "there are any; what was saved is safe, and the same command goes on with it (a training with "
        "--resume)."
    )


def _may_tell(store: Any) -> bool:
    """Whether no other process tells what has happened; whoever asks first does, and does not ask again."""
    return _quietly(store.add, _TELLING, 1) in (1, None)


def _first_has_told(store: Any) -> bool:
    """Wait until the first process has told a failure: torchrun ends it as soon as this one ends."""
    if not _appears(store, _TELLING):
        return False
    time.sleep(_SECONDS_TO_BE_HEARD)
    return True


def _appears(store: Any, key: str) -> bool:
    """Whether a key is in the store, now or within a few seconds, or the store is gone with its process."""
    until = time.monotonic() + _SECONDS_TO_TELL
    while time.monotonic() < until:
        try:
            if store.check([key]):
                return True
        except RuntimeError:
            return True
        time.sleep(0.1)
    return False


def _quietly(do: Any, *arguments: Any) -> Any:
    """The store is gone when its machine is: then there is nobody to tell."""
    try:
        return do(*arguments)
    except RuntimeError:
        return None


def _sentence(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "stopped."
    return sentence(error) or f"{type(error).__name__}: {_first_line(error)}"


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
