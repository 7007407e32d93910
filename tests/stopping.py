"""A command in a process of its own, stopped by a signal at a known place, however busy the machine is."""

import time
from pathlib import Path

import warm

# The command, with one method that waits in one of its calls until it is told to go on.
WAITING = """
import runpy, sys, time
from pathlib import Path
from {module} import {name} as owner

method, calls = owner.{method}, 0

def waiting(*arguments):
    global calls
    calls += 1
    if calls == {call}:
        Path("waits").touch()
        while not Path("goes on").exists():
            time.sleep(0.01)
    return method(*arguments)

owner.{method} = waiting
runpy.run_module("dictionary_learning.{command}", run_name="__main__", alter_sys=True)
"""


def stop_at(call: int, method: str, number: int, command: str, *argv: str, cwd: Path) -> tuple[int, str]:
    """Send a command a signal while it is in a call of a method.

    Args:
        call: which call of the method, from 1.
        method: `module.Class.method`.
        number: of the signal.
        command: module of dictionary_learning.
        cwd: where it runs; two files are made there, and removed again.

    Returns:
        Exit code and standard error.
    """
    module, name, method = method.rsplit(".", 2)
    code = WAITING.format(module=module, name=name, method=method, call=call, command=command)
    process = warm.Process(["-c", code, *argv], cwd)
    waits, goes_on = cwd / "waits", cwd / "goes on"
    while process.poll() is None and not waits.exists():
        time.sleep(0.01)
    process.send_signal(number)
    goes_on.touch()
    _, said = process.communicate()
    assert waits.exists(), said
    waits.unlink()
    goes_on.unlink()
    return process.wait(), said
