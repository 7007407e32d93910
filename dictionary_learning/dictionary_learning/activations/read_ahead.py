"""A store whose next block is read while the present one is in use.

    with ReadAhead(store) as store:
        for x_B2D in store.pairs(2048): ...

When a block is given, a thread begins to read the one behind it into a second buffer; behind the last block
of several it is the first again. The blocks, and so the batches and the positions among them, are those of
the store alone.

What it costs: memory for a second block, so twice `--memory`. What still stalls: the first block, for which
there is nothing to wait beside, and every block that takes longer to read than the one before it takes to
train on. A corpus that fits into one block is read before the first step, and nothing overlaps; n blocks
that take as long to read as to train on take (n + 1) / 2n of the time of one after the other. On a CPU the
two share the cores, so it pays where neither uses all of them: a thread each. On CUDA the reader has streams
of its own, which wait for what was begun before them and have done all when a block is given.
"""

import threading
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, Self

import torch

from dictionary_learning.activations.block import BEGINNING, Block, BlockStart
from dictionary_learning.activations.store import Store

# How long `close` waits for a reader to notice: a batch of a language model. One that waits for the network
# does not notice, and ends with the process.
_SECONDS_TO_STOP = 60.0


class ReadAhead(Store):
    """Gives the blocks of another store, one block ahead.

    An error of the reader is raised where its block is asked for. `close`, or the end of the `with`, stops
    the reader between two batches of the language model; after that no block is to be asked for.
    """

    def __init__(self, store: Store) -> None:
        """The store is no longer to be read by anybody else."""
        super().__init__(store.d_model, store.capacity, store.config, store.log)
        self.is_shared = store.is_shared
        self._store = store
        self._store.n_blocks = 2
        self._next: _Reading | None = None
        self._is_closed = False
        self._streams = [torch.cuda.Stream(device) for device in store.devices if device.type == "cuda"]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the reader."""
        self._is_closed = True
        if self._next is not None:
            self._next.stop(_SECONDS_TO_STOP)

    def _read(self, start: BlockStart) -> Block:
        assert not self._is_closed, "the store was closed"
        if self._next is not None and self._next.block_start != start:
            self._next.stop()
            self._next = None
        # a signal may end the wait: the reader is kept until it is done, to be stopped by `close`
        block = self._store.block(start) if self._next is None else self._next.wait()
        following = block.next or BEGINNING
        self._next = _Reading(self._store, following, self._streams) if following != start else None
        return block


class _Stopped(Exception):  # noqa: N818
    """Ends a reader."""


class _Reading:
    """One block that a thread reads."""

    def __init__(self, store: Store, start: BlockStart, streams: Sequence[torch.cuda.Stream]) -> None:
        self.block_start = start
        self._store = store
        self._streams = streams
        self._found: Block | None = None
        self._error: BaseException | None = None
        self._is_to_stop = threading.Event()
        # not Thread.join, which takes a thread for ended when a signal interrupts the wait for it
        self._is_over = threading.Event()
        for stream in streams:  # the buffer may still be read by what this thread has begun
            stream.wait_stream(torch.cuda.current_stream(stream.device))
        # as a daemon it cannot hold up the end of the process
        threading.Thread(target=self._run, name="next block", daemon=True).start()

    def wait(self) -> Block:
        """The block, when it is there.

        Raises:
            UserError, or anything else that reading it has raised.
        """
        self._is_over.wait()
        if self._error is not None:
            raise self._error
        assert self._found is not None
        return self._found

    def stop(self, seconds: float | None = None) -> None:
        """End the thread at the next batch of the language model, and wait for that, so long at most."""
        self._is_to_stop.set()
        self._is_over.wait(seconds)

    def _run(self) -> None:
        def pause() -> None:
            if self._is_to_stop.is_set():
                raise _Stopped

        before: Any = self._store.pause
        self._store.pause = pause
        try:
            with ExitStack() as current:
                for stream in self._streams:
                    current.enter_context(torch.cuda.stream(stream))
                self._found = self._store.block(self.block_start)
                for stream in self._streams:
                    stream.synchronize()
        except BaseException as error:  # told in the thread that asks for the block
            self._error = error
        finally:
            self._store.pause = before
            self._is_over.set()
