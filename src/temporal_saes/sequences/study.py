"""Latents along joined passages, of one dictionary: which to show, their values, and scores over many texts.

    result = study(subject, options, texts, explanations, lm)

What it returns goes into the JSON as it is, and is all that the figure and the page are drawn from.

Shapes: T usable tokens of one text, F latents of the chunk.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dictionary_learning.dictionaries.base import chunk_slice
from dictionary_learning.errors import UserError
from dictionary_learning.language_model import LanguageModel
from temporal_saes.experiment.intervals import INTERVAL, as_json, mean_interval
from temporal_saes.experiment.subjects import Subject
from temporal_saes.experiment.text_codes import text_codes
from temporal_saes.labelled.passages import Joined
from temporal_saes.sequences.options import SETS, SequenceOptions
from temporal_saes.sequences.switching import activity, choose, passage_information, score


def study(
    subject: Subject,
    options: SequenceOptions,
    texts: Sequence[Joined],
    explanations: Mapping[int, str],
    held_over: Mapping[int, Sequence[str]],
    lm: LanguageModel,
) -> dict[str, Any]:
    """Scores over all texts and what there is to show of one.

    Args:
        explanations: by the dictionary's number of a latent.
        held_over: words of the passages that a latent is held over, where they are known.

    Raises:
        UserError: the dictionary does not fit the model, or a passage has no two tokens that are read.
    """
    dictionary = subject.load_dictionary(lm.device)
    first = 0 if dictionary is None else chunk_slice(dictionary, subject.chunk).start
    scores: dict[str, list[dict[str, Any]]] = {name: [] for name in SETS}
    shown: dict[str, Any] = {}
    n_tokens = 0
    reading = subject.reading(options)
    codes = text_codes([text.text for text in texts], lm, subject, dictionary, reading)
    for index, (joined, (tokens, code_uF, _)) in enumerate(zip(texts, codes, strict=True)):
        f_TF = code_uF.cpu().numpy()
        position_T = np.flatnonzero(tokens.usable_L)
        passage_T = joined.passage_of(tokens.offsets)[position_T]
        n_of_passages = np.bincount(passage_T, minlength=len(joined.passages))
        if n_of_passages.min() < 2:
            short = joined.passages[int(n_of_passages.argmin())]
            raise UserError(
                f"the passage {short.title!r} has {n_of_passages.min()} tokens that are read: give longer "
                f"passages or a longer --context_length."
            )
        n_tokens += len(position_T)
        chosen, rule = _choose(f_TF, passage_T, options, first)
        how = options.active
        kept = {"chosen": score(f_TF, passage_T, chosen, how=how, rule=rule, n=options.n_latents)}
        on_F = activity(f_TF, how).any(axis=0)
        kept["all"] = score(f_TF, passage_T, np.flatnonzero(on_F).tolist(), how=how)
        for name in SETS:
            scores[name].append(kept[name]._asdict())
        if index == options.show:
            shown = {
                "text": joined.text,
                "starts": joined.starts,
                "passages": [passage._asdict() | {"text": None} for passage in joined.passages],
                "ids": tokens.ids_L.tolist(),
                "offsets": [list(offset) for offset in tokens.offsets],
                "positions": position_T.tolist(),
                "passage": passage_T.tolist(),
                "entropy_of_passages": _entropy(passage_T),
                "latents": _latents(f_TF, passage_T, chosen, first, explanations, held_over, how),
                "scores": {name: kept[name]._asdict() for name in SETS},
            }
    return {
        "n_texts": len(texts),
        "n_tokens": n_tokens,
        "scores": {name: _over_texts(some) for name, some in scores.items()},
        "scores_of_texts": scores,
        "interval": INTERVAL,
        "shown": shown,
    }


def _choose(
    f_TF: np.ndarray, passage_T: np.ndarray, options: SequenceOptions, first: int
) -> tuple[list[int], str | None]:
    """Columns of the latents, and the rule by which they were chosen; None if they were given."""
    if options.latents is not None:
        return [latent - first for latent in options.latents], None
    return choose(f_TF, passage_T, options.select, options.n_latents), options.select


def _latents(
    f_TF: np.ndarray,
    passage_T: np.ndarray,
    chosen: Sequence[int],
    first: int,
    explanations: Mapping[int, str],
    held_over: Mapping[int, Sequence[str]],
    how: str,
) -> list[dict[str, Any]]:
    """The latents to show: by the passage in which their mean is highest, the strongest first."""
    found = []
    for column in chosen:
        value_T = f_TF[:, column]
        means = [float(value_T[passage_T == p].mean()) for p in range(int(passage_T.max()) + 1)]
        found.append(
            {
                "latent": first + column,
                "explanation": explanations.get(first + column),
                "held_over": list(held_over.get(first + column, ())),
                "strongest_in": int(np.argmax(means)),
                "means": means,
                "information": float(passage_information(activity(value_T[:, None], how), passage_T)[0]),
                "values": [float(f"{value:.5g}") for value in value_T],
            }
        )
    return sorted(found, key=lambda one: (one["strongest_in"], -one["means"][one["strongest_in"]]))


def _entropy(passage_T: np.ndarray) -> float:
    """Bits that it takes to tell the passage of a token: more than any latents can tell."""
    share = np.bincount(passage_T) / len(passage_T)
    return float(-(share * np.log2(share)).sum())


def _over_texts(scores: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """For each score its mean over the texts that have it, with the interval and their number."""
    summary = {}
    for name in scores[0]:
        values = [one[name] for one in scores if one[name] is not None]
        interval = as_json(mean_interval(values))
        summary[name] = None if interval is None else {**interval, "n": len(values)}
    return summary
