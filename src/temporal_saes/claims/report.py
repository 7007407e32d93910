"""The claims with their verdicts: a table, and the same as JSON."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from temporal_saes.claims.methods import UNTRAINED
from temporal_saes.claims.readings import OfTexts, Place, Readings
from temporal_saes.claims.rows import ROWS, Reading, Row
from temporal_saes.claims.verdicts import agreed, paired, paired_texts, verdict
from temporal_saes.experiment.intervals import as_json, in_words


def budgets(readings: Readings) -> list[int]:
    """The lengths of training for which there are numbers."""
    return sorted({budget for method, budget, _, _ in readings if method not in UNTRAINED})


def judged(
    readings: Readings, of_texts: OfTexts | None = None, rows: Sequence[Row] = ROWS
) -> list[dict[str, Any]]:
    """Each claim with what was found at every budget, as plain values.

    Args:
        of_texts: numbers of single texts, where there are some.
    """
    return [
        {
            "group": row.group,
            "name": row.name,
            "says": row.says,
            "better": row.better,
            "margin": row.margin,
            "ours": row.ours._asdict(),
            "theirs": row.theirs._asdict(),
            "changes": row.changes,
            "at": {
                str(budget): _found(row, readings, of_texts or {}, budget) for budget in budgets(readings)
            },
        }
        for row in rows
    ]


def _found(row: Row, readings: Readings, of_texts: OfTexts, budget: int) -> dict[str, Any]:
    places = [_place(reading, budget) for reading in (row.ours, row.theirs)]
    ours, theirs = (readings.get(place, {}) for place in places)
    found = paired(ours, theirs)
    over_texts = paired_texts(*(of_texts.get(place, {}) for place in places))
    said = verdict(found.interval, row.better, row.margin)
    said_by_texts = None if over_texts is None else verdict(over_texts, row.better, row.margin)
    return {
        "ours": _mean(ours),
        "theirs": _mean(theirs),
        "seeds": found.seeds,
        "differences": found.differences,
        "difference": as_json(found.interval),
        "difference_over_texts": as_json(over_texts),
        "verdict": agreed(said, said_by_texts),
    }


def _place(reading: Reading, budget: int) -> Place:
    at = 0 if reading.method in UNTRAINED else budget
    return reading.method, at, reading.chunk, reading.measure


def _mean(values: Mapping[int, float]) -> float | None:
    return statistics.mean(values.values()) if values else None


def markdown(claims: Sequence[Mapping[str, Any]]) -> str:
    """A row a claim: both means, the difference with its intervals; at each budget verdict and difference.

    The first numbers are those of the longest training that has some. A claim without numbers is left out.
    """
    lengths = list(claims[0]["at"])
    told = [length_in_words(int(length)) for length in lengths]
    lines = [
        "| claim | ours | other | difference, over seeds | over texts | " + " | ".join(told) + " |",
        "|---" * (5 + len(lengths)) + "|",
    ]
    group = ""
    for claim in claims:
        known = [found for found in claim["at"].values() if found["difference"] is not None]
        if not known:
            continue
        if claim["group"] != group:
            group = claim["group"]
            lines.append(f"| **{group}** |" + " |" * (4 + len(lengths)))
        last = known[-1]
        cells = [claim["name"], _number(last["ours"]), _number(last["theirs"])]
        cells += [in_words(last[name], sign="+") for name in ("difference", "difference_over_texts")]
        cells += [_at_length(found) for found in claim["at"].values()]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _at_length(found: Mapping[str, Any]) -> str:
    """The verdict and the difference at one length; nothing where there is none."""
    difference = found["difference"]
    return "" if difference is None else f"{found['verdict']} ({difference['mean']:+.3f})"


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" if abs(value) < 100 else f"{value:.1f}"


def length_in_words(budget: int) -> str:
    return f"{budget / 1e6:g} M" if budget >= 100_000 else f"{budget:,}"
