"""What a chunk's latents make of whole texts, one text after another.

    for tokens, f_uF, x_uD in text_codes(texts, lm, subject, dictionary, subject.reading(options)): ...

Where there is no dictionary, the dense activations stand for the codes.

Shapes: u usable positions of one text, D model width, F latents of the chunk.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from dictionary_learning.dictionaries.base import Dictionary, check_width, chunk_slice
from dictionary_learning.errors import UserError
from dictionary_learning.language_model import LanguageModel
from temporal_saes.experiment.subjects import Subject
from temporal_saes.features import Tokens, encode_text, read_activations
from temporal_saes.reading import Reading
from temporal_saes.sparsity import count


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
    reading: Reading,
) -> Iterator[TextCodes]:
    """Codes of the subject's chunk, with the activations they are of.

    Args:
        dictionary: the subject's, None for the dense activations.

    Raises:
        UserError: the dictionary is of another width than the model, or its codes are not finite.
    """
    if dictionary is not None:
        check_width(dictionary, lm)
    for tokens, x_LD in read_activations(texts, lm, subject.place, reading):
        x_uD = x_LD[torch.from_numpy(tokens.usable_L)].float()
        f_uF = x_uD
        if dictionary is not None and len(x_uD):
            every_uF = count(dictionary, encode_text(dictionary, x_LD, tokens.usable_L))
            f_uF = every_uF[:, chunk_slice(dictionary, subject.chunk)]
            if not bool(torch.isfinite(f_uF).all()):
                raise UserError(f"{subject.name} gives latents that are not finite: its weights are damaged.")
        yield TextCodes(tokens, f_uF.float(), x_uD)
