"""What a `LanguageModel` does with a dictionary: read its codes, steer its latents.

    with lm.attached(dictionary, 15) as run:
        lm.generate(["The Senate met in"], max_new_tokens=20)
    run.codes_BTF

    with lm.steered(dictionary, {5: 30.0}, 15):
        lm.generate(["The Senate met in"], max_new_tokens=20)

Shapes: B texts, T positions from the beginning of a text, D model width.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from dictionary_learning.errors import UserError
from dictionary_learning.language_model.attach.passes import unwatched
from dictionary_learning.language_model.attach.positions import Attachable
from dictionary_learning.language_model.attach.reading import Attached, attached
from dictionary_learning.language_model.attach.steering import Strengths, steered
from dictionary_learning.language_model.places import Place
from dictionary_learning.language_model.text_codes import Encoder, check_width, norm_limit

SINK_RATIO = 10.0  # as training and `encode` have it by default
# Whose tokens tell how long an ordinary activation is. A prompt may be one token, and that one the sink.
_ORDINARY = (
    "The river rose during the night, and by morning the lower road was under water. Most people had left "
    "the village the day before; those who stayed watched from the hill as the bridge, which was older than "
    "anyone there, began to move. Nobody said much. When the rain stopped, they went down to see what could "
    "be saved."
)


class Attaching(ABC):
    """A language model to which dictionaries are attached."""

    name: str
    model: Any
    d_model: int
    special_ids: frozenset[int]
    max_positions: int | None
    _usual_norms: dict[Place, float]

    @abstractmethod
    def check_place(self, place: int | Place) -> Place: ...

    @abstractmethod
    def _module(self, layer: Any) -> nn.Module: ...

    @abstractmethod
    def tokenize(self, texts: list[str], max_length: int, offsets: bool = False) -> Any: ...

    @abstractmethod
    def text_mask(self, tokens_BL: Tensor, mask_BL: Tensor) -> Tensor: ...

    @abstractmethod
    def record(self, tokens_BL: Tensor, mask_BL: Tensor, layer: Any) -> Tensor: ...

    def attached(
        self,
        dictionary: Encoder,
        layer: int | Place | None = None,
        *,
        norm_limit: float | None = None,
        latents: Sequence[int] | slice = slice(None),
    ) -> AbstractContextManager[Attached]:
        """Inside the block the codes of every forward pass are kept, generation included; nothing is changed.

        They are those of `encode`: special tokens and attention sinks have none, and a TemporalSAE sees the
        earlier tokens of a text, also of those that are in the model's cache. See `attach.reading.attached`.

        Args:
            layer: a decoder layer, or a place in one; where a loaded dictionary was trained if not given.
            norm_limit: positions of a larger norm have no codes; `sink_norm` if not given.
            latents: those that are kept, where all would take too much memory.

        Raises:
            UserError: the layer or the dictionary does not fit.
        """
        place = self._place(dictionary, layer)
        limit = self.sink_norm(place) if norm_limit is None else norm_limit
        return attached(
            self.model,
            dictionary,
            self._module(place),
            special_ids=self.special_ids,
            norm_limit=limit,
            latents=latents,
        )

    def steered(
        self,
        dictionary: Attachable,
        strengths: Strengths | Sequence[Strengths],
        layer: int | Place | None = None,
        *,
        mode: str = "add",
        keep_error: bool = True,
        norm_limit: float | None = None,
        where_BT: Tensor | None = None,
    ) -> AbstractContextManager[None]:
        """Inside the block latents are steered in every forward pass: {latent: strength}.

        Args:
            strengths, mode, keep_error, where_BT: as for `attach.steering.steered`.
            layer, norm_limit: as for `attached`.

        Raises:
            UserError: the layer, the dictionary, a latent or the mode does not fit.
        """
        place = self._place(dictionary, layer)
        limit = self.sink_norm(place) if norm_limit is None else norm_limit
        return steered(
            self.model,
            dictionary,
            strengths,
            self._module(place),
            mode=mode,
            keep_error=keep_error,
            special_ids=self.special_ids,
            norm_limit=limit,
            where_BT=where_BT,
        )

    def sink_norm(self, layer: int | Place, ratio: float | None = SINK_RATIO) -> float:
        """The norm above which a position is an attention sink: a multiple of the median of an ordinary text.

        `encode` takes the median of the texts that it is given. Here it is of one text that is read once, so
        that a position is the same in a batch, alone, and in a pass over its token only.

        Args:
            ratio: None: there are no sinks.
        """
        place = self.check_place(layer)
        if place not in self._usual_norms:
            with unwatched():
                tokens_BL, mask_BL, _ = self.tokenize([_ORDINARY], min(128, self.max_positions or 128))
                norm_BL = self.record(tokens_BL, mask_BL, place).float().norm(dim=-1).cpu()
            norm_n = norm_BL[self.text_mask(tokens_BL, mask_BL) & torch.isfinite(norm_BL)]
            self._usual_norms[place] = norm_limit(norm_n.numpy(), 1.0) or math.inf
        return math.inf if ratio is None else ratio * self._usual_norms[place]

    def _place(self, dictionary: Encoder, layer: int | Place | None) -> Place:
        check_width(dictionary, self)
        where: int | Place | None = getattr(dictionary, "place", None) if layer is None else layer
        if where is None:
            raise UserError(
                "this dictionary does not say where it was trained: give the layer, as in "
                "attached(dictionary, 15)."
            )
        return self.check_place(where)
