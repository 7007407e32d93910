"""Documents to contexts: the stretches of tokens that the language model reads at once.

Shapes: C contexts, L positions of one, T positions of all.

A document longer than a context gives several, each with the BOS in front if the tokenizer adds one. No
context holds tokens of two documents.
"""

import hashlib
import warnings
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from dictionary_learning.language_model import LanguageModel
from dictionary_learning.language_model.tokens import encode, token_ids
from dictionary_learning.texts.documents import Document, DocumentStream
from dictionary_learning.texts.spans import Spans, is_inside

# Texts that are tokenised together: enough to keep all cores busy, few enough to start soon.
_GROUP_CHARACTERS = 1_000_000
# A longer text is tokenised in pieces: the tokenizer takes some hundred bytes of memory a token.
_PIECE_CHARACTERS = 500_000
MIN_TEXT_TOKENS = 2  # one token has no earlier one


class TokenContext(NamedTuple):
    """A context of one document, before the language model has seen it."""

    tokens_L: Tensor  # int32, special tokens included
    text_L: Tensor  # bool: neither special nor, in a conversation, beside what the roles said
    n_text: int  # tokens that are text
    document: int  # id of the document
    position: int  # a stream opened here starts with the document
    number: int  # of the context in its document


class PackedTokens(NamedTuple):
    """Contexts one behind the other, without padding, before the language model has seen them; on the CPU."""

    tokens_T: Tensor  # int32
    text_T: Tensor  # bool: not a special token
    start_C: Tensor  # int64 [C + 1]: first position of each context, and the end
    document_C: Tensor  # int64: id of each context's document
    position_C: Tensor  # int64: a stream opened here starts with the document
    number_C: Tensor  # int64: of the context in its document

    @property
    def n_text_C(self) -> Tensor:
        """How many tokens of each context are text."""
        before = torch.cat([torch.zeros(1, dtype=torch.int64), self.text_T.cumsum(0)])
        return before[self.start_C].diff()

    def first(self, n_contexts: int) -> "PackedTokens":
        """The first contexts alone."""
        n = int(self.start_C[n_contexts])
        return PackedTokens(
            self.tokens_T[:n],
            self.text_T[:n],
            self.start_C[: n_contexts + 1],
            *(c[:n_contexts] for c in self[3:]),
        )

    def sha256(self) -> str:
        """Of the tokens and document ids: other texts have another."""
        digest = hashlib.sha256()
        for tensor in self:
            digest.update(tensor.contiguous().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()


def pack(contexts: list[TokenContext]) -> PackedTokens:
    """Contexts of the model's tokens, packed."""
    return PackedTokens(
        tokens_T=torch.cat([context.tokens_L for context in contexts]),
        text_T=torch.cat([context.text_L for context in contexts]),
        start_C=torch.tensor([0] + [len(context.tokens_L) for context in contexts]).cumsum(0),
        document_C=torch.tensor([context.document for context in contexts]),
        position_C=torch.tensor([context.position for context in contexts]),
        number_C=torch.tensor([context.number for context in contexts]),
    )


def text_mask(lm: LanguageModel, tokens: Tensor, drop_special: bool = True) -> Tensor:
    """Which tokens (any shape, none of them padding) are text; all of them with `drop_special` off."""
    mask = torch.ones_like(tokens, dtype=torch.bool)
    return lm.text_mask(tokens, mask) if drop_special else mask


def read_contexts(
    lm: LanguageModel,
    stream: DocumentStream,
    context_length: int,
    *,
    drop_special: bool = True,
    add_bos: bool = True,
    document_tokens: int | None = None,
) -> Iterator[TokenContext]:
    """Contexts of at most `context_length` tokens, in the order of the documents.

    Those with fewer than two text tokens are left out: nothing can be learnt from them about time. Documents
    without any other are counted, and a warning tells it at the end.

    Args:
        drop_special: special tokens are no text.
        add_bos: put the BOS in front of every context if the tokenizer puts it in front of a text.
        document_tokens: of a longer document, only so many tokens, in contexts spread evenly over it, as its
            beginning is unlike the rest; at least one. Texts of over 500,000 characters count as several.
    """
    bos = [lm.bos_id] if add_bos and lm.bos_id is not None else []
    room = context_length - len(bos)
    n_contexts = n_short = 0
    position = -1
    for group in _groups(stream):
        for piece, row, is_said in _tokenised(lm, group):
            if piece.position != position:
                n_short += position >= 0 and n_contexts == 0
                position, n_contexts = piece.position, 0
            starts: Sequence[int] = range(int(row[:1] == [lm.bos_id]), len(row), room)
            if document_tokens is not None:
                starts = _spread(starts, max(1, document_tokens // room))
            for start in starts:
                tokens_L = torch.tensor(bos + row[start : start + room], dtype=torch.int32)
                text_L = text_mask(lm, tokens_L, drop_special)
                if is_said is not None:
                    text_L[: len(bos)] = False
                    text_L[len(bos) :] &= torch.tensor(is_said[start : start + room], dtype=torch.bool)
                n_text = int(text_L.sum())
                if n_text >= MIN_TEXT_TOKENS:
                    yield TokenContext(tokens_L, text_L, n_text, piece.document, position, n_contexts)
                    n_contexts += 1
    n_short += position >= 0 and n_contexts == 0
    if n_short:
        warnings.warn(
            f"{stream.name}: {n_short:,} document{'s have' if n_short != 1 else ' has'} fewer than"
            f" {MIN_TEXT_TOKENS} tokens of text and gave no context"
        )


def _tokenised(
    lm: LanguageModel, group: "list[_Piece]"
) -> "Iterator[tuple[_Piece, list[int], list[bool] | None]]":
    """Each piece with its tokens, and of a conversation which of them somebody said."""
    texts = [piece.text for piece in group]
    if all(piece.spans is None for piece in group):
        yield from (
            (piece, row, None) for piece, row in zip(group, token_ids(lm.tokenizer, texts), strict=True)
        )
        return
    rows, offsets = encode(lm.tokenizer, texts, offsets=True)
    assert offsets is not None
    for piece, row, places in zip(group, rows, offsets, strict=True):
        assert piece.spans is not None
        yield piece, row, [is_inside(place, piece.spans) for place in places]


def _spread(items: Sequence[int], n: int) -> Sequence[int]:
    """At most `n` of the items, at even distances, from the first on."""
    n = min(n, len(items))
    return [items[i * len(items) // n] for i in range(n)]


class _Piece(NamedTuple):
    """A document, or a part of a very long one."""

    text: str
    document: int
    position: int
    spans: Spans | None  # characters of `text` that are text, of a conversation


def _groups(stream: DocumentStream) -> Iterator[list[_Piece]]:
    """Pieces to tokenise together."""
    group: list[_Piece] = []
    n_characters = 0
    for piece in _pieces(stream):
        group.append(piece)
        n_characters += len(piece.text)
        if n_characters >= _GROUP_CHARACTERS:
            yield group
            group, n_characters = [], 0
    if group:
        yield group


def _pieces(stream: DocumentStream) -> Iterator[_Piece]:
    """Every document, the very long ones cut at white space."""
    position = stream.position
    for document in stream:
        first = 0
        for text in _cut(document):
            spans = document.spans
            if spans is not None:
                spans = tuple((start - first, end - first) for start, end in spans)
            yield _Piece(text, document.id, position, spans)
            first += len(text)
        position = stream.position


def _cut(document: Document) -> Iterator[str]:
    text = document.text
    while len(text) > _PIECE_CHARACTERS:
        space = max(text.rfind(" ", 1, _PIECE_CHARACTERS), text.rfind("\n", 1, _PIECE_CHARACTERS))
        cut = space if space > 0 else _PIECE_CHARACTERS
        yield text[:cut]
        text = text[cut:]
    yield text
