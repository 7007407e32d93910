"""Edits: what is put in place of a layer's output.

    lm.generate(["The capital of France is"], 15, add(direction_D, 8.0), max_new_tokens=20)

Shapes: B texts, L positions, D model width.
"""

import torch
from torch import Tensor

from dictionary_learning.language_model.hooks import Edit


def replace(x: Tensor) -> Edit:
    """Edit: put `x` in place of the layer's output; [D] and [L, D] are repeated to [B, L, D]."""
    return lambda x_BLD: x.to(x_BLD).expand_as(x_BLD)


def add(direction_D: Tensor, strength: float = 1.0) -> Edit:
    """Edit: add `strength * direction_D` at every position; the direction is taken as it is."""
    return lambda x_BLD: x_BLD + strength * direction_D.to(x_BLD)


def zero() -> Edit:
    """Edit: zeros in place of the layer's output."""
    return torch.zeros_like


def only(mask_BL: Tensor, edit: Edit) -> Edit:
    """Edit: `edit` where the mask is True, the layer's own output elsewhere."""
    return lambda x_BLD: torch.where(mask_BL.to(x_BLD.device)[..., None], edit(x_BLD).to(x_BLD), x_BLD)
