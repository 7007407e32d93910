"""What tokens say, for a reader: text with its spaces, bytes where it is no text.

    token_texts(tokenizer, [464, 4380])          # ["The", " people"]
    stretches(tokenizer, [464, 161, 227, 111])   # The, and three bytes of one character
    Sentences(tokenizer)([464, 13, 632])         # [0, 0, 1]: of which sentence each token is

A tokenizer of bytes cuts characters of several bytes into tokens that are not UTF-8 by themselves; such
bytes are written as ⟨E2⟩⟨82⟩, and whatever is whole as it is. A token that says U+FFFD, which elsewhere
stands for bytes that are no text, is written as its bytes, too.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

from dictionary_learning.errors import UserError
from dictionary_learning.language_model.decoding import REPLACEMENT, token_bytes
from dictionary_learning.texts.spans import number_of, spans_of

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


class Sentences:
    """Tells of tokens in a row which sentence each is of, by the text that they say (see `texts.spans`)."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._bytes: dict[int, bytes] = {}

    def __call__(self, ids: Sequence[int]) -> list[int]:
        """The number of each token's sentence, from 0 on."""
        new = [i for i in dict.fromkeys(ids) if i not in self._bytes]
        parts = token_bytes(self._tokenizer, new)
        self._bytes.update((i, part or b"") for i, part in zip(new, parts, strict=True))
        text = b"".join(map(self._bytes.__getitem__, ids)).decode("utf-8", errors="surrogateescape")
        sizes = [len(character.encode("utf-8", errors="surrogateescape")) for character in text]
        end_of_character = list(accumulate(sizes))
        spans = spans_of("sentence", text)
        numbers: list[int] = []
        at = 0
        for i in ids:
            # a character that several tokens share is all of theirs
            start = bisect_right(end_of_character, at)
            at += len(self._bytes[i])
            number = number_of((start, max(start, bisect_left(end_of_character, at) + 1)), spans, text)
            numbers.append(numbers[-1] if number is None and numbers else number or 0)
        return numbers


def check_tells_sentences(tokenizer: Any, span: str = "sentence") -> None:
    """Raise a UserError where spans are sentences and there is no tokenizer to find them."""
    if span == "sentence" and tokenizer is None:
        raise UserError("a tokenizer says where sentences end: give the model's, tokenizer=lm.tokenizer.")


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
