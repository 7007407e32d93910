"""What tokens say, for a reader: text with its spaces, bytes where it is no text.

    token_texts(tokenizer, [464, 4380])          # ["The", " people"]
    stretches(tokenizer, [464, 161, 227, 111])   # The, and three bytes of one character

A tokenizer of bytes cuts characters of several bytes into tokens that are not UTF-8 by themselves; such
bytes are written as ⟨E2⟩⟨82⟩, and whatever is whole as it is. A token that says U+FFFD, which elsewhere
stands for bytes that are no text, is written as its bytes, too.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from dictionary_learning.language_model.decoding import REPLACEMENT, token_bytes

_LONE_BYTE = re.compile(r"[\udc80-\udcff]")


def token_texts(tokenizer: Any, ids: Iterable[int]) -> list[str]:
    """The text of each token by itself; `[id]` where the tokenizer has no such token."""
    numbers = list(ids)
    parts = token_bytes(tokenizer, numbers)
    return [f"[{i}]" if part is None else _readable(part) for i, part in zip(numbers, parts, strict=True)]


class Stretch(NamedTuple):
    """One token, or several that share a character."""

    start: int
    stop: int
    text: str


def stretches(tokenizer: Any, ids: Sequence[int]) -> list[Stretch]:
    """The tokens in the shortest stretches that hold whole characters.

    Bytes that are no character, as at the edge of what was read, are stretches of their own.
    """
    parts = [part or b"" for part in token_bytes(tokenizer, ids)]
    torn = _inside_characters(b"".join(parts))
    found: list[Stretch] = []
    start = at = 0
    for stop, part in enumerate(parts, start=1):
        at += len(part)
        if at not in torn:
            found.append(Stretch(start, stop, _readable(b"".join(parts[start:stop]))))
            start = stop
    return found


def _inside_characters(data: bytes) -> set[int]:
    """Places in UTF-8 that have a character's bytes on both sides."""
    found: set[int] = set()
    at = 0
    for character in data.decode("utf-8", errors="surrogateescape"):
        size = len(character.encode("utf-8", errors="surrogateescape"))
        found.update(range(at + 1, at + size))
        at += size
    return found


def _readable(data: bytes) -> str:
    text = data.decode("utf-8", errors="surrogateescape")
    text = text.replace(REPLACEMENT, REPLACEMENT.encode().decode("ascii", errors="surrogateescape"))
    return _LONE_BYTE.sub(lambda found: f"⟨{ord(found[0]) - 0xDC00:02X}⟩", text)
