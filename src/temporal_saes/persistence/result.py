"""What a person reads of persistence and stability in the terminal, and how much subjects differ."""

from collections.abc import Mapping, Sequence
from typing import Any

from dictionary_learning.command.progress import n_of
from temporal_saes.experiment.intervals import OF_PAIRS, as_json, in_words, mean_interval


def table(result: Mapping[str, Any]) -> str:
    """Persistence by lag, with and without the order of the tokens, and stability."""
    seeds = result["of_seeds"]
    latents = ", ".join(f"{one['latents']:,}" for one in seeds)
    n_seeds = n_of(len(seeds), "seed")
    lines = [f"{result['name']}: {n_seeds}, {latents} latents, {result['n_tokens']:,} tokens"]
    lines.append(f"{'lag in tokens':22}" + "".join(f"{lag:>16}" for lag in result["lags"]))
    for key, name in (("persistence", "persistence"), ("persistence_in_any_order", "in any order")):
        lines.append(f"{name:22}" + "".join(f"{in_words(one):>16}" for one in result[key]))
    found = result["stability"]
    if found is not None:
        same = result["options"]["same"]
        alone = " (one pair, and so no intervals)" if len(found["matched"][OF_PAIRS]) == 1 else ""
        lines.append(
            f"over seeds{alone}: matched cosine {in_words(found['matched'])} (random directions "
            f"{in_words(found['chance_matched'])}), {in_words(found['same_share'])} of the latents at "
            f"{same:g} or more; best cosine {in_words(found['best'])}"
        )
    return "\n".join(lines)


def minus_first(result: Mapping[str, Any], first: Mapping[str, Any]) -> dict[str, Any]:
    """How much a subject differs from the first, seed by seed, where both have as many."""
    if len(result["of_seeds"]) != len(first["of_seeds"]):
        return {}
    persistence = [
        _paired(
            [one["persistence"][k] for one in result["of_seeds"]],
            [one["persistence"][k] for one in first["of_seeds"]],
        )
        for k in range(len(result["lags"]))
    ]
    stable = {}
    if result["stability"] is not None and first["stability"] is not None:
        stable = {
            name: _paired(result["stability"][name][OF_PAIRS], first["stability"][name][OF_PAIRS])
            for name in ("matched", "same_share", "best")
        }
    return {"persistence": persistence, "stability": stable}


def _paired(own: Sequence[float | None], other: Sequence[float | None]) -> dict[str, float | None] | None:
    known = [a - b for a, b in zip(own, other, strict=True) if a is not None and b is not None]
    return as_json(mean_interval(known))
