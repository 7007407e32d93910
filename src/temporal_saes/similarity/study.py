"""One subject's view of joined texts: the kernel of each, the boundaries in it, and how well they are found.

    texts = read_texts(subject, options, joined, lm)
    study(options, joined, texts)

Shapes: u usable tokens of one text, F latents of the chunk.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from dictionary_learning.command.progress import LoopProgress
from dictionary_learning.errors import UserError
from dictionary_learning.language_model import LanguageModel
from temporal_saes.experiment.intervals import INTERVAL, as_json, mean_interval
from temporal_saes.experiment.short_text import shortened
from temporal_saes.experiment.subjects import Subject
from temporal_saes.experiment.text_codes import text_codes
from temporal_saes.features import Tokens
from temporal_saes.labelled.passages import Joined
from temporal_saes.similarity.kernel import (
    Merge,
    Score,
    chance_f1,
    cut,
    novelty,
    peaks,
    score,
    segment_tree,
    similarity_kernel,
)
from temporal_saes.similarity.options import DETECTORS, SimilarityOptions


class Text(NamedTuple):
    """One joined text through one subject's eyes; boundaries are positions among all its tokens."""

    tokens: Tokens
    positions_u: np.ndarray  # of the usable tokens, which the kernel is of
    kernel_uu: np.ndarray
    curve_u: np.ndarray  # novelty
    merges: list[Merge]
    found: dict[str, list[int]]  # by detector
    found_n: dict[str, list[int]]  # by detector, when it is told how many there are
    true: list[int]
    sentence_starts: list[int]


def read_texts(
    subject: Subject, options: SimilarityOptions, joined: Sequence[Joined], lm: LanguageModel
) -> list[Text]:
    """The kernels of the subject's codes of the joined texts, and the boundaries found in them.

    Raises:
        UserError: the dictionary does not fit the model, or a text is too short for the windows.
    """
    dictionary = subject.load_dictionary(lm.device)
    codes = text_codes([one.text for one in joined], lm, subject, dictionary, subject.reading(options))
    texts = []
    with LoopProgress(len(joined), subject.name, "kernels") as progress:
        for one, (tokens, f_uF, _) in progress.over(zip(joined, codes, strict=True)):
            if len(f_uF) < 2 * options.half_width:
                raise UserError(
                    f"a text has {len(f_uF)} usable tokens, and --half_width {options.half_width} needs "
                    f"{2 * options.half_width}: give longer passages or a smaller --half_width."
                )
            kernel_uu = similarity_kernel(sparse.csr_array(f_uF.cpu().numpy()))
            texts.append(_find(one, tokens, kernel_uu, options))
    return texts


def _find(joined: Joined, tokens: Tokens, kernel_uu: np.ndarray, options: SimilarityOptions) -> Text:
    positions_u = np.flatnonzero(tokens.usable_L)
    curve_u = novelty(kernel_uu, options.half_width)
    merges = segment_tree(kernel_uu)
    true = joined.boundaries(tokens.offsets)
    found = {
        "novelty": peaks(curve_u, options.half_width, threshold=options.peak_height),
        "segments": cut(merges, height=1 - options.cut),
    }
    found_n = {
        "novelty": peaks(curve_u, options.half_width, n=len(true)),
        "segments": cut(merges, n=len(true)),
    }
    return Text(
        tokens=tokens,
        positions_u=positions_u,
        kernel_uu=kernel_uu,
        curve_u=curve_u,
        merges=merges,
        found={name: positions_u[some].tolist() for name, some in found.items()},
        found_n={name: positions_u[some].tolist() for name, some in found_n.items()},
        true=true,
        # of shuffled words none: what looks like a sentence's start is where a passage's is, mostly
        sentence_starts=joined.sentence_starts(tokens.offsets) if options.word_order == "kept" else [],
    )


def study(options: SimilarityOptions, joined: Sequence[Joined], texts: Sequence[Text]) -> dict[str, Any]:
    """How well the boundaries were found over all texts, and those of the text that is shown."""
    shown, passages = texts[options.show], joined[options.show].passages
    detectors = DETECTORS if texts[0].true else ()
    with LoopProgress(2 * len(detectors) * len(texts), "boundaries", "texts") as progress:
        scores = {name: _detector_scores(name, texts, options, progress) for name in detectors}
    return {
        "n_texts": len(texts),
        "n_tokens": sum(len(text.positions_u) for text in texts),
        "detectors": scores,
        "interval": INTERVAL,
        "shown": {
            "text": joined[options.show].text,
            "passages": [passage.title for passage in passages],
            "true": shown.true,
            "found": shown.found,
            "words_at_found": {
                name: [
                    first_words(joined[options.show].text[shown.tokens.offsets[place][0] :])
                    for place in places
                ]
                for name, places in shown.found.items()
            },
        },
    }


def _detector_scores(
    name: str, texts: Sequence[Text], options: SimilarityOptions, progress: LoopProgress
) -> dict[str, Any]:
    return {
        "own_number": _scores([text.found[name] for text in texts], texts, options, progress),
        "given_number": _scores([text.found_n[name] for text in texts], texts, options, progress),
    }


def _scores(
    found: Sequence[list[int]], texts: Sequence[Text], options: SimilarityOptions, progress: LoopProgress
) -> dict[str, Any]:
    """Means over texts; precision over those in which a boundary was found."""
    scores: list[Score] = []
    anywhere, sentence = [], []
    for i, (some, text) in enumerate(progress.over(zip(found, texts, strict=True))):
        scores.append(score(some, text.true, options.tolerance))
        seed = [options.seed, i]
        places = text.positions_u[1:].tolist()
        anywhere.append(chance_f1(len(some), places, text.true, options.tolerance, seed=seed))
        sentence.append(chance_f1(len(some), text.sentence_starts, text.true, options.tolerance, seed=seed))
    precisions = [one.precision for one in scores if one.precision is not None]
    return {
        "f1": as_json(mean_interval([one.f1 for one in scores])),
        "precision": as_json(mean_interval(precisions)),
        "recall": as_json(mean_interval([one.recall for one in scores])),
        "chance_f1": float(np.mean(anywhere)),
        "chance_f1_sentence_starts": float(np.mean(sentence)) if options.word_order == "kept" else None,
        "found_a_text": float(np.mean([len(some) for some in found])),
        "true_a_text": float(np.mean([len(text.true) for text in texts])),
        "texts_without_found": len(scores) - len(precisions),
        "f1_of_texts": [one.f1 for one in scores],
    }


def first_words(text: str, length: int = 18) -> str:
    """The first words of a text, cut at a word's end if one is near."""
    return shortened(text[: 4 * length], length + 2)
