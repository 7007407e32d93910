"""What a benchmark starts as commands, called in this process."""

from types import ModuleType

import pytest


def called_here(monkeypatch: pytest.MonkeyPatch, module: ModuleType) -> list[str]:
    """The names of the commands that the module's `call` has started since."""
    from temporal_saes.__main__ import main

    run: list[str] = []

    def here(*command: str) -> int:
        run.append(command[0])
        main(list(command))
        return 0

    monkeypatch.setattr(module, "call", here)
    return run
