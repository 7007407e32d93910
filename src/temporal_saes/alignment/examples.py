"""For each latent to be shown, the pairs in which it differs most, with its value at every token.

Shapes: N rows of features, P pairs, T read tokens of one answer.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from temporal_saes.alignment.pairs import PreferencePair
from temporal_saes.alignment.responses import ResponseMeans, ResponseText
from temporal_saes.features import Features, Tokens
from temporal_saes.pages.text_latents import Snippet, strongest


class Answer(NamedTuple):
    """One answer and a latent on it."""

    text: ResponseText
    tokens: Tokens
    position_T: np.ndarray
    """Of the tokens that count, among `tokens`."""
    value_T: np.ndarray

    @property
    def mean(self) -> float:
        return float(self.value_T.mean())


class Example(NamedTuple):
    """A pair in which a latent differs much."""

    pair: PreferencePair
    chosen: Answer
    rejected: Answer


class Shown(NamedTuple):
    """What there is to see of a latent."""

    examples: list[Example]
    strongest: list[Snippet]
    """Tokens of all answers at which it is strongest, no token twice."""


def examples_of(
    column: int,
    sign: int,
    pairs: Sequence[PreferencePair],
    texts: Sequence[ResponseText],
    features: Features,
    means: ResponseMeans,
    n_examples: int,
) -> Shown:
    """The pairs in which a latent's difference is largest in one direction.

    Args:
        column: the latent, among those of `features`.
        sign: 1 for pairs in which the chosen answer has more, -1 for the others.
        pairs: all that were read, as `texts` and `means.pair_P` number them.
    """
    d_P = sign * (means.chosen_PF[:, [column]] - means.rejected_PF[:, [column]]).toarray()[:, 0]
    best = [p for p in np.argsort(-d_P, kind="stable")[:n_examples] if d_P[p] > 0]
    examples = []
    for pair in means.pair_P[best].tolist():
        answers = [_answer(2 * pair + side, column, texts, features) for side in (0, 1)]
        examples.append(Example(pairs[pair], answers[0], answers[1]))
    return Shown(examples, strongest(features, [text.text for text in texts], column, left_out=None))


def _answer(index: int, column: int, texts: Sequence[ResponseText], features: Features) -> Answer:
    first, last = np.searchsorted(features.text_N, [index, index + 1])
    x: Any = features.x
    value_T = x[first:last][:, [column]].toarray()[:, 0]
    return Answer(texts[index], features.tokens[index], features.position_N[first:last], value_T)
