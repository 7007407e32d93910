"""The codes of every pass of a model, while a dictionary is attached to it.

    with attached(model, dictionary, "model.layers.15") as run:
        model.generate(**inputs, max_new_tokens=20)
    run.codes_BTF           # of the prompts and of all that was written, but the last token
    run.passes[0].codes_BLF # of the prompts alone

Shapes: B texts, L positions of a pass, T positions of texts from their beginning, D model width, F latents.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import torch
from torch import Tensor, nn

from dictionary_learning.errors import UserError
from dictionary_learning.language_model.attach.modules import Where, module_at
from dictionary_learning.language_model.attach.passes import Pass, Past, Rows, watching
from dictionary_learning.language_model.attach.positions import Positions
from dictionary_learning.language_model.text_codes import Encoder


@dataclass
class Seen:
    """What a dictionary saw in one pass; on the CPU and without gradients."""

    tokens_BL: Tensor | None
    """Token ids; None where the model was given something else."""
    usable_BL: Tensor
    """bool: neither padded nor special nor of outlying norm."""
    codes_BLF: Tensor
    """float32; 0 where not usable."""
    start: int
    """Positions of these texts that went through the model in earlier passes."""


class Attached:
    """What a dictionary sees of a model.

    Attributes:
        passes: one entry a pass, in their order.
    """

    def __init__(self) -> None:
        self.passes: list[Seen] = []
        self._pasts: list[Past] = []

    @property
    def codes_BTF(self) -> Tensor:
        """The codes of the last texts from their beginning, put together from the passes over one cache.

        A token that was generated goes through the model in the pass after it, so the last has no codes.
        """
        return self._whole(lambda seen: seen.codes_BLF)

    @property
    def usable_BT(self) -> Tensor:
        """Which positions of the last texts have codes."""
        return self._whole(lambda seen: seen.usable_BL)

    @property
    def tokens_BT(self) -> Tensor | None:
        """The token ids of the last texts."""
        if any(seen.tokens_BL is None for seen in self._last()):
            return None
        return self._whole(lambda seen: seen.tokens_BL)

    def clear(self) -> None:
        """Forget the passes so far."""
        self.passes.clear()
        self._pasts.clear()

    def add(self, seen: Seen, past: Past) -> None:
        self.passes.append(seen)
        self._pasts.append(past)

        def exchange(rows: Rows) -> None:
            seen.codes_BLF, seen.usable_BL = rows(seen.codes_BLF), rows(seen.usable_BL)
            seen.tokens_BL = None if seen.tokens_BL is None else rows(seen.tokens_BL)

        past.on_rows.append(exchange)

    def _last(self) -> list[Seen]:
        """The passes over the texts that were seen last, from the one that began them."""
        if not self.passes:
            raise UserError(
                "nothing has gone through the module yet: call the model inside the block, and attach to a "
                "module that it calls."
            )
        some = [seen for seen, past in zip(self.passes, self._pasts, strict=True) if past is self._pasts[-1]]
        begin = max((i for i, seen in enumerate(some) if seen.start == 0), default=0)
        return some[begin:]

    def _whole(self, part: Callable[[Seen], Any]) -> Tensor:
        whole: Tensor | None = None
        first = self._last()[0].start
        for seen in self._last():
            # what a cache has forgotten is gone
            whole = (
                part(seen) if whole is None else torch.cat([whole[:, : seen.start - first], part(seen)], 1)
            )
        assert whole is not None
        return whole


@contextmanager
def attached(
    model: nn.Module,
    dictionary: Encoder,
    place: Where,
    *,
    special_ids: Collection[int] = (),
    norm_limit: float = float("inf"),
    latents: Sequence[int] | slice = slice(None),
) -> Iterator[Attached]:
    """Inside the block the codes of every pass of the model are kept; nothing is changed.

    Blocks may be nested, at the same module, too: the inner one sees what the outer one has made of its
    output.

    Args:
        model: what is called: a transformers model, or any module.
        dictionary: a `Dictionary` that takes raw activations, as loaded.
        place: a module of the model, its path as in `named_modules`, or, of a transformers model, the number
            of a decoder layer or a `Place` in one.
        special_ids: tokens that have no codes: BOS, EOS, marks of a chat. Padding is known by the attention
            mask.
        norm_limit: positions of a larger norm, which are attention sinks, have no codes.
        latents: those that are kept, where all would take too much memory.

    Raises:
        UserError: there is no such module; inside the block, the dictionary is of another width, or needs
            tokens that went through the model before.
    """
    positions = Positions(dictionary, special_ids, norm_limit)
    kept = _kept(latents, dictionary.dict_size)
    run = Attached()

    @torch.no_grad()
    def keep(x_BLD: Tensor, one: Pass) -> None:
        usable_BL = positions.usable(x_BLD, one)
        pieces = [
            (index_c.cpu(), f_cF[:, kept].float().cpu())
            for index_c, f_cF in positions.codes(x_BLD, usable_BL, usable_BL, one)
        ]
        n_kept = torch.arange(dictionary.dict_size)[kept].numel()
        codes_nF = torch.zeros(usable_BL.numel(), n_kept)
        for index_c, f_cF in pieces:
            codes_nF[index_c] = f_cF
        tokens_BL = None if one.tokens_BL is None else one.tokens_BL.detach().cpu().clone()
        codes_BLF = codes_nF.view(*usable_BL.shape, n_kept)
        run.add(Seen(tokens_BL, usable_BL.cpu(), codes_BLF, one.start), one.past)

    with watching(model, module_at(model, place), keep):
        yield run


def _kept(latents: Sequence[int] | slice, dict_size: int) -> Tensor | slice:
    """What picks them out of all.

    Raises:
        UserError: one is no latent.
    """
    if isinstance(latents, slice):
        return latents
    given = latents.tolist() if torch.is_tensor(latents) else latents
    numbers = list(given) if isinstance(given, Iterable) else [given]
    for number in numbers:
        if not isinstance(number, Integral) or not 0 <= number < dict_size:
            raise UserError(f"there is no latent {number!r}: the dictionary has 0 to {dict_size - 1}.")
    return torch.tensor([int(number) for number in numbers], dtype=torch.long)
