"""What a person reads of the geometry in the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from dictionary_learning.command.progress import n_of
from temporal_saes.experiment.intervals import in_words
from temporal_saes.experiment.results import label

_COLUMNS = (
    ("effective_rank", "eff. rank", 1),
    ("participation_ratio", "particip.", 1),
    ("tortuosity", "tortuosity", 1),
    ("slow_share", "slow share", 3),
    ("cosine_with_slow", "cos slow", 3),
    ("cosine_with_fast", "cos fast", 3),
)

_PARTS = (
    ("norm_share_as_coded", "norm"),
    ("norm_share_with_bias", "+ bias"),
    ("norm_share_less_mean", "- mean"),
    ("energy_share_with_bias", "energy + b"),
    ("energy_share_less_mean", "energy - mean"),
    ("norm_of_x_with_bias", "of |x|"),
    ("nmse", "NMSE"),
    ("nmse_less_mean", "NMSE - mean"),
    ("effective_rank_with_bias", "rank + bias"),
    ("effective_rank_less_mean", "rank - mean"),
)


def table(results: Sequence[Mapping[str, Any]]) -> str:
    """The measures as text, a row a subject."""
    width = max(24, *(len(label(result)) for result in results))
    first = results[0]
    lines = [
        f"{n_of(first['n_texts'], 'text')} of {n_of(first['n_positions'], 'usable token')}; "
        "mean ± half of the 95 % interval"
    ]
    lines.append(" " * width + "".join(f"{name:>17}" for _, name, _ in _COLUMNS))
    for result in results:
        cells = [in_words(result["measures"][key], digits) for key, _, digits in _COLUMNS]
        lines.append(f"{label(result):{width}}" + "".join(f"{cell:>17}" for cell in cells))
    noise = first["independent_positions"]
    cells = [f"<= {noise['largest_rank']}"] * 2 + [str(noise["tortuosity"]), f"{noise['slow_share']:.3f}"]
    lines.append(f"{'independent positions':{width}}" + "".join(f"{cell:>17}" for cell in cells))
    return "\n".join([*lines, *_parts_table(results, width)])


def _parts_table(results: Sequence[Mapping[str, Any]], width: int) -> list[str]:
    """How large the parts are, in rows."""
    lines = ["", "shares of both parts, without the bias, with it as predicted, and around the corpus mean"]
    lines.append(" " * width + "".join(f"{name:>14}" for _, name in _PARTS))
    for result in results:
        cells = [_mean_of(result["parts"].get(key)) for key, _ in _PARTS]
        lines.append(f"{label(result):{width}}" + "".join(f"{cell:>14}" for cell in cells))
    return lines


def _mean_of(measure: Mapping[str, Any] | None) -> str:
    if measure is None or measure["mean"] is None:
        return "–"
    return f"{measure['mean']:.1f}" if measure["mean"] >= 2 else f"{measure['mean']:.3f}"
