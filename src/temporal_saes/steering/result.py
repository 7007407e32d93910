"""What steering found, as a person reads it in the terminal."""

from collections.abc import Mapping
from typing import Any

from dictionary_learning.command.progress import n_of

COLUMNS = {
    "nll_added": "surprise",
    "repetition_added": "repetition",
    "domain_gain": "domain",
    "activation_gain": "activation",
    "own_tokens_log10": "own tokens",
    "success": "success",
    "coherence": "coherence",
}


def table(result: Mapping[str, Any]) -> str:
    """Means over latents by strength, against the texts without steering, as text."""
    summary = result["summary"]
    names = list(COLUMNS) if result["judge"] else list(COLUMNS)[:-2]
    lines = [
        f"{result['name']}: {n_of(len(result['latents']), 'latent')}, "
        f"{n_of(len(result['prompts']), 'prompt')}; change against no steering (surprise in nats a token, "
        "own tokens in powers of ten)"
    ]
    lines.append(f"{'strength':>20}" + "".join(f"{COLUMNS[name]:>12}" for name in names))
    for part, word in (("steered", ""), ("control", "random ")):
        for point in summary[part]:
            cells = [point["measures"][name] for name in names]
            row = "".join(f"{'–' if cell is None else format(cell['mean'], '.3f'):>12}" for cell in cells)
            lines.append(f"{word + format(point['strength'], 'g'):>20}{row}")
    gains = []
    for part, word in (("steered", "latents"), ("control", "random directions")):
        gain = summary["while_coherent"][part]["domain_gain"]
        if gain is not None:
            half = "" if gain["high"] is None else f" ± {gain['high'] - gain['mean']:.3f}"
            gains.append(f"{word} {gain['mean']:.3f}{half}")
    if gains:
        lines.append(f"most gain of the domain while texts stay coherent: {', '.join(gains)}")
    if judge := result["judge"]:
        lines.append(
            f"judge {judge['model']}: {n_of(judge['asked'], 'answer')}, failed: {judge['failures'] or 'none'}"
        )
    return "\n".join(lines)
