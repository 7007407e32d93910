"""The section of what latents are held over, and how well their words find passages."""

from collections.abc import Mapping, Sequence
from typing import Any

from temporal_saes.experiment.intervals import in_words
from temporal_saes.naming.result import most_telling
from temporal_saes.pages import page
from temporal_saes.pages.page import Html, element, join, missing
from temporal_saes.pages.token_colours import SPLIT_NAMES, in_row
from temporal_saes.report.run_files import RunFiles

NAME = "python src/experiments/naming.py"
N_SHOWN = 12  # latents of a split


def names_section(run: RunFiles) -> list[Html | None]:
    """A table a split, or the command that makes them."""
    title = element("h2", "What latents are held over")
    if run.naming is None:
        return [title, missing(f"{run.name} has no names of its present weights.", f"{NAME} {run.flags}")]
    result = run.naming
    return [
        title,
        element(
            "p",
            f"From {result['n_tokens']:,} tokens of {result['options'].get('dataset')}, without a language "
            "model that is asked: words that the stretches of text over which a latent stays on hold more "
            "than the rest (log odds with a prior); the class of texts that it prefers, with how many times "
            "as often; the length of a stretch (median over its tokens); and bits that it tells about the "
            "document of a token. Shown are the latents with the largest product of the last two.",
        ),
        *(_table(result, split) for split in result["splits"]),
        _scores(result),
    ]


def _table(result: Mapping[str, Any], split: str) -> Html:
    named = SPLIT_NAMES.get(split, split)
    rows = [
        [
            str(one["latent"]),
            in_row(word for word, *_ in one["words"]),
            _preferred(one["classes"]),
            f"{one['stretch']:g}",
            f"{one['information']:.3f}",
        ]
        for one in most_telling(result, split, N_SHOWN)
    ]
    headers = ["latent", "words", "class", "stretch", "bits"]
    caption = f"The most telling {named} latents.".replace("  ", " ")
    return page.table(headers, rows, caption, worded=(1, 2))


def _preferred(classes: Sequence[Sequence[Any]]) -> Html | None:
    """The first of the classes; None where there is none."""
    return join([in_row([classes[0][0]]), f" {classes[0][3]:.1f}×"]) if classes else None


def _scores(result: Mapping[str, Any]) -> Html:
    held = str(result["options"]["held"])
    rows = [
        [split, found[held]["n_latents"], *(in_words(found[held][what]) for what in ("words", "tokens"))]
        for split, found in result["splits"].items()
    ]
    return page.table(
        ["latents", "number", "words", "tokens where it is strongest"],
        rows,
        f"How well a list of {result['options']['list_length']} finds the held-out windows of "
        f"{result['window']} tokens over {held} or more of which a latent is held: area under the curve, "
        "chance .5.",
    )
