"""What steering gains and what it costs: many steered texts made into a success-coherence frontier.

    summary = summarise(records)
    summary["steered"][0]["measures"]["domain_gain"]   # {"mean": ..., "low": ..., "high": ...}

A record is one text: `latent`, `strength` (None: not steered), `control` (pushed along a random direction
in place of the latent's), `prompt`, and its measures, None where they are undefined. Each latent's texts are
averaged first; means and intervals are over latents, which are what was sampled.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from temporal_saes.experiment.intervals import NONE_OF_EQUAL, as_json, mean_interval

Record = Mapping[str, Any]
MEASURES = ("nll", "repetition", "domain_probability", "activation", "own_tokens", "success", "coherence")
INTERVAL = f"t-interval, 95 %, over latents; {NONE_OF_EQUAL}"

MAX_NLL_ADDED = 1.0  # nats a token: the unsteered model finds each token 2.7 times less likely
MAX_REPETITION_ADDED = 0.1
MIN_COHERENCE = 2.0  # of a judge's 0 to 3


class Point(NamedTuple):
    """One latent at one strength: means over prompts, against its texts without steering."""

    latent: int
    strength: float
    measures: dict[str, float | None]

    @property
    def is_coherent(self) -> bool | None:
        """By a judge where there was one, by numbers where there was none; None if neither can tell."""
        coherence = self.measures["coherence"]
        if coherence is not None:
            return coherence >= MIN_COHERENCE
        nll, repetition = self.measures["nll_added"], self.measures["repetition_added"]
        if nll is None or repetition is None:
            return None
        return nll <= MAX_NLL_ADDED and repetition <= MAX_REPETITION_ADDED


def points(records: Iterable[Record], *, control: bool) -> list[Point]:
    """Every latent at every strength, in the order of the records.

    nll_added: nats a token by which the unsteered model is more surprised. repetition_added: more
    repetition. domain_gain: more probability of the latent's class. activation_gain: more activation of
    the latent, read back, in its maximum. own_tokens_log10: power of ten by which its own tokens became
    likelier. success, coherence: a judge's.
    """
    texts: dict[tuple[int, float | None, bool], list[Record]] = defaultdict(list)
    for record in records:
        texts[record["latent"], record["strength"], record["control"]].append(record)
    made = []
    for (latent, strength, is_control), some in texts.items():
        if strength is None or is_control != control:
            continue
        means, before = _means(some), _means(texts[latent, None, False])
        made.append(
            Point(
                latent,
                strength,
                {
                    "nll_added": _minus(means["nll"], before["nll"]),
                    "repetition_added": _minus(means["repetition"], before["repetition"]),
                    "domain_gain": _minus(means["domain_probability"], before["domain_probability"]),
                    "activation_gain": _minus(means["activation"], before["activation"]),
                    "own_tokens_log10": _log_ratio(means["own_tokens"], before["own_tokens"]),
                    "success": means["success"],
                    "coherence": means["coherence"],
                },
            )
        )
    return made


def _means(records: Sequence[Record]) -> dict[str, float | None]:
    found = {}
    for name in MEASURES:
        values = [record[name] for record in records if record.get(name) is not None]
        found[name] = sum(values) / len(values) if values else None
    return found


def _minus(after: float | None, before: float | None) -> float | None:
    return None if after is None or before is None else after - before


def _log_ratio(after: float | None, before: float | None) -> float | None:
    return math.log10(after / before) if after and before else None


def summarise(records: Sequence[Record]) -> dict[str, Any]:
    """Means over latents for every strength, and what is reached while texts stay coherent.

    `unsteered` has the judge's scores without steering. `while_coherent` is, for each latent, the most that
    any strength gains among those at which its texts are coherent (`Point.is_coherent`), 0 if none gains or
    is: the strength is chosen on the same texts, so it flatters every direction a little, random ones, too.
    """
    summary: dict[str, Any] = {"unsteered": _unsteered(records), "interval": INTERVAL}
    for name, control in (("steered", False), ("control", True)):
        some = points(records, control=control)
        strengths = sorted({point.strength for point in some})
        summary[name] = [
            {"strength": strength, "measures": _over_latents([p for p in some if p.strength == strength])}
            for strength in strengths
        ]
        summary.setdefault("while_coherent", {})[name] = {
            "domain_gain": _best(some, "domain_gain", {}),
            "success_gain": _best(some, "success", _unsteered_success(records)),
        }
    return summary


def _over_latents(some: Sequence[Point]) -> dict[str, Any]:
    return {name: _interval(point.measures[name] for point in some) for name in some[0].measures}


def _interval(values: Iterable[float | None]) -> dict[str, float | None] | None:
    """Mean and interval of the values that are there."""
    return as_json(mean_interval([value for value in values if value is not None]))


def _unsteered_success(records: Sequence[Record]) -> dict[int, float]:
    by_latent = defaultdict(list)
    for record in records:
        if record["strength"] is None and record.get("success") is not None:
            by_latent[record["latent"]].append(record["success"])
    return {latent: sum(values) / len(values) for latent, values in by_latent.items()}


def _unsteered(records: Sequence[Record]) -> dict[str, Any]:
    before = [record for record in records if record["strength"] is None]
    by_latent = defaultdict(list)
    for record in before:
        by_latent[record["latent"]].append(record)
    means = [_means(some) for some in by_latent.values()]
    return {name: _interval(mean[name] for mean in means) for name in MEASURES}


def _best(some: Sequence[Point], name: str, before: Mapping[int, float]) -> dict[str, Any] | None:
    """Mean over latents of the largest gain of a measure among the strengths that stay coherent."""
    gains: dict[int, float] = {}
    for point in some:
        value = point.measures[name]
        if value is None or point.is_coherent is None:
            continue
        gain = value - before.get(point.latent, 0.0) if point.is_coherent else 0.0
        gains[point.latent] = max(gains.get(point.latent, 0.0), gain)
    return _interval(gains.values())
