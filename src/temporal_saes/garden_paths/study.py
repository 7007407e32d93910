"""Which reading one dictionary's codes of garden-path sentences lean to.

The lean of a triple is the mean, over the tokens that all three sentences end with, of the cosine of the
garden path's code with the right reading's less that with the wrong one's. Codes are first taken around their
mean over all tokens of all sentences, so that what every code has in common counts for neither.

Shapes: u usable tokens of one sentence, t tokens of the tail, F latents of the chunk.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from dictionary_learning.command.progress import say
from dictionary_learning.errors import UserError
from dictionary_learning.language_model import LanguageModel
from temporal_saes.experiment.intervals import INTERVAL, as_json, mean_interval
from temporal_saes.experiment.numbers import right_reading
from temporal_saes.experiment.subjects import Subject
from temporal_saes.experiment.text_codes import text_codes
from temporal_saes.features import Tokens
from temporal_saes.garden_paths.options import GardenPathOptions
from temporal_saes.garden_paths.triples import Triple, tail_length


class Code(NamedTuple):
    """One sentence through one subject's eyes."""

    tokens: Tokens
    f_uF: np.ndarray


def study(
    subject: Subject, options: GardenPathOptions, triples: Sequence[Triple], lm: LanguageModel
) -> dict[str, Any]:
    """The lean of every triple, its mean over all and over those of a kind.

    Raises:
        UserError: the dictionary does not fit the model, or no triple ends in the same usable tokens.
    """
    dictionary = subject.load_dictionary(lm.device)
    texts = [text for triple in triples for text in triple.texts]
    reading = subject.reading(options)
    codes = [
        Code(tokens, f_uF.cpu().numpy())
        for tokens, f_uF, _ in text_codes(texts, lm, subject, dictionary, reading)
    ]
    mean_F = np.concatenate([code.f_uF for code in codes]).mean(axis=0, dtype=np.float64)
    leans = [lean(triple, codes[3 * i : 3 * i + 3], mean_F) for i, triple in enumerate(triples)]
    known = [(triple, value) for triple, value in zip(triples, leans, strict=True) if value is not None]
    if not known:
        raise UserError(
            f"{subject.name}: no triple ends in the same tokens, or no code of them is not zero: give other "
            f"--triples or another --chunk."
        )
    if len(known) < len(triples):
        say(f"{subject.name}: {len(triples) - len(known)} of {len(triples)} triples have no lean.")
    kinds = sorted({triple.kind for triple in triples})
    values = [value for _, value in known]
    return {
        "n_texts": len(known),
        "n_triples": len(triples),
        "lean": as_json(mean_interval(values)),
        "share_right": float(np.mean([right_reading(value) for value in values])),
        "lean_of_kinds": {
            kind: as_json(mean_interval([value for triple, value in known if triple.kind == kind]))
            for kind in kinds
        },
        "lean_of_triples": leans,
        "sentences": [triple.sentence for triple in triples],
        "interval": INTERVAL,
    }


def lean(triple: Triple, codes: Sequence[Code], mean_F: np.ndarray) -> float | None:
    """Cosine with the right reading less that with the wrong one; None where neither is defined anywhere."""
    length = tail_length(
        triple.texts,
        triple.tail,
        [code.tokens.ids_L.tolist() for code in codes],
        [code.tokens.offsets for code in codes],
    )
    ends = []
    for back in range(1, length + 1):
        if all(code.tokens.usable_L[-back] for code in codes):
            # the place among the usable tokens, from the end
            ends.append(
                [int(code.tokens.usable_L[len(code.tokens.usable_L) - back :].sum()) for code in codes]
            )
    if not ends:
        return None
    path_tF, right_tF, wrong_tF = (
        code.f_uF[[len(code.f_uF) - end[i] for end in ends]].astype(np.float64) - mean_F
        for i, code in enumerate(codes)
    )
    to_right_t, to_wrong_t = _cosines(path_tF, right_tF), _cosines(path_tF, wrong_tF)
    if np.isnan([to_right_t, to_wrong_t]).all():
        return None
    return float(np.mean(np.nan_to_num(to_right_t) - np.nan_to_num(to_wrong_t)))


def _cosines(a_tF: np.ndarray, b_tF: np.ndarray) -> np.ndarray:
    """Row by row; NaN where one of the two has no length."""
    sizes = np.linalg.norm(a_tF, axis=1) * np.linalg.norm(b_tF, axis=1)
    return np.divide((a_tF * b_tF).sum(axis=1), sizes, out=np.full(len(sizes), np.nan), where=sizes > 0)
