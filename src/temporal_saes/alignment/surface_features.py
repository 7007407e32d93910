"""What can be counted in a text without understanding it: the usual suspects behind a preference.

None of them asks what is said; a rule for refusals, for one, would take away what a study looks for.
"""

import re
import unicodedata
from collections.abc import Callable
from typing import NamedTuple

from dictionary_learning.texts.spans import CLOSING, UNSPACED

_WORD = re.compile(r"\w+(?:['’\-]\w+)*")
# A full stop inside a number or an address ends nothing: white space or the end must follow. The stops of
# some scripts need no space behind them.
_SENTENCE_END = re.compile(rf"[.!?…]+{CLOSING}(?=\s|$)|{UNSPACED}")
_QUESTION = re.compile(rf"\?+[!?]*{CLOSING}(?=\s|$)|[？؟፧][!?！？؟]*{CLOSING}")


class SurfaceFeature(NamedTuple):
    """One thing that is counted."""

    name: str
    rule: str
    measure: Callable[[str], float]


def words(text: str) -> list[str]:
    """Runs of letters, their marks, and digits; an apostrophe or a hyphen between two joins them."""
    # Python's \w leaves out marks, and so the vowels of Hindi
    shape = "".join("a" if unicodedata.category(letter)[0] == "M" else letter for letter in text)
    return [text[slice(*found.span())] for found in _WORD.finditer(shape)]


def sentences(text: str) -> int:
    """Stretches with a word in them that end in a full stop, an exclamation or question mark, or the line."""
    return sum(bool(words(part)) for line in text.splitlines() for part in _SENTENCE_END.split(line))


def questions(text: str) -> int:
    """Stretches that end in a question mark."""
    return len(_QUESTION.findall(text))


def word_length(text: str) -> float:
    """Mean characters of a word; 0 without a word."""
    found = words(text)
    return sum(map(len, found)) / len(found) if found else 0.0


def digit_share(text: str) -> float:
    """Share of digits among the characters that are not white space."""
    return _share(text, str.isdigit)


def punctuation_share(text: str) -> float:
    """Share of what is neither letter, mark nor digit among the characters that are not white space."""
    return _share(text, lambda letter: not letter.isalnum() and unicodedata.category(letter)[0] != "M")


def capital_share(text: str) -> float:
    """Share of capitals among the letters."""
    letters = [character for character in text if character.isalpha()]
    return sum(map(str.isupper, letters)) / len(letters) if letters else 0.0


def lines(text: str) -> int:
    """Lines that are not blank: paragraphs, and the items of a list."""
    return sum(bool(line.strip()) for line in text.splitlines())


SURFACE_FEATURES = (
    SurfaceFeature("sentences", "stretches with a word that end in a stop or with the line", sentences),
    SurfaceFeature("questions", "stretches that end in a question mark", questions),
    SurfaceFeature("lines", "lines that are not blank", lines),
    SurfaceFeature("word length", "mean characters of a word", word_length),
    SurfaceFeature("digits", "share of digits among characters that are not white space", digit_share),
    SurfaceFeature(
        "punctuation",
        "share of neither letters nor digits among characters that are not white space",
        punctuation_share,
    ),
    SurfaceFeature("capitals", "share of capitals among letters", capital_share),
)


def surface(text: str) -> list[float]:
    """All of `SURFACE_FEATURES` of a text, in their order."""
    return [float(feature.measure(text)) for feature in SURFACE_FEATURES]


def _share(text: str, belongs: Callable[[str], bool]) -> float:
    characters = [character for character in text if not character.isspace()]
    return sum(map(belongs, characters)) / len(characters) if characters else 0.0
