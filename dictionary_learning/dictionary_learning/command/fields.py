"""Whether the values of a file that somebody wrote are of the kind that they should be."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from dictionary_learning.errors import UserError


class Kind(NamedTuple):
    """What a value should be."""

    words: str
    fits: Callable[[Any], bool]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def whole(least: int = 0) -> Kind:
    """A whole number of at least `least`."""
    return Kind(
        f"a whole number of at least {least}",
        lambda value: isinstance(value, int) and not isinstance(value, bool) and least <= value < 2**63,
    )


def above(bound: float) -> Kind:
    """A number above `bound`."""
    words = f"a number above {bound:g}" if bound else "a positive number"
    return Kind(words, lambda value: _is_number(value) and value > bound)


SHARE = Kind("a number from 0 to below 1", lambda value: _is_number(value) and 0 <= value < 1)
TEXT = Kind("text", lambda value: isinstance(value, str))
OBJECT = Kind("an object", lambda value: isinstance(value, dict))
FLAG = Kind("true or false", lambda value: isinstance(value, bool))


def check_fields(path: str | Path, values: Mapping[str, Any], kinds: Mapping[str, Kind]) -> None:
    """Refuse a value of another kind than it should be; what is missing or null is left to its reader.

    Args:
        path: the file, for the message.

    Raises:
        UserError: names the file, the field and the value.
    """
    for name, kind in kinds.items():
        value = values.get(name)
        if value is not None and not kind.fits(value):
            shown = repr(value) if len(repr(value)) <= 60 else f"{repr(value)[:60]}..."
            raise UserError(f"{name} is {shown} in {path}, and must be {kind.words}: correct it.")
