"""Latents on one text: which ones to show, how strong they are at each token, and what they may mean.

    shown = look(parts, features, texts, dictionary.splits())
    shown.latents[0]  # number, split, value at every token, where it is strongest in other texts

A latent is chosen for a part of the text (one of two joined passages): in each split, the one whose mean
activation over the part's tokens exceeds its mean over everything it is compared with most. The rule is the
same for every split and looks at no order of tokens, so that steady and flickering latents are equally
likely to be shown.

Shapes: T usable tokens of the text, N rows of features, F latents.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from dictionary_learning.errors import UserError
from dictionary_learning.language_model import LanguageModel
from dictionary_learning.texts.records import Record
from dictionary_learning.texts.spans import CLOSING, UNSPACED
from temporal_saes.features import Features, Tokens

MIN_PARAGRAPH = 200  # characters; a shorter one is a heading or a greeting
MAX_TOKENS = 160  # of the text that is shown: more is too long to take in
N_TOP_TOKENS, SNIPPET_CHARACTERS = 8, 45
SENTENCE_END = re.compile(rf"[.!?…]{CLOSING}(?=\s)|{UNSPACED}")


class Part(NamedTuple):
    """A stretch of the text that is from one document."""

    text: str
    title: str
    domain: str | None
    source: str | None


class Snippet(NamedTuple):
    """A token of a held-out text, with what stands around it."""

    before: str
    token: str
    after: str
    value: float


class Latent(NamedTuple):
    """One latent on the text."""

    number: int
    split: str
    part: int
    value_T: np.ndarray
    """Activation at each usable token."""
    steadiness: float
    on_in_parts: list[tuple[int, int]]
    """Tokens of each part at which it is not zero, and tokens of that part."""
    snippets: list[Snippet]
    """Held-out tokens at which it is strongest, no token twice."""


class Shown(NamedTuple):
    """A text and what there is to show of it."""

    parts: list[Part]
    text: str
    boundary: int | None
    """Character at which the second part begins."""
    tokens: Tokens
    position_T: np.ndarray
    latents: list[Latent]
    steadiness: dict[str, float]
    """Of each split: over all its latents that fire in the text."""
    n_held_out: int
    """Held-out tokens among which the snippets were looked for."""


# --- the text ---


def two_documents(records: Sequence[Record]) -> list[Record]:
    """The first record and the first one of another domain; those without a domain differ from each other.

    Raises:
        UserError: there are no two such documents.
    """
    first = records[0] if records else None
    second = next((record for record in records[1:] if first and _differ(first, record)), None)
    if first is None or second is None:
        raise UserError("there are no two held-out documents of different domains: give a --text.")
    return [first, second]


def opening(lm: LanguageModel, record: Record, text_field: str, context_length: int) -> Part:
    """The beginning of a document: at most half of what is shown, up to the end of a sentence or a word."""
    n_tokens = max(2, min(context_length, MAX_TOKENS) // 2 - 2)
    text = _beginning(lm, paragraphs(record[text_field]), n_tokens)
    title = _string(record.get("title")) or "a held-out document"
    return Part(text, title, _string(record.get("domain")), _string(record.get("source")))


def _differ(first: Record, second: Record) -> bool:
    return first.get("domain") is None or first.get("domain") != second.get("domain")


def _string(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def paragraphs(text: str) -> list[str]:
    """Paragraphs of running text; the whole text if none is long enough."""
    long = [paragraph for paragraph in text.split("\n\n") if len(paragraph) >= MIN_PARAGRAPH]
    return long or [text]


def _beginning(lm: LanguageModel, some: Sequence[str], n_tokens: int) -> str:
    """The first `n_tokens` tokens of the paragraphs, cut after a sentence or a word of their second half."""
    text = "\n\n".join(some)[: 40 * n_tokens]
    encoding = lm.tokenize([text], n_tokens, offsets=True)
    assert encoding.offsets is not None
    end = max(stop for _, stop in encoding.offsets[0])
    if end == len(text):
        return text
    ends = [match.end() for match in SENTENCE_END.finditer(text, end // 2, end + 1)]
    if ends:
        return text[: ends[-1]]
    words = text[:end].rsplit(maxsplit=1)[0]
    return words if len(words) > end // 2 else text[:end]  # of a script without spaces


# --- the latents ---


def look(
    parts: Sequence[Part], features: Features, texts: Sequence[str], splits: Mapping[str, slice]
) -> Shown:
    """Choose the latents of each split and gather what is shown of them.

    Args:
        features: all latents of `texts`; the first of these is the parts joined by `join_parts`.
        splits: named ranges of latents, such as high and low.
    """
    text, boundary = join_parts(parts)
    assert texts[0] == text
    in_text_N = features.text_N == 0
    f_TF = features.x[in_text_N]
    position_T = features.position_N[in_text_N]
    tokens = features.tokens[0]
    part_T = np.array([_part_of(tokens.offsets[position], boundary) for position in position_T], dtype=int)
    held_out_NF = features.x[~in_text_N]
    latents = []
    for name, split in splits.items():
        for part, index in choose(f_TF, part_T, held_out_NF, split, n_parts=len(parts)):
            value_T = f_TF[:, [index]].toarray()[:, 0]
            on = [
                (int((value_T[part_T == p] > 0).sum()), int((part_T == p).sum())) for p in range(len(parts))
            ]
            latents.append(
                Latent(
                    number=index,
                    split=name,
                    part=part,
                    value_T=value_T,
                    steadiness=steadiness(value_T[:, None]),
                    on_in_parts=on,
                    snippets=strongest(features, texts, index),
                )
            )
    steady = {name: steadiness(f_TF[:, split].toarray()) for name, split in splits.items()}
    return Shown(
        list(parts), text, boundary, tokens, position_T, latents, steady, n_held_out=held_out_NF.shape[0]
    )


def join_parts(parts: Sequence[Part]) -> tuple[str, int | None]:
    """The parts as one text, and where the second begins."""
    boundary = len(parts[0].text) + 2 if len(parts) > 1 else None
    return "\n\n".join(part.text for part in parts), boundary


def _part_of(offset: tuple[int, int], boundary: int | None) -> int:
    return int(boundary is not None and offset[0] >= boundary)


def choose(
    f_TF: Any, part_T: np.ndarray, held_out_NF: Any, split: slice, n_parts: int
) -> Iterator[tuple[int, int]]:
    """(part, latent): where the mean over the part most exceeds that over what it is compared with.

    With two parts that is the other part, and there is one latent a part. One part is compared with
    held-out texts, and there are two latents. A latent that nowhere exceeds is not chosen.

    Args:
        f_TF: the text's latents, sparse.
        part_T: the part of each token.
        held_out_NF: latents of held-out tokens, sparse.
    """
    for part in range(n_parts):
        inside_F = _mean(f_TF[part_T == part], split)
        rest = f_TF[part_T != part] if n_parts > 1 else held_out_NF
        excess_F = inside_F - _mean(rest, split)
        for best in np.argsort(-excess_F, kind="stable")[: 1 if n_parts > 1 else 2]:
            if excess_F[best] > 0:
                yield part, split.start + int(best)


def _mean(f_NF: Any, split: slice) -> np.ndarray:
    """Mean over rows; zeros without a row."""
    return np.asarray(f_NF[:, split].sum(axis=0)).ravel() / max(1, f_NF.shape[0])


def steadiness(f_TF: np.ndarray) -> float:
    """1 - Σ|f_t - f_{t-1}| / 2 Σ f, with zeros before and behind the text: how far latents stay on.

    0 for latents that fire at single tokens, 1 - 1 / n for those that hold their value over n tokens, and 0
    where nothing fires. Values must not be negative.
    """
    total = float(f_TF.sum())
    change = float(np.abs(np.diff(f_TF, axis=0, prepend=0, append=0)).sum())
    return 1 - change / (2 * total) if total else 0.0


def strongest(
    features: Features, texts: Sequence[str], index: int, *, left_out: int | None = 0
) -> list[Snippet]:
    """The tokens at which a latent is strongest, strongest first, each token text once.

    Args:
        left_out: a text whose tokens do not count, as the one that is shown; None for none.
    """
    x: Any = features.x
    value_N = x[:, [index]].toarray()[:, 0]
    value_N[features.text_N == left_out] = 0
    snippets: dict[str, Snippet] = {}
    for row in np.argsort(-value_N, kind="stable"):
        if len(snippets) == N_TOP_TOKENS or value_N[row] <= 0:
            break
        text = texts[features.text_N[row]]
        start, stop = features.tokens[features.text_N[row]].offsets[features.position_N[row]]
        snippets.setdefault(
            text[start:stop].strip() or text[start:stop], snippet(text, start, stop, float(value_N[row]))
        )
    return list(snippets.values())


def snippet(text: str, start: int, stop: int, value: float) -> Snippet:
    """The characters [start, stop) of a text with what stands around them."""
    before = text[max(0, start - SNIPPET_CHARACTERS) : start]
    return Snippet(before, text[start:stop], text[stop : stop + SNIPPET_CHARACTERS], value)


# --- the pieces of a text ---


class Piece(NamedTuple):
    """A stretch of the text that is coloured as one: a token, or several that share a character."""

    start: int
    text: str
    values: list[float] | None
    """None: not read (special, of outlying norm, or no token at all)."""


def pieces(shown: Shown, value_T: np.ndarray) -> list[Piece]:
    """The shown text in pieces, see `text_pieces`."""
    return text_pieces(shown.text, shown.tokens, shown.position_T, value_T)


def text_pieces(text: str, tokens: Tokens, position_T: np.ndarray, value_T: np.ndarray) -> list[Piece]:
    """A text as far as it was read, in pieces, with a value at some positions.

    A character of several bytes can be several tokens, each of which spans the whole character: they
    are one piece. Characters that no token claims stand by themselves.
    """
    value_at = dict(zip(position_T.tolist(), value_T.tolist(), strict=True))
    found: list[Piece] = []
    end = 0
    for position, (start, stop) in enumerate(tokens.offsets):
        if stop <= start:
            continue  # a special token, which is not in the text
        values = [value_at[position]] if position in value_at else None
        if start > end:
            found.append(Piece(end, text[end:start], None))
        if found and start < end:
            last = found.pop()
            values = (last.values or []) + (values or []) or None
            start = last.start
        end = max(end, stop)
        found.append(Piece(start, text[start:end], values))
    return found
