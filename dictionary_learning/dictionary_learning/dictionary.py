"""What every dictionary is, and the one-layer classics.

Shapes: B tokens, L positions, D model width, F latents.
"""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from dictionary_learning.errors import UserError


class Dictionary(nn.Module, ABC):
    """A sparse dictionary over activations: `encode` to latents, `decode` back.

    A dictionary loaded from disk works on raw activations: the factor by which training scaled
    them is folded into the weights when they are saved (`scale_biases`).
    """

    activation_dim: int
    dict_size: int

    @abstractmethod
    def encode(self, x: Tensor) -> Tensor:
        """Activations [..., D] to latents [..., F]."""

    @abstractmethod
    def decode(self, f: Tensor) -> Tensor:
        """Latents [..., F] to reconstructed activations [..., D]."""

    def forward(self, x: Tensor, output_features: bool = False) -> Any:
        """Reconstruct [..., D]; with `output_features` return `(x_hat, f)`."""
        f = self.encode(x)
        x_hat = self.decode(f)
        return (x_hat, f) if output_features else x_hat

    def splits(self) -> dict[str, slice]:
        """Named parts of the latents, such as `{"high": ..., "low": ...}`; empty without parts."""
        return {}

    def decoder_directions(self) -> Tensor:
        """The vector [F, D] that each latent adds to the reconstruction."""
        raise NotImplementedError(f"{type(self).__name__} has no single decoder direction a latent")

    def scale_biases(self, scale: float) -> None:
        """Turn a dictionary for activations x into the same one for activations `scale * x`."""
        raise NotImplementedError(f"{type(self).__name__} cannot be rescaled")

    @classmethod
    @abstractmethod
    def from_state_dict(cls, state: dict[str, Tensor], config: dict[str, Any]) -> Self:
        """Rebuild from the tensors of `ae.pt`; sizes come from the shapes, the rest from `config`."""

    @classmethod
    def from_pretrained(
        cls, path: str | Path, device: str | torch.device | None = None, **config: Any
    ) -> Self:
        """Load the `ae.pt` at `path`, without running pickled code.

        Raises:
            UserError: the file is missing, damaged, or holds another architecture.
        """
        from dictionary_learning.checkpoint import load_weights

        return cls.from_state_dict(load_weights(path), config).to(device or "cpu")


def chunk_slice(dictionary: Dictionary, chunk: int) -> slice:
    """The latents that `--chunk` asks for: 0 the first named split, 1 the rest, 2 all.

    A dictionary without splits is all one group, so 0 and 2 are the same there.

    Raises:
        UserError: chunk 1 of a dictionary without splits, or another number than 0, 1, 2.
    """
    splits = list(dictionary.splits().values())
    if chunk not in (0, 1, 2):
        raise UserError(
            f"--chunk {chunk} does not exist: 0 is the high-level split, 1 the rest, 2 all latents."
        )
    if chunk == 2 or (chunk == 0 and not splits):
        return slice(0, dictionary.dict_size)
    if not splits:
        raise UserError(f"--chunk 1 needs groups, and {type(dictionary).__name__} has none: use --chunk 2.")
    return splits[0] if chunk == 0 else slice(splits[0].stop, dictionary.dict_size)
