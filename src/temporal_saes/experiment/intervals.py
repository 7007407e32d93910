"""Means over texts with their 95 % interval."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

INTERVAL = "t-interval, 95 %, over independent texts"


class Interval(NamedTuple):
    """A mean with its 95 % interval; the ends are None for a single value."""

    mean: float
    low: float | None
    high: float | None


def mean_interval(values: Sequence[float]) -> Interval | None:
    """Mean of independent values with mean ± t(.975, n - 1) s / sqrt(n); None without a value."""
    if not len(values):
        return None
    if len(values) < 2:
        return Interval(float(values[0]), None, None)
    error = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return around(float(np.mean(values)), error, len(values))


def around(mean: float, error: float, n: int) -> Interval:
    """The interval of a mean with this standard error, from n independent values."""
    from scipy.stats import t

    half = float(t.ppf(0.975, n - 1)) * error
    return Interval(mean, mean - half, mean + half)


def as_json(interval: Interval | None) -> dict[str, float | None] | None:
    """The fields of an interval; None for none."""
    return None if interval is None else interval._asdict()
