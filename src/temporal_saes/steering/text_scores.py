"""Numbers about a text that a steered model wrote, from the model as it is without steering.

    written = lm.continuations(["I think that"], max_new_tokens=40)
    readings = score_texts(lm, place, dictionary, [5, 9], written, norm_limit=1800, batch_size=8)
    readings[0].nll          # surprise of the unsteered model, nats a token
    readings[0].repetition   # share of three tokens in a row that were there before
    readings[0].latents_K    # the latents, as the unsteered model and the dictionary see them in the text
    readings[0].pooled_D     # the mean activation, for a probe

Numbers are of the continuation alone, each of its tokens seen after the prompt and all before it. Its tokens
are those that the model wrote: a text that is read again may have others.

Shapes: B texts, L positions, T tokens of a continuation, D model width, K latents.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dictionary_learning.dictionaries.base import Dictionary
from dictionary_learning.language_model import Continuation, LanguageModel, Place
from dictionary_learning.language_model.tokens import pad
from temporal_saes.features import encode_text

N_GRAM = 3


class Batch(NamedTuple):
    """Some continuations with their prompts as tokens, padded on the right."""

    rows: list[int]
    tokens_BL: Tensor
    mask_BL: Tensor
    continues_BL: Tensor  # True for tokens of the continuation

    def predicting(self, row: int) -> Tensor:
        """The positions [T] whose next token is the continuation's; a first token has none before it."""
        return self.continues_BL[row, 1:].nonzero()[:, 0]


class Reading(NamedTuple):
    """Numbers of one continuation; None where it has too few tokens."""

    n_tokens: int
    nll: float | None
    """Mean negative log-probability of its tokens under the unsteered model, in nats."""
    repetition: float | None
    latents_K: np.ndarray | None
    """Mean activation of each latent over its usable tokens."""
    pooled_D: np.ndarray | None
    """Mean activation over its usable tokens."""


def read_continuations(texts: Sequence[Continuation], batch_size: int, what: str) -> Iterator[Batch]:
    """The tokens of prompts and continuations, in batches of like length."""
    from tqdm import tqdm

    order = sorted(range(len(texts)), key=lambda i: len(texts[i].prompt_ids) + len(texts[i].ids))
    with tqdm(total=len(texts), desc=what, unit=" texts", dynamic_ncols=True, disable=None) as bar:
        for first in range(0, len(order), batch_size):
            rows = order[first : first + batch_size]
            some = [texts[i] for i in rows]
            tokens_BL, mask_BL = pad([[*one.prompt_ids, *one.ids] for one in some], side="right")
            n_prompt_B1 = torch.tensor([[len(one.prompt_ids)] for one in some])
            continues_BL = mask_BL & (torch.arange(tokens_BL.shape[1]) >= n_prompt_B1)
            yield Batch(rows, tokens_BL, mask_BL, continues_BL)
            bar.update(len(rows))


@torch.no_grad()
def score_texts(
    lm: LanguageModel,
    place: Place,
    dictionary: Dictionary,
    latents: Sequence[int],
    texts: Sequence[Continuation],
    *,
    norm_limit: float,
    batch_size: int,
) -> list[Reading]:
    """Read every text once with the unsteered model.

    Args:
        latents: the dictionary's numbers of those to look at.
        norm_limit: activations of a larger norm are not read by the dictionary.
    """
    readings: list[Reading] = [Reading(0, None, None, None, None)] * len(texts)
    seen: list[Tensor] = []

    def look(x_BLD: Tensor) -> Tensor:
        seen.append(x_BLD)
        return x_BLD

    for batch in read_continuations(texts, batch_size, "reading"):
        seen.clear()
        logits_BLV = lm.logits(batch.tokens_BL, batch.mask_BL, place, look)
        x_BLD = seen[0].cpu()
        is_text_BL = lm.text_mask(batch.tokens_BL, batch.mask_BL)
        usable_BL = is_text_BL & (x_BLD.float().norm(dim=-1) <= norm_limit)
        for row, i in enumerate(batch.rows):
            predicts_T = batch.predicting(row)
            if not batch.continues_BL[row].any():
                continue
            tokens_T = batch.tokens_BL[row, predicts_T + 1]
            log_p_TV = logits_BLV[row, predicts_T].float().log_softmax(-1).cpu()
            nll = -float(log_p_TV.gather(1, tokens_T[:, None]).mean()) if len(tokens_T) else None
            usable_L = usable_BL[row].numpy()
            inside_u = batch.continues_BL[row].numpy()[usable_L]
            latents_K = pooled_D = None
            if inside_u.any():
                f_uF = encode_text(dictionary, x_BLD[row], usable_L)
                latents_K = (
                    f_uF[torch.from_numpy(inside_u), :][:, list(latents)].float().mean(0).cpu().numpy()
                )
                pooled_D = x_BLD[row][torch.from_numpy(usable_L)][inside_u].float().mean(0).numpy()
            written_T = batch.tokens_BL[row][batch.continues_BL[row]].tolist()
            readings[i] = Reading(len(written_T), nll, repetition(written_T), latents_K, pooled_D)
    return readings


def repetition(tokens: Sequence[int], n: int = N_GRAM) -> float | None:
    """Share of the runs of n tokens that occurred earlier in the text; None for fewer than n tokens."""
    runs = [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]
    return 1 - len(set(runs)) / len(runs) if runs else None
