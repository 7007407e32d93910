"""Documents: the demo corpus, local files, Hugging Face data sets; dealt out to train and eval by their text.

from dictionary_learning.text import DocumentStream
for document in DocumentStream.open("demo", part="eval"):
    print(document.id, document.text[:60])
"""

import hashlib
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

from dictionary_learning.errors import UserError
from dictionary_learning.remote.file_system import told
from dictionary_learning.texts.chat import ChatTemplate
from dictionary_learning.texts.data_sets import TEXTS
from dictionary_learning.texts.folder import check_undivided, local_records
from dictionary_learning.texts.hub_stream import hub_records
from dictionary_learning.texts.records import Record, is_local, is_unicode, read_records
from dictionary_learning.texts.spans import Spans

# Names for --dataset that need neither a file nor the hub, each with the corpora that it mixes.
DEMO_CORPORA = {name: entry.corpora for name, entry in TEXTS.items() if entry.corpora}
PARTS = ("train", "eval", "all")
MESSAGES = "messages"
"""The field of conversations, as data sets of chats name it."""


class Document(NamedTuple):
    """One text that stands for itself: no context and no pair reaches beyond it."""

    text: str
    id: int  # 63 bits, from the text alone: the same in every order and in every data set
    spans: Spans | None = None
    """Characters that are text, of a conversation: a span a turn; None where all are."""


def document_id(text: str) -> int:
    """A 63-bit hash of a document's text that is the same on every machine."""
    return _hash(text.encode("utf-8"))


def document_of(content: object, chat: ChatTemplate | None = None) -> Document | str:
    """What stands in the field of a record's text as a document, or why it is none.

    Args:
        chat: it is a conversation, which this renders.
    """
    key, spans = content, None
    if chat is not None:
        rendered = chat.render(content)
        if isinstance(rendered, str):
            return rendered
        content, spans, key = rendered
    return text_fault(content) or Document(str(content), document_id(str(key)), spans)


def is_eval(document_id: int, eval_share: float) -> bool:
    """Whether a document is set aside for evaluation: the lowest `eval_share` of all hashes are."""
    return document_id < eval_share * 2**63


class DocumentStream:
    """An iterator of documents that knows its place: reopened at `position` it goes on with the same ones.

    Attributes:
        name: the data set, as the user named it.
        position: raw records consumed, those of the other part included.
        left_out: records consumed that are no documents, counted by reason.
    """

    def __init__(
        self,
        records: Iterator[Record],
        *,
        name: str = "documents",
        text_field: str = "text",
        part: str = "all",
        eval_share: float = 0.1,
        start: int = 0,
        max_documents: int | None = None,
        every: tuple[int, int] = (0, 1),
        chat: ChatTemplate | None = None,
    ) -> None:
        """Wrap an iterator of records whose first has the number `start`; see `open` for the arguments."""
        if part not in PARTS:
            raise UserError(f"part {part!r} does not exist: choose one of {', '.join(PARTS)}.")
        if not 0 <= eval_share < 1:
            raise UserError(f"eval_share {eval_share} is not a share: give a number from 0 to below 1.")
        if max_documents is not None and max_documents < 1:
            raise UserError(
                f"max_documents {max_documents} leaves nothing: give at least 1, or leave it out."
            )
        self.name = name
        self.position = start
        self.left_out: Counter[str] = Counter()
        self._n_odd = 0
        self._records = records
        self._text_field = text_field
        self._chat = chat
        self._part = part
        self._first, self._step = every
        self._eval_share = eval_share
        self._start = start
        self._n_left = max_documents
        self._n_given = self._n_of_others = 0

    @classmethod
    def open(
        cls,
        dataset: str,
        *,
        text_field: str = "text",
        split: str = "train",
        subset: str | None = None,
        part: str = "train",
        eval_share: float = 0.1,
        start: int = 0,
        max_documents: int | None = None,
        every: tuple[int, int] = (0, 1),
        chat: ChatTemplate | None = None,
    ) -> "DocumentStream":
        """Open a data set.

        Args:
            dataset: one of `data_sets.TEXTS`, a file (see `records.read_records`) or a folder (see `folder`)
                of this machine or at a URL, or the name of a data set on the hub.
            text_field: the field of a record that holds its text.
            split, subset: of a hub data set, or of a folder like one.
            part: "train", "eval" (the share `eval_share` of all documents) or "all". A text is always in the
                same part, wherever it stands, so the two are disjoint.
            start: raw records to pass over; `position` of an earlier stream.
            max_documents: end after so many documents of this part, counted from record 0.
            every: (r, n) gives only the records whose number leaves the rest r when divided by n.
            chat: records are conversations: what stands in `text_field`, or in "messages" where that is
                "text", is rendered by it.

        Raises:
            UserError: the data set, its split or subset is not there; its first record lacks `text_field`;
                (while reading) no record has a text there, or no document falls into `part`.
        """
        # The documents in front of `start` count for max_documents, so they have to be looked at.
        first = start if max_documents is None else 0
        if chat is not None and text_field == "text":
            text_field = MESSAGES
        records = open_records(dataset, split, subset, first)
        head = list(islice(records, 1))
        if head and text_field not in head[0]:
            raise UserError(
                f"{told(dataset)} has no field {text_field!r}: choose one of its fields with --text_field"
                f" ({', '.join(map(str, head[0]))})."
            )
        stream = cls(
            chain(head, records),
            name=told(dataset),
            text_field=text_field,
            part=part,
            eval_share=eval_share,
            start=first,
            max_documents=max_documents,
            every=every,
            chat=chat,
        )
        stream._pass_over(start)
        return stream

    def __iter__(self) -> "DocumentStream":
        return self

    def __next__(self) -> Document:
        while self._n_left != 0:
            document = self._next_record()
            if document is not None:
                return document
        raise StopIteration

    def _next_record(self) -> Document | None:
        """Consume one record; None if it has no text or belongs to the other part."""
        try:
            record = next(self._records)
        except StopIteration:
            self._check_given()
            raise
        self.position += 1
        if (self.position - 1) % self._step != self._first:
            self._n_of_others += 1
            return None
        text: Any = record.get(self._text_field)
        document = document_of(text, self._chat)
        if isinstance(document, str):
            self.left_out[document] += 1
            return None
        if self._part != "all" and is_eval(document.id, self._eval_share) != (self._part == "eval"):
            return None
        self._n_given += 1
        self._n_odd += is_odd(document.text)
        if self._n_left is not None:
            self._n_left -= 1
        return document

    def _pass_over(self, start: int) -> None:
        while self.position < start and self._n_left != 0:
            try:
                self._next_record()
            except StopIteration:
                return

    def _check_given(self) -> None:
        """At the end of the records: say what was skipped, and refuse a whole pass that gave nothing."""
        n_read = self.position - self._start - self._n_of_others
        if self._start == 0 and self._n_given == 0:
            of_process = f" that are for process {self._first} of {self._step}" if self._step > 1 else ""
            if n_read == 0 < self._n_of_others:
                raise UserError(
                    f"{self.name} has {self._n_of_others:,} records, and none of them is for process"
                    f" {self._first} of {self._step}, each of which reads texts of its own: start fewer"
                    " processes, give more text, or train on a cache of activations (temporal-saes cache)."
                )
            if n_read == self.left_out.total():
                if self._chat is not None and n_read:
                    raise UserError(
                        f"none of the {n_read:,} records of {self.name} gives a conversation "
                        f"({counted(self.left_out)}): choose another --text_field, other --roles, or a "
                        "model whose chat template takes them."
                    )
                raise UserError(
                    f"none of the {n_read:,} records of {self.name}{of_process} has a text in the field"
                    f" {self._text_field!r}: choose another with --text_field, or another data set."
                )
            raise UserError(
                f"none of the {n_read - self.left_out.total():,} documents of {self.name}{of_process} falls"
                f" into the part {self._part!r} at --eval_share {self._eval_share}: choose another share, or"
                " give more documents."
            )
        if self.left_out:
            warnings.warn(told_left_out(self.name, n_read, self.left_out))
        if self._n_odd:
            warnings.warn(told_odd(self.name, self._n_odd))


# --- what is no document, and what looks wrong ---

NO_TEXT, EMPTY, NO_UNICODE = "without a text", "empty", "not valid Unicode"
_ODD = ("\ufffd", "\ufeff", "\0")


def text_fault(text: object) -> str | None:
    """Why what stands in a text's field is no document; None if it is one."""
    if not isinstance(text, str):
        return NO_TEXT
    if not text.strip():
        return EMPTY
    return None if is_unicode(text) else NO_UNICODE


def is_odd(text: str) -> bool:
    """Whether a text has a character that a wrong encoding leaves behind."""
    return any(character in text for character in _ODD)


def told_left_out(name: str, n_read: int, left_out: Mapping[str, int]) -> str:
    """`mine: 5 of 60 records were left out (3 empty, 2 there already)`."""
    return f"{name}: {sum(left_out.values()):,} of {n_read:,} records were left out ({counted(left_out)})"


def counted(left_out: Mapping[str, int]) -> str:
    """`3 empty, 2 there already`."""
    return ", ".join(f"{n:,} {reason}" for reason, n in left_out.items())


def told_odd(name: str, n: int) -> str:
    """`mine: 3 documents hold ...`."""
    return (
        f"{name}: {n:,} document{'s hold' if n != 1 else ' holds'} U+FFFD, U+FEFF or a NUL, as a wrong"
        " encoding leaves behind"
    )


def _hash(data: bytes, purpose: bytes = b"") -> int:
    digest = hashlib.blake2b(data, digest_size=8, person=purpose).digest()
    return int.from_bytes(digest, "big") >> 1


def open_records(dataset: str, split: str, subset: str | None, start: int) -> Iterator[Record]:
    """The records of a data set, named as for `DocumentStream.open`, from number `start` on."""
    if dataset in DEMO_CORPORA:
        check_undivided(dataset, split, subset)
        return islice(_demo_records(dataset), start, None)
    entry = TEXTS.get(dataset)
    if entry is not None and entry.hub_id is not None:
        return hub_records(entry.hub_id, subset=subset or entry.subset, split=split, start=start)
    if is_local(dataset) or Path(dataset).is_dir():
        return islice(local_records(dataset, split=split, subset=subset), start, None)
    return hub_records(dataset, subset=subset, split=split, start=start)


def _demo_records(dataset: str) -> Iterator[Record]:
    """The demo's documents in the order of a hash, so that the kinds are mixed in every stretch."""
    from dictionary_learning.texts.demo_assets import corpus_path

    records = [record for name in DEMO_CORPORA[dataset] for record in read_records(corpus_path(name))]
    # Another hash than the one that splits, or all evaluation documents would come first.
    records.sort(key=lambda record: _hash(record["text"].encode("utf-8"), purpose=b"order"))
    return iter(records)
