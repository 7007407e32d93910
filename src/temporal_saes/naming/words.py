"""The words of a context, each with the tokens that hold its letters.

    words = Words(tokenizer)
    found = words.of(ids_L, usable_L)
    words.texts[found.word_O[0]], found.first_O[0], found.last_O[0]

The rule, the same for all languages: a word is a row of letters, figures and their marks, small ones for
capitals, with single apostrophes inside; what separates words is in none. In scripts that are written without
spaces (`UNSPACED`) nothing separates words, so there each token is one, or the fewest tokens that hold whole
characters. A token that is not read (special, of outlying norm) ends a word.

Shapes: L positions of a context, O words of it.
"""

import re
import unicodedata
from typing import Any, NamedTuple

import numpy as np

from dictionary_learning.language_model.decoding import token_bytes

UNSPACED = (
    "CJK",
    "IDEOGRAPHIC",
    "HIRAGANA",
    "KATAKANA",
    "BOPOMOFO",
    "THAI",
    "LAO",
    "KHMER",
    "MYANMAR",
    "TIBETAN",
    "JAVANESE",
    "BALINESE",
    "TAI",
    "NEW",  # New Tai Lue
)
"""How the Unicode names begin of letters whose script puts no spaces between words."""
APOSTROPHES = "'’"
LETTER, OF_UNSPACED, APOSTROPHE, OTHER = "l", "u", "a", "o"
_WORD = re.compile(f"{LETTER}+(?:{APOSTROPHE}{LETTER}+)*|{OF_UNSPACED}+")


class _Kinds(dict[int, str]):
    """The kind of a character by its number, as `str.translate` asks for it."""

    def __missing__(self, number: int) -> str:
        character = chr(number)
        kind = OTHER
        if unicodedata.category(character)[0] in "LNM":
            kind = OF_UNSPACED if unicodedata.name(character, "").startswith(UNSPACED) else LETTER
        elif character in APOSTROPHES:
            kind = APOSTROPHE
        self[number] = kind
        return kind


_KINDS = _Kinds()


class Found(NamedTuple):
    """The words of a context, one behind another."""

    word_O: np.ndarray
    """Numbers in `Words.texts`."""
    first_O: np.ndarray
    """Position of the first token that holds some of it."""
    last_O: np.ndarray


class Words:
    """Words by the order in which they came."""

    def __init__(self, tokenizer: Any) -> None:
        self.texts: list[str] = []
        self._tokenizer = tokenizer
        self._number: dict[str, int] = {}
        self._bytes: dict[int, bytes] = {}

    def of(self, ids_L: np.ndarray, usable_L: np.ndarray) -> Found:
        """The words of a context, by the tokens that are usable."""
        parts = [
            self._part(token) if usable else b" "
            for token, usable in zip(ids_L.tolist(), usable_L.tolist(), strict=True)
        ]
        data = b"".join(parts)
        text = data.decode("utf-8", errors="surrogateescape")
        # the tokens that hold the first and the last byte of each character
        token_of_byte = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
        if len(text) == len(data):
            first_of = last_of = token_of_byte
        else:
            size = np.array([len(c.encode("utf-8", errors="surrogateescape")) for c in text])
            end = np.cumsum(size)
            first_of, last_of = token_of_byte[end - size], token_of_byte[end - 1]
        word, first, last = [], [], []
        for start, stop in _spans(text, first_of, last_of):
            word.append(self._number_of(text[start:stop]))
            first.append(first_of[start])
            last.append(last_of[stop - 1])
        return Found(*(np.array(column, dtype=np.int64) for column in (word, first, last)))

    def _part(self, token: int) -> bytes:
        if token not in self._bytes:
            self._bytes[token] = token_bytes(self._tokenizer, [token])[0] or b""
        return self._bytes[token]

    def _number_of(self, text: str) -> int:
        small = text.lower().replace("’", "'")
        number = self._number.setdefault(small, len(self.texts))
        if number == len(self.texts):
            self.texts.append(small)
        return number


def _spans(text: str, first_of: np.ndarray, last_of: np.ndarray) -> list[tuple[int, int]]:
    """Characters [start, stop) of each word."""
    found = []
    for match in _WORD.finditer(text.translate(_KINDS)):
        start, stop = match.span()
        if match[0][0] == OF_UNSPACED:
            for at in range(start + 1, stop):
                if first_of[at] > last_of[at - 1]:
                    found.append((start, at))
                    start = at
        found.append((start, stop))
    return found
