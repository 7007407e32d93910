"""Means over texts with their 95 % interval."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np

NONE_OF_EQUAL = "none where all values are equal, which says nothing of how far others may lie"
INTERVAL = f"t-interval, 95 %, over independent texts; {NONE_OF_EQUAL}"
_ROUNDING = 1e-12  # of a mean in double precision
OF_PAIRS = "jackknife"
"""The field of a result for the `shares_of_pairs` of a mean over pairs."""


class Interval(NamedTuple):
    """A mean with its 95 % interval; the ends are None for a single value, and for equal ones."""

    mean: float
    low: float | None
    high: float | None


def mean_interval(values: Sequence[float]) -> Interval | None:
    """Mean of independent values with mean ± t(.975, n - 1) s / sqrt(n); None without a value.

    No ends where all values are equal: ± 0 would be certainty, and two splits that agree are none.
    """
    import numpy as np

    if not len(values):
        return None
    if len(values) < 2:
        return Interval(float(values[0]), None, None)
    error = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return around(float(np.mean(values)), error, len(values))


def around(mean: float, error: float, n: int) -> Interval:
    """The interval of a mean with this standard error, from n independent values; without ends if it is 0."""
    from scipy.stats import t

    if error <= _ROUNDING * abs(mean):
        return Interval(mean, None, None)

    half = float(t.ppf(0.975, n - 1)) * error
    return Interval(mean, mean - half, mean + half)


def shares_of_pairs(value_SS: "np.ndarray") -> list[float]:
    """What each of S things has of the mean over their pairs: values whose `mean_interval` is that mean's.

    A thing is in S - 1 pairs, so neither pairs nor the means of things over their partners are independent:
    an interval over the latter is a quarter as wide as it has to be for three things, and half as wide for
    many. These are the jackknife's values, S mean - (S - 1) (the mean over the pairs without the thing), and
    their mean is the mean over pairs. Two things have one pair, which is the one value then.

    Args:
        value_SS: of each ordered pair; the diagonal is not read.
    """
    import numpy as np

    n = len(value_SS)
    assert n >= 2, "one thing has no pair"
    between_SS = np.where(np.eye(n, dtype=bool), 0, value_SS)
    total = between_SS.sum()
    mean = float(total / (n * (n - 1)))
    if n == 2:
        return [mean]
    without_S = (total - between_SS.sum(0) - between_SS.sum(1)) / ((n - 1) * (n - 2))
    return (n * mean - (n - 1) * without_S).tolist()


def as_json(interval: Interval | None) -> dict[str, float | None] | None:
    """The fields of an interval; None for none."""
    return None if interval is None else interval._asdict()


def in_words(interval: Mapping[str, Any] | None, digits: int = 3, *, sign: str = "") -> str:
    """`0.312 ± 0.044`: the mean with half of the interval; a dash without one.

    Args:
        interval: as `as_json` gives it, or with None for a mean.
        sign: "+" writes it in front of positive means, too.
    """
    if interval is None or interval["mean"] is None:
        return "–"
    mean = f"{interval['mean']:{sign}.{digits}f}"
    return mean if interval["high"] is None else f"{mean} ± {interval['high'] - interval['mean']:.{digits}f}"
