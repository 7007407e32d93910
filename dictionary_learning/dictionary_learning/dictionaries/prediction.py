"""The predicted part of a TemporalSAE: what attention over the earlier tokens says about each token.

Shapes: B texts, L positions, D model width, W atoms, H attention heads.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from dictionary_learning.dictionaries.attention import ContextAttention, Memory
from dictionary_learning.dictionaries.products import product

EPS = 1e-6


class Prediction(NamedTuple):
    """What the context says about activations, in the units of the weights."""

    recons_BLD: Tensor  # codes D, without b
    residual_BLD: Tensor  # what is left of the centred activations
    parts: list[tuple[Tensor, Tensor]]  # z_p [B, L, W] and s [B, L, 1] of each layer; empty unless asked for
    graphs: list[Tensor]  # attention map [B, H, L, L] of each layer; empty unless asked for
    memories: list[Memory] = []  # noqa: RUF012  of each layer, for positions that follow; empty unless asked for

    def codes(self) -> Tensor:
        """Predicted codes [B, L, W], of a prediction that kept its parts."""
        z_BLW, strength_BL1 = self.parts[0]
        codes_BLW = z_BLW * strength_BL1.to(z_BLW.dtype)
        for z_BLW, strength_BL1 in self.parts[1:]:
            codes_BLW = codes_BLW + z_BLW * strength_BL1.to(z_BLW.dtype)
        return codes_BLW


def predict(
    centred_BLD: Tensor,
    layers: Sequence[ContextAttention],
    activations: Callable[[Tensor], Tensor],
    atoms_WD: Tensor,
    *,
    codes: bool,
    graphs: bool,
    before: Sequence[Memory | None] | None = None,
    first_BLW: Tensor | None = None,
) -> Prediction:
    """Let each layer in turn predict what those before it left.

    Args:
        activations: of what is left [..., D], relu(lam x E) [..., W].
        codes: keep what `Prediction.codes` needs.
        graphs: make the attention maps, too.
        before: of each layer what the positions before these left; None: these are the first, and nothing is
            kept for others.
        first_BLW: the activations that the first layer reads, where they are known.
    """
    residual_BLD = centred_BLD
    recons_BLD = None
    parts, maps, memories = [], [], []
    for number, layer in enumerate(layers):
        z_BLW = activations(residual_BLD) if first_BLW is None or number else first_BLW
        if graphs:
            maps.append(layer.graph(z_BLW))
        if before is None:
            z_BLW = F.relu(layer(z_BLW))
        else:
            attended_BLW, memory = layer.go_on(z_BLW, before[number])
            memories.append(memory)
            z_BLW = F.relu(attended_BLW)
        direction_BLD = product(z_BLW, atoms_WD)
        strength_BL1 = projection(direction_BLD, residual_BLD)
        if codes:
            parts.append((z_BLW, strength_BL1))
        part_BLD = (direction_BLD * strength_BL1).to(residual_BLD.dtype)
        recons_BLD = part_BLD if recons_BLD is None else recons_BLD + part_BLD
        residual_BLD = residual_BLD - part_BLD
    assert recons_BLD is not None
    return Prediction(recons_BLD, residual_BLD, parts, maps, memories)


def projection(direction_BLD: Tensor, x_BLD: Tensor) -> Tensor:
    """<direction, x> / (|direction| + eps)^2, [B, L, 1], in float32."""
    direction_BLD, x_BLD = direction_BLD.float(), x_BLD.float()
    dot_BL1 = (direction_BLD * x_BLD).sum(-1, keepdim=True)
    norm_BL1 = torch.linalg.vector_norm(direction_BLD, dim=-1, keepdim=True)
    return dot_BL1 / (norm_BL1 + EPS).square()
