"""Do lists of words find the windows of a text over which a latent is held?

    windows = Windows(codes, held)                          # of texts that no list was made from
    stand = windows.standing(Words(tokenizer))
    aucs(stand, windows.held(8), [["senate", "bill"], ...])     # one list a latent

The score of a window is how many entries of the list stand in it, so a list of words over which a latent is
held and one of the tokens at which it is strongest are told apart by their entries alone. The area under the
curve is how often a window of the latent's has more of them than another; ties count half, and chance is .5.

Shapes: U usable positions, O entries in a row, M windows, F latents, V entries that there are, P pairs.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from scipy import sparse

from dictionary_learning.language_model.token_text import token_texts
from temporal_saes.latents.codes import CodesOfContexts
from temporal_saes.latents.examples import LatentExamples
from temporal_saes.naming.stretches import Stretches
from temporal_saes.naming.windows import MIN_PLACES, window_of
from temporal_saes.naming.words import Found

_BLOCK = 2**24  # scores at a time


class Entries(Protocol):
    """What windows are searched for: `Words` or `TokenTexts`."""

    texts: list[str]

    def of(self, ids_L: np.ndarray, usable_L: np.ndarray) -> Found:
        """The entries of a context."""


class TokenTexts:
    """Every token as an entry: its text without white space around it."""

    def __init__(self, tokenizer: Any) -> None:
        self.texts: list[str] = []
        self._tokenizer = tokenizer
        self._number: dict[str, int] = {}
        self._of_token: dict[int, int] = {}

    def of(self, ids_L: np.ndarray, usable_L: np.ndarray) -> Found:
        """The tokens of a context that are usable."""
        position_O = np.flatnonzero(usable_L)
        entry_O = np.array([self._entry(token) for token in ids_L[position_O].tolist()], dtype=np.int64)
        return Found(entry_O, position_O, position_O)

    def text(self, token: int) -> str:
        """The entry that a token is."""
        return self.texts[self._entry(token)]

    def _entry(self, token: int) -> int:
        if token not in self._of_token:
            text = token_texts(self._tokenizer, [token])[0].strip()
            number = self._number.setdefault(text, len(self.texts))
            if number == len(self.texts):
                self.texts.append(text)
            self._of_token[token] = number
        return self._of_token[token]


def strongest_tokens(examples: LatentExamples, latent: int, n: int, text: Callable[[int], str]) -> list[int]:
    """Up to n tokens of different texts at which a latent is strongest, no two from the same context.

    Args:
        text: what a token says; white space around it makes no difference.
    """
    top = [one.tokens[one.peak] for one in examples.top(latent, examples.strongest.k)]
    of_texts = {text(token).strip(): token for token in reversed(top)}
    return list(dict.fromkeys(of_texts[text(token).strip()] for token in top))[:n]


class Standing(NamedTuple):
    """Which entries stand in which windows."""

    number: dict[str, int]
    in_MV: sparse.csr_array


class Windows:
    """The windows of some contexts, and how many of their tokens each latent is held over."""

    def __init__(self, codes: CodesOfContexts, held: Stretches, n_latents: int) -> None:
        self._codes = codes
        self._window_U = window_of(codes)
        self.n = int(self._window_U.max(initial=-1)) + 1
        tokens_MU = _presence(self._window_U, np.arange(len(self._window_U)), (self.n, len(self._window_U)))
        self._n_held_MF = sparse.csr_array(tokens_MU @ held.on_UF(n_latents))

    def held(self, least: int) -> sparse.csr_array:
        """1 [M, F] for windows of which a latent is held over so many tokens at least."""
        held_MF = self._n_held_MF.copy()
        held_MF.data = (held_MF.data >= least).astype(np.int32)
        held_MF.eliminate_zeros()
        return held_MF

    def standing(self, entries: Entries) -> Standing:
        """The entries in each window; a word is in that of its first token."""
        codes = self._codes
        rank_T = np.cumsum(codes.usable_T) - 1
        entry, window = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
        for start, stop in zip(codes.start_C[:-1], codes.start_C[1:], strict=True):
            found = entries.of(codes.tokens_T[start:stop], codes.usable_T[start:stop])
            entry.append(found.word_O)
            window.append(self._window_U[rank_T[start + found.first_O]])
        shape = self.n, len(entries.texts)
        in_MV = _presence(np.concatenate(window), np.concatenate(entry), shape)
        return Standing({text: number for number, text in enumerate(entries.texts)}, in_MV)


def aucs(standing: Standing, held_MF: sparse.csr_array, lists: Sequence[Sequence[str]]) -> list[float | None]:
    """The area under the curve of each latent's list.

    None for an empty list, and for a latent that has fewer than `MIN_PLACES` windows, or lacks fewer.
    """
    found: list[float | None] = []
    n_windows = held_MF.shape[0]
    step = max(1, _BLOCK // max(1, n_windows))
    by_latent = sparse.csc_array(held_MF)
    for first in range(0, len(lists), step):
        has_MF = by_latent[:, first : first + step].toarray().astype(bool)
        found += _aucs(standing, has_MF, lists[first : first + step])
    return found


def _aucs(standing: Standing, has_MF: np.ndarray, lists: Sequence[Sequence[str]]) -> list[float | None]:
    pairs = [
        (standing.number[text], column)
        for column, one in enumerate(lists)
        for text in dict.fromkeys(one)
        if text in standing.number
    ]
    entry_P, column_P = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    listed_VF = _presence(entry_P, column_P, (standing.in_MV.shape[1], len(lists)))
    score_MF = (standing.in_MV @ listed_VF).toarray()
    n_with_F, n_without_F = has_MF.sum(0), (~has_MF).sum(0)
    right_F, below_F = np.zeros(len(lists)), np.zeros(len(lists))  # below: other windows with less
    for score in range(int(score_MF.max(initial=0)) + 1):
        is_score_MF = score_MF == score
        with_F, without_F = (is_score_MF & has_MF).sum(0), (is_score_MF & ~has_MF).sum(0)
        right_F += with_F * (below_F + without_F / 2)
        below_F += without_F
    return [
        float(right_F[f] / (n_with_F[f] * n_without_F[f]))
        if one and min(n_with_F[f], n_without_F[f]) >= MIN_PLACES
        else None
        for f, one in enumerate(lists)
    ]


def _presence(row_N: np.ndarray, column_N: np.ndarray, shape: tuple[int, int]) -> sparse.csr_array:
    """1 where a pair is there, once or more often; rows below 0 are left out."""
    inside = row_N >= 0
    ones = np.ones(int(inside.sum()), dtype=np.int32)
    made = sparse.csr_array((ones, (row_N[inside], column_N[inside])), shape=shape)
    made.sum_duplicates()
    made.data[:] = 1
    return made
