"""From the numbers of two methods to a verdict.

The difference is taken seed by seed, on the same texts, and its 95 % interval is a t-interval over the seeds:
three seeds give a wide one (t = 4.30), which is what three seeds are worth. Where numbers of single texts are
known, it is taken text by text as well, as the mean over the seeds, with an interval over texts: other texts
could have said something else, which no number of seeds shows. Then both have to agree.
"""

from collections.abc import Mapping, Sequence
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


def paired_texts(
    ours: Mapping[int, Sequence[float | None]], theirs: Mapping[int, Sequence[float | None]]
) -> Interval | None:
    """The mean difference over texts, of each the mean over seeds; texts without a number are left out.

    Args:
        ours: the values of the texts by seed, as in `paired`.
    """
    constant = theirs.get(-1)
    of_seeds = [(ours[seed], other) for seed in ours if (other := theirs.get(seed, constant)) is not None]
    if not of_seeds or len({len(one) for pair in of_seeds for one in pair}) > 1:
        return None
    differences = []
    for text in range(len(of_seeds[0][0])):
        pairs = [(own[text], other[text]) for own, other in of_seeds]
        known = [own - other for own, other in pairs if own is not None and other is not None]
        if known:
            differences.append(sum(known) / len(known))
    return mean_interval(differences)


def agreed(of_seeds: Verdict, of_texts: Verdict | None) -> Verdict:
    """What both say; "cannot be told" where they differ."""
    return of_seeds if of_texts in (None, of_seeds) else "cannot be told"


def verdict(interval: Interval | None, better: Literal["higher", "lower"], margin: float) -> Verdict:
    """What an interval of a difference says of "ours is better, or worse by less than the margin".

    Returns:
        "holds" where the whole interval is on that side of the margin, "does not" where none of it is;
        "cannot be told" else, and without an interval.
    """
    if interval is None or interval.low is None or interval.high is None:
        return "cannot be told"
    low, high = (interval.low, interval.high) if better == "higher" else (-interval.high, -interval.low)
    if low > -margin:
        return "holds"
    return "does not" if high < -margin else "cannot be told"
