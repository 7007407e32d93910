"""Several people and one language model: who comes first is served first, a step at a time.

    turns = Turns()
    with turns.step():          # nobody else runs the model meanwhile
        ...

A step is short: a few contexts that are read, or a token that is written. Whoever writes keeps the turn of
writing (`turns.writing`) until all is written, as the model is steered meanwhile, and lets others read
between two tokens.
"""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager


class Queue:
    """A lock that is given to those who wait in the order in which they came."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[threading.Event] = deque()
        self._is_taken = False

    @property
    def is_taken(self) -> bool:
        return self._is_taken

    def acquire(self) -> None:
        with self._lock:
            if not self._is_taken:
                self._is_taken = True
                return
            mine = threading.Event()
            self._waiting.append(mine)
        mine.wait()

    def release(self) -> None:
        with self._lock:
            if self._waiting:
                self._waiting.popleft().set()  # it stays taken
            else:
                self._is_taken = False

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *error: object) -> None:
        self.release()


class Turns:
    """The turns of everybody who uses one language model."""

    def __init__(self) -> None:
        self._model = Queue()
        self.writing = Queue()

    @contextmanager
    def step(self) -> Iterator[None]:
        """Inside the block the model is ours alone."""
        with self._model:
            yield

    def pause(self) -> None:
        """Inside `step`: let those who wait have a step of theirs."""
        self._model.release()
        self._model.acquire()
