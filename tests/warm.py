"""Commands in processes of their own that have the libraries loaded already: seconds less for each.

    done = warm.run([script, "--run_name", "r"], cwd=tmp_path)
    process = warm.Process(["-m", "temporal_saes", "explore"], cwd=tmp_path)

They stand for `subprocess.run([sys.executable, script, ...])` and for `subprocess.Popen`. A server that has
imported LIBRARIES, and nothing of this project, forks for each command: all that is ours is imported anew, in
the folder that is asked for. COLD=1 starts an interpreter for each command instead, as `scripts/torture.sh`
does. How commands begin from nothing is shown by tests/command/test_light_imports.py, by
tests/experiment/test_light_experiments.py, and by the tests that take `subprocess` or ask for `cold`.
"""

import atexit
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO

TESTS = str(Path(__file__).parent)
COLD = bool(os.environ.get("COLD"))
SECONDS = 300  # nothing here may hang
# what takes long: of 5 s that a small training takes from its start to its end, 4 s
LIBRARIES = [
    *(
        "torch",
        "torch._dynamo",
        "scipy.stats",
        "matplotlib.pyplot",
        "matplotlib.backends.backend_pdf",
        "spacy",
    ),
    *("transformers.models.auto.modeling_auto", "transformers.models.auto.tokenization_auto"),
    "transformers.models.llama.modeling_llama",
]

_servers = multiprocessing.get_context("forkserver")
_servers.set_forkserver_preload(LIBRARIES)


class Process:
    """A command at work, with the methods of `subprocess.Popen`; what it says is text in two files."""

    def __init__(
        self,
        words: Sequence[object],
        cwd: Path,
        env: Mapping[str, str] | None = None,
        *,
        merged: bool = False,
        cold: bool = COLD,
    ) -> None:
        """
        Args:
            words: what stands behind `python`: a script, `-m` and a module, or `-c` and code, and its flags.
            env: instead of this process's environment.
            merged: standard error goes where standard output goes.
            cold: a new interpreter.
        """
        self.args = [str(word) for word in words]
        self._folder = tempfile.TemporaryDirectory()
        out = Path(self._folder.name) / "out"
        err = out if merged else out.with_name("err")
        self._said = [out] if merged else [out, err]
        for path in self._said:
            path.touch()
        environment = dict(os.environ if env is None else env)
        self._cold = self._warm = None
        if cold:
            command = [sys.executable, *self.args]
            with out.open("a") as to_out, err.open("a") as to_err:
                self._cold = subprocess.Popen(command, cwd=cwd, env=environment, stdout=to_out, stderr=to_err)
            self.pid = self._cold.pid
            return
        arguments = (self.args, str(cwd), environment, [str(out), str(err)])
        self._warm = _servers.Process(target=_command, args=arguments)
        self._warm.start()
        assert self._warm.pid is not None
        self.pid = self._warm.pid

    @property
    def returncode(self) -> int | None:
        return self.poll()

    def poll(self) -> int | None:
        """How it ended, as `subprocess` tells it; None while it is at work."""
        return self._cold.poll() if self._cold else self._warm.exitcode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout: float = SECONDS) -> int:
        until = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > until:
                self.kill()
                raise subprocess.TimeoutExpired(self.args, timeout)
            if self._warm:
                self._warm.join(0.5)
            else:
                time.sleep(0.005)
        return code

    def first_line(self) -> str:
        """Wait for the first line of standard output; what there is of it when the command ended before."""
        until = time.monotonic() + SECONDS
        while True:
            is_over = self.poll() is not None
            line, end, _ = self._said[0].read_text("utf-8").partition("\n")
            if end or is_over or time.monotonic() > until:
                return line.strip()
            time.sleep(0.01)

    def communicate(self, timeout: float = SECONDS) -> tuple[str, str]:
        """Wait for its end; standard output and error."""
        self.wait(timeout)
        said = [path.read_text("utf-8", errors="replace") for path in self._said]
        return said[0], "".join(said[1:])


class Piped:
    """A command that is spoken with, in place of `subprocess.Popen` with pipes for input and output."""

    def __init__(
        self, words: Sequence[str], *, stderr: IO[str], env: Mapping[str, str], **as_ever: object
    ) -> None:
        """
        Args:
            words: the interpreter, which is this one, a script, and its flags.
            stderr: a file.
            as_ever: what else Popen is told, for pipes of text.
        """
        assert as_ever == {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        assert words[0] == sys.executable
        read, asked = os.pipe()
        answered, written = os.pipe()
        self.stdin, self.stdout = os.fdopen(asked, "w"), os.fdopen(answered)
        ends = [
            Connection(read, writable=False),
            *(Connection(fd, readable=False) for fd in (written, os.dup(stderr.fileno()))),
        ]
        self._process = _servers.Process(target=_piped, args=(list(words[1:]), dict(env), ends))
        self._process.start()
        for end in ends:
            end.close()

    def wait(self) -> int | None:
        self._process.join(SECONDS)
        return self._process.exitcode

    def kill(self) -> None:
        self._process.kill()

    def communicate(self) -> None:
        self.stdin.close()
        self.stdout.close()
        self.wait()


def run(
    words: Sequence[object], cwd: Path, env: Mapping[str, str] | None = None, timeout: float = SECONDS
) -> subprocess.CompletedProcess[str]:
    """A command, to its end."""
    process = Process(words, cwd, env)
    said = process.communicate(timeout)
    return subprocess.CompletedProcess(process.args, process.wait(), *said)


def _command(words: list[str], cwd: str, environment: dict[str, str], files: list[str]) -> None:
    """The process: from here on, as if `python` had been started with these words."""
    for number, name in enumerate(files, 1):
        file = os.open(name, os.O_WRONLY | os.O_APPEND)
        os.dup2(file, number)
        os.close(file)
    os.chdir(cwd)
    become(words, environment)


def _piped(words: list[str], environment: dict[str, str], ends: list[Connection]) -> None:
    for number, end in enumerate(ends):
        os.dup2(end.fileno(), number)
        end.close()
    sys.stdin = os.fdopen(0, closefd=False, encoding="utf-8")
    become(words, environment)


def become(words: Sequence[str], environment: Mapping[str, str]) -> None:
    """Run in this forked process what `python` would run; it may end with SystemExit.

    Args:
        words: without options of the interpreter but `-u`.
    """
    atexit._clear()  # those of the process that forked
    multiprocessing.set_start_method(None, force=True)  # type: ignore[arg-type]
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(environment)
    # lines come whole, whoever else writes there
    sys.stdout, sys.stderr = (os.fdopen(n, "w", buffering=1, closefd=False, encoding="utf-8") for n in (1, 2))
    words = [word for word in words if word != "-u"]
    told = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path = [path for path in sys.path if path != TESTS and not path.startswith(f"{TESTS}/")]
    sys.path = told + [path for path in sys.path if path not in told]
    try:
        if words[0] == "-c":
            sys.argv, sys.path[:0] = ["-c", *words[2:]], [""]
            exec(
                compile(words[1], "<string>", "exec"), {"__name__": "__main__", "__builtins__": __builtins__}
            )
        elif words[0] == "-m":
            sys.argv, sys.path[:0] = words[1:], [os.getcwd()]
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv, sys.path[:0] = list(words), [str(Path(words[0]).resolve().parent)]
            runpy.run_path(words[0], run_name="__main__")
    finally:
        atexit._run_exitfuncs()
