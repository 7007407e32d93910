"""What an answer says where one line was asked for: a number, or a text behind a label.

    read_number("**Score:** 2/3", best=3)                  # 2
    read_number("Score: 2 or 3", best=3)                   # None
    read_texts("**Explanation:** a char *", "Explanation") # ["a char *"]

Models dress such a line in marks, brackets and words. It counts however it is dressed, where only one thing
can be meant; where two could be, there is no answer.
"""

import re

_DRESS = re.compile(r"[*_`\"'#>{}\[\]]|</?score>", re.I)
_IN_BRACKETS = re.compile(r"\[\[([^\]\n]*\d[^\]\n]*)\]\]")
_LABEL = re.compile(
    r"(?:[-\u2022]\s+)?(?:(?:the|my|your|final|overall|success|coherence)\s+){0,3}(?:score|rating)"
    r"(?:\s*\(0\s*(?:-|\u2013|to)\s*\d\))?(?P<mark>\s*(?:(?:\bis\s*)?[:=]|\bis\b|\s[-\u2013\u2014]\s))?(?P<said>.*\d.*)",
    re.I,
)

_ENDS = r"[.!,;]?|\s*\(\D*"
_IN_WORDS = r"[.!]\s\D*|\s*[\u2013\u2014]\D*|\s+-\s\D*"  # alone "1. Rivers" is the first of a list


def read_number(answer: str, best: int) -> int | None:
    """The number from 0 to `best` that an answer gives; None where it gives none, or may mean several.

    It stands behind "Score", "Rating" or the like at the beginning of a line, or in double square brackets,
    or it is the first or the last line.
    """
    lines = [text for line in answer.splitlines() if (text := _undressed(line))]
    labelled = [found for line in lines if (found := _LABEL.fullmatch(line))]
    # without a colon or the like a sentence that only speaks of scores begins so, too
    said = [found["said"] for found in labelled if found["mark"] or _number(found["said"], best) is not None]
    said = said or [_undressed(text) for text in _IN_BRACKETS.findall(answer)]
    if not said:
        said = [line for line in lines if _number(line, best, _ENDS) is not None]
        said = said if set(said) & {*lines[:1], *lines[-1:]} else []
    numbers = {_number(text, best) for text in said}
    return numbers.pop() if len(numbers) == 1 else None


def _undressed(line: str) -> str:
    return _DRESS.sub("", line.replace("\uff1a", ":")).strip()


def _number(text: str, best: int, behind: str = rf"{_ENDS}|{_IN_WORDS}") -> int | None:
    """The number that a text is; it may say of how many, and what it stands for."""
    found = re.fullmatch(
        rf"\s*(\d)(?:\.0)?(?:\s*/\s*{best}|\s+\(?(?:out\s+)?of\s+{best}\)?)?(?:\s+points?)?(?:{behind})",
        text,
        re.I,
    )
    return int(found[1]) if found and int(found[1]) <= best else None


def read_texts(answer: str, label: str) -> list[str]:
    """What stands behind each `label:` at the beginning of a line, without marks around both or one of them.

    A text may end in an asterisk of its own. One without a letter or a digit is none.
    """
    line = re.compile(
        rf"^[ \t#>]*(?P<before>\*{{0,3}}){label}(?P<inside>\*{{0,3}})[ \t]*:(?P<behind>\*{{0,3}})"
        r"(?P<text>.*)$",
        re.I | re.MULTILINE,
    )
    texts = []
    for found in line.finditer(answer):
        before, text = found["before"], found["text"].strip()
        if not before:
            text = found["behind"] + text
        elif before not in (found["inside"], found["behind"]):
            text = text.removesuffix(before)  # the whole line is marked, not the label alone
        texts.append(_unmarked(text).strip())
    return [text for text in texts if re.search(r"\w", text)]


def _unmarked(text: str) -> str:
    """The text without asterisks that stand around all of it."""
    found = re.fullmatch(r"(\*{1,3})([^*](?:.*[^*])?)\1", text)
    return found[2] if found and found[1] not in found[2] else text
