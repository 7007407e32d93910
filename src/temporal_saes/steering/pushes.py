"""Steering: a language model writes while latents of one of its layers are pushed.

    push = Push(latent=5, strength=2.0, amount=30.0, direction_D=dictionary.decoder_directions()[5])
    edit = push_rows([push, None], "add", dictionary, norm_limit=1800)
    lm.generate(["I think that", "I think that"], layer, edit, max_new_tokens=40)

Every row of a batch has its own push, so that many latents and strengths are written in one generation.

add    the latent's decoder direction, times an amount, is added: x + a d
clamp  the latent is set to an amount, whatever it was, and all else is left: x + (a - f(x)) d

Positions of outlying norm, such as an attention sink, are left as they are: no dictionary has seen them,
and what it would read there is not the latent.

Shapes: B rows, L positions, D model width, F latents, K sets of tokens, V vocabulary.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dictionary_learning.dictionaries.base import Dictionary
from dictionary_learning.errors import UserError
from dictionary_learning.language_model import Continuation, Edit, LanguageModel, Place, only
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


def check_mode(mode: str, dictionary: Dictionary) -> None:
    """Raise a UserError for a dictionary whose latents cannot be read one position at a time."""
    if mode == "clamp" and dictionary.reads_sequences:
        raise UserError(
            f"--mode clamp reads a latent at each new token alone, and a {type(dictionary).__name__} reads "
            f"whole texts: use --mode add."
        )


def push_rows(
    pushes: Sequence[Push | None], mode: str, dictionary: Dictionary, norm_limit: float = math.inf
) -> Edit:
    """Edit: the i-th row [L, D] of a batch [B, L, D] gets the i-th push; None leaves it as it is.

    Args:
        norm_limit: positions of a larger norm are left as they are.
    """
    check_mode(mode, dictionary)
    width = dictionary.activation_dim
    pushed_B = torch.tensor([push is not None for push in pushes])
    latent_B = torch.tensor([0 if push is None else push.latent for push in pushes])
    amount_B = torch.tensor([0.0 if push is None else push.amount for push in pushes])
    direction_BD = torch.stack(
        [torch.zeros(width) if push is None else push.direction_D.cpu() for push in pushes]
    )
    # a random direction has no latent to be set: it is added
    adds_B = torch.tensor([mode == "add" or (push is not None and push.is_control) for push in pushes])
    weight = next(dictionary.parameters())

    @torch.no_grad()
    def edit(x_BLD: Tensor) -> Tensor:
        device = x_BLD.device
        more_BL = amount_B.to(device)[:, None].expand(x_BLD.shape[:2])
        if not bool(adds_B.all()):
            f_BLF = dictionary.encode(x_BLD.to(weight.device, weight.dtype))
            index_BL1 = latent_B.to(f_BLF.device)[:, None, None].expand(*x_BLD.shape[:2], 1)
            now_BL = f_BLF.gather(2, index_BL1)[..., 0].to(device, torch.float32)
            more_BL = torch.where(adds_B.to(device)[:, None], more_BL, more_BL - now_BL)
        usual_BL = x_BLD.float().norm(dim=-1) <= norm_limit
        change_BL = torch.where(usual_BL & pushed_B.to(device)[:, None], more_BL, 0)
        return (x_BLD.float() + change_BL[..., None] * direction_BD.to(device)[:, None]).to(x_BLD)

    return edit


class Steering(NamedTuple):
    """What all rows share."""

    lm: LanguageModel
    place: Place
    dictionary: Dictionary
    mode: str
    norm_limit: float
    generated_only: bool  # leave the prompt's positions as they are

    def edit(self, pushes: Sequence[Push | None]) -> Edit | None:
        """The edit of these rows; None where none is pushed."""
        if all(push is None for push in pushes):
            return None
        return push_rows(pushes, self.mode, self.dictionary, self.norm_limit)


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
            edit = steering.edit([push for _, push in batch])
            texts += steering.lm.continuations(
                [prompt for prompt, _ in batch],
                None if edit is None else steering.place,
                edit,
                max_new_tokens=max_new_tokens,
                temperature=temperature,
                seed=seed + first // batch_size,
                generated_only=steering.generated_only,
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
        edit = steering.edit(pushes)
        if edit is not None and steering.generated_only:
            edit = only(batch.continues_BL, edit)
        place = None if edit is None else steering.place
        logits_BLV = steering.lm.logits(batch.tokens_BL, batch.mask_BL, place, edit)
        for row, i in enumerate(batch.rows):
            predicts_T = batch.predicting(row)
            if len(predicts_T):
                p_TV = logits_BLV[row, predicts_T].float().softmax(-1)
                ids_Kn = rows[i].ids_Kn.to(p_TV.device)
                shares[i] = p_TV[:, ids_Kn].sum(-1).mean(0).cpu().numpy()
    return shares
