"""The paths of texts through the space of activations, as far as a chunk's latents go.

    for one in read_trajectories(subject, options, texts, lm):
        one.v_uD  # what the chunk's codes add to the reconstruction; the activations where there is none

Shapes: u usable positions of one text, D model width, F latents of the chunk.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dictionary_learning.command.progress import LoopProgress
from dictionary_learning.dictionaries.base import Dictionary, chunk_slice
from dictionary_learning.errors import UserError
from dictionary_learning.language_model import LanguageModel
from dictionary_learning.language_model.tokens import token_ids
from temporal_saes.experiment.subjects import Subject
from temporal_saes.experiment.text_codes import text_codes
from temporal_saes.geometry.measures import bands, cosine
from temporal_saes.geometry.options import GeometryOptions
from temporal_saes.geometry.parts import Parts
from temporal_saes.labelled.data import LabelledText


def long_texts(
    candidates: Sequence[LabelledText], lm: LanguageModel, context_length: int, n: int
) -> list[str]:
    """The first n texts that have so many tokens, special ones included.

    Raises:
        UserError: there are fewer.
    """
    found: list[str] = []
    for first in range(0, len(candidates), 256):
        some = [text.text for text in candidates[first : first + 256]]
        lengths = [len(ids) for ids in token_ids(lm.tokenizer, some)]
        found += [text for text, length in zip(some, lengths, strict=True) if length >= context_length]
        if len(found) >= n:
            return found[:n]
    raise UserError(
        f"{len(found)} of the {len(candidates):,} texts have {context_length} tokens, and {n} were asked "
        f"for: give a smaller --n_texts or --context_length, or other data."
    )


class Trajectory(NamedTuple):
    """One text's way through the space of activations."""

    positions_u: np.ndarray  # of the usable tokens, in the text
    v_uD: np.ndarray  # float32
    parts: Parts
    cosine_with_slow: float | None
    cosine_with_fast: float | None


def read_trajectories(
    subject: Subject, options: GeometryOptions, texts: Sequence[str], lm: LanguageModel
) -> list[Trajectory]:
    """The way of each text.

    Raises:
        UserError: the dictionary does not fit the model, or a text has too few usable tokens.
    """
    dictionary = subject.load_dictionary(lm.device)
    read = []
    every_chunk = replace(subject, chunk=2)
    codes = text_codes(texts, lm, every_chunk, dictionary, subject.reading(options))
    with LoopProgress(len(texts), subject.name, "texts") as progress:
        for tokens, f_uF, x_uD in progress.over(codes):
            parts = _parts(dictionary, subject.chunk, f_uF, x_uD)
            v_uD = parts.v_uD
            if len(v_uD) <= max(options.steps, options.max_lag):
                raise UserError(
                    f"a text has {len(v_uD)} usable tokens, too few for --steps {options.steps} and "
                    f"--max_lag {options.max_lag}: give smaller ones or a longer --context_length."
                )
            slow, fast = bands(x_uD.numpy(), options.slow)
            positions_u = np.flatnonzero(tokens.usable_L)
            read.append(Trajectory(positions_u, v_uD, parts, cosine(v_uD, slow), cosine(v_uD, fast)))
    return read


@torch.no_grad()
def _parts(dictionary: Dictionary | None, chunk: int, f_uF: Tensor, x_uD: Tensor) -> Parts:
    """What the chunk and the rest add, of the codes [u, F] of the whole dictionary."""
    if dictionary is None:
        return Parts(f_uF.cpu().numpy(), None, np.zeros(x_uD.shape[1], np.float32), x_uD.numpy(), True)
    own = chunk_slice(dictionary, chunk)
    v_uD = contribution(dictionary, chunk, f_uF[:, own]).numpy()
    rest_uD = None
    if own.stop - own.start < dictionary.dict_size:
        rest_uD = contribution(dictionary, 2, f_uF).numpy() - v_uD
    weight = next(dictionary.parameters())
    bias_D = dictionary.decode(weight.new_zeros(1, dictionary.dict_size))[0].float().cpu().numpy()
    return Parts(v_uD, rest_uD, bias_D, x_uD.numpy(), own.start == 0)


@torch.no_grad()
def contribution(dictionary: Dictionary | None, chunk: int, f_uF: Tensor) -> Tensor:
    """What the chunk's codes add to the reconstruction, [u, D] on the CPU: without the bias.

    Without a dictionary it is the codes, which are the activations.
    """
    if dictionary is None:
        return f_uF.cpu()
    directions_FD = dictionary.decoder_directions()[chunk_slice(dictionary, chunk)]
    return (f_uF @ directions_FD.to(f_uF)).cpu()
