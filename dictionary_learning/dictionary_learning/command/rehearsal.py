"""A rehearsal: a command up to its first slow or lasting step, so that mistakes show at once.

`temporal-saes check train ...` does all that `train` does before the language model's weights are read or a
file is written, and stops there. What is slow or lasting says so by `about_to`.
"""

from collections.abc import Iterator
from contextlib import contextmanager

_on = [False]


class Reached(BaseException):
    """The first slow or lasting step: no error, and nothing that handles errors may swallow it."""


@contextmanager
def rehearsing() -> Iterator[None]:
    """Within it, `about_to` stops the command."""
    _on[0] = True
    try:
        yield
    finally:
        _on[0] = False


def is_on() -> bool:
    """Whether this is a rehearsal, which makes and removes nothing."""
    return _on[0]


def about_to(step: str) -> None:
    """Called right before a slow or lasting step; stops a rehearsal there, and does nothing otherwise.

    Raises:
        Reached: this is a rehearsal.
    """
    if _on[0]:
        raise Reached(step)
