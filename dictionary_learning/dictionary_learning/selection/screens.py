"""Products that say where pre-activations are large, for a search on a CPU (`search`).

A pre-activation itself is one float32 dot product, x w + b, computed for the few entries that matter. A
screen is a quicker product of the same rows with a bound on its own error, so that what it excludes is
excluded for certain, and what is found does not depend on the screen:

    BFloat16Screen   [x~, 1, 1, |x - x~|, |x~|] times [w~, b~, b - b~, |w|, |w - w~|], with ~ for rounding to
                     bfloat16: by Cauchy and Schwarz an upper bound of x w + b, in one product
    Float32Screen    x w + b as the machine's float32 product rounds it

and the one of whole numbers (`int8`). Which of them is the quickest depends on the processor (`quickest`).

Shapes: D model width, F latents, T rows of a tile, W columns of the widened product.
"""

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from dictionary_learning.dictionaries import products

ULP = 2.0**-8  # half the distance between bfloat16 numbers, relative to them
# A row whose error is a larger share of the floor than this would let too many candidates through.
COARSE = 0.25
GROUP = 16  # latents whose maximum stands for them in the search for a row's k largest


class Screen(ABC):
    """The tile of a product, and what in it may exceed a floor."""

    name: ClassVar[str]

    @abstractmethod
    def set_weights(self, W_enc_FD: Tensor, b_enc_F: Tensor) -> None:
        """Take the weights of this step."""

    @abstractmethod
    def multiply(self, x_TD: Tensor) -> None:
        """Make the tile of these rows, in memory that is kept."""

    @abstractmethod
    def sample(self, stride: int) -> Tensor:
        """Every `stride`-th entry of the tile, as float32."""

    @abstractmethod
    def coarse(self, floor_T: Tensor) -> Tensor:
        """Mask [T] of the rows in which this screen cannot tell what exceeds the floor."""

    @abstractmethod
    def over(self, floor_T: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Rows and latents [N] of all entries that may exceed their row's floor, but coarse rows'."""

    @abstractmethod
    def kth_bound(self, k: int) -> Tensor:
        """A number [T] that at least `k` entries of each row's tile reach, or one below 0."""


class BFloat16Screen(Screen):
    """Upper bounds from a product of rounded numbers.

    Args:
        is_certain: False leaves the bounds out: an estimate that is off by a few thousandths.
    """

    name = "bfloat16"

    def __init__(self, is_certain: bool = True) -> None:
        self.is_certain = is_certain
        self._W_FW = self._x_TW = self._tile_TF = torch.empty(0, 0, dtype=torch.bfloat16)
        self._mask_TF = np.empty((0, 0), bool)

    def set_weights(self, W_enc_FD: Tensor, b_enc_F: Tensor) -> None:
        F, self._D = W_enc_FD.shape
        shape = (F, -(-(self._D + 4) // 4) * 4)
        if self._W_FW.shape != shape:
            self._W_FW = torch.zeros(shape, dtype=torch.bfloat16)
        W_FW, D = self._W_FW, self._D
        norm_F, lost_F = torch.empty(F), torch.empty(F)
        for part in (slice(first, first + 256) for first in range(0, F, 256)):  # what fits the cache
            w_AD, rounded_AD = W_enc_FD[part], W_FW[part, :D]
            rounded_AD.copy_(w_AD)
            if self.is_certain:
                torch.linalg.vector_norm(w_AD, dim=1, out=norm_F[part])
                torch.linalg.vector_norm(w_AD - rounded_AD, dim=1, out=lost_F[part])
        W_FW[:, D] = b_enc_F
        W_FW[:, D + 1] = b_enc_F - W_FW[:, D]
        summing = shape[1] * 2.0**-23  # what the order of a sum may change, here and in the dot product
        self._bias_error = float(b_enc_F.abs().max()) * (2.0**-15 + summing)
        if self.is_certain:
            lost_F += summing * norm_F
            W_FW[:, D + 2] = norm_F * (1 + 2 * ULP)
            W_FW[:, D + 3] = lost_F * (1 + 2 * ULP)
            self._mean_norm, self._mean_lost = float(norm_F.mean()), float(lost_F.mean())

    def multiply(self, x_TD: Tensor) -> None:
        T, D = len(x_TD), self._D
        if len(self._x_TW) < T or self._x_TW.shape[1] != self._W_FW.shape[1]:
            self._x_TW = torch.zeros(T, self._W_FW.shape[1], dtype=torch.bfloat16)
        if len(self._tile_TF) < T or self._tile_TF.shape[1] != len(self._W_FW):
            self._tile_TF = torch.empty(T, len(self._W_FW), dtype=torch.bfloat16)
            self._mask_TF = np.empty(self._tile_TF.shape, bool)
        x_TW = self._x_TW[:T]
        x_TW[:, :D] = x_TD
        x_TW[:, D : D + 2] = 1
        if self.is_certain:
            self._lost_T = torch.linalg.vector_norm(x_TD - x_TW[:, :D], dim=1)
            self._norm_T = torch.linalg.vector_norm(x_TD, dim=1) * (1 + 2 * ULP)
            x_TW[:, D + 2] = self._lost_T * (1 + 2 * ULP)
            x_TW[:, D + 3] = self._norm_T * (1 + ULP)
        self._tile = torch.mm(x_TW, self._W_FW.T, out=self._tile_TF[:T])

    def sample(self, stride: int) -> Tensor:
        return self._tile.view(-1)[::stride].float()

    def coarse(self, floor_T: Tensor) -> Tensor:
        error_T = torch.full_like(floor_T, self._bias_error)
        if self.is_certain:
            error_T += self._lost_T * self._mean_norm + self._norm_T * self._mean_lost
        return (error_T >= COARSE * floor_T) | (floor_T <= 0)

    def over(self, floor_T: Tensor) -> tuple[np.ndarray, np.ndarray]:
        bits_T = bits_below(floor_T * (1 - ULP) - self._bias_error)
        # no number has the largest bits
        bits_T.masked_fill_(self.coarse(floor_T), torch.iinfo(torch.int16).max)
        mask_TF = self._mask_TF[: len(self._tile)]
        np.greater_equal(self._tile.view(torch.int16).numpy(), bits_T.numpy()[:, None], out=mask_TF)
        return np.divmod(np.flatnonzero(mask_TF), mask_TF.shape[1])

    def kth_bound(self, k: int) -> Tensor:
        return kth_of_bits(self._tile, k)


class Float32Screen(Screen):
    """The product in float32, by PyTorch's default library or by oneDNN."""

    def __init__(self, by_onednn: bool = False) -> None:
        self.by_onednn = by_onednn
        self.name = "float32 by oneDNN" if by_onednn else "float32"  # type: ignore[misc]
        self._tile_TF = torch.empty(0, 0)

    def set_weights(self, W_enc_FD: Tensor, b_enc_F: Tensor) -> None:
        self._W_FD, self._b_F = W_enc_FD, b_enc_F
        self._largest = float(torch.linalg.vector_norm(W_enc_FD, dim=1).max())
        self._bias = float(b_enc_F.abs().max())

    def multiply(self, x_TD: Tensor) -> None:
        T, D = x_TD.shape
        if self.by_onednn:
            self._tile = products.onednn_linear(x_TD, self._W_FD, self._b_F)
        else:
            if len(self._tile_TF) < T or self._tile_TF.shape[1] != len(self._W_FD):
                self._tile_TF = torch.empty(T, len(self._W_FD))
            self._tile = torch.addmm(self._b_F, x_TD, self._W_FD.T, out=self._tile_TF[:T])
        norm_T = torch.linalg.vector_norm(x_TD, dim=1)
        self._error_T = (norm_T * self._largest + self._bias) * (D * 2.0**-23)

    def sample(self, stride: int) -> Tensor:
        return self._tile.view(-1)[::stride]

    def coarse(self, floor_T: Tensor) -> Tensor:
        return torch.zeros_like(floor_T, dtype=torch.bool)

    def over(self, floor_T: Tensor) -> tuple[np.ndarray, np.ndarray]:
        level_T = floor_T - self._error_T
        index_N = np.flatnonzero(self._tile.numpy() > level_T.numpy()[:, None])
        return np.divmod(index_N, self._tile.shape[1])

    def kth_bound(self, k: int) -> Tensor:
        return torch.from_numpy(kth_of_rows(self._tile.numpy(), k))


def bits_below(level: Tensor) -> Tensor:
    """Bits that those of every bfloat16 number from `level` up reach; below 0 those of every number.

    A positive bfloat16 orders like its bits, and a negative one is less.
    """
    rounded = level.bfloat16()
    bits = rounded.view(torch.int16) - (rounded > level).short()
    return bits.masked_fill_(level <= 0, torch.iinfo(torch.int16).min)


def kth_of_bits(tile: Tensor, k: int, axis: int = 1) -> Tensor:
    """`kth_of_rows` of a tile in bfloat16, by its bits; -1 where it is not above 0: those do not order."""
    bits_T = torch.from_numpy(kth_of_rows(tile.view(torch.int16).numpy(), k, axis))
    return bits_T.view(torch.bfloat16).float().where(bits_T > 0, -1.0)


def kth_of_rows(tile: np.ndarray, k: int, axis: int = 1) -> np.ndarray:
    """A number [T] that at least `k` entries of each row reach: the k-th largest of its groups' maxima.

    Args:
        axis: of the latents, 1 for a tile [T, F] and 0 for [F, T].
    """
    F = tile.shape[axis]
    if F % GROUP == 0 and 4 * k <= F // GROUP:
        groups = (*tile.shape[:axis], GROUP, F // GROUP, *tile.shape[axis + 1 :])
        tile = tile.reshape(groups).max(axis=axis)
    tile_TG = np.ascontiguousarray(tile if axis else tile.T)
    place = tile_TG.shape[1] - k
    return np.partition(tile_TG, place, axis=1)[:, place]
