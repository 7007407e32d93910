"""Given sentences as a dictionary sees them: the latents of every token, and how alike the tokens are.

    sentences = [encode_sentence(text, x, dictionary, columns) for text, x in zip(texts, activations)]

Shapes: L positions of one text, u usable ones, F latents of the chunk.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from dictionary_learning.dictionaries.base import Dictionary
from dictionary_learning.errors import UserError
from dictionary_learning.texts.encoding import read_text
from temporal_saes.features import TextActivations, encode_text
from temporal_saes.similarity.kernel import similarity_kernel

MAX_LATENTS = 40  # of one token in one split; a predicted code has hundreds


class Sentence(NamedTuple):
    """One text."""

    text: str
    tokens_L: np.ndarray
    usable_L: np.ndarray
    codes: list[
        list[tuple[int, float]]
    ]  # of each position: (latent of the chunk, activation), strongest first
    kernel_uu: np.ndarray  # cosines between the usable positions, from -1 to 1
    compared: str  # which codes the cosines are of


def read_sentences(path: str | Path) -> list[str]:
    """The texts of a file: one a line, blank lines left out.

    Raises:
        UserError: the file is not there, is not UTF-8, or has no text.
    """
    content = read_text(path, f"--texts {path}")
    texts = [line.strip() for line in content.splitlines() if line.strip()]
    if not texts:
        raise UserError(f"--texts {path} has no text in it: write one text a line.")
    return texts


@torch.no_grad()
def encode_sentence(
    text: str, activations: TextActivations, dictionary: Dictionary, columns: slice
) -> Sentence:
    """The codes of one text, and the similarity matrix of its tokens.

    Similarity is the cosine of centred codes of the first split, which is the predicted codes of a
    TemporalSAE and the high-level ones of a T-SAE; of all latents where there are no splits.
    """
    usable_L = activations.tokens.usable_L
    f_uF = encode_text(dictionary, activations.x_LD, usable_L).float().cpu()
    splits = dictionary.splits() or {"all": slice(0, dictionary.dict_size)}
    compared, part = next(iter(splits.items()))
    inside = {
        name: slice(max(split.start, columns.start), min(split.stop, columns.stop))
        for name, split in splits.items()
    }
    codes = [
        [(latent - columns.start, value) for latent, value in one]
        for one in strongest_latents(f_uF, usable_L, inside)
    ]
    kernel_uu = similarity_kernel(f_uF[:, part].numpy()) if len(f_uF) else np.zeros((0, 0))
    return Sentence(text, activations.tokens.ids_L, usable_L, codes, kernel_uu, compared)


def strongest_latents(
    f_uF: torch.Tensor, usable_L: np.ndarray, splits: Mapping[str, slice]
) -> list[list[tuple[int, float]]]:
    """Of each position the latents that are active, strongest first: at most `MAX_LATENTS` of a split.

    Args:
        f_uF: codes of the usable positions.
    """
    codes: list[list[tuple[int, float]]] = [[] for _ in usable_L]
    for split in splits.values():
        if split.start >= split.stop:
            continue
        best = f_uF[:, split].topk(min(MAX_LATENTS, split.stop - split.start), dim=1)
        for position, numbers, values in zip(
            np.flatnonzero(usable_L).tolist(), best.indices.tolist(), best.values.tolist(), strict=True
        ):
            pairs = zip(numbers, values, strict=True)
            codes[position] += [(split.start + number, value) for number, value in pairs if value > 0]
    return [sorted(one, key=lambda pair: -pair[1]) for one in codes]
