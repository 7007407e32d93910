"""Commands in several processes, as a user starts them: through torchrun, on this machine.

The launcher and its processes are warm (see `warm`), but where `cold` is asked for: torchrun's own agent
watches, ends and restarts them, and only what it starts is a fork of itself.
"""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import warm

LIMIT = 300  # seconds; nothing here may hang


class Done(NamedTuple):
    """How a command ended."""

    code: int
    said: str
    """What its processes wrote, without torchrun's own lines."""

    @property
    def errors(self) -> list[str]:
        return [line for line in self.said.splitlines() if line.startswith("error: ")]


# torchrun, whose processes are forks of it instead of new interpreters
LAUNCHER = f"""
import os, subprocess, sys, time, traceback
sys.path.append({warm.TESTS!r})
import warm
from torch.distributed import run
from torch.distributed.elastic.multiprocessing.subprocess_handler.subprocess_handler import SubprocessHandler

class Fork:
    '''The methods of subprocess.Popen that the agent takes.'''
    def __init__(self, words, env):
        self.returncode = None
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                os.setsid()
                warm.become(words[1:], env)
                code = 0
            except SystemExit as stop:
                code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)

    def poll(self):
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout):
        until = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > until:
                raise subprocess.TimeoutExpired("fork", timeout)
            time.sleep(0.01)
        return self.returncode

SubprocessHandler._popen = lambda handler, words, env: Fork(words, env)
run.main(sys.argv[1:])
"""


def torchrun(
    n: int, module: str, *argv: str, cwd: Path, restarts: int = 0, code: str = "", cold: bool = warm.COLD
) -> Done:
    """Run a module of dictionary_learning, or temporal_saes itself, in `n` processes.

    Args:
        code: run first in every process; `rank` holds its number.
        cold: each process is a new interpreter, which ends as one, too.
    """
    return end(start(n, module, *argv, cwd=cwd, restarts=restarts, code=code, cold=cold))


def start(
    n: int, module: str, *argv: str, cwd: Path, restarts: int = 0, code: str = "", cold: bool = warm.COLD
) -> warm.Process:
    name = module if module == "temporal_saes" else f"dictionary_learning.{module}"
    script = cwd / "started_by_torchrun.py"
    script.write_text(
        "import os, runpy, sys\nrank = int(os.environ['RANK'])\n"
        f"{code}\nrunpy.run_module({name!r}, run_name='__main__', alter_sys=True)\n",
        encoding="utf-8",
    )
    launcher = ["-m", "torch.distributed.run"] if cold else ["-c", LAUNCHER]
    sizes = ["--standalone", "--nproc_per_node", str(n), "--max_restarts", str(restarts)]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    return warm.Process([*launcher, *sizes, str(script), *argv], cwd, env, merged=True, cold=cold)


def end(process: warm.Process) -> Done:
    said, _ = process.communicate(timeout=LIMIT)
    return Done(process.wait(), said)


def wait_for(what: Callable[[], bool], process: warm.Process) -> None:
    until = time.monotonic() + LIMIT
    while not what() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.02)


KILL = f"""
import os
def kill_self():
    os.kill(os.getpid(), {int(signal.SIGKILL)})
"""
