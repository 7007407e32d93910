"""The latents that are pushed: chosen, and what is known of each.

Shapes: n tokens.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from dictionary_learning.command.progress import n_of, say
from dictionary_learning.dictionaries.base import Dictionary
from dictionary_learning.errors import UserError
from dictionary_learning.language_model import LanguageModel
from dictionary_learning.language_model.token_text import token_texts
from temporal_saes.labelled.data import LabelledText
from temporal_saes.latents.tables import MIN_TOKENS, LatentTable, choose_latents, top_tokens
from temporal_saes.steering.options import SteeringOptions

N_TOP_TOKENS = 10


def choose(table: LatentTable, options: SteeringOptions) -> list[int]:
    """The latents to push, numbered within the chunk.

    Raises:
        UserError: one of those given is dead, or the rule finds none.
    """
    if options.latents is not None:
        chosen = [latent - table.first for latent in options.latents]
        dead = [latent for latent in chosen if table.count_F[latent] == 0]
        if dead:
            raise UserError(
                f"--latents {table.first + dead[0]} is dead: it fires at none of the {table.n_tokens:,} "
                f"tokens that were read; leave it out, or read more (--max_texts)."
            )
        return chosen
    chosen = choose_latents(table, options.choose, options.n_latents, options.seed)
    if not chosen:
        raise UserError(
            f"no latent of the chunk fires at {MIN_TOKENS} of the {table.n_tokens:,} tokens that were "
            f"read: read more (--max_texts), or choose another --chunk."
        )
    if len(chosen) < options.n_latents:
        say(f"{n_of(len(chosen), 'latent')} instead of {options.n_latents}: the rule finds no more.")
    return chosen


def describe(
    lm: LanguageModel,
    dictionary: Dictionary,
    table: LatentTable,
    latent: int,
    explanation: str | None,
    texts: Sequence[LabelledText],
) -> dict[str, Any]:
    """What is known of a latent, numbered within the chunk."""
    number = table.first + latent
    (ids_n,) = top_tokens(lm, dictionary.decoder_directions()[[number]], N_TOP_TOKENS)
    return {
        "latent": number,
        "maximum": float(table.maximum_F[latent]),
        "n_active": int(table.count_F[latent]),
        "target": table.target(latent),
        "selectivity": float(table.selectivity_CF()[:, latent].max()),
        "explanation": explanation,
        "top_tokens": token_texts(lm.tokenizer, ids_n.tolist()),
        "top_token_ids": ids_n.tolist(),
        "strongest": [found._asdict() for found in table.strongest(latent, texts)],
    }


def topic(latent: Mapping[str, Any]) -> str:
    """What a latent is about, in words for a judge: its explanation, or where it is strongest."""
    if latent["explanation"]:
        return str(latent["explanation"])
    places = [
        f"- {' '.join((one['before'] + '<<' + one['token'] + '>>' + one['after']).split())}"
        for one in latent["strongest"]
    ]
    return "\n".join(["What these passages have in common, above all at the words in << >>:", *places])
