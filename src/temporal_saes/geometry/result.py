"""What a person reads of the geometry in the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

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


def table(results: Sequence[Mapping[str, Any]]) -> str:
    """The measures as text, a row a subject."""
    width = max(24, *(len(label(result)) for result in results))
    first = results[0]
    lines = [
        f"{first['n_texts']} texts of {first['n_positions']} usable tokens; mean ± half of the 95 % interval"
    ]
    lines.append(" " * width + "".join(f"{name:>17}" for _, name, _ in _COLUMNS))
    for result in results:
        cells = [in_words(result["measures"][key], digits) for key, _, digits in _COLUMNS]
        lines.append(f"{label(result):{width}}" + "".join(f"{cell:>17}" for cell in cells))
    noise = first["independent_positions"]
    cells = [f"<= {noise['largest_rank']}"] * 2 + [str(noise["tortuosity"]), f"{noise['slow_share']:.3f}"]
    lines.append(f"{'independent positions':{width}}" + "".join(f"{cell:>17}" for cell in cells))
    return "\n".join(lines)
