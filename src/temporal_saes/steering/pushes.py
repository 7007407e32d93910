"""Steering: a language model writes while latents of one of its layers are pushed.

    push = Push(latent=5, strength=2.0, amount=30.0, direction_D=dictionary.decoder_directions()[5])
    with steering.pushed([push, None]):
        lm.generate(["I think that", "I think that"], max_new_tokens=40)

Every row of a batch has its own push, so that many latents and strengths are written in one generation. What
a push does to the layer's output is `lm.steered`: the latent's decoder direction, times an amount, is added,
or the latent is clamped to an amount. A control is always added: a random direction has no latent to set.

Shapes: B rows, T positions of a prompt, D model width, K sets of tokens, V vocabulary.
"""

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dictionary_learning.dictionaries.base import Dictionary
from dictionary_learning.errors import UserError
from dictionary_learning.language_model import Continuation, LanguageModel, Place
from dictionary_learning.language_model.tokens import prompt_ids
from temporal_saes.steering.text_scores import read_continuations


class Push(NamedTuple):
    """A latent, and how far to push it."""

    latent: int  # the dictionary's number
    strength: float  # as it was asked for
    amount: float  # of the latent: what is added to it, or what it is set to
    direction_D: Tensor  # what one unit of the latent adds to the layer's output
    is_control: bool = False  # a random direction of the same length in the latent's place

    @property
    def length(self) -> float:
        """Of the vector that is added, in the units of the layer's output."""
        return abs(self.amount) * float(self.direction_D.float().norm())


def make_push(
    dictionary: Dictionary, latent: int, strength: float, maximum: float | None, seed: int | None = None
) -> Push:
    """A push of a latent.

    Args:
        strength: in multiples of `maximum`; without a maximum the length of the vector that is added, so
            that dictionaries with decoder rows of any length are pushed alike.
        seed: of the random direction of a control; None pushes the latent itself.
    """
    direction_D = dictionary.decoder_directions()[latent].detach().float()
    length = float(direction_D.norm())
    if not math.isfinite(length) or length == 0:
        raise UserError(f"latent {latent} has no decoder direction (its length is {length}): choose another.")
    amount = strength * maximum if maximum is not None else strength / length
    if seed is not None:
        generator = np.random.default_rng([seed, latent])
        drawn_D = torch.from_numpy(generator.standard_normal(len(direction_D))).to(direction_D)
        direction_D = drawn_D / drawn_D.norm() * length
    return Push(latent, strength, amount, direction_D, seed is not None)


class Steering(NamedTuple):
    """What all rows share."""

    lm: LanguageModel
    place: Place
    dictionary: Dictionary
    mode: str
    norm_limit: float
    generated_only: bool  # leave the prompt's positions as they are

    def pushed(
        self, pushes: Sequence[Push | None], where_BT: Tensor | None = None
    ) -> AbstractContextManager[None]:
        """Inside the block the i-th row of every batch gets the i-th push; None leaves it as it is.

        Args:
            where_BT: bool, the positions that are pushed, and those behind its end; None: all.
        """
        if all(push is None for push in pushes):
            return nullcontext()
        strengths = [
            {} if push is None else {push.direction_D if push.is_control else push.latent: push.amount}
            for push in pushes
        ]
        return self.lm.steered(
            self.dictionary,
            strengths,
            self.place,
            mode=self.mode,
            norm_limit=self.norm_limit,
            where_BT=where_BT,
        )

    def after(self, prompts: Sequence[str]) -> Tensor | None:
        """Where a generation from these prompts is pushed: None for everywhere."""
        if not self.generated_only:
            return None
        return torch.zeros(1, max(map(len, prompt_ids(self.lm.tokenizer, list(prompts)))), dtype=torch.bool)


def write_texts(
    steering: Steering,
    rows: Sequence[tuple[str, Push | None]],
    *,
    max_new_tokens: int,
    temperature: float,
    batch_size: int,
    seed: int,
) -> list[Continuation]:
    """What the model writes after each prompt under each push.

    Args:
        rows: prompt and push of each.
        batch_size: rows that are written at a time.
        seed: of sampling; the same rows in the same batches give the same texts.
    """
    from tqdm import tqdm

    texts: list[Continuation] = []
    with tqdm(total=len(rows), desc="writing", unit=" texts", dynamic_ncols=True, disable=None) as bar:
        for first in range(0, len(rows), batch_size):
            batch = rows[first : first + batch_size]
            prompts = [prompt for prompt, _ in batch]
            with steering.pushed([push for _, push in batch], steering.after(prompts)):
                texts += steering.lm.continuations(
                    prompts,
                    max_new_tokens=max_new_tokens,
                    temperature=temperature,
                    seed=seed + first // batch_size,
                )
            bar.update(len(batch))
    return texts


class ShareRow(NamedTuple):
    """A text under a push, and the tokens to look at."""

    text: Continuation
    push: Push | None
    ids_Kn: Tensor  # K sets of n tokens


@torch.no_grad()
def token_shares(steering: Steering, rows: Sequence[ShareRow], batch_size: int) -> list[np.ndarray | None]:
    """The probability of sets of tokens [K], mean over the positions of a text that is the same for all.

    Every row reads its text under its push; nothing is written, so that rows differ by the push alone. None
    for a text without a token.
    """
    shares: list[np.ndarray | None] = [None] * len(rows)
    for batch in read_continuations([row.text for row in rows], batch_size, "own tokens"):
        pushes = [rows[i].push for i in batch.rows]
        with steering.pushed(pushes, batch.continues_BL if steering.generated_only else None):
            logits_BLV = steering.lm.logits(batch.tokens_BL, batch.mask_BL)
        for row, i in enumerate(batch.rows):
            predicts_T = batch.predicting(row)
            if len(predicts_T):
                p_TV = logits_BLV[row, predicts_T].float().softmax(-1)
                ids_Kn = rows[i].ids_Kn.to(p_TV.device)
                shares[i] = p_TV[:, ids_Kn].sum(-1).mean(0).cpu().numpy()
    return shares
