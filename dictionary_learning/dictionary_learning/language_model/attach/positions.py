"""The positions at which a dictionary has codes, and the codes at them.

A dictionary knows no padding, no special token and no attention sink: training left them out. So they have no
codes here, are no context for the positions behind them, and steering leaves them as they are.

Shapes: B texts, L positions that go through the model now, n usable positions among them, u of one text, c of
a piece, D model width, F latents.
"""

from collections.abc import Collection, Iterator
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from dictionary_learning.errors import UserError
from dictionary_learning.language_model.attach.passes import Pass, Past, Rows
from dictionary_learning.language_model.text_codes import Encoder

ENTRIES = 2**25  # of the codes that are made at a time: 128 MB


class Attachable(Encoder, Protocol):
    """What is asked of a dictionary that is steered with."""

    def decode(self, f: Tensor) -> Tensor: ...

    def decoder_directions(self) -> Tensor: ...


class Positions:
    """Usable positions and their codes, pass after pass, of one dictionary at one module.

    A dictionary that reads sequences is given the usable positions of a text from its beginning, those of
    earlier passes included: they are kept beside the model's cache.

    Args:
        special_ids: tokens that are no text.
        norm_limit: a position of a larger norm is an attention sink.
    """

    def __init__(self, dictionary: Encoder, special_ids: Collection[int], norm_limit: float) -> None:
        self.dictionary = dictionary
        self.norm_limit = norm_limit
        self._special = torch.tensor(sorted(special_ids), dtype=torch.long)
        self._contexts: WeakKeyDictionary[Past, _Contexts] = WeakKeyDictionary()

    def usable(self, x_BLD: Tensor, one: Pass) -> Tensor:
        """True [B, L] at the positions that have codes.

        Raises:
            UserError: the activations are of another width than the dictionary's.
        """
        if x_BLD.shape[-1] != self.dictionary.activation_dim:
            raise UserError(
                f"the dictionary takes activations of width {self.dictionary.activation_dim}, and this "
                f"module gives width {x_BLD.shape[-1]}: choose the module that it was trained on."
            )
        usable_BL = x_BLD.float().norm(dim=-1) <= self.norm_limit
        if one.mask_BL is not None:
            usable_BL = usable_BL & one.mask_BL.to(usable_BL.device)
        if one.tokens_BL is not None and len(self._special):
            tokens_BL = one.tokens_BL.to(usable_BL.device)
            usable_BL = usable_BL & ~torch.isin(tokens_BL, self._special.to(usable_BL.device))
        return usable_BL

    def codes(
        self, x_BLD: Tensor, usable_BL: Tensor, wanted_BL: Tensor, one: Pass
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Pieces of the wanted positions (all counted, text after text) [c], and their codes [c, F].

        Args:
            wanted_BL: some of the usable ones.

        Raises:
            UserError: the codes need what went through the model before the dictionary was attached.
        """
        weight = next(self.dictionary.parameters())
        if not self.dictionary.reads_sequences:
            size = max(1, ENTRIES // self.dictionary.dict_size)
            for index_c in wanted_BL.flatten().nonzero()[:, 0].split(size):
                x_cD = x_BLD.flatten(0, 1)[index_c].to(weight.device, weight.dtype)
                yield index_c, self.dictionary.encode(x_cD)
            return
        contexts = self._contexts_of(one)
        contexts.add(x_BLD.detach().to(weight.device, weight.dtype), usable_BL)
        index_BL = torch.arange(usable_BL.numel(), device=usable_BL.device).view_as(usable_BL)
        for row, (usable_L, wanted_L) in enumerate(zip(usable_BL, wanted_BL, strict=True)):
            if wanted_L.any():
                f_uF = contexts.codes(row, int(usable_L.sum()), self.dictionary)
                yield index_BL[row, wanted_L], f_uF[wanted_L[usable_L].to(f_uF.device)]

    def _contexts_of(self, one: Pass) -> "_Contexts":
        contexts = self._contexts.get(one.past)
        if contexts is None:
            contexts = self._contexts[one.past] = _Contexts()
            one.past.on_rows.append(contexts.exchange)
        if contexts.length < one.start:
            kind = type(self.dictionary).__name__
            raise UserError(
                f"{one.start} tokens of this text went through the model before the dictionary was attached, "
                f"and a {kind} reads a token in its context: attach it before the first of them."
            )
        contexts.cut(one.start)
        return contexts


class _Contexts:
    """The usable activations of texts from their beginning, for a dictionary that reads sequences."""

    def __init__(self) -> None:
        self.x_BuD: list[Tensor] = []
        self._usable_BT: Tensor | None = None
        self._done_B: list[tuple[int, Any]] = []  # how many were encoded, and what the dictionary remembers

    @property
    def length(self) -> int:
        return 0 if self._usable_BT is None else self._usable_BT.shape[1]

    def add(self, x_BLD: Tensor, usable_BL: Tensor) -> None:
        new = [x_LD[usable_L.to(x_LD.device)] for x_LD, usable_L in zip(x_BLD, usable_BL, strict=True)]
        if self._usable_BT is None:
            self.x_BuD, self._usable_BT = new, usable_BL
            self._done_B = [(0, None)] * len(new)
            return
        self.x_BuD = [torch.cat(parts) for parts in zip(self.x_BuD, new, strict=True)]
        self._usable_BT = torch.cat([self._usable_BT, usable_BL], dim=1)

    def codes(self, row: int, n: int, dictionary: Encoder) -> Tensor:
        """Codes [n, F] of the last n usable positions of a text."""
        x_uD = self.x_BuD[row]
        if not getattr(dictionary, "goes_on", False):
            return dictionary.encode(x_uD[None])[0, -n:]
        done, memory = self._done_B[row]
        f_BuF, memory = dictionary.encode_on(x_uD[None, done:], memory)  # type: ignore[attr-defined]
        self._done_B[row] = len(x_uD), memory
        return f_BuF[0, -n:]

    def cut(self, length: int) -> None:
        """Forget what a cache has forgotten."""
        if length < self.length:
            assert self._usable_BT is not None
            self._usable_BT = self._usable_BT[:, :length]
            kept_B = self._usable_BT.sum(1).tolist()
            self.x_BuD = [x_uD[:kept] for x_uD, kept in zip(self.x_BuD, kept_B, strict=True)]
            self._done_B = [
                one if one[0] <= kept else (0, None) for one, kept in zip(self._done_B, kept_B, strict=True)
            ]

    def exchange(self, rows: Rows) -> None:
        if self._usable_BT is not None:
            moved_B = rows(torch.arange(len(self.x_BuD)))
            self.x_BuD = [self.x_BuD[i] for i in moved_B.tolist()]
            self._done_B = [self._done_B[i] for i in moved_B.tolist()]
            self._usable_BT = rows(self._usable_BT)
