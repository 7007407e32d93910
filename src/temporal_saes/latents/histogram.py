"""Histograms of activations whose range doubles as larger ones come.

A histogram has `N_BINS` bins of equal width, which is a power of two: as the largest activation so far
outgrows it, neighbouring bins are merged, so that the counts stay exact.
"""

import numpy as np

N_BINS = 64
N_STRATA = 16  # parts of the range, of as many bins each
NO_EXPONENT = -1_000_000


def exponent_of(maximum: np.ndarray) -> np.ndarray:
    """The smallest e with maximum <= 2^e."""
    mantissa, exponent = np.frexp(maximum)
    return np.where(mantissa == 0.5, exponent - 1, exponent).astype(np.int64)


def bin_of(value: np.ndarray, exponent: np.ndarray) -> np.ndarray:
    """The bin of (0, 2^exponent] that holds each value, upper edges included."""
    scaled = np.ldexp(value.astype(np.float64) * N_BINS, -exponent)
    return np.ceil(scaled).astype(np.int64) - 1
