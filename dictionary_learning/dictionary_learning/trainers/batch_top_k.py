"""BatchTopK SAE (Bussmann et al. 2024): the dictionary, and the trainer that its variants build on.

The variants are BatchTopK plus groups of latents (Matryoshka) plus a temporal term (T-SAE): they
override `group_sizes` and `_temporal_loss`, and nothing else.

Shapes: B tokens, D model width, F latents, G groups, N non-zero entries.
"""

from typing import Any, Self

import torch
from torch import Tensor, nn

from dictionary_learning.dictionary import state_sizes
from dictionary_learning.trainers.threshold import (
    UNSET_THRESHOLD,
    ThresholdDictionary,
    Weights,
    initial_decoder,
    with_defaults,
)


class BatchTopKSAE(ThresholdDictionary):
    """A single group of latents, with upstream's names: `encoder.*`, `decoder.weight`, `b_dec`."""

    def __init__(self, activation_dim: int, dict_size: int, k: int, seed: int = 0) -> None:
        super().__init__()
        self.activation_dim, self.dict_size = activation_dim, dict_size
        self.register_buffer("k", torch.tensor(k, dtype=torch.int32))
        self.register_buffer("threshold", torch.tensor(UNSET_THRESHOLD))
        self.encoder = nn.Linear(activation_dim, dict_size)
        self.decoder = nn.Linear(dict_size, activation_dim, bias=False)
        self.b_dec = nn.Parameter(torch.zeros(activation_dim))
        W_dec_FD = initial_decoder(dict_size, activation_dim, seed)
        self.encoder.weight = nn.Parameter(W_dec_FD.clone())
        nn.init.zeros_(self.encoder.bias)
        # Stored by latent: the sparse products gather rows of W_dec and of W_enc transposed.
        self.decoder.weight = nn.Parameter(W_dec_FD.T)

    def weights(self) -> Weights:
        return Weights(self.encoder.weight.T, self.encoder.bias, self.decoder.weight.T, self.b_dec)

    def decoder_gradient(self) -> Tensor:
        assert self.decoder.weight.grad is not None
        return self.decoder.weight.grad.T

    @classmethod
    def from_state_dict(cls, state: dict[str, Tensor], config: dict[str, Any]) -> Self:
        state = with_defaults(state, config)
        shapes = {"encoder.weight": "FD", "encoder.bias": "F", "decoder.weight": "DF", "b_dec": "D"}
        sizes = state_sizes(cls.__name__, state, shapes | {"k": "", "threshold": ""}, config)
        ae = cls(sizes["D"], sizes["F"], int(state["k"]))
        ae.load_state_dict(state)
        return ae
