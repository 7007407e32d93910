"""The one-layer classics.

Shapes: D model width, F latents. A new dictionary has unit-norm decoder rows in random directions
(`AutoEncoderNew`: norm 0.1), the encoder as the decoder's transpose, and biases of zero; tensors on disk
have the names and shapes of the dictionary_learning library.
"""

from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from dictionary_learning.dictionaries.base import Dictionary, state_sizes
from dictionary_learning.dictionaries.sparse import SparseCode
from dictionary_learning.dictionaries.tiles import entries_above


def _random_directions(n: int, dim: int, seed: int) -> Tensor:
    """`n` unit vectors [n, dim] drawn uniformly from the sphere."""
    generator = torch.Generator().manual_seed(seed)
    return nn.functional.normalize(torch.randn(n, dim, generator=generator), dim=-1)


class _Classic(Dictionary):
    """A dictionary that is rebuilt from its two sizes; a subclass names its tensors in `shapes`."""

    shapes: ClassVar[dict[str, str]]

    def __init__(self, activation_dim: int, dict_size: int) -> None:
        super().__init__()
        self.activation_dim = activation_dim
        self.dict_size = dict_size

    @classmethod
    def from_state_dict(cls, state: dict[str, Tensor], config: dict[str, Any]) -> Self:
        """Rebuild from the tensors of `ae.pt`.

        Raises:
            UserError: a key is missing or unexpected, or shapes disagree with each other or `config`.
        """
        sizes = state_sizes(cls.__name__, state, cls.shapes, config)
        dictionary = cls(sizes["D"], sizes["F"])
        dictionary.load_state_dict(state)
        return dictionary


class _LinearPair(_Classic):
    """A dictionary whose weights are two linear maps, `encoder` [F, D] and `decoder` [D, F]."""

    def __init__(
        self,
        activation_dim: int,
        dict_size: int,
        seed: int,
        *,
        encoder_bias: bool,
        decoder_bias: bool,
        norm: float = 1.0,
    ) -> None:
        super().__init__(activation_dim, dict_size)
        self.encoder = nn.Linear(activation_dim, dict_size, bias=encoder_bias)
        self.decoder = nn.Linear(dict_size, activation_dim, bias=decoder_bias)
        W_dec_FD = _random_directions(dict_size, activation_dim, seed) * norm
        with torch.no_grad():
            self.encoder.weight.copy_(W_dec_FD)
            self.decoder.weight.copy_(W_dec_FD.T)
            for bias in (self.encoder.bias, self.decoder.bias):
                if bias is not None:
                    bias.zero_()

    def decoder_directions(self) -> Tensor:
        return self.decoder.weight.T


class AutoEncoder(_LinearPair):
    """ReLU dictionary with one bias before the encoder and after the decoder (Bricken et al. 2023).

    f = relu(W_enc (x - bias) + b_enc), x_hat = W_dec f + bias.
    """

    shapes: ClassVar = {"bias": "D", "encoder.weight": "FD", "encoder.bias": "F", "decoder.weight": "DF"}

    def __init__(self, activation_dim: int, dict_size: int, seed: int = 0) -> None:
        super().__init__(activation_dim, dict_size, seed, encoder_bias=True, decoder_bias=False)
        self.bias = nn.Parameter(torch.zeros(activation_dim))

    def encode(self, x: Tensor) -> Tensor:
        return torch.relu(self.encoder(self.taken(x, self.bias) - self.bias))

    def decode(self, f: Tensor) -> Tensor:
        return self.decoder(f) + self.bias

    @torch.no_grad()
    def scale_biases(self, scale: float) -> None:
        for bias in (self.encoder.bias, self.bias):
            bias.mul_(scale)

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls, path: str | Path, *args: Any, normalize_decoder: bool = False, **options: Any
    ) -> Self:
        """As for every `Dictionary`.

        Args:
            normalize_decoder: give decoder rows norm 1, which the dictionary_learning library does here by
                default: its codes are those times the norms that the rows had.
        """
        dictionary = super().from_pretrained(path, *args, **options)
        if normalize_decoder:
            dictionary.normalize_decoder()
        return dictionary

    @torch.no_grad()
    def normalize_decoder(self) -> None:
        """Give each decoder row norm 1 and its latent the norm that it had; reconstructions stay.

        A row of zeros stays as it is.
        """
        norm_F = self.decoder.weight.norm(dim=0)
        norm_F = norm_F.where(norm_F > 0, 1)
        self.decoder.weight.div_(norm_F)
        self.encoder.weight.mul_(norm_F.unsqueeze(1))
        self.encoder.bias.mul_(norm_F)


class AutoEncoderNew(_LinearPair):
    """ReLU dictionary with a free decoder norm (Anthropic, Circuits Updates, April 2024).

    f = relu(W_enc x + b_enc), x_hat = W_dec f + b_dec. The decoder starts at norm 0.1, and
    sizes of latents are comparable only after multiplication with the decoder norms.
    """

    shapes: ClassVar = {
        "encoder.weight": "FD",
        "encoder.bias": "F",
        "decoder.weight": "DF",
        "decoder.bias": "D",
    }

    def __init__(self, activation_dim: int, dict_size: int, seed: int = 0) -> None:
        super().__init__(activation_dim, dict_size, seed, encoder_bias=True, decoder_bias=True, norm=0.1)

    def encode(self, x: Tensor) -> Tensor:
        return torch.relu(self.encoder(self.taken(x, self.encoder.weight)))

    def decode(self, f: Tensor) -> Tensor:
        return self.decoder(f)

    @torch.no_grad()
    def scale_biases(self, scale: float) -> None:
        for bias in (self.encoder.bias, self.decoder.bias):
            bias.mul_(scale)


class GatedAutoEncoder(_LinearPair):
    """Gated dictionary: one path says whether a latent fires, the other how much (arXiv 2404.16014).

    pi = W (x - decoder_bias); gate = pi + gate_bias > 0; magnitude = relu(exp(r_mag) pi + mag_bias);
    f = gate * magnitude, x_hat = W_dec f + decoder_bias (section 3.2, with the tied encoder).
    """

    shapes: ClassVar = {
        "decoder_bias": "D",
        "encoder.weight": "FD",
        "r_mag": "F",
        "gate_bias": "F",
        "mag_bias": "F",
        "decoder.weight": "DF",
    }

    def __init__(self, activation_dim: int, dict_size: int, seed: int = 0) -> None:
        super().__init__(activation_dim, dict_size, seed, encoder_bias=False, decoder_bias=False)
        self.decoder_bias = nn.Parameter(torch.zeros(activation_dim))
        self.r_mag = nn.Parameter(torch.zeros(dict_size))
        self.gate_bias = nn.Parameter(torch.zeros(dict_size))
        self.mag_bias = nn.Parameter(torch.zeros(dict_size))

    def paths(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Gate pre-activations and magnitudes [..., F] of activations [..., D]."""
        pi = self.encoder(self.taken(x, self.decoder_bias) - self.decoder_bias)
        return pi + self.gate_bias, torch.relu(self.r_mag.exp() * pi + self.mag_bias)

    def encode(self, x: Tensor) -> Tensor:
        gate, magnitude = self.paths(x)
        return torch.where(gate > 0, magnitude, 0)

    def decode(self, f: Tensor) -> Tensor:
        return self.decoder(f) + self.decoder_bias

    @torch.no_grad()
    def scale_biases(self, scale: float) -> None:
        for bias in (self.decoder_bias, self.gate_bias, self.mag_bias):
            bias.mul_(scale)


class JumpReluAutoEncoder(_Classic):
    """ReLU dictionary with a learned threshold a latent (arXiv 2407.14435, section 3).

    pre = x W_enc + b_enc, f = pre where pre > threshold and 0 elsewhere, x_hat = f W_dec + b_dec.
    Unlike its neighbours it does not subtract `b_dec` from its input, unless `apply_b_dec_to_input`
    says so (some SAELens dictionaries do). Every threshold starts at 0.001, the value for activations
    of mean square norm 1. A negative threshold counts as 0.
    """

    shapes: ClassVar = {"W_enc": "DF", "b_enc": "F", "W_dec": "FD", "b_dec": "D", "threshold": "F"}

    def __init__(self, activation_dim: int, dict_size: int, seed: int = 0) -> None:
        super().__init__(activation_dim, dict_size)
        W_dec_FD = _random_directions(dict_size, activation_dim, seed)
        self.W_enc = nn.Parameter(W_dec_FD.T.clone())
        self.b_enc = nn.Parameter(torch.zeros(dict_size))
        self.W_dec = nn.Parameter(W_dec_FD)
        self.b_dec = nn.Parameter(torch.zeros(activation_dim))
        self.threshold = nn.Parameter(torch.full((dict_size,), 0.001))
        self.apply_b_dec_to_input = False

    @classmethod
    def from_state_dict(cls, state: dict[str, Tensor], config: dict[str, Any]) -> Self:
        dictionary = super().from_state_dict(state, config)
        dictionary.apply_b_dec_to_input = bool(config.get("apply_b_dec_to_input", False))
        return dictionary

    def _centred(self, x: Tensor) -> Tensor:
        x = self.taken(x, self.W_enc)
        return x - self.b_dec if self.apply_b_dec_to_input else x

    def encode_entries(self, x_BD: Tensor) -> SparseCode:
        return entries_above(self._centred(x_BD), self.W_enc, self.b_enc, self.threshold.clamp(min=0))

    def encode(self, x: Tensor) -> Tensor:
        pre = self._centred(x) @ self.W_enc + self.b_enc
        return torch.where(pre > self.threshold, pre, 0).relu()

    def decode(self, f: Tensor) -> Tensor:
        return f @ self.W_dec + self.b_dec

    def decoder_directions(self) -> Tensor:
        return self.W_dec

    @torch.no_grad()
    def scale_biases(self, scale: float) -> None:
        for tensor in (self.b_enc, self.b_dec, self.threshold):
            tensor.mul_(scale)
