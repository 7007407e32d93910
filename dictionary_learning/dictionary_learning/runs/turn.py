"""A turn: what the processes of a run agree on before each step, by one small reduction.

A process may find bad data, run out of them, be asked to stop, or think it time for a record, and the others
have to do the same at the same step. For one process a turn is its own mind.
"""

import signal
from contextlib import suppress
from typing import NamedTuple

from dictionary_learning import distributed
from dictionary_learning.command.interruption import Interrupted, Interruption
from dictionary_learning.errors import UserError
from dictionary_learning.runs.source import Source, n_tokens_of


class Turn(NamedTuple):
    """What the next step is about."""

    n_tokens: int
    """Rows of the batch, of all processes; 0 where the data have run out."""
    is_recorded: bool


def take_turn(source: Source, interruption: Interruption, is_due: bool) -> Turn:
    """Look at the next batch, which stays to be read, and agree on it.

    Args:
        is_due: whether this process would record the step; the first one decides.

    Raises:
        UserError: one process's data cannot be read, in all processes.
        Interrupted: one of several processes was asked to stop; a single one is stopped elsewhere.
    """
    if distributed.size() == 1:
        return Turn(_n_rows(source), is_due)
    n_rows, fault = 0, ""
    try:
        # a block may take minutes to read, and whoever asks a process to stop kills it after some seconds
        with suppress(Interrupted), interruption.waiting():
            interruption.check()
            n_rows = _n_rows(source)
    except UserError as error:
        fault = str(error)
    flags = (bool(fault), not n_rows, interruption.signal is not None, is_due and distributed.is_first())
    n_tokens, n_faults, n_without, n_stopped, recorded = distributed.total_numbers(n_rows, *flags)
    if n_faults:
        raise UserError(next(filter(None, distributed.texts(fault))))
    if n_stopped:
        interruption.signal = interruption.signal or signal.SIGTERM
        raise Interrupted
    return Turn(0 if n_without else int(n_tokens), bool(recorded))


def _n_rows(source: Source) -> int:
    """Rows of this process's next batch; 0 where there is none."""
    batch = source.peek()
    return 0 if batch is None else n_tokens_of(batch)
