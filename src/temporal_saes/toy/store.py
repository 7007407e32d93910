"""The texts of a toy world as a store, which every trainer reads like the activations of a language model.

Shapes: T tokens of all texts, B texts, L tokens of one, D width.
"""

from typing import Any

import torch
from torch import Tensor

from dictionary_learning.activations.block import BEGINNING, Block, BlockStart
from dictionary_learning.activations.contexts import PackedTokens
from dictionary_learning.activations.store import Store


class ToyStore(Store):
    """Texts [B, L, D] in memory, one block."""

    def __init__(self, x_BLD: Tensor, config: dict[str, Any]) -> None:
        n_texts, length, width = x_BLD.shape
        super().__init__(width, n_texts * length, config, lambda line: None)
        texts_C = torch.arange(n_texts)
        self._packed = PackedTokens(
            tokens_T=torch.zeros(n_texts * length, dtype=torch.int32),
            text_T=torch.ones(n_texts * length, dtype=torch.bool),
            start_C=torch.arange(n_texts + 1) * length,
            document_C=texts_C,
            position_C=texts_C,
            number_C=torch.zeros(n_texts, dtype=torch.int64),
        )
        self._x_TD = x_BLD.flatten(0, 1).contiguous()

    def _read(self, start: BlockStart) -> Block:
        return Block.of(self._packed, self._x_TD, self._x_TD.norm(dim=1), None, start=BEGINNING, next=None)
