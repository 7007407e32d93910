"""Ctrl-C and SIGTERM end a run between two steps; the second one ends it at once."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Self

from dictionary_learning.command.progress import say

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(BaseException):
    """The run was asked to stop."""


class Interruption:
    """A context in which the first Ctrl-C or SIGTERM is remembered in `signal` instead of raised.

    Python runs signal handlers in the main thread only; elsewhere this context does nothing.
    """

    signal: int | None = None

    def __enter__(self) -> Self:
        self._waiting = False
        self._before: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._receive) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Nothing is half done in here, so the first signal raises Interrupted instead of waiting."""
        self._waiting = True
        try:
            yield
        finally:
            self._waiting = False

    def check(self) -> None:
        """Raise Interrupted when a signal came."""
        if self.signal is not None:
            raise Interrupted

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = number
        if self._waiting:
            raise Interrupted
        say("stopping after this step and saving; once more stops at once, without saving.")
