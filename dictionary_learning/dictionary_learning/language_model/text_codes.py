"""Texts to codes: what a dictionary sees in texts, read as in its training.

    found = lm.encode(["The Senate met in the morning."], dictionary, layer=15)
    found.codes_BLF[found.usable_BL]    # of every usable token, [n, F]

A position is usable if it is text and no attention sink: special tokens are known by their ids, sinks by a
norm far above the median. A dictionary that reads sequences gets the usable tokens of a text
one behind another.

Shapes: B texts, L positions, u usable positions of one text, T positions of all, D model width, F latents.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from dictionary_learning.errors import UserError
from dictionary_learning.language_model.places import Place
from dictionary_learning.language_model.tokens import pad

MEDIAN_TEXTS = 128  # of which the median norm is taken


class Encoder(Protocol):
    """What is asked of a dictionary."""

    activation_dim: int
    dict_size: int
    reads_sequences: bool

    def encode(self, x: Tensor) -> Tensor: ...

    def parameters(self) -> Iterator[nn.Parameter]: ...


class Reader(Protocol):
    """What is asked of a `LanguageModel`, which knows this module."""

    name: str
    d_model: int
    bos_id: int | None

    @property
    def dtype(self) -> torch.dtype: ...

    def check_place(self, place: int | Place) -> Place: ...

    def text_mask(self, tokens_BL: Tensor, mask_BL: Tensor) -> Tensor: ...

    def tokenize(self, texts: list[str], max_length: int, offsets: bool = False) -> Any: ...

    def record(self, tokens_BL: Tensor, mask_BL: Tensor, layer: Place) -> Tensor: ...


class TextCodes(NamedTuple):
    """Codes of texts, padded on the right; all of it on the CPU and without gradients."""

    texts: list[str]
    tokens_BL: Tensor
    """int64; 0 where padded."""
    mask_BL: Tensor
    """bool; False where padded."""
    usable_BL: Tensor
    """bool: neither padded nor special nor of outlying norm."""
    offsets: list[list[tuple[int, int]]]
    """Characters [start, end) of each token that is not padding; (0, 0) for an added special token."""
    codes_BLF: Tensor
    """float32; 0 where not usable."""


@torch.no_grad()
def encode_texts(
    lm: Reader,
    texts: Sequence[str],
    dictionary: Encoder,
    layer: int | Place,
    *,
    context_length: int,
    max_norm_ratio: float | None,
    add_bos: bool,
    batch_size: int,
) -> TextCodes:
    """See `LanguageModel.encode`."""
    if isinstance(texts, str):
        raise UserError(f"one text is given where several are wanted: put {texts[:40]!r} into a list.")
    check_width(dictionary, lm)
    place = lm.check_place(layer)
    texts = list(texts)
    tokens_BL, mask_BL, offsets = _tokenize(lm, texts, context_length, add_bos)
    usable_BL = lm.text_mask(tokens_BL, mask_BL)
    codes_BLF = torch.zeros(*tokens_BL.shape, dictionary.dict_size)
    limit = None
    for first in range(0, len(texts), MEDIAN_TEXTS):
        some = slice(first, first + MEDIAN_TEXTS)
        is_text_BL = usable_BL[some]
        x_BLD = _record(lm, tokens_BL[some], mask_BL[some], place, batch_size)
        norm_BL = x_BLD.float().norm(dim=-1)
        if not bool(torch.isfinite(norm_BL[is_text_BL]).all()):
            raise UserError(
                f"the activations of {place} of {lm.name} are not finite in texts {first} to "
                f"{first + len(x_BLD) - 1}: load the model in float32 or choose another layer."
            )
        if limit is None:
            limit = norm_limit(norm_BL[is_text_BL].numpy(), max_norm_ratio)
        is_text_BL &= norm_BL <= limit  # a view: of usable_BL
        for row, (x_LD, usable_L) in enumerate(zip(x_BLD, is_text_BL, strict=True), start=first):
            if usable_L.any():
                codes_BLF[row, usable_L] = encode_tokens(dictionary, x_LD[usable_L]).float().cpu()
    return TextCodes(texts, tokens_BL, mask_BL, usable_BL, offsets, codes_BLF)


def encode_tokens(dictionary: Encoder, x_uD: Tensor) -> Tensor:
    """Codes [u, F] of the usable tokens of one text, which is encoded whole and by itself."""
    weight = next(dictionary.parameters())
    x_uD = x_uD.to(weight.device, weight.dtype)
    with torch.autocast(weight.device.type, enabled=False):  # the model may run in it
        return dictionary.encode(x_uD[None])[0] if dictionary.reads_sequences else dictionary.encode(x_uD)


def norm_limit(norm_T: np.ndarray, max_norm_ratio: float | None) -> float:
    """The largest norm of a usable token, by the norms of text tokens; None keeps all."""
    if max_norm_ratio is None or norm_T.size == 0:
        return np.inf
    return max_norm_ratio * float(np.median(norm_T))


def check_width(dictionary: Encoder, lm: Any) -> None:
    """Raise a UserError unless the dictionary is as wide as the activations of the language model.

    Args:
        lm: anything with `name` and `d_model`, such as a `LanguageModel`.
    """
    if dictionary.activation_dim != lm.d_model:
        raise UserError(
            f"the dictionary takes activations of width {dictionary.activation_dim}, and {lm.name} has "
            f"width {lm.d_model}: choose the --model that it was trained on."
        )


def _tokenize(
    lm: Reader, texts: list[str], context_length: int, add_bos: bool
) -> tuple[Tensor, Tensor, list[list[tuple[int, int]]]]:
    encoding = lm.tokenize(texts, context_length, offsets=True)
    assert encoding.offsets is not None
    if add_bos or lm.bos_id is None:
        return encoding.tokens_BL, encoding.mask_BL, encoding.offsets
    rows = [tokens_L[mask_L].tolist() for tokens_L, mask_L in zip(*encoding[:2], strict=True)]
    begins = [int(row[:1] == [lm.bos_id]) for row in rows]
    tokens_BL, mask_BL = pad([row[begin:] for row, begin in zip(rows, begins, strict=True)], side="right")
    return tokens_BL, mask_BL, [row[begin:] for row, begin in zip(encoding.offsets, begins, strict=True)]


def _record(lm: Reader, tokens_BL: Tensor, mask_BL: Tensor, place: Place, batch_size: int) -> Tensor:
    """Activations [B, L, D] on the CPU, texts of like length at a time; 0 where padded."""
    x_BLD = torch.zeros(*tokens_BL.shape, lm.d_model, dtype=lm.dtype)
    lengths_B = mask_BL.sum(1)
    for rows in lengths_B.argsort(stable=True).split(batch_size):
        length = int(lengths_B[rows].max())
        if length:
            some = rows[:, None], torch.arange(length)
            x_BLD[some] = lm.record(tokens_BL[some], mask_BL[some], place).cpu()
    return x_BLD
