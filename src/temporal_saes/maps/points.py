"""Which tokens a map shows, and what is known of each: its part of speech, its text and the text's class.

The same tokens are chosen for every dictionary, and their labels never depend on one.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from dictionary_learning.errors import UserError
from dictionary_learning.language_model import LanguageModel
from temporal_saes.experiment.texts import labelled_texts
from temporal_saes.features import Features, Tokens, readable
from temporal_saes.labelled.data import LabelledText
from temporal_saes.labelled.parts_of_speech import tag_tokens
from temporal_saes.maps.options import MapOptions
from temporal_saes.pages.token_colours import visible

CONTEXT = 70  # characters on either side of a token that are shown with it
_SPARE = 4  # times the texts that are needed are drawn at first, as some are too short


class Point(NamedTuple):
    """One token of the map."""

    text: int  # among the texts of the map
    position: int  # among the text's tokens
    before: str  # these three as they are shown, with signs for what is not seen
    token: str
    after: str
    part_of_speech: str | None


def choose_texts(options: MapOptions, lm: LanguageModel, context_length: int) -> list[LabelledText]:
    """The first texts that have tokens enough, their classes in turn.

    Raises:
        UserError: there are fewer than `n_points` need, or all have one class; or as `labelled_texts`.
    """
    n_points, tokens_a_text = options.n_points, options.tokens_a_text
    wanted = -(-n_points // tokens_a_text)
    chosen: list[LabelledText] = []
    limits = [options.max_texts] if options.max_texts else [_SPARE * wanted, None]
    for max_texts in limits:
        texts = labelled_texts(options, max_texts)
        chosen = _long_enough(texts, lm, context_length, tokens_a_text, wanted)
        if len(chosen) == wanted or (max_texts is not None and len(texts) < max_texts // 2):
            break
    if len(chosen) < wanted:
        raise UserError(
            f"--n_points {n_points:,} are more than there are: {len(chosen):,} texts of {options.dataset} "
            f"have {tokens_a_text} readable tokens among their first {context_length}, which is "
            f"{len(chosen) * tokens_a_text:,} points; ask for so many, or change --tokens_a_text."
        )
    labels = {text.label for text in chosen}
    if len(labels) < 2:
        raise UserError(
            f"the {len(chosen)} texts that are long enough have the one class {labels.pop()!r}: ask for more "
            f"--n_points or fewer --tokens_a_text, so that other classes are there, too."
        )
    return chosen


def _long_enough(
    texts: Sequence[LabelledText], lm: LanguageModel, context_length: int, at_least: int, wanted: int
) -> list[LabelledText]:
    chosen: list[LabelledText] = []
    for text in texts:
        if len(chosen) == wanted:
            break
        encoding = lm.tokenize([text.text], context_length, offsets=True)
        assert encoding.offsets is not None
        is_text_L = lm.text_mask(encoding.tokens_BL, encoding.mask_BL)[0].numpy()
        tokens = Tokens(encoding.tokens_BL[0].numpy(), encoding.offsets[0], is_text_L)
        # one more, as a first position of outlying norm will be taken out
        if len(readable(text.text, tokens)) > at_least:
            chosen.append(text)
    return chosen


class Positions:
    """Chooses the tokens of each text at random, seeded by the text itself; for `extract_features`."""

    def __init__(self, texts: Sequence[LabelledText], n_points: int, tokens_a_text: int, seed: int) -> None:
        self._texts = texts
        self._n_points = n_points
        self._tokens_a_text = tokens_a_text
        self._seed = seed

    def __call__(self, index: int, tokens: Tokens) -> np.ndarray:
        text = self._texts[index]
        candidates = readable(text.text, tokens)
        # the last text fills up what is missing
        size = min(self._tokens_a_text, self._n_points - index * self._tokens_a_text, len(candidates))
        generator = np.random.default_rng([self._seed, text.id])
        return np.sort(generator.choice(candidates, size, replace=False))


def points(texts: Sequence[LabelledText], features: Features) -> list[Point]:
    """The rows of the features with what is known of each.

    Raises:
        UserError: no part of speech tagger is installed.
    """
    tags = list(tag_tokens([text.text for text in texts], [tokens.offsets for tokens in features.tokens]))
    made = []
    for text, position in zip(features.text_N.tolist(), features.position_N.tolist(), strict=True):
        start, end = features.tokens[text].offsets[position]
        made.append(Point(text, position, *_in_context(texts[text].text, start, end), tags[text][position]))
    return made


def words(points: Sequence[Mapping[str, Any]]) -> list[str]:
    """The token of each point of a result, without its case and the spaces around it."""
    return [point["token"].strip().lower() for point in points]


def labels(
    colouring: str, points: Sequence[Mapping[str, Any]], texts: Sequence[Mapping[str, Any]]
) -> list[Any]:
    """The class of each point of a result in one of the `COLOURINGS`; None where it has none."""
    if colouring == "pos":
        return [point["part_of_speech"] for point in points]
    if colouring == "domain":
        return [texts[point["text"]]["domain"] for point in points]
    return [point["text"] for point in points]


def _in_context(text: str, start: int, end: int) -> tuple[str, str, str]:
    before, after = text[max(0, start - CONTEXT) : start], text[end : end + CONTEXT]
    return (
        ("…" if start > CONTEXT else "") + _line(before),
        _line(text[start:end]),
        _line(after) + ("…" if end + CONTEXT < len(text) else ""),
    )


def _line(text: str) -> str:
    return visible(text).replace("\n", "")
