"""What is done beside the language model: the next piece is begun and the last one finished, in a thread.

Tokenising, checksums and waiting for the disk leave the interpreter to others, so the language model has the
texts of a piece at hand when it is through with the one before.
"""

import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from queue import SimpleQueue
from typing import Any

from dictionary_learning.activations.piece import Piece, PieceInProgress, Written

# A thread that is at work when the command ends is waited for so long; torchrun kills after 30 seconds.
_SECONDS_TO_END = 20.0


class Backstage:
    """A thread at work on the pieces of one machine, which have numbers from 0.

    The first piece is begun at once, every other one when `open` gives the piece before it.
    """

    def __init__(self, pieces: Sequence[Piece]) -> None:
        self._pieces = pieces
        self._begun: dict[int, Future[PieceInProgress]] = {}
        self._finished: dict[int, Future[list[Written]]] = {}
        self._n_submitted = self._n_told = 0
        self._tasks: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()
        self._begin_next()

    def newly_begun(self) -> Iterator[PieceInProgress]:
        """Those that are open since this was last asked, in order."""
        while (future := self._begun.get(self._n_told)) and future.done() and not future.exception():
            self._n_told += 1
            yield future.result()

    def open(self, number: int) -> PieceInProgress:
        """A piece that was begun.

        Raises:
            UserError, OSError: as `PieceInProgress.begin`.
        """
        piece = self._begun[number].result()
        if number + 1 == self._n_submitted:
            self._begin_next()
        return piece

    def check(self, number: int) -> None:
        """Raise the error with which the beginning of a piece ended, if it did."""
        if number in self._begun and self._begun[number].done():
            self._begun[number].result()

    def finish(self, number: int) -> None:
        """Have a full piece finished."""
        self._finished[number] = self._submit(self._begun.pop(number).result().finish)

    def newly_finished(self) -> Iterator[tuple[int, list[Written]]]:
        """Those that are finished since this was last asked.

        Raises:
            OSError: the disk is full.
        """
        for number in [number for number, future in self._finished.items() if future.done()]:
            yield number, self._finished.pop(number).result()

    def wait(self, seconds: float) -> None:
        """Until something more is begun or finished, but no longer than so, and not for nothing."""
        beginning: list[Future[Any]] = [future for future in self._begun.values() if not future.done()]
        if beginning or self._finished:
            wait([*beginning, *self._finished.values()], seconds, FIRST_COMPLETED)

    def stop(self) -> None:
        """Begin no more, and have what is there on the disk."""
        until = time.monotonic() + _SECONDS_TO_END
        self._drop_tasks(but=self._finished.values())
        self._tasks.put(None)
        self._thread.join(max(0.0, until - time.monotonic()))
        for future in self._begun.values():
            if future.done() and not future.exception():
                future.result().flush()

    def close(self) -> None:
        """End the thread; leave no file in which there is nothing."""
        self._drop_tasks()
        self._tasks.put(None)
        self._thread.join(_SECONDS_TO_END)
        for future in self._begun.values():
            if future.done() and not future.exception():
                future.result().discard_if_empty()

    def _begin_next(self) -> None:
        if self._n_submitted < len(self._pieces):
            piece = self._pieces[self._n_submitted]
            self._begun[self._n_submitted] = self._submit(lambda: PieceInProgress.begin(piece))
            self._n_submitted += 1

    def _submit(self, task: Callable[[], Any]) -> Future[Any]:
        future: Future[Any] = Future()
        self._tasks.put((future, task))
        return future

    def _drop_tasks(self, but: Collection[Future[Any]] = ()) -> None:
        """Leave undone what was not begun yet."""
        kept = []
        while not self._tasks.empty():
            task = self._tasks.get_nowait()
            if task is not None and task[0] in but:
                kept.append(task)
        for task in kept:
            self._tasks.put(task)

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            future, do = task
            try:
                future.set_result(do())
            except BaseException as error:
                future.set_exception(error)
