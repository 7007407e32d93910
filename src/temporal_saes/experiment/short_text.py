"""The beginning of a text where there is little room, for scripts with and without spaces between words."""

import unicodedata


def columns(text: str) -> int:
    """How wide a text is, in Latin letters: Chinese characters and emoji are two, marks on letters none."""
    return sum(
        0
        if unicodedata.category(letter) in ("Mn", "Me")
        else 2
        if unicodedata.east_asian_width(letter) in "WF"
        else 1
        for letter in text
    )


def fitting(line: str, width: int) -> int:
    """Characters of a line that fit into so many columns, up to a word's end where one is near."""
    at = used = 0
    while at < len(line) and used + columns(line[at]) <= width:
        used += columns(line[at])
        at += 1
    if at == len(line) or line[at] == " ":
        return at
    space = line.rfind(" ", at // 2, at)
    return at if space < 0 else space


def shortened(text: str, width: int) -> str:
    """The text on one line, without the end that does not fit into so many columns."""
    line = " ".join(text.split())
    return line if columns(line) <= width else line[: fitting(line, width - 2)].rstrip() + " …"
