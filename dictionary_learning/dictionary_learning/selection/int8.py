"""Upper bounds of pre-activations from a product of whole numbers, on a CPU that multiplies these quickest.

With x / d = s q + r and w d = z p + u, where q and p are whole numbers of eight bits and d a power of two for
each column, by Cauchy and Schwarz

    x w <= z (s q p + |r| |w d| / z + |s q| |u| / z)

A rounded latent's |u| / z hardly differs from another's, and |w d| / z by a third or so: the largest stands
for all. What is in brackets is then a product of whole numbers, scaled and with a number added for each row,
which oneDNN makes in one go; `z` and the bias of a latent go into the level that it is compared with.

d evens out the
columns: where a few carry most of the norm, as in residual streams, they would leave the others without bits.
On what is found d has no influence.

Shapes: D model width, F latents, A some of them, T rows of a tile, S a sample.
"""

import functools
import time

import numpy as np
import torch
from torch import Tensor

from dictionary_learning.selection.screens import COARSE, ULP, Screen, kth_of_rows

LARGEST = 127
ZERO = 128  # latents are stored as bytes without a sign, as the product wants one of its sides
TINY = 1e-30  # the scale of a row of zeros
SMALL = (64, 256, 64)  # latents, inputs and rows of the product that is tried first
SMALL_TAKES = 5e-3  # seconds; without instructions for it a product takes hundreds of times as long
SAMPLED_LATENTS = 256  # for the spread of their columns
CACHED = 256  # latents at a time


class Int8Screen(Screen):
    """Twice as quick as bfloat16, with bounds that let some more through."""

    name = "int8"

    def __init__(self) -> None:
        self._n_weights = 0
        self._even_D: Tensor | None = None
        self._shifted_FD = torch.empty(0, 0, dtype=torch.uint8)
        self._mask = np.empty(0, bool)

    def set_weights(self, W_enc_FD: Tensor, b_enc_F: Tensor) -> None:
        self._W_FD, self._b_F = W_enc_FD, b_enc_F
        self._bias = float(b_enc_F.abs().max())
        self._is_rounded = False
        self._n_weights += 1

    def multiply(self, x_TD: Tensor) -> None:
        if not self._is_rounded:
            self._round_weights(x_TD)
        assert self._even_D is not None
        even_TD = x_TD / self._even_D
        scale_T = _scales(even_TD)
        whole_TD = (even_TD / scale_T[:, None]).round_()
        kept_TD = whole_TD * scale_T[:, None]
        lost_T, kept_T = (torch.linalg.vector_norm(of_TD, dim=1) for of_TD in (even_TD - kept_TD, kept_TD))
        self._error_T = (lost_T * self._largest_norm + kept_T * self._largest_lost) * (1 + ULP)
        self._error_T += scale_T * (
            x_TD.shape[1] * LARGEST * ZERO * 2.0**-21
        )  # of what `_product` takes off again
        self._is_absolute = False
        self._tile_FT = _product(self._shifted_FD, whole_TD, scale_T, self._error_T, torch.bfloat16)

    def _round_weights(self, x_TD: Tensor) -> None:
        """Latents [F, D] as bytes, with what rounding has lost."""
        F, D = self._W_FD.shape
        if self._shifted_FD.shape != (F, D):
            self._shifted_FD = torch.empty(F, D, dtype=torch.uint8)
            self._even_D = None
        if self._even_D is None or self._n_weights.bit_count() == 1:  # less and less often
            self._even_D = _powers_that_even_out(x_TD, self._W_FD)
        scale_F, lost_F, norm_F = torch.empty(3, F)
        for part in (slice(first, first + CACHED) for first in range(0, F, CACHED)):
            even_AD = self._W_FD[part] * self._even_D
            scale_A = _scales(even_AD)
            torch.linalg.vector_norm(even_AD, dim=1, out=norm_F[part])
            whole_AD = (even_AD / scale_A[:, None]).round_()
            even_AD.addcmul_(whole_AD, scale_A[:, None], value=-1)
            torch.linalg.vector_norm(even_AD, dim=1, out=lost_F[part])
            self._shifted_FD[part] = whole_AD.add_(ZERO)
            scale_F[part] = scale_A
        lost_F += D * 2.0**-22 * norm_F  # what the order of a sum may change, here and in the dot product
        self._scale_F = scale_F
        self._mean_scale = float(scale_F.mean())
        self._largest_norm, self._largest_lost = (float((of_F / scale_F).max()) for of_F in (norm_F, lost_F))
        self._is_rounded = True

    def sample(self, stride: int) -> Tensor:
        tile_S = self._tile_FT.view(-1)[::stride].float()
        place_S = torch.arange(len(tile_S)) * stride
        latent_S, row_S = place_S // self._tile_FT.shape[1], place_S % self._tile_FT.shape[1]
        return (tile_S - self._error_T[row_S]) * self._scale_F[latent_S] + self._b_F[latent_S]

    def coarse(self, floor_T: Tensor) -> Tensor:
        error_T = self._error_T * self._mean_scale + self._bias_error
        return ~(error_T < COARSE * floor_T)

    @property
    def _bias_error(self) -> float:
        """Of what is absolute."""
        return self._bias * 4 * ULP if self._is_absolute else 0.0

    def over(self, floor_T: Tensor) -> tuple[np.ndarray, np.ndarray]:
        if not self._is_absolute and len(floor_T) and bool((floor_T != floor_T[0]).any()):
            self._make_absolute()
        coarse_T = self.coarse(floor_T)
        if self._is_absolute:
            bits = _bits_below(floor_T * (1 - 2 * ULP) - self._bias_error)[None]
        else:
            floor = float(floor_T[0]) if len(floor_T) else 0.0
            above_F = floor - self._b_F - (floor + self._b_F.abs()) * 2.0**-20
            bits = _bits_below(above_F / self._scale_F * (1 - ULP))[:, None]
        mask_FT = self._mask_FT()
        np.greater_equal(self._bits(), bits, out=mask_FT)
        if bool(coarse_T.any()):
            mask_FT[:, coarse_T.numpy()] = False
        col_N, row_N = np.divmod(np.flatnonzero(mask_FT), max(1, mask_FT.shape[1]))
        return row_N, col_N

    def kth_bound(self, k: int) -> Tensor:
        self._make_absolute()
        bits_T = torch.from_numpy(kth_of_rows(self._bits(), k, axis=0))
        # bits of a negative number do not order
        return bits_T.view(torch.bfloat16).float().where(bits_T > 0, -1.0)

    def _make_absolute(self) -> None:
        """Turn bounds in units of each latent into bounds of pre-activations."""
        if not self._is_absolute:
            self._tile_FT.mul_(self._scale_F.bfloat16()[:, None]).add_(self._b_F.bfloat16()[:, None])
            self._is_absolute = True

    def _bits(self) -> np.ndarray:
        return self._tile_FT.view(torch.int16).numpy()

    def _mask_FT(self) -> np.ndarray:
        F, T = self._tile_FT.shape
        if len(self._mask) < F * T:
            self._mask = np.empty(F * T, bool)
        return self._mask[: F * T].reshape(F, T)


def _bits_below(level: Tensor) -> np.ndarray:
    """Bits that those of every bfloat16 number from `level` up reach; below 0 those of every number."""
    rounded = level.bfloat16()
    bits = rounded.view(torch.int16) - (rounded > level).short()
    return bits.masked_fill_(level <= 0, torch.iinfo(torch.int16).min).numpy()


def _scales(of_TD: Tensor) -> Tensor:
    return (of_TD.abs().amax(1) / LARGEST).clamp_min_(TINY)


def _powers_that_even_out(x_TD: Tensor, W_FD: Tensor) -> Tensor:
    """Powers of two [D], by which nothing is rounded, that make columns of x and W alike in size."""
    some_AD = W_FD[:: max(1, len(W_FD) // SAMPLED_LATENTS)]
    square_x_D, square_W_D = (of.square().mean(0).clamp(TINY, 1 / TINY) for of in (x_TD, some_AD))
    exponent_D = (square_x_D / square_W_D).log2().div_(4).round_()
    return torch.exp2((exponent_D - exponent_D.median()).clamp_(-20, 20))


def _product(
    shifted_FD: Tensor, whole_TD: Tensor, scale_T: Tensor, add_T: Tensor, dtype: torch.dtype
) -> Tensor:
    """s (q p) + a number a row [F, T], the sum in whole numbers.

    The rows are given as they lie. To pack them for this product, as is usual for weights, would take a third
    of its time, since a sum is made for the shift one number at a time; here a matrix of floats makes it.

    Args:
        shifted_FD: p + `ZERO`, without a sign.

    Raises:
        AttributeError: this PyTorch has no oneDNN.
    """
    if not len(whole_TD):
        return torch.empty(len(shifted_FD), 0, dtype=dtype)
    rows_DT = whole_TD.to(torch.int8).T.to_mkldnn()
    add_T = add_T - scale_T * whole_TD.sum(1) * ZERO
    no_shift_T = torch.zeros(len(scale_T), dtype=torch.int64)
    return torch.ops.onednn.qlinear_pointwise(
        shifted_FD, 1.0, 0, rows_DT, scale_T, no_shift_T, add_T, 1.0, 0, dtype, "none", [], ""
    )


@functools.lru_cache
def multiplies_whole_numbers() -> bool:
    """Whether this machine does it exactly, also at their largest, and has instructions for it.

    Older processors add pairs of products in sixteen bits, which is too few.
    """
    F, D, T = SMALL
    generator = torch.Generator().manual_seed(0)
    shifted_FD = torch.randint(0, 256, (F, D), generator=generator, dtype=torch.uint8)
    whole_TD = torch.randint(-LARGEST, LARGEST + 1, (T, D), generator=generator).float()
    shifted_FD[0], whole_TD[0] = 255, LARGEST
    expected_FT = (shifted_FD.double() - ZERO) @ whole_TD.double().T
    try:
        for _ in range(2):  # the first one makes room
            began = time.process_time()
            found_FT = _product(shifted_FD, whole_TD, torch.ones(T), torch.zeros(T), torch.float32)
            took = time.process_time() - began
    except (AttributeError, RuntimeError):
        return False
    return took < SMALL_TAKES and torch.equal(found_FT.double(), expected_FT)
