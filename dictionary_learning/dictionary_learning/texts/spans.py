"""Spans of a text: its sentences, the turns of a chat, or all of it; and which of them a token is of.

    spans = spans_of("sentence", "It is late. Is it? 東京。")   # ((0, 12), (12, 19), (19, 22))
    number_of((11, 14), spans, text)                            # " Is" is of the second: 1

Where a sentence ends, in any script:

. ! ? …             and closing quotes and brackets behind them, where white space or the text's end follows
。 ！ ？ । ؟ ۔ ...  the stops of scripts that no space has to follow, with closing marks behind them
a line break

White space behind a sentence is the sentence's. A stretch without a letter, such as the number of an item, is
of the sentence behind it, or at the end of the text before it. An abbreviation ends a sentence, too (`Dr.`,
`e.g.`); a number (`3.14`) and an address do not. A text without any end is one sentence.
"""

import re
from bisect import bisect_right
from collections.abc import Iterator

POOLS = ("token", "sentence", "turn", "document")
"""What is averaged over: nothing, or the tokens of a span."""

Span = tuple[int, int]
"""Characters [start, end)."""
Spans = tuple[Span, ...]
"""In order, without overlap."""

CLOSING = r"[\"'”’»›)\]}）］｝」』】〉》]*"
STOPS = "。！？｡।॥؟۔։።፧፨။។៕"
_SPACED = rf"[.!?…]+{CLOSING}(?=\s|$)"
UNSPACED = rf"(?:[{STOPS}]|．(?!\d))[.!?…．{STOPS}]*{CLOSING}"
_BREAK = r"[\n\r\v\f\x85\u2028\u2029]"
_END = re.compile(rf"(?:{_SPACED}|{UNSPACED}|{_BREAK})\s*")


def spans_of(pool: str, text: str, turns: Spans | None = None) -> Spans:
    """The spans of a text, over which `pool` averages.

    Args:
        pool: one of `POOLS` but token.
        turns: what somebody said, of a chat; None where all of the text is text.
    """
    assert pool in POOLS[1:], pool
    said = ((0, len(text)),) if turns is None else turns
    if pool == "document":
        return ((said[0][0], said[-1][1]),) if said else ()
    if pool == "turn":
        return said
    return tuple(span for start, end in said for span in _sentences(text, start, end))


def _sentences(text: str, start: int, end: int) -> Iterator[Span]:
    """The sentences of a stretch, which they fill."""
    stretch = text[start:end]
    ends = [match.end() for match in _END.finditer(stretch)]
    begin = at = 0
    found: list[Span] = []
    for stop in [*ends, len(stretch)]:
        if stop > at and _has_letter(stretch[at:stop]):
            found.append((start + begin, start + stop))
            begin = stop
        at = stop
    if begin < len(stretch):  # no letter behind the last sentence, or none at all
        found = [*found[:-1], (found[-1][0], end)] if found else [(start, end)]
    yield from found


def _has_letter(text: str) -> bool:
    return any(map(str.isalpha, text))


def number_of(token: Span, spans: Spans, text: str) -> int | None:
    """The number of the span that a token is of; None if of none.

    It is the span that holds the token's first character that is not white space; of a token that begins
    beside the spans, the first that it reaches. A token without characters is where it stands.
    """
    start, end = token
    shown = next((i for i in range(start, min(end, len(text))) if not text[i].isspace()), start)
    number = _first_reached((shown, end), spans)
    return _first_reached(token, spans) if number is None and shown != start else number


def is_inside(token: Span, spans: Spans) -> bool:
    """Whether a token has a character in one of the spans."""
    return token[0] < token[1] and _first_reached(token, spans) is not None


def _first_reached(token: Span, spans: Spans) -> int | None:
    start, end = token
    number = bisect_right(spans, start, key=lambda span: span[1])
    return number if number < len(spans) and spans[number][0] < max(end, start + 1) else None
