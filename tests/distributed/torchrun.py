"""Commands in several processes, as a user starts them: through torchrun, on this machine."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

LIMIT = 300  # seconds; nothing here may hang


class Done(NamedTuple):
    """How a command ended."""

    code: int
    said: str
    """What its processes wrote, without torchrun's own lines."""

    @property
    def errors(self) -> list[str]:
        return [line for line in self.said.splitlines() if line.startswith("error: ")]


def torchrun(n: int, module: str, *argv: str, cwd: Path, restarts: int = 0, code: str = "") -> Done:
    """Run a module of dictionary_learning, or temporal_saes itself, in `n` processes.

    Args:
        code: run first in every process; `rank` holds its number.
    """
    process = start(n, module, *argv, cwd=cwd, restarts=restarts, code=code)
    return end(process)


def start(
    n: int, module: str, *argv: str, cwd: Path, restarts: int = 0, code: str = ""
) -> subprocess.Popen[str]:
    name = module if module == "temporal_saes" else f"dictionary_learning.{module}"
    script = cwd / "started_by_torchrun.py"
    script.write_text(
        "import os, runpy, sys\nrank = int(os.environ['RANK'])\n"
        f"{code}\nrunpy.run_module({name!r}, run_name='__main__', alter_sys=True)\n",
        encoding="utf-8",
    )
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(n)]
    return subprocess.Popen(
        [*launcher, "--max_restarts", str(restarts), str(script), *argv],
        cwd=cwd,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def end(process: subprocess.Popen[str]) -> Done:
    said, _ = process.communicate(timeout=LIMIT)
    return Done(process.returncode, said)


def wait_for(what: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    until = time.monotonic() + LIMIT
    while not what() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.02)


KILL = f"""
import os
def kill_self():
    os.kill(os.getpid(), {int(signal.SIGKILL)})
"""
