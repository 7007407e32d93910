"""The dictionaries that keep what exceeds one threshold: BatchTopK and its variants.

Shapes: D model width, F latents.
"""

import itertools
from abc import abstractmethod
from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dictionary_learning.dictionaries.base import Dictionary
from dictionary_learning.dictionaries.sparse import batch_topk
from dictionary_learning.trainers.trainer import unit_norm_rows_

UNSET_THRESHOLD = -1.0


class Weights(NamedTuple):
    """The parameters in the orientation of the formulas, whatever their names on disk."""

    W_enc_DF: Tensor
    b_enc_F: Tensor
    W_dec_FD: Tensor
    b_dec_D: Tensor


class ThresholdDictionary(Dictionary):
    """relu((x - b_dec) W_enc + b_enc), then BatchTopK in training and a fixed threshold in inference.

    Buffers: `k` int32, `threshold` float32 (-1 while unset: then inference is a plain ReLU SAE).
    """

    k: Tensor
    threshold: Tensor

    @abstractmethod
    def weights(self) -> Weights:
        """Views of the parameters."""

    @abstractmethod
    def decoder_gradient(self) -> Tensor:
        """The gradient of W_dec after a backward pass, as a view [F, D]."""

    @property
    def group_ends(self) -> list[int]:
        """Where each group of latents ends; one group by default."""
        return [self.dict_size]

    def encode(self, x: Tensor, return_active: bool = False, use_threshold: bool = True) -> Any:
        """Latents [..., F] of activations [..., D].

        Args:
            return_active: also return the mask [F] of latents that fire and the codes before selection.
            use_threshold: False selects by BatchTopK over all tokens given, as in training.
        """
        W_enc_DF, b_enc_F, _, b_dec_D = self.weights()
        post_relu = torch.relu((x - b_dec_D) @ W_enc_DF + b_enc_F)
        if use_threshold:
            f = post_relu * (post_relu > self.threshold)
        else:
            flat = post_relu.reshape(-1)
            kept = batch_topk(flat, int(self.k) * (flat.numel() // self.dict_size))
            f = torch.zeros_like(flat).index_put((kept,), flat[kept]).view_as(post_relu)
        if return_active:
            return f, (f != 0).reshape(-1, self.dict_size).any(0), post_relu
        return f

    def decode(self, f: Tensor) -> Tensor:
        """Reconstructed activations [..., D] of latents [..., F]."""
        _, _, W_dec_FD, b_dec_D = self.weights()
        return f @ W_dec_FD + b_dec_D

    def decoder_directions(self) -> Tensor:
        return self.weights().W_dec_FD

    @torch.no_grad()
    def scale_biases(self, scale: float) -> None:
        """Turn the dictionary for x into the one for `scale * x`; an unset threshold stays unset."""
        weights = self.weights()
        weights.b_enc_F.mul_(scale)
        weights.b_dec_D.mul_(scale)
        if self.threshold >= 0:
            self.threshold.mul_(scale)


def initial_decoder(dict_size: int, activation_dim: int, seed: int) -> Tensor:
    """Rows of norm 1 [F, D] in Kaiming-uniform directions."""
    W_dec_FD = torch.empty(dict_size, activation_dim)
    nn.init.kaiming_uniform_(W_dec_FD, generator=torch.Generator().manual_seed(seed))
    unit_norm_rows_(W_dec_FD)
    return W_dec_FD


def with_defaults(state: dict[str, Tensor], config: dict[str, Any]) -> dict[str, Tensor]:
    """The state of a file whose `k` or `threshold` is missing (older files), completed."""
    completed = {
        "k": torch.tensor(int(config.get("k") or 0), dtype=torch.int32),
        "threshold": torch.tensor(UNSET_THRESHOLD),
        **state,
    }
    completed["k"] = torch.as_tensor(completed["k"], dtype=torch.int32)
    return completed


def group_ends(sizes: Iterable[int]) -> list[int]:
    """Running sums of group sizes."""
    return list(itertools.accumulate(sizes))
