"""Latents added to, or set, in every pass of a model.

    with steered(model, dictionary, {5: 30.0}, "model.layers.15"):
        model.generate(**inputs)

With f the codes of the module's output x, and d_i what one unit of latent i adds to a reconstruction:

add     f_i + strength is decoded in place of f_i: x + strength d_i
clamp   strength is decoded in place of f_i: x + (strength - f_i) d_i

Both keep what the dictionary does not explain of x, x - x_hat. Without it (`keep_error=False`) the
reconstruction alone goes on, with the latents changed: x_hat in place of x.

Shapes: B texts, T positions from the
beginning, L of a pass, n of all texts in it, c of a piece, D model width, F latents,
K latents and directions that are steered.
"""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from numbers import Integral
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dictionary_learning.errors import UserError
from dictionary_learning.language_model.attach import MODES
from dictionary_learning.language_model.attach.modules import Where, module_at
from dictionary_learning.language_model.attach.passes import Pass, watching
from dictionary_learning.language_model.attach.positions import Attachable, Positions

Strengths = Mapping[Any, float]
"""How far to go, by latent, or by a direction [D] that is no latent's and is always added."""


@contextmanager
def steered(
    model: nn.Module,
    dictionary: Attachable,
    strengths: Strengths | Sequence[Strengths],
    place: Where,
    *,
    mode: str = "add",
    keep_error: bool = True,
    special_ids: Collection[int] = (),
    norm_limit: float = math.inf,
    where_BT: Tensor | None = None,
) -> Iterator[None]:
    """Inside the block latents are steered in every pass of the model.

    Padding, special tokens and attention sinks stay as they are. Blocks may be nested, at the same module,
    too: the inner one steers what the outer one has made of its output.

    Args:
        model, dictionary, place, special_ids, norm_limit: as for `attached`.
        strengths: {latent: strength}, in the units of the latent's activation; or a list with one such a
            text of the batch, {} leaving it as it is. In place of a latent a direction [D] may stand, which
            is added.
        mode: `add` the strength to the latent, or `clamp` the latent to it.
        keep_error: keep what the dictionary does not explain; otherwise its reconstruction goes on alone, in
            texts that are steered.
        where_BT: bool, positions that may be steered, padding counted; those behind its end may be. One row
            stands for all texts.

    Raises:
        UserError: no such module, latent or mode, a strength that is no number; inside the block, as
            `attached`, and a batch with another number of texts than `strengths`.
    """
    changes = _Changes.of(strengths, mode, keep_error, dictionary)
    positions = Positions(dictionary, special_ids, norm_limit)

    def edit(x_BLD: Tensor, one: Pass) -> Tensor:
        usable_BL = positions.usable(x_BLD, one)
        here = changes.of_batch(x_BLD)
        steered_BL = usable_BL & here.is_steered_B[:, None]
        if where_BT is not None:
            steered_BL = steered_BL & _may(where_BT, one.start, x_BLD).to(steered_BL.device)
        x_nD = x_BLD.flatten(0, 1).to(torch.promote_types(x_BLD.dtype, torch.float32), copy=True)
        row_n = torch.arange(len(x_nD), device=x_BLD.device) // x_BLD.shape[1]
        if bool(here.is_read_B.any()):
            # all usable positions are context for those behind them, whether they are steered or not
            wanted_BL = steered_BL & here.is_read_B[:, None]
            for index_c, f_cF in positions.codes(x_BLD, usable_BL, wanted_BL, one):
                index_c = index_c.to(x_nD.device)
                base_cD = x_nD[index_c] if keep_error else dictionary.decode(f_cF).to(x_nD)
                x_nD[index_c] = base_cD + here.added(row_n[index_c], f_cF).to(x_nD)
            steered_BL = steered_BL & ~here.is_read_B[:, None]
        index_c = steered_BL.flatten().nonzero()[:, 0]
        x_nD[index_c] = x_nD[index_c] + here.added(row_n[index_c]).to(x_nD)
        return x_nD.view_as(x_BLD).to(x_BLD.dtype)

    with watching(model, module_at(model, place), edit):
        yield


class _Changes(NamedTuple):
    """What is done to each text of a batch; one row stands for all."""

    amount_BK: Tensor
    is_clamped_BK: Tensor
    latent_K: Tensor  # 0 for a direction, which is never clamped
    direction_KD: Tensor
    is_steered_B: Tensor
    is_read_B: Tensor  # whether it takes codes

    @classmethod
    def of(
        cls,
        strengths: Strengths | Sequence[Strengths],
        mode: str,
        keep_error: bool,
        dictionary: Attachable,
    ) -> "_Changes":
        if mode not in MODES:
            raise UserError(f"mode {mode!r} does not exist: choose {' or '.join(MODES)}.")
        rows: list[Strengths] = [strengths] if isinstance(strengths, Mapping) else list(strengths)
        keys = list(dict.fromkeys(key for row in rows for key in row))
        for row in rows:
            for key, strength in row.items():
                _check(key, float(strength), dictionary)
        direction_FD = dictionary.decoder_directions().detach()
        directions = [key if torch.is_tensor(key) else direction_FD[key] for key in keys]
        width = dictionary.activation_dim
        amount_BK = torch.tensor([[float(row.get(key, 0.0)) for key in keys] for row in rows])
        is_there_BK = torch.tensor([[key in row for key in keys] for row in rows], dtype=torch.bool)
        is_latent_K = torch.tensor([not torch.is_tensor(key) for key in keys], dtype=torch.bool)
        is_clamped_BK = is_there_BK & is_latent_K & (mode == "clamp")
        is_steered_B = is_there_BK.any(1)
        return cls(
            amount_BK,
            is_clamped_BK,
            torch.tensor([0 if torch.is_tensor(key) else key for key in keys], dtype=torch.long),
            torch.stack([one.float().cpu() for one in directions]) if keys else torch.zeros(0, width),
            is_steered_B,
            is_clamped_BK.any(1) if keep_error else is_steered_B,
        )

    def of_batch(self, x_BLD: Tensor) -> "_Changes":
        """On the activations' device, with a row a text.

        Raises:
            UserError: there are not as many texts as rows.
        """
        n = len(x_BLD)
        if len(self.amount_BK) not in (1, n):
            raise UserError(
                f"strengths are given for {len(self.amount_BK)} texts, and the batch has {n}: give one for "
                "each."
            )
        of_rows = {
            name: getattr(self, name).expand(n, *getattr(self, name).shape[1:])
            for name in ("amount_BK", "is_clamped_BK", "is_steered_B", "is_read_B")
        }
        return _Changes(*(part.to(x_BLD.device) for part in self._replace(**of_rows)))

    def added(self, row_c: Tensor, f_cF: Tensor | None = None) -> Tensor:
        """What is added [c, D] at positions of these texts."""
        amount_cK = self.amount_BK[row_c]
        if f_cF is not None:
            f_cK = f_cF[:, self.latent_K.to(f_cF.device)].to(amount_cK)
            amount_cK = torch.where(self.is_clamped_BK[row_c], amount_cK - f_cK, amount_cK)
        return amount_cK @ self.direction_KD


def _check(key: int | Tensor, strength: float, dictionary: Attachable) -> None:
    if not math.isfinite(strength):
        raise UserError(f"the strength {strength} cannot be steered with: give a number.")
    if torch.is_tensor(key):
        if list(key.shape) != [dictionary.activation_dim]:
            raise UserError(
                f"a direction of the shape {list(key.shape)} cannot be added: give "
                f"[{dictionary.activation_dim}]."
            )
    elif not isinstance(key, Integral) or isinstance(key, bool):
        raise UserError(f"{key!r} is no latent: give its number, or a direction.")
    elif not 0 <= key < dictionary.dict_size:
        raise UserError(f"there is no latent {key}: the dictionary has 0 to {dictionary.dict_size - 1}.")


def _may(where_BT: Tensor, start: int, x_BLD: Tensor) -> Tensor:
    """The positions [B, L] of this pass that may be steered."""
    n_texts, length = x_BLD.shape[:2]
    if len(where_BT) not in (1, n_texts):
        raise UserError(
            f"where_BT is of {len(where_BT)} texts, and the batch has {n_texts}: give one row or all."
        )
    may_BL = torch.ones(len(where_BT), length, dtype=torch.bool)
    known_BL = where_BT[:, start : start + length].bool().cpu()
    may_BL[:, : known_BL.shape[1]] = known_BL
    return may_BL
