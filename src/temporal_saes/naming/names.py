"""What each latent is held over: the words of its stretches, the documents it prefers, how long it stays on.

    collector = NameCollector(n_latents, tokenizer)
    for codes in chunks:
        collector.add(codes)
    names = collector.result(Labels(titles, classes))
    names[7].words          # (Share("senate", 9.1, 0.04, 12.0), ...)
    names[7].stretch, names[7].information, names[7].telling

A latent that fires at a word is described by that word. One that follows a passage fires at words that say
nothing ("in", "be"): what describes it is the passage. So the words are counted that all its stretches hold
(`stretches`), and listed are those which they hold more than the rest of the corpus (`log_odds`); documents
and their classes are found in the same way, by tokens.

Shapes: U usable tokens of a chunk, O words of it, W words and G documents of the corpus, F latents.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from temporal_saes.latents.codes import CodesOfContexts
from temporal_saes.naming.counts import Counts, Ranked
from temporal_saes.naming.information import document_information
from temporal_saes.naming.stretches import on_above, stretches
from temporal_saes.naming.words import Words

N_WORDS, N_TITLES, N_CLASSES = 8, 3, 3
LEAST = 2.5
"""Standard errors below which nothing is listed: what stands there once does not reach it."""
_LONGEST = 512  # tokens; a longer stretch counts as one of so many


class Share(NamedTuple):
    """A word, a title or a class that a latent holds more than others do."""

    text: str
    z: float
    """Log odds over their standard error."""
    share: float
    """Of the words, or tokens, over which the latent is held."""
    lift: float
    """The same over its share of the whole corpus."""


class Labels(NamedTuple):
    """Title and class of each document by its number; empty where it has none."""

    titles: Sequence[str]
    classes: Sequence[str]


@dataclass(frozen=True)
class Name:
    """What one latent is held over."""

    words: tuple[Share, ...]
    titles: tuple[Share, ...]
    classes: tuple[Share, ...]
    stretch: float
    """Tokens: half of the tokens at which it is held are in stretches of this length or longer (the median,
    a token a vote, so that single sparks do not outweigh passages); 0 for a latent that is never on."""
    information: float
    """Bits that the latent, on or off at a token, tells about the document of that token."""

    @property
    def telling(self) -> float:
        """How much its passages say of it: length of a stretch times information about the document."""
        return self.stretch * self.information

    @property
    def held_over(self) -> list[str]:
        """The words alone, the most telling first."""
        return [word.text for word in self.words]

    def as_json(self) -> dict[str, Any]:
        """Rounded, as it goes into files and pages."""
        return {
            **{
                what: [[one.text, *(_short(number) for number in one[1:])] for one in getattr(self, what)]
                for what in ("words", "titles", "classes")
            },
            "stretch": self.stretch,
            "information": _short(self.information),
            "telling": _short(self.telling),
        }

    @classmethod
    def of_json(cls, found: Mapping[str, Any]) -> "Name":
        """What `as_json` gave."""
        shares = {what: tuple(Share(*one) for one in found[what]) for what in ("words", "titles", "classes")}
        return cls(**shares, stretch=found["stretch"], information=found["information"])


class NameCollector:
    """Counts over the chunks that went by, in memory that grows with words and documents, not with tokens."""

    def __init__(self, n_latents: int, tokenizer: Any) -> None:
        self.n_latents = n_latents
        self.vocabulary = Words(tokenizer)
        self._words, self._documents = Counts(n_latents), Counts(n_latents)
        self._number: dict[int, int] = {}  # of documents by their ids
        self._length_FS = np.zeros((n_latents, _LONGEST + 1), dtype=np.int32)
        self._above_F: np.ndarray | None = None

    @property
    def on_above_F(self) -> np.ndarray:
        """The value above which each latent is on; known from the first chunk."""
        assert self._above_F is not None, "no chunk was added"
        return self._above_F

    def watching(self, chunks: Iterable[CodesOfContexts]) -> Iterator[CodesOfContexts]:
        """The chunks as they are, each taken in on the way."""
        for codes in chunks:
            self.add(codes)
            yield codes

    def add(self, codes: CodesOfContexts) -> None:
        """Take a chunk in; the first one says from which value on a dense latent is on."""
        if self._above_F is None:
            self._above_F = on_above(codes)
        held = stretches(codes, self._above_F)
        np.add.at(self._length_FS, (held.latent_S, np.minimum(held.length_S, _LONGEST)), 1)
        on_UF = held.on_UF(self.n_latents)
        self._add_words(codes, on_UF)
        self._add_documents(codes, on_UF)

    def result(self, labels: Labels | None = None) -> list[Name]:
        """The name of every latent.

        Args:
            labels: of the documents, where they are known.
        """
        if self._above_F is None:  # there was nothing to read
            return [Name((), (), (), 0.0, 0.0)] * self.n_latents
        words = self._words.best(N_WORDS, LEAST)
        titles = self._by_label(labels.titles if labels else (), N_TITLES)
        classes = self._by_label(labels.classes if labels else (), N_CLASSES)
        bits_F = document_information(self._documents.on_GF, self._documents.total_G)
        return [
            Name(
                words=_shares(words[latent], self.vocabulary.texts, self._words, latent),
                titles=titles[latent],
                classes=classes[latent],
                stretch=_median(self._length_FS[latent] * np.arange(_LONGEST + 1)),
                information=float(bits_F[latent]),
            )
            for latent in range(self.n_latents)
        ]

    def word_lists(self, n: int) -> list[list[str]]:
        """Of each latent up to n words, as texts."""
        texts = self.vocabulary.texts
        return [[texts[i] for i in found.index_K] for found in self._words.best(n, LEAST)]

    def _add_words(self, codes: CodesOfContexts, on_UF: sparse.csr_array) -> None:
        words, firsts, lasts = [], [], []
        rank_T = np.cumsum(codes.usable_T) - 1
        for start, stop in zip(codes.start_C[:-1], codes.start_C[1:], strict=True):
            found = self.vocabulary.of(codes.tokens_T[start:stop], codes.usable_T[start:stop])
            words.append(found.word_O)
            firsts.append(rank_T[start + found.first_O])
            lasts.append(rank_T[start + found.last_O])
        word_O, first_O, last_O = (np.concatenate(column) for column in (words, firsts, lasts))
        n = len(self.vocabulary.texts)
        held_OF = held_by_words(first_O, last_O, on_UF)
        of_word_WO = sparse.csr_array(
            (np.ones(len(word_O), dtype=np.int32), (word_O, np.arange(len(word_O)))), shape=(n, len(word_O))
        )
        self._words.add(np.bincount(word_O, minlength=n), sparse.csr_array(of_word_WO @ held_OF))

    def _add_documents(self, codes: CodesOfContexts, on_UF: sparse.csr_array) -> None:
        numbers_C = [self._number.setdefault(one, len(self._number)) for one in codes.document_C.tolist()]
        document_U = np.repeat(numbers_C, np.diff(codes.start_C))[codes.usable_T]
        n, n_usable = len(self._number), len(document_U)
        of_document_GU = sparse.csr_array(
            (np.ones(n_usable, dtype=np.int32), (document_U, np.arange(n_usable))), shape=(n, n_usable)
        )
        self._documents.add(np.bincount(document_U, minlength=n), sparse.csr_array(of_document_GU @ on_UF))

    def _by_label(self, labels: Sequence[str], k: int) -> list[tuple[Share, ...]]:
        """What each latent prefers of titles, or of classes; nothing where there are fewer than two."""
        names = list(dict.fromkeys(label for label in labels if label))
        if len(names) < 2:
            return [()] * self.n_latents
        number = {name: i for i, name in enumerate(names)}
        group_G = np.array([number.get(labels[document], -1) for document in self._number], dtype=np.int64)
        counts = self._documents.grouped(group_G, len(names))
        return [_shares(found, names, counts, f) for f, found in enumerate(counts.best(k, LEAST))]


def held_by_words(first_O: np.ndarray, last_O: np.ndarray, on_UF: sparse.csr_array) -> sparse.csr_array:
    """1 [O, F] where one of a word's tokens is in a stretch of a latent."""
    length_O = last_O - first_O + 1
    ends_O = np.cumsum(length_O)
    token_N = np.arange(length_O.sum()) + np.repeat(first_O - (ends_O - length_O), length_O)
    tokens_OU = sparse.csr_array(
        (np.ones(len(token_N), dtype=np.int32), token_N, np.concatenate([[0], ends_O])),
        shape=(len(first_O), on_UF.shape[0]),
    )
    held_OF = sparse.csr_array(tokens_OU @ on_UF)
    held_OF.data[:] = 1
    return held_OF


def _shares(found: Ranked, texts: Sequence[str], counts: Counts, latent: int) -> tuple[Share, ...]:
    n_inside, n_total = int(counts.inside_F[latent]), int(counts.total_G.sum())
    return tuple(
        Share(
            texts[i],
            float(z),
            share := int(inside) / n_inside,
            share / (int(counts.total_G[i]) / n_total),
        )
        for i, z, inside in zip(*(column.tolist() for column in found), strict=True)
    )


def _median(count_S: np.ndarray) -> float:
    """The median of lengths, from how many tokens are in stretches of each."""
    below_S = np.cumsum(count_S)
    n = int(below_S[-1])
    if not n:
        return 0.0
    low, high = (int(np.searchsorted(below_S, rank, side="left")) for rank in ((n + 1) // 2, n // 2 + 1))
    return (low + high) / 2


def _short(value: float) -> float:
    return float(f"{value:.3g}")
