"""A command killed at its n-th file operation, in a forked copy of this process (which has torch imported).

    end = killed(main, argv, at=7, cwd=tmp_path)  # end.code is -9, or what it ended with before that

A file operation is what can leave something half done: opening to write, replacing, making or removing a
folder, unlinking, flushing to the disk.
"""

import os
import random
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, NamedTuple

from dictionary_learning.command import cli

KILLS = int(os.environ.get("KILLS", "3"))  # how often a command is killed
COUNTED = (
    *((os, name) for name in ("replace", "rename", "mkdir", "rmdir", "unlink", "fsync")),
    (shutil, "rmtree"),
)


def places(operations: int, seed: int) -> list[int]:
    """Where to kill: everywhere, or a few places drawn anew for each command, the first ones among them."""
    if operations <= KILLS:
        return list(range(1, operations + 1))
    draw = random.Random(seed)
    return sorted({1, *draw.sample(range(1, operations + 1), KILLS - 1)})


class End(NamedTuple):
    """How a command ended."""

    code: int  # -9: killed; -1: a traceback
    operations: int
    said: str  # standard output and error


def killed(main: Callable[[list[str]], object], argv: list[str], at: int | None, cwd: Path) -> End:
    """Run `main(argv)` in a fork that dies at its `at`-th file operation; to its end with None."""
    said, count = cwd / ".said", cwd / ".count"
    process = os.fork()
    if process == 0:
        _run(main, argv, at, cwd, said, count)
    _, status = os.waitpid(process, 0)
    code = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
    end = End(-1 if code == 255 else code, int(count.stat().st_size), said.read_text(errors="replace"))
    said.unlink()
    count.unlink()
    return end


def _run(main: Any, argv: list[str], at: int | None, cwd: Path, said: Path, count: Path) -> None:
    """The child; never returns."""
    try:
        os.chdir(cwd)
        output = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.stdout = os.fdopen(1, "w", buffering=1)
        sys.stderr = os.fdopen(2, "w", buffering=1)
        arm(at, count, but=[str(said)])
        sys.argv = ["killed", *argv]
        try:
            cli.run(lambda: main(argv))
        except SystemExit as stop:
            os._exit(int(stop.code or 0))
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(255)


def arm(at: int | None, count: Path, but: Collection[str] = ()) -> None:
    """Have this process die at its `at`-th file operation from now on.

    Args:
        count: grows by a byte an operation.
        but: files that do not count.
    """
    sys.dont_write_bytecode = True  # what is imported only then is no operation of the command
    counter = os.open(count, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
    done = 0

    def before() -> None:
        nonlocal done
        done += 1
        if at is not None and done >= at:
            os.kill(os.getpid(), signal.SIGKILL)
        os.write(counter, b".")

    for owner, name in COUNTED:
        setattr(owner, name, _counting(getattr(owner, name), before))
    sys.addaudithook(_writing(before, {*but, str(count)}))


def _counting(function: Callable[..., Any], before: Callable[[], None]) -> Callable[..., Any]:
    def counted(*arguments: Any, **named: Any) -> Any:
        before()
        return function(*arguments, **named)

    return counted


def _writing(before: Callable[[], None], but: set[str]) -> Callable[[str, tuple[Any, ...]], None]:
    """An audit hook that counts files that are opened to be written."""

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event != "open":
            return
        path, mode, flags = arguments
        writes = (isinstance(mode, str) and mode[:1] in "wax") or (flags or 0) & (os.O_WRONLY | os.O_RDWR)
        if writes and isinstance(path, str) and path not in but and not path.startswith(("/dev/", "/proc/")):
            before()

    return hook
