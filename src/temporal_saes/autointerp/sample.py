"""Which latents of a dictionary to interpret, where they are active, and what is told without a model.

    sample = draw_sample(subject, dictionary, texts, lm, options, explained={})
    records = offline_records(sample, seed=0)

Half of the texts are explained from, the other half is scored on.

Shapes: F latents of the dictionary, K latents of the sample, C contexts, T positions.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from dictionary_learning.dictionaries.base import Dictionary, check_width, chunk_slice
from dictionary_learning.errors import UserError
from dictionary_learning.language_model import LanguageModel
from temporal_saes.autointerp.interpreter import KINDS
from temporal_saes.autointerp.negatives import Neighbours
from temporal_saes.autointerp.options import AutointerpOptions
from temporal_saes.autointerp.scores import active_thresholds, keep_active, score_latents
from temporal_saes.experiment.subjects import Subject
from temporal_saes.latents.codes import CodesOfContexts, codes_of_texts, join
from temporal_saes.naming.windows import Halves, split_contexts


@dataclass(frozen=True)
class Sample:
    """The latents that are interpreted, and their codes over the texts."""

    latent_K: np.ndarray
    """Numbers in the dictionary, ascending."""
    split_K: list[str]
    threshold_K: np.ndarray
    """Above it a latent is active."""
    n_active_K: np.ndarray
    """Usable tokens at which it is active."""
    codes: CodesOfContexts
    """Columns are the sample's latents; 0 where a latent is not active."""
    beside: CodesOfContexts | None
    """Where neighbours of each latent are active; None where negatives are drawn from all windows."""
    halves: Halves
    n_alive: dict[str, int]
    """Living latents of each split; empty where latents were given."""
    dict_size: int


def split_slices(dictionary: Dictionary, chunk: int) -> dict[str, slice]:
    """The splits that a chunk asks for, by name; `all` for a dictionary without splits.

    Raises:
        UserError: the dictionary has no such chunk.
    """
    inside = chunk_slice(dictionary, chunk)
    found = {
        name: part
        for name, part in dictionary.splits().items()
        if inside.start <= part.start and part.stop <= inside.stop
    }
    return found or {"all": inside}


def check_explained(
    subject: Subject, dictionary: Dictionary, options: AutointerpOptions, explained: Mapping[int, str]
) -> None:
    """Raise a UserError unless given explanations are of the latents that are asked for."""
    if options.explanation_path is None:
        return
    for latent in options.latents or ():
        if latent not in explained:
            raise UserError(
                f"{options.explanation_path} does not explain latent {latent} of --latents: leave it out, or "
                f"give the explanations of this dictionary."
            )
    columns = chunk_slice(dictionary, subject.chunk)
    if not any(columns.start <= latent < columns.stop for latent in explained):
        raise UserError(
            f"{options.explanation_path} explains no latent of chunk {subject.chunk}, which is "
            f"{columns.start} to {columns.stop - 1}: give another --chunk, or the explanations of this "
            f"dictionary."
        )


def draw_sample(
    subject: Subject,
    dictionary: Dictionary,
    texts: Sequence[str],
    lm: LanguageModel,
    options: AutointerpOptions,
    explained: Mapping[int, str],
) -> Sample:
    """The latents of the options with their codes.

    One pass over the texts counts, unless latents are given; another keeps the codes of those drawn. The
    language model runs once where its activations are kept on disk.

    Raises:
        UserError: the dictionary does not fit the language model, a latent that was given is dead, no latent
            lives, or the texts are too few.
    """
    check_width(dictionary, lm)
    columns = chunk_slice(dictionary, subject.chunk)

    def chunks() -> Iterator[CodesOfContexts]:
        return codes_of_texts(texts, lm, subject.place, subject.reading(options), dictionary, columns)

    splits = split_slices(dictionary, subject.chunk)
    n_alive: dict[str, int] = {}
    if options.latents is not None:
        latents = sorted(options.latents)
    else:
        count_F = np.zeros(columns.stop - columns.start, dtype=np.int64)
        for codes in chunks():
            count_F += np.bincount(codes.codes_TF.indices, minlength=len(count_F))
        alive = set((columns.start + np.flatnonzero(count_F >= options.min_active)).tolist())
        n_alive = {
            name: len(alive.intersection(range(*part.indices(part.stop)))) for name, part in splits.items()
        }
        if options.explanation_path is not None:
            alive &= explained.keys()
        latents = sorted(draw(splits, alive, options.n_latents, options.seed))
        if not latents:
            raise UserError(
                f"no latent of chunk {subject.chunk} is active at {options.min_active} of the tokens that "
                f"were read: read more (--max_texts), or lower --min_active."
            )
    local_K = np.array(latents) - columns.start
    neighbours = Neighbours(dictionary, local_K, columns) if options.negatives == "neighbours" else None
    own, near = [], []
    for chunk in chunks():
        own.append(chunk._replace(codes_TF=sparse.csr_array(chunk.codes_TF[:, local_K].astype(np.float32))))
        if neighbours is not None:
            near.append(neighbours.of(chunk))
    codes = join(own)
    if len(codes.start_C) < 3:
        raise UserError("one text cannot be explained from and scored on: give more (--max_texts).")
    for latent, count in zip(
        latents, np.bincount(codes.codes_TF.indices, minlength=len(latents)), strict=True
    ):
        if count == 0:
            raise UserError(
                f"--latents {latent} is dead: it is active at none of the {int(codes.usable_T.sum()):,} "
                f"tokens that were read; leave it out, or read more (--max_texts)."
            )
    halves = split_contexts(codes, options.seed)
    threshold_K = active_thresholds(codes, halves.learn_C)
    codes = keep_active(codes, threshold_K)
    return Sample(
        latent_K=np.array(latents),
        split_K=[next(name for name, part in splits.items() if part.start <= i < part.stop) for i in latents],
        threshold_K=threshold_K,
        n_active_K=np.bincount(codes.codes_TF.indices, minlength=len(latents)),
        codes=codes,
        beside=None if neighbours is None else neighbours.beside(join(near), halves.learn_C),
        halves=halves,
        n_alive=n_alive,
        dict_size=dictionary.dict_size,
    )


def draw(splits: Mapping[str, slice], alive: set[int], n: int, seed: int) -> list[int]:
    """Of each split the first n living latents of a random order of all its latents."""
    drawn: list[int] = []
    for number, part in enumerate(splits.values()):
        order = part.start + np.random.default_rng([seed, number]).permutation(part.stop - part.start)
        drawn += [latent for latent in order.tolist() if latent in alive][:n]
    return drawn


def offline_records(sample: Sample, seed: int) -> list[dict[str, Any]]:
    """What is known of each latent without asking a model, as it goes into the JSON."""
    scores = score_latents(sample.codes, sample.halves, seed, sample.beside)
    n_tokens = int(sample.codes.usable_T.sum())
    return [
        {
            "latent": int(latent),
            "split": sample.split_K[k],
            "n_active": int(sample.n_active_K[k]),
            "density": int(sample.n_active_K[k]) / n_tokens,
            "threshold": float(sample.threshold_K[k]),
            "offline": scores[k]._asdict(),
            "explanation": None,
            "explanation_failure": None,
            **dict.fromkeys(KINDS),
        }
        for k, latent in enumerate(sample.latent_K)
    ]
