"""How many latents a token has on the texts that are read, beside the k of the dictionary.

    with reading_l0() as l0:
        ...                             # whatever reads texts through a dictionary
    result = {**l0.told("mine"), ...}   # one line for the reader; {"l0": 28.3, "k": 20}

The inference threshold of a dictionary belongs to the texts it was set on (docs/threshold.md), so that every
result says what it lets through on its own texts: all latents of the dictionary, whatever chunk is looked at,
over the tokens that are encoded anyway.

Shapes: n tokens, F latents of the whole dictionary.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from dictionary_learning.command.progress import say

if TYPE_CHECKING:
    from torch import Tensor

    from dictionary_learning.dictionaries.base import Dictionary
    from dictionary_learning.dictionaries.sparse import SparseCode


class L0:
    """The mean number of latents that are not zero, over the tokens of one dictionary."""

    def __init__(self) -> None:
        self.dictionary: Dictionary | None = None
        self.tokens = 0
        self._active: Tensor | int = 0  # on the device: nothing waits for it

    def add(self, dictionary: "Dictionary", values: "Tensor", n_tokens: int) -> None:
        """Take in the values of the codes of some tokens, zeros included or not."""
        self.dictionary = dictionary
        self.tokens += n_tokens
        self._active = self._active + values.count_nonzero()

    def add_all(self, other: "L0") -> None:
        """What another one has counted, too."""
        self.dictionary = other.dictionary
        self.tokens += other.tokens
        self._active = self._active + other._active

    @property
    def mean(self) -> float | None:
        """None before any token."""
        return int(self._active) / self.tokens if self.tokens else None

    def told(self, name: str) -> dict[str, Any]:
        """What a result says of it, with one line about it on stderr; nothing for dense activations.

        Args:
            name: of the subject.
        """
        if self.dictionary is None or self.mean is None:
            return {}
        from dictionary_learning.exchange.thresholds import beside_k, k_of

        say(f"{name}: {beside_k(self.dictionary, self.mean)}")
        return {"l0": self.mean, "k": k_of(self.dictionary)}


_reading: ContextVar[L0 | None] = ContextVar("reading", default=None)


@contextmanager
def reading_l0() -> Iterator[L0]:
    """Count the codes that are made of texts meanwhile (`count`)."""
    l0 = L0()
    token = _reading.set(l0)
    try:
        yield l0
    finally:
        _reading.reset(token)


def count(dictionary: "Dictionary", f_nF: "Tensor") -> "Tensor":
    """The same codes [n, F], of all latents, counted where someone asked."""
    l0 = _reading.get()
    if l0 is not None:
        l0.add(dictionary, f_nF, len(f_nF))
    return f_nF


def count_entries(dictionary: "Dictionary", code: "SparseCode") -> None:
    """As `count`, of the entries of codes."""
    l0 = _reading.get()
    if l0 is not None:
        l0.add(dictionary, code.values_N, code.n_rows)


def count_again(l0: L0) -> None:
    """Count, where someone asked, codes that are used once more after they were made and counted."""
    reading = _reading.get()
    if reading is not None and l0.dictionary is not None:
        reading.add_all(l0)
