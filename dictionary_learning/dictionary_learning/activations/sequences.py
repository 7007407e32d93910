"""Sequences: the usable tokens of several texts, for a dictionary that reads whole texts.

A position that is not usable (padding, a special token, an attention sink) is left out, and the tokens
behind it move up: in training, in evaluation and in every experiment such a dictionary sees the same, the
usable tokens of a text one behind another. An attention sink in front of every text (SmolLM2's first
position has norm 22,766, others about 180) would otherwise be context for all that follows, and the zeros
that `Contexts` puts in its place would be a context that no text has.

Shapes: N texts, L positions of the longest, T tokens of all texts, P positions of all, D any width.
"""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class Sequences:
    """Tokens of N texts, packed one text behind another.

    `len` counts tokens; `.to` and `/` act on the activations, as on a tensor.
    """

    x_TD: Tensor
    length_N: Tensor
    """int64, on the CPU: tokens of each text, at least one."""

    @classmethod
    def of(cls, x_NLD: Tensor, mask_NL: Tensor | None = None) -> Self:
        """The tokens at which `mask_NL` (bool) holds, all of them without one; texts of none are dropped."""
        if mask_NL is None:
            return cls(x_NLD.flatten(0, 1), torch.full((len(x_NLD),), x_NLD.shape[1]))
        mask_NL = mask_NL.cpu()
        length_N = mask_NL.sum(1)
        return cls(x_NLD.flatten(0, 1)[_rows(mask_NL, x_NLD.device)], length_N[length_N > 0])

    def padded(self) -> Tensor:
        """The texts as [N, L, D], each from its first token on, zeros behind."""
        if self.is_full:
            return self.x_TD.unflatten(0, (len(self.length_N), -1))
        real_NL = self._real_NL
        x_PD = self.x_TD.new_zeros(real_NL.numel(), *self.x_TD.shape[1:])
        x_PD[_rows(real_NL, x_PD.device)] = self.x_TD
        return x_PD.unflatten(0, real_NL.shape)

    def tokens(self, y_NLD: Tensor) -> Tensor:
        """What stands at the tokens [T, D] of something that is padded like the texts."""
        if self.is_full:
            return y_NLD.flatten(0, 1)
        return y_NLD.flatten(0, 1)[_rows(self._real_NL, y_NLD.device)]

    @property
    def is_full(self) -> bool:
        """Whether all texts have the same length, so that nothing is padded."""
        return bool((self.length_N == self.length_N[0]).all())

    @property
    def _real_NL(self) -> Tensor:
        return torch.arange(int(self.length_N.max())) < self.length_N.unsqueeze(1)

    def texts(self, part: slice) -> "Sequences":
        """Some of the texts."""
        ends_N = self.length_N.cumsum(0)
        length_N = self.length_N[part]
        first = int(ends_N[part.start] - self.length_N[part.start]) if len(length_N) else 0
        return Sequences(self.x_TD[first : first + int(length_N.sum())], length_N)

    def to(self, device: torch.device, dtype: torch.dtype) -> "Sequences":
        return Sequences(self.x_TD.to(device, dtype), self.length_N)

    def __len__(self) -> int:
        return len(self.x_TD)

    def __truediv__(self, factor: float) -> "Sequences":
        return Sequences(self.x_TD / factor, self.length_N)


def _rows(mask_NL: Tensor, device: torch.device) -> Tensor:
    """Where the mask, on the CPU, holds, among all positions: a card waits for a mask."""
    return mask_NL.flatten().nonzero().squeeze(1).to(device)
