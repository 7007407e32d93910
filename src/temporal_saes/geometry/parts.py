"""What a chunk's latents make of whole texts, one text after another: codes, and the part they reconstruct.

    for text in text_codes(texts, lm, subject, dictionary, options):
        v_uD = contribution(dictionary, subject.chunk, text.f_uF)

Codes are compared where latents matter (the similarity of positions), reconstructions where the space of
activations does (its dimensions, paths through it). The dense activations stand for both themselves.

Shapes: u usable positions of one text, D model width, F latents of the chunk.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from dictionary_learning.dictionaries.base import Dictionary, check_width, chunk_slice
from dictionary_learning.errors import UserError
from dictionary_learning.language_model import LanguageModel
from temporal_saes.experiment.options import ExperimentOptions, Subject
from temporal_saes.features import Tokens, encode_text


class TextCodes(NamedTuple):
    """One text, float32, a row a usable position."""

    tokens: Tokens
    f_uF: Tensor  # on the dictionary's device; the activations where there is no dictionary
    x_uD: Tensor  # on the CPU


def text_codes(
    texts: Sequence[str],
    lm: LanguageModel,
    subject: Subject,
    dictionary: Dictionary | None,
    options: ExperimentOptions,
) -> Iterator[TextCodes]:
    """Codes of the subject's chunk, with the activations they are of.

    Args:
        dictionary: the subject's, None for the dense activations.

    Raises:
        UserError: the dictionary is of another width than the model, or its codes are not finite.
    """
    if dictionary is not None:
        check_width(dictionary, lm)
    activations = subject.read_activations(texts, lm, options)
    for tokens, x_LD in activations:
        x_uD = x_LD[torch.from_numpy(tokens.usable_L)].float()
        f_uF = x_uD
        if dictionary is not None and len(x_uD):
            f_uF = encode_text(dictionary, x_LD, tokens.usable_L)[:, chunk_slice(dictionary, subject.chunk)]
            if not bool(torch.isfinite(f_uF).all()):
                raise UserError(f"{subject.name} gives latents that are not finite: its weights are damaged.")
        yield TextCodes(tokens, f_uF.float(), x_uD)


@torch.no_grad()
def contribution(dictionary: Dictionary | None, chunk: int, f_uF: Tensor) -> Tensor:
    """What the chunk's codes add to the reconstruction, [u, D] on the CPU: without the bias.

    Without a dictionary it is the codes, which are the activations.
    """
    if dictionary is None:
        return f_uF.cpu()
    directions_FD = dictionary.decoder_directions()[chunk_slice(dictionary, chunk)]
    return (f_uF @ directions_FD.to(f_uF)).cpu()
