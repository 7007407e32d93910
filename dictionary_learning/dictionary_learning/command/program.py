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
    """What is typed to start this command, without its flags; torchrun and its own flags are part of it.

    Of several machines it says HOST, as torchrun does not tell its processes where they were to meet.
    """
    from dictionary_learning.command.processes import machine, n_processes

    script = list(_started_as) or [sys.argv[0]]
    if n_processes() == 1:
        return script if _started_as else [Path(sys.executable).name, *script]
    place = machine()
    several = [
        "--nnodes",
        str(place.n_machines),
        *["--rdzv_backend", "c10d", "--rdzv_endpoint", "HOST:29500"],
    ]
    module = ["-m", "temporal_saes", *script[1:]] if _started_as else script
    meeting = several if place.n_machines > 1 else []
    return ["torchrun", *meeting, "--nproc_per_node", str(place.size), *module]


def typed() -> list[str]:
    """The whole command line, as it can be typed again."""
    return [*words(), *sys.argv[1 + max(len(_started_as) - 1, 0) :]]
