"""Answers of preference pairs as the language model reads them, and the mean of every latent over each.

    texts = fit(data.pairs, lm, Reading(context_length=128))
    means = response_means(texts, features)

The model reads the prompt and the answer, but only the answer's tokens count: the prompt is the same for
both and says nothing about a preference. Where the two do not fit the context, the prompt loses its
beginning, the same for both answers, down to a quarter of the context; what an answer still has too much
is cut off at its end.

Shapes: P pairs, R = 2 P answers (chosen and rejected in turns), N rows of features, F latents.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from dictionary_learning.language_model import LanguageModel
from dictionary_learning.language_model.tokens import token_offsets
from dictionary_learning.texts.spans import Spans
from temporal_saes.alignment.pairs import PreferencePair
from temporal_saes.features import Features, Tokens
from temporal_saes.pooling import span_numbers
from temporal_saes.reading import Reading

LEAST_PROMPT = 0.25  # share of the context that a long prompt keeps
_PROMPT_CHARACTERS = 16  # a token of context; more of a prompt's end never fits


class ResponseText(NamedTuple):
    """One answer behind its prompt, or behind the end of it."""

    text: str
    start: int
    """Character at which the answer begins."""
    n_tokens: int
    """Of the whole answer, also of what did not fit."""
    turns: Spans | None = None
    """Characters that somebody said, of a chat; None where all is text."""


def is_response(text: str, start: int, offset: tuple[int, int]) -> bool:
    """Whether a token with these characters is the answer's: it has some of it, and no word of the prompt."""
    return offset[1] > max(start, offset[0]) and not text[offset[0] : start].strip()


def fit(pairs: Sequence[PreferencePair], lm: LanguageModel, reading: Reading) -> list[ResponseText]:
    """Both answers of every pair, [R], with as much of the prompt as fits.

    Raises:
        UserError: the model's tokenizer does not tell the characters of its tokens.
    """
    prompts = [pair.prompt[-_PROMPT_CHARACTERS * reading.context_length :] for pair in pairs]
    whole = [
        prompt + answer
        for prompt, pair in zip(prompts, pairs, strict=True)
        for answer in (pair.chosen, pair.rejected)
    ]
    lm.tokenize([], 1, offsets=True)  # refuses a tokenizer without offsets
    offsets_R = [
        [(a, b) for a, b in offsets if b > a] for offsets in token_offsets(lm.tokenizer, whole)
    ]  # added tokens have no characters
    n_added = int(reading.add_bos and lm.bos_id is not None)
    texts = []
    for p, prompt in enumerate(prompts):
        sides = (2 * p, 2 * p + 1)
        n_tokens = [sum(is_response(whole[r], len(prompt), offset) for offset in offsets_R[r]) for r in sides]
        n_prompt = len(offsets_R[sides[0]]) - n_tokens[0]
        length = reading.context_length
        room = max(length - n_added - max(n_tokens), int(LEAST_PROMPT * length))
        cut = offsets_R[sides[0]][n_prompt - room][0] if n_prompt > room else 0
        texts += [
            ResponseText(
                whole[r][cut:], len(prompt) - cut, n, _turns(pairs[p], whole[r][cut:], len(prompt) - cut)
            )
            for r, n in zip(sides, n_tokens, strict=True)
        ]
    return texts


def _turns(pair: PreferencePair, text: str, start: int) -> Spans | None:
    """The characters of a text that somebody said: of the prompt's end what is there, and the answer."""
    if pair.turns is None:
        return None
    lost = len(pair.prompt) - start
    before = tuple((max(0, a - lost), b - lost) for a, b in pair.turns if b > lost)
    return (*before, (start, len(text)))


class ChooseResponses:
    """The usable tokens of the answers, for `extract_features`."""

    def __init__(self, texts: Sequence[ResponseText]) -> None:
        self._texts = texts

    def __call__(self, index: int, tokens: Tokens) -> np.ndarray:
        text, start, *_ = self._texts[index]
        return np.array(
            [i for i in np.flatnonzero(tokens.usable_L) if is_response(text, start, tokens.offsets[i])],
            dtype=np.int64,
        )


class ResponseMeans(NamedTuple):
    """Means over the tokens of an answer, for the pairs of which both answers have a token."""

    pair_P: np.ndarray
    """Number of the pair, of all that were read."""
    chosen_PF: Any
    rejected_PF: Any
    """As `Features.x`: a sparse array, or an array for dense activations."""
    n_cut: int
    """Answers of these pairs whose end did not fit the context."""


def response_means(texts: Sequence[ResponseText], features: Features, pool: str = "turn") -> ResponseMeans:
    """One value of every latent for each answer, of its read, usable tokens.

    Args:
        pool: turn takes the mean, sentence the mean of the sentences' means, token the last token.
    """
    n_R = np.bincount(features.text_N, minlength=len(texts))
    pair_P = np.flatnonzero((n_R[0::2] > 0) & (n_R[1::2] > 0))
    weight_N = _weights(texts, features, pool)
    means = []
    for side in (0, 1):
        place_R = np.full(len(texts), -1)
        place_R[2 * pair_P + side] = np.arange(len(pair_P))
        row_N = place_R[features.text_N]
        used = np.flatnonzero(row_N >= 0)
        mean_PN = sparse.csr_array((weight_N[used], (row_N[used], used)), shape=(len(pair_P), len(row_N)))
        means.append(mean_PN @ features.x)
    cut_R = np.array([_is_cut(text, tokens) for text, tokens in zip(texts, features.tokens, strict=True)])
    n_cut = int(cut_R[2 * pair_P].sum() + cut_R[2 * pair_P + 1].sum())
    return ResponseMeans(pair_P, means[0], means[1], n_cut)


def _weights(texts: Sequence[ResponseText], features: Features, pool: str) -> np.ndarray:
    """What each token counts in the value of its answer [N]: together 1."""
    text_N = features.text_N
    n_R = np.bincount(text_N, minlength=len(texts))
    if pool == "turn":
        return 1 / n_R[text_N]
    if pool == "token":
        is_last_N = np.append(text_N[1:] != text_N[:-1], True)[: len(text_N)]
        return is_last_N.astype(np.float64)
    weight_N = np.zeros(len(text_N))
    for rows in np.split(np.arange(len(text_N)), np.flatnonzero(np.diff(text_N)) + 1):
        if not len(rows):
            continue
        text, start, *_ = texts[text_N[rows[0]]]
        tokens = features.tokens[text_N[rows[0]]]
        answer = ((start, len(text)),)
        number_L = span_numbers("sentence", text, tokens.offsets, tokens.usable_L, answer)
        _, sentence_n, n_tokens = np.unique(
            number_L[features.position_N[rows]], return_inverse=True, return_counts=True
        )
        weight_N[rows] = 1 / (len(n_tokens) * n_tokens[sentence_n])
    return weight_N


def _is_cut(text: ResponseText, tokens: Tokens) -> bool:
    return max((end for _, end in tokens.offsets), default=0) < len(text.text.rstrip())
