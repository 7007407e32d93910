"""How the command that is running was started: as a script, or as a sub-command of `temporal-saes`."""

import sys
from pathlib import Path

_started_as: list[str] = []


def start_as(*words: str) -> None:
    """Say what starts this command, such as `temporal-saes train`, in place of a script's path."""
    _started_as[:] = words


def sub_command() -> str | None:
    """The sub-command of `temporal-saes` that is running, with that in front; None for a script."""
    return " ".join(_started_as) or None


def words() -> list[str]:
    """What is typed to start this command, without its flags."""
    return list(_started_as) or [Path(sys.executable).name, sys.argv[0]]


def typed() -> list[str]:
    """The whole command line, as it can be typed again."""
    return [*words(), *sys.argv[1 + max(len(_started_as) - 1, 0) :]]
