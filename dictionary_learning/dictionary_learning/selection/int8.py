"""Upper bounds of pre-activations from a product of whole numbers, on a CPU that multiplies these quickest.

With x / d = s q + r and w d = z p + u, where q and p are whole numbers of eight bits and d a power of two for
each column, by Cauchy and Schwarz

    x w <= s z (q p + |r| / s |w d| / z + |q| |u| / z)

and what is in brackets is one product of whole numbers: the norms, rounded up, are further columns beside q
and p. A latent's z and its bias go into the level that the product is compared with.

Processors without instructions for such sums add pairs of products in sixteen bits. There latents' numbers
have seven bits (`Format`), for which that is enough.

d evens out columns: where a few carry most of the norm, as in residual streams, they would leave the others
without bits. On what is found d has no influence.

For an estimate that may be wrong once in a billion times there is more to be had. Where few numbers are
rounded to 0, what they lose is spread evenly over half a digit to either side, whatever it is multiplied by,
and a sum of such errors exceeds c |w d| / z with a probability of 2 exp(-6 c^2) at most (uniform numbers are
sub-Gaussian with their own variance, 1 / 12). So c = `SURE` stands for |r| / s, which is .29 sqrt(D), and for
|u| / z.

Shapes: D model width, W with the further columns, F latents, A some of them, T rows of a tile, S a sample.
"""

import functools
import time
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dictionary_learning.selection.screens import ULP, Screen, bits_below, kth_of_bits

LARGEST = 127  # of a row's numbers
WIDEST = 1 << 14  # columns: with more a norm's lost part has no room
COARSE = 0.75  # of the floor: a row with a larger error would let too many candidates through
TINY = 1e-30  # the scale of a row of zeros
MORE = 1 + ULP  # for the rounding of norms
SMALL = (64, 256, 64)  # latents, inputs and rows of the product that is tried first
SMALL_TAKES = 5e-3  # seconds; without instructions for it a product takes hundreds of times as long
SAMPLED_LATENTS = 256  # for the spread of their columns
CACHED = 256  # latents at a time
SURE = 1.9  # of the norm: 2 exp(-6 * 1.9^2) is 8e-10
LOOKED_AT = 8  # every so-manieth column, for how many numbers are 0


class Format(NamedTuple):
    """Which whole numbers a processor multiplies exactly."""

    largest: int
    """Of a latent's numbers."""
    dtype: torch.dtype
    """In which the product comes out quickly; the tile is bfloat16."""

    @property
    def zero(self) -> int:
        """What stands for 0: latents are bytes without a sign, as the product wants one of its sides."""
        return self.largest + 1


FORMATS = (Format(127, torch.bfloat16), Format(127, torch.float32), Format(63, torch.float32))
"""The finest and quickest first."""


class Int8Screen(Screen):
    """Quicker than other products, with bounds that let some more through.

    Args:
        format: instead of the finest that this processor multiplies.
        is_certain: False lets errors be larger than the bound once in a billion entries.
    """

    name = "int8"

    def __init__(self, format: Format | None = None, is_certain: bool = True) -> None:
        self.is_certain = is_certain
        self._format = format or whole_numbers() or FORMATS[0]
        self._n_weights = 0
        self._even_D: Tensor | None = None
        self._shifted_FW = torch.empty(0, 0, dtype=torch.uint8)
        self._mask = np.empty(0, bool)

    def set_weights(self, W_enc_FD: Tensor, b_enc_F: Tensor) -> None:
        self._W_FD, self._b_F = W_enc_FD, b_enc_F
        self._bias = float(b_enc_F.abs().max())
        self._is_rounded = False
        self._n_weights += 1

    def multiply(self, x_TD: Tensor) -> None:
        D = x_TD.shape[1]
        if not self._is_rounded:
            self._round_weights(x_TD)
        assert self._even_D is not None
        even_TD = x_TD / self._even_D
        scale_T = _scales(even_TD)
        whole_TW = even_TD.new_empty(len(x_TD), self._shifted_FW.shape[1])
        whole_TD = torch.div(even_TD, scale_T[:, None], out=whole_TW[:, :D]).round_()
        lost_TD = even_TD.addcmul_(whole_TD, scale_T[:, None], value=-1)
        norm_T = torch.linalg.vector_norm(whole_TD, dim=1)
        lost_T = self._loss(torch.linalg.vector_norm(lost_TD, dim=1) / scale_T, whole_TD)
        of_norms, of_lost = _further_columns(D, self._format)
        whole_TW[:, of_norms] = _counted(lost_T, _unit(D, LARGEST))[:, None]
        whole_TW[:, of_lost] = _in_columns(
            _counted(norm_T, 1 / _unit(D, self._format.largest)), of_lost, LARGEST
        )
        self._error_T = (lost_T * self._mean_norm + norm_T * self._mean_lost) * scale_T
        self._is_absolute = False
        # float32 takes off again what the shift has added
        inexact_T = scale_T * (whole_TW.shape[1] * LARGEST * self._format.zero * 2.0**-21)
        self._tile_FT = _product(self._shifted_FW, whole_TW, scale_T, inexact_T, self._format).bfloat16()

    def _round_weights(self, x_TD: Tensor) -> None:
        """Latents as bytes [F, W], with what rounding has lost."""
        F, D = self._W_FD.shape
        most, zero = self._format.largest, self._format.zero
        of_norms, of_lost = _further_columns(D, self._format)
        if self._shifted_FW.shape != (F, of_lost.stop):
            self._shifted_FW = torch.empty(F, of_lost.stop, dtype=torch.uint8)
            self._even_D = None
        if self._even_D is None or self._n_weights.bit_count() == 1:  # less and less often
            self._even_D = _powers_that_even_out(x_TD, self._W_FD)
        scale_F, lost_F, norm_F = torch.empty(3, F)
        for part in (slice(first, first + CACHED) for first in range(0, F, CACHED)):
            even_AD = self._W_FD[part] * self._even_D
            scale_F[part] = scale_A = _scales(even_AD, most)
            torch.linalg.vector_norm(even_AD, dim=1, out=norm_F[part])
            whole_AD = (even_AD / scale_A[:, None]).round_()
            even_AD.addcmul_(whole_AD, scale_A[:, None], value=-1)
            lost_F[part] = self._loss(torch.linalg.vector_norm(even_AD, dim=1) / scale_A, whole_AD)
            self._shifted_FW[part, :D] = whole_AD.add_(zero)
        norm_F /= scale_F
        # what the order of a sum may change, here and in the dot product, counts as lost, too
        lost_F += (D + 16) * 2.0**-24 * norm_F
        in_columns_FC = _in_columns(_counted(norm_F, 1 / _unit(D, LARGEST)), of_norms, most)
        self._shifted_FW[:, of_norms] = in_columns_FC.add_(zero)
        self._shifted_FW[:, of_lost] = _counted(lost_F, _unit(D, most)).add_(zero)[:, None]
        self._scale_F, self._mean_scale = scale_F, float(scale_F.mean())
        self._mean_norm, self._mean_lost = float(norm_F.mean()), float(lost_F.mean())
        self._is_rounded = True

    def _loss(self, lost_A: Tensor, whole_AD: Tensor) -> Tensor:
        """What counts as lost of rows or latents, by the norm of what is."""
        if self.is_certain:
            return lost_A
        is_spread_A = (whole_AD[:, ::LOOKED_AT] == 0).float().mean(1) < 0.5
        return torch.where(is_spread_A, lost_A.clamp_max(SURE), lost_A)

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
            bits = bits_below(floor_T * (1 - 2 * ULP) - self._bias_error).numpy()[None]
        else:
            floor = float(floor_T[0]) if len(floor_T) else 0.0
            above_F = floor - self._b_F - (floor + self._b_F.abs()) * 2.0**-20
            bits = bits_below(above_F / self._scale_F * (1 - ULP)).numpy()[:, None]
        mask_FT = self._mask_FT()
        np.greater_equal(self._tile_FT.view(torch.int16).numpy(), bits, out=mask_FT)
        if bool(coarse_T.any()):
            mask_FT[:, coarse_T.numpy()] = False
        col_N, row_N = np.divmod(np.flatnonzero(mask_FT), max(1, mask_FT.shape[1]))
        return row_N, col_N

    def kth_bound(self, k: int) -> Tensor:
        self._make_absolute()
        return kth_of_bits(self._tile_FT, k, axis=0)

    def _make_absolute(self) -> None:
        """Turn bounds in units of each latent into bounds of pre-activations."""
        if not self._is_absolute:
            self._tile_FT.mul_(self._scale_F.bfloat16()[:, None]).add_(self._b_F.bfloat16()[:, None])
            self._is_absolute = True

    def _mask_FT(self) -> np.ndarray:
        F, T = self._tile_FT.shape
        if len(self._mask) < F * T:
            self._mask = np.empty(F * T, bool)
        return self._mask[: F * T].reshape(F, T)


def _scales(of_TD: Tensor, most: int = LARGEST) -> Tensor:
    return (of_TD.abs().amax(1) / most).clamp_min_(TINY)


def _powers_that_even_out(x_TD: Tensor, W_FD: Tensor) -> Tensor:
    """Powers of two [D], by which nothing is rounded, that make columns of x and W alike in size."""
    some_AD = W_FD[:: max(1, len(W_FD) // SAMPLED_LATENTS)]
    square_x_D, square_W_D = (of.square().mean(0).clamp(TINY, 1 / TINY) for of in (x_TD, some_AD))
    exponent_D = (square_x_D / square_W_D).log2().div_(4).round_()
    return torch.exp2((exponent_D - exponent_D.median()).clamp_(-20, 20))


def _unit(D: int, most: int) -> float:
    """How much a lost norm counts, so that the largest, and what else is added to it, is `most` at most.

    Half of the last digit in each of D columns is sqrt(D) / 2; (D + 16) / 2**24 of the norm is less than half
    of that.
    """
    return (most - 1) / (0.75 * D**0.5)


def _further_columns(D: int, format: Format) -> tuple[slice, slice]:
    """Those of latents' norms by what rows have lost, and those of what latents have lost by rows' norms.

    A norm is the largest number times sqrt(D) at most, counts by the `_unit` of what the other side has lost,
    and is spread over columns of its own largest number: .75 D / (the other side's largest - 1) of them.
    """
    end = D - -D // 160
    return slice(D, end), slice(end, end - -D * LARGEST // (160 * format.largest))


def _counted(norm_A: Tensor, unit: float) -> Tensor:
    return (norm_A * (unit * MORE)).ceil_()


def _in_columns(number_A: Tensor, columns: slice, most: int) -> Tensor:
    """Whole numbers as sums of columns [A, n] that are at most `most`."""
    return (number_A[:, None] - torch.arange(columns.stop - columns.start) * most).clamp_(0, most)


def _product(shifted_FW: Tensor, whole_TW: Tensor, scale_T: Tensor, add_T: Tensor, format: Format) -> Tensor:
    """s (q p) + a number a row [F, T], the sum in whole numbers.

    The rows are given as they lie. To pack them for this product, as is usual for weights, would take a third
    of its time, since a sum is made for the shift one number at a time; here a matrix of floats makes it.

    Args:
        shifted_FW: p + the format's zero, without a sign.

    Raises:
        AttributeError: this PyTorch has no oneDNN.
    """
    if not len(whole_TW):
        return torch.empty(len(shifted_FW), 0, dtype=format.dtype)
    rows_WT = whole_TW.to(torch.int8).T.to_mkldnn()
    add_T = add_T - scale_T * whole_TW.sum(1) * format.zero
    no_shift_T = torch.zeros(len(scale_T), dtype=torch.int64)
    return torch.ops.onednn.qlinear_pointwise(
        shifted_FW, 1.0, 0, rows_WT, scale_T, no_shift_T, add_T, 1.0, 0, format.dtype, "none", [], ""
    )


@functools.lru_cache
def whole_numbers() -> Format | None:
    """The finest format that this machine multiplies exactly and quickly; None without one."""
    return next((format for format in FORMATS if _multiplies(format)), None)


def _multiplies(format: Format) -> bool:
    """Whether this machine does it exactly, also at their largest, and has instructions for it."""
    F, D, T = SMALL
    generator = torch.Generator().manual_seed(0)
    most, zero = format.largest, format.zero
    shifted_FW = torch.randint(1, zero + most + 1, (F, D), generator=generator, dtype=torch.uint8)
    whole_TW = torch.randint(-LARGEST, LARGEST + 1, (T, D), generator=generator).float()
    shifted_FW[0], whole_TW[0] = zero + most, LARGEST
    expected_FT = (shifted_FW.double() - zero) @ whole_TW.double().T
    exact = format._replace(dtype=torch.float32)
    try:
        found_FT = _product(shifted_FW, whole_TW, torch.ones(T), torch.zeros(T), exact)
        for _ in range(2):  # the first one makes room
            began = time.process_time()
            _product(shifted_FW, whole_TW, torch.ones(T), torch.zeros(T), format)
            took = time.process_time() - began
    except (AttributeError, RuntimeError):
        return False
    return took < SMALL_TAKES and torch.equal(found_FT.double(), expected_FT)
