"""From the numbers of two methods to a verdict.

The difference is taken seed by seed, on the same texts, and its 95 % interval is a t-interval over the seeds:
three seeds give a wide one (t = 4.30), which is what three seeds are worth.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple

from temporal_saes.experiment.intervals import Interval, mean_interval

Verdict = Literal["holds", "does not", "cannot be told"]


class Paired(NamedTuple):
    """The differences of two methods over the seeds that both have."""

    seeds: list[int]
    differences: list[float]  # ours - theirs
    interval: Interval | None  # None without a common seed


def paired(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Paired:
    """Differences by seed; what has no seed (the language model's activations) stands against each.

    Args:
        ours: values by seed; seed -1 means that there is none.
        theirs: as `ours`.
    """
    constant = theirs.get(-1)
    seeds = sorted(seed for seed in ours if seed in theirs or constant is not None)
    differences = [ours[seed] - theirs.get(seed, constant or 0.0) for seed in seeds]
    return Paired(seeds, differences, mean_interval(differences))


def verdict(interval: Interval | None, better: Literal["higher", "lower"], margin: float) -> Verdict:
    """What an interval of a difference says of "ours is better, or worse by less than the margin".

    Returns:
        "holds" where the whole interval is on that side of the margin, "does not" where none of it is.
    """
    if interval is None or interval.low is None or interval.high is None:
        return "cannot be told"
    low, high = (interval.low, interval.high) if better == "higher" else (-interval.high, -interval.low)
    if low > -margin:
        return "holds"
    return "does not" if high < -margin else "cannot be told"
