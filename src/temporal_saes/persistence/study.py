"""Persistence and stability of one chunk of a run, over all its seeds.

Shapes: u usable positions of one text, F and G latents of the chunk, D model width, K lags.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from dictionary_learning.command.progress import LoopProgress
from dictionary_learning.dictionaries.base import Dictionary, chunk_slice
from dictionary_learning.errors import UserError
from dictionary_learning.language_model import LanguageModel
from temporal_saes.experiment.intervals import OF_PAIRS, as_json, mean_interval, shares_of_pairs
from temporal_saes.experiment.subjects import Subject
from temporal_saes.experiment.text_codes import text_codes
from temporal_saes.persistence.measures import Persistence, best_cosines, matched_cosines
from temporal_saes.persistence.options import PersistenceOptions

QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
OVER_SEEDS = "t-interval, 95 %, over seeds"


def study(
    seeds: Sequence[Subject], options: PersistenceOptions, texts: Sequence[str], lm: LanguageModel
) -> dict[str, Any]:
    """How long latents stay on, and which come back in the other seeds.

    Args:
        seeds: the same chunk of each of a run's dictionaries.

    Raises:
        UserError: a dictionary does not fit the model, or no latent is on often enough.
    """
    found, directions, is_counted = [], [], []
    for subject in seeds:
        dictionary = subject.load_dictionary(lm.device)
        assert dictionary is not None
        ordered, shuffled = count(subject, options, texts, lm, dictionary)
        is_counted_F = ordered.n_on_F >= options.min_on
        if not is_counted_F.any():
            raise UserError(
                f"no latent of {subject.name} is on at {options.min_on} of the {ordered.n:,} tokens: give a "
                "smaller --min_on or more --n_texts."
            )
        found.append(_of_seed(ordered, shuffled, is_counted_F))
        directions.append(_directions(dictionary, subject.chunk))
        is_counted.append(is_counted_F)
    return {
        "n_texts": len(texts),
        "n_tokens": ordered.n,
        "lags": list(options.lags),
        "persistence": _over_seeds(found, "persistence"),
        "persistence_in_any_order": _over_seeds(found, "in_any_order"),
        "stability": stability(directions, is_counted, options),
        "of_seeds": found,
        "interval": OVER_SEEDS,
    }


def count(
    subject: Subject,
    options: PersistenceOptions,
    texts: Sequence[str],
    lm: LanguageModel,
    dictionary: Dictionary,
) -> tuple[Persistence, Persistence]:
    """Of the latents of a subject, in the order of the texts, and with the tokens of each text shuffled.

    What is left without the order is what the tokens of one text have in common, however far apart.
    """
    columns = chunk_slice(dictionary, subject.chunk)
    n_latents = columns.stop - columns.start
    ordered, shuffled = (Persistence(options.lags, n_latents) for _ in range(2))
    generator = np.random.default_rng(options.seed)
    codes = text_codes(texts, lm, subject, dictionary, subject.reading(options))
    with LoopProgress(len(texts), subject.name, "texts") as progress:
        for _, f_uF, _ in progress.over(codes):
            on_uF = (f_uF > 0).cpu().numpy()
            ordered.add(on_uF)
            shuffled.add(on_uF[generator.permutation(len(on_uF))])
    return ordered, shuffled


def _of_seed(ordered: Persistence, shuffled: Persistence, is_counted_F: np.ndarray) -> dict[str, Any]:
    """Means over the latents that are on often enough; NaN, of those that are never off, left out."""
    values_KF = ordered.values()[:, is_counted_F]
    known = [row[~np.isnan(row)] for row in values_KF]
    return {
        "latents": int(is_counted_F.sum()),
        "latents_of_chunk": len(is_counted_F),
        "mean_share_of_tokens_on": float(ordered.n_on_F[is_counted_F].mean() / ordered.n),
        "persistence": _means(values_KF),
        "in_any_order": _means(shuffled.values()[:, is_counted_F]),
        "quantiles": {
            str(share): [float(np.quantile(row, share)) if len(row) else None for row in known]
            for share in QUANTILES
        },
    }


def _means(values_KF: np.ndarray) -> list[float | None]:
    return [float(row[~np.isnan(row)].mean()) if (~np.isnan(row)).any() else None for row in values_KF]


def _over_seeds(found: Sequence[dict[str, Any]], name: str) -> list[dict[str, float | None] | None]:
    """Of each lag the mean over seeds."""
    columns = zip(*(one[name] for one in found), strict=True)
    return [as_json(mean_interval([value for value in column if value is not None])) for column in columns]


@torch.no_grad()
def _directions(dictionary: Dictionary, chunk: int) -> np.ndarray:
    return dictionary.decoder_directions()[chunk_slice(dictionary, chunk)].float().cpu().numpy()


def stability(
    directions: Sequence[np.ndarray], is_counted: Sequence[np.ndarray], options: PersistenceOptions
) -> dict[str, Any] | None:
    """How much the latents of a seed are like those of the others, by decoder cosine; None for one seed.

    Args:
        directions: [F, D] of each seed.
        is_counted: [F] of each seed, the latents that are on often enough; partners may be any.
    """
    if len(directions) < 2:
        return None
    n = len(directions)
    pairs = list(itertools.permutations(range(n), 2))
    found = {name: np.zeros((n, n)) for name in ("matched", "best", "same_share", "chance_matched")}
    generator = np.random.default_rng([options.seed, 1])
    with LoopProgress(len(pairs), "stability", "pairs of seeds") as progress:
        for pair in progress.over(pairs):
            own_FD, other_GD = (directions[seed] for seed in pair)
            is_counted_F = is_counted[pair[0]]
            matched_F = matched_cosines(own_FD, other_GD)[is_counted_F]
            found["matched"][pair] = np.nanmean(matched_F)
            found["same_share"][pair] = (matched_F >= options.same).mean()
            found["best"][pair] = best_cosines(own_FD, other_GD)[is_counted_F].mean()
            random_GD = generator.normal(size=other_GD.shape)
            found["chance_matched"][pair] = np.nanmean(matched_cosines(own_FD, random_GD)[is_counted_F])
    of_seeds = {name: shares_of_pairs(value_SS) for name, value_SS in found.items()}
    return {
        name: {**(as_json(mean_interval(values)) or {}), OF_PAIRS: values}
        for name, values in of_seeds.items()
    }
