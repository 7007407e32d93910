"""What a person reads of names in the terminal."""

from collections.abc import Mapping
from typing import Any

from temporal_saes.experiment.intervals import in_words

N_SHOWN = 5  # latents of a split


def table(result: Mapping[str, Any]) -> str:
    """How well the lists find windows, split by split, and the latents of which passages say most."""
    length = result["options"]["list_length"]
    lines = [
        f"{result['name']}: area under the curve of two lists of {length} over held-out windows of "
        f"{result['window']} tokens; chance .5"
    ]
    lines.append(
        f"{'split':>10}{'held over':>12}{'latents':>9}{'words':>16}{'tokens':>16}{'words - tokens':>18}"
        f"{'of another':>14}"
    )
    for split, found in result["splits"].items():
        for least, one in found.items():
            held = f"{least} token{'s' if least != '1' else ''}"
            others = " ".join(_mean(one[f"{what} of another"]) for what in ("words", "tokens"))
            lines.append(
                f"{split:>10}{held:>12}{one['n_latents']:>9}{in_words(one['words']):>16}"
                f"{in_words(one['tokens']):>16}{in_words(one['difference'], sign='+'):>18}{others:>14}"
            )
    for split in result["splits"]:
        lines.append(f"{split}: the latents of which passages say most")
        lines += [f"  {one['latent']:>6}  {held_over(one)}" for one in most_telling(result, split, N_SHOWN)]
    return "\n".join(lines)


def most_telling(result: Mapping[str, Any], split: str, n: int) -> list[Mapping[str, Any]]:
    """The latents of a split with the longest stretches that know most about the document."""
    inside = [one for one in result["latents"] if one["split"] == split and one["words"]]
    return sorted(inside, key=lambda one: -one["telling"])[:n]


def held_over(one: Mapping[str, Any]) -> str:
    """`senate, bill, house (Law 3.1x), stretches of 12 tokens`."""
    words = ", ".join(word for word, *_ in one["words"]) or "–"
    classes = ", ".join(f"{name} {lift:.1f}x" for name, _, _, lift in one["classes"][:1])
    return f"{words}{f' ({classes})' if classes else ''}; stretches of {one['stretch']:g} tokens"


def _mean(interval: Mapping[str, Any] | None) -> str:
    return "–" if interval is None else f"{interval['mean']:.3f}"
