"""A command in several processes, forked from this one, which has everything imported: seconds less each.

    ends = forked(2, cache_activations.main, argv, cwd=tmp_path)

They find each other as processes of torchrun do, but nobody stops the others when one dies, so a test sees
what they do by themselves.
"""

import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from dictionary_learning.command import cli

LIMIT = 120  # seconds; nothing here may hang


class End(NamedTuple):
    """How a process ended."""

    code: int  # -9: killed
    said: str

    @property
    def errors(self) -> list[str]:
        return [line for line in self.said.splitlines() if line.startswith("error: ")]


class Forked:
    """Processes at work."""

    def __init__(
        self,
        n: int,
        main: Callable[[list[str]], object],
        argv: Sequence[str],
        cwd: Path,
        *,
        machines: int = 1,
        before: Callable[[int], object] = lambda rank: None,
    ) -> None:
        """
        Args:
            machines: how many machines they believe to be on.
            before: called in each process with its rank.
        """
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self._said = [cwd / f".said{rank}" for rank in range(n)]
        self.pids = []
        for rank in range(n):
            pid = os.fork()
            if pid == 0:
                size = n // machines
                os.environ |= {
                    **{"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)},
                    **{"RANK": str(rank), "WORLD_SIZE": str(n)},
                    **{"LOCAL_RANK": str(rank % size), "LOCAL_WORLD_SIZE": str(size)},
                    **{"GROUP_RANK": str(rank // size), "GROUP_WORLD_SIZE": str(machines)},
                }
                _run(lambda: main(list(argv)), cwd, self._said[rank], lambda rank=rank: before(rank))
            self.pids.append(pid)

    def ends(self) -> list[End]:
        """How they end, by rank."""
        until = time.monotonic() + LIMIT
        codes: dict[int, int] = {}
        while len(codes) < len(self.pids):
            for rank, pid in enumerate(self.pids):
                if rank not in codes:
                    done, status = os.waitpid(pid, os.WNOHANG)
                    if done:
                        codes[rank] = os.waitstatus_to_exitcode(status)
            if time.monotonic() > until:
                for rank in set(range(len(self.pids))) - set(codes):
                    os.kill(self.pids[rank], signal.SIGKILL)
                raise AssertionError(f"processes hang: {codes} ended of {len(self.pids)}")
            time.sleep(0.01)
        said = [path.read_text(errors="replace") for path in self._said]
        for path in self._said:
            path.unlink()
        return [End(codes[rank], said[rank]) for rank in range(len(said))]


def forked(n: int, main: Callable[[list[str]], object], argv: Sequence[str], cwd: Path, **more) -> list[End]:  # type: ignore[no-untyped-def]
    """Run a command in `n` processes, to their ends; see `Forked`."""
    return Forked(n, main, argv, cwd, **more).ends()


def _run(main: Callable[[], object], cwd: Path, said: Path, before: Callable[[], object]) -> None:
    """The child; never returns."""
    code = 255
    try:
        os.chdir(cwd)
        torch.set_num_threads(1)
        output = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1) for number in (1, 2))
        signal.signal(signal.SIGINT, signal.default_int_handler)
        before()
        cli.run(main)
        code = 0
    except SystemExit as stop:
        code = int(stop.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)
