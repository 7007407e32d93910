"""Triples of sentences that end alike: a garden path, its right reading, and its first reading kept right.

    triples = read_triples(None)
    triples[0].right, triples[0].tail

`While the man hunted the deer ran into the woods.` is read as if the deer were hunted, until `ran` says that
it was not. With a comma behind `hunted` the right reading stands from the start (`right`); with `, it` behind
`deer` the first one stays (`wrong`). From `ran` on, all three have the same words (`tail`).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dictionary_learning.errors import UserError
from dictionary_learning.texts.records import read_records
from temporal_saes.experiment.short_text import columns

BUILT_IN = Path(__file__).with_name("triples.jsonl")
FIELDS = ("kind", "sentence", "right", "wrong", "tail")
SENTENCES = ("sentence", "right", "wrong")


class Triple(NamedTuple):
    """Three sentences; `kind` is what is ambiguous: an object, a clause, or a participle."""

    kind: str
    sentence: str
    right: str
    wrong: str
    tail: str

    @property
    def texts(self) -> tuple[str, str, str]:
        return self.sentence, self.right, self.wrong


def read_triples(path: str | None) -> list[Triple]:
    """The triples of a file; None for those that are built in.

    Raises:
        UserError: the file cannot be read or has none, or a record of it is not a triple.
    """
    records = list(read_records(BUILT_IN if path is None else Path(path)))
    if not records:
        raise UserError(f"--triples {path} has no record: give a JSON object a line.")
    return [_triple(record, number, path) for number, record in enumerate(records, start=1)]


def _triple(record: Mapping[str, Any], number: int, path: str | None) -> Triple:
    wrong = [field for field in FIELDS if not isinstance(record.get(field), str)]
    if wrong:
        raise UserError(
            f"record {number} of --triples {path} has no text in {', '.join(wrong)}: give all of "
            f"{', '.join(FIELDS)}."
        )
    made = Triple(*(record[field] for field in FIELDS))
    for name, text in zip(SENTENCES, made.texts, strict=True):
        if not _ends_in(text, made.tail):
            raise UserError(
                f"{name} of record {number} of --triples {path} does not end in its tail {made.tail!r}: all "
                f"three sentences have to."
            )
    return made


def _ends_in(text: str, tail: str) -> bool:
    """Whether a text ends in the tail, which begins no word's middle, where spaces tell words apart."""
    before = text[: -len(tail)] if tail else ""
    return text.endswith(tail) and before != "" and (not before[-1].isalnum() or columns(before[-1]) == 2)


def tail_length(texts: Sequence[str], tail: str, ids: Sequence[Sequence[int]], offsets: Any) -> int:
    """The number of last tokens that are of the tail and the same in all texts.

    A token that reaches over the tail's start, such as one with the space in front of it, counts, and so does
    what the tokenizer puts behind the text.

    Args:
        ids: the tokens of each text.
        offsets: their characters, [start, end) of each token.
    """
    lengths = []
    for text, of_text in zip(texts, offsets, strict=True):
        before = [i for i, (_, end) in enumerate(of_text) if 0 < end <= len(text) - len(tail)]
        lengths.append(len(of_text) - 1 - max(before, default=-1))
    shared = 0
    while shared < min(lengths) and len({one[-1 - shared] for one in ids}) == 1:
        shared += 1
    return shared
