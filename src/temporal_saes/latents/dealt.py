"""Contexts that several processes have encoded, each some of them, put in order for the first one.

    for coded in in_order(own): ...     # all contexts in the first process, none in the others

So whoever looks at contexts one after another sees what one process alone would see, to the last bit, and
need not know that there are several.

Shapes: L positions of a context, N codes above 0.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch

from dictionary_learning import distributed
from dictionary_learning.errors import UserError

_AT_A_TIME = 128  # contexts that a process encodes between two meetings


class Coded(NamedTuple):
    """One context with its tokens and codes."""

    number: int
    """Ascending in the order of the corpus."""
    document: int
    """Which document it is of."""
    tokens_L: np.ndarray
    usable_L: np.ndarray
    """bool: neither special nor a norm outlier."""
    position_N: np.ndarray
    column_N: np.ndarray
    value_N: np.ndarray
    measured: tuple[np.ndarray, ...]
    """What somebody else has made of it."""


def in_order(own: Iterable[Coded]) -> Iterator[Coded]:
    """The contexts of all processes by number, in the first process; nothing in the others.

    Args:
        own: those of this process, by number.

    Raises:
        UserError: what one process's contexts raised, in all.
    """
    if distributed.size() == 1:
        yield from own
        return
    contexts = iter(own)
    waiting: list[Coded] = []
    is_more = True
    while is_more:
        fault, some = "", []
        try:
            some = list(islice(contexts, _AT_A_TIME))
        except UserError as error:
            fault = str(error)
        faults = [text for text in distributed.texts(fault) if text]
        if faults:
            raise UserError(faults[0])
        # a process that is not through may still send what stands behind its last one
        last = some[-1].number if len(some) == _AT_A_TIME else None
        lasts = [one for one in distributed.values_of_all(last) if one is not None]
        parts = distributed.states_of_all(_packed(some))
        is_more = bool(lasts)
        if distributed.is_first():
            waiting += [coded for part in parts for coded in _unpacked(part)]
            waiting.sort(key=lambda coded: coded.number)
            n = sum(coded.number <= min(lasts) for coded in waiting) if is_more else len(waiting)
            yield from waiting[:n]
            del waiting[:n]


_Packed = list[tuple[torch.Tensor, torch.Tensor]]


def _packed(some: list[Coded]) -> _Packed:
    """Each field of all contexts as one tensor, and its lengths."""
    if not some:
        return []
    rows = [
        (np.array([coded.number]), np.array([coded.document]), *coded[2:-1], *coded.measured)
        for coded in some
    ]
    return [
        (torch.from_numpy(np.concatenate(field)), torch.tensor([len(one) for one in field]))
        for field in zip(*rows, strict=True)
    ]


def _unpacked(packed: _Packed) -> Iterator[Coded]:
    fields = [[one.numpy() for one in content.split(lengths.tolist())] for content, lengths in packed]
    for (number,), (document,), tokens_L, usable_L, position_N, column_N, value_N, *measured in zip(
        *fields, strict=True
    ):
        codes = tokens_L, usable_L, position_N, column_N, value_N
        yield Coded(int(number), int(document), *codes, tuple(measured))
