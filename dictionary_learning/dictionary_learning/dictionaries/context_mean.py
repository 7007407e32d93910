"""What earlier tokens, or the corpus, say of a token without any learning: controls for a predicted part.

    x <- x - b, where b is zero or the corpus mean
    predicted = the corpus mean                                              corpus_mean
              | the mean of the earlier tokens of the text                   running_mean
              | the same, weighted by the softmax of sharpness * their cosine with the token    recall
    novel     = x - predicted

Nothing is sparse and nothing is learnt, so a figure of a TemporalSAE's parts that these have as well is not
owed to its training. As a dictionary has latents, the parts are their own codes, one a dimension. Recall is
what a TemporalSAE's `start` sets its attention to; its attention is not bound to stay there.

Shapes: B texts, L positions, D model width, F = 2 D latents.
"""

import math
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from dictionary_learning.dictionaries.base import Dictionary, state_sizes
from dictionary_learning.dictionaries.prediction import projection
from dictionary_learning.dictionaries.temporal_sizes import CONTROLS
from dictionary_learning.errors import UserError

_SHAPES = {"b": "D", "constant": "D", "sharpness": ""}


class ContextMean(Dictionary):
    """The mean of the corpus or of the earlier tokens as the predicted part, all else as the novel one.

    Args:
        b_D: taken from an activation first, and belongs to neither part.
        kind: one of `CONTROLS`.
        constant_D: what `corpus_mean` predicts.
        sharpness: of `recall`; `running_mean` is sharpness 0.
        fits_length: scale each prediction to what fits the token best, as a TemporalSAE does; this reads the
            token itself, so it is no prediction any more.
    """

    reads_sequences = True
    b: Tensor
    constant: Tensor
    sharpness: Tensor

    def __init__(
        self,
        b_D: Tensor,
        kind: str,
        *,
        constant_D: Tensor | None = None,
        sharpness: float = 0.0,
        fits_length: bool = False,
    ) -> None:
        super().__init__()
        if kind not in CONTROLS:
            raise UserError(f"there is no control {kind!r}: choose one of {', '.join(CONTROLS)}.")
        self.activation_dim, self.dict_size = len(b_D), 2 * len(b_D)
        self.kind, self.fits_length = kind, fits_length
        self.b = nn.Parameter(b_D.clone().float(), requires_grad=False)
        self.register_buffer(
            "constant", (torch.zeros_like(b_D) if constant_D is None else constant_D).float()
        )
        self.register_buffer("sharpness", torch.tensor(float(sharpness)))

    def predicted(self, x_BLD: Tensor) -> Tensor:
        """The predicted part of texts, without `b`."""
        return self._predicted(x_BLD - self.b)

    def encode(self, x: Tensor) -> Tensor:
        """Predicted parts [B, L, D] of texts [B, L, D], then novel ones.

        Raises:
            UserError: not [B, L, D].
        """
        if x.ndim != 3:
            raise UserError(
                f"{type(self).__name__} reads whole texts, [texts, tokens, {self.activation_dim}], and got "
                f"activations of shape {list(x.shape)}: give all tokens of a text together."
            )
        centred_BLD = self.taken(x, self.b) - self.b
        predicted_BLD = self._predicted(centred_BLD)
        return torch.cat([predicted_BLD, centred_BLD - predicted_BLD], dim=-1)

    def _predicted(self, centred_BLD: Tensor) -> Tensor:
        if self.kind == "corpus_mean":
            direction_BLD = self.constant.to(centred_BLD).expand_as(centred_BLD)
        else:
            direction_BLD = recalled(centred_BLD, float(self.sharpness))
        if not self.fits_length:
            return direction_BLD
        return (direction_BLD * projection(direction_BLD, centred_BLD)).to(centred_BLD.dtype)

    def decode(self, f: Tensor) -> Tensor:
        return f[..., : self.activation_dim] + f[..., self.activation_dim :] + self.b

    def splits(self) -> dict[str, slice]:
        return {
            "predicted": slice(0, self.activation_dim),
            "novel": slice(self.activation_dim, self.dict_size),
        }

    def decoder_directions(self) -> Tensor:
        """Every dimension twice, [F, D]."""
        return torch.eye(self.activation_dim, device=self.b.device, dtype=self.b.dtype).repeat(2, 1)

    @torch.no_grad()
    def scale_biases(self, scale: float) -> None:
        self.b.mul_(scale)
        self.constant.mul_(scale)

    @property
    def architecture(self) -> dict[str, Any]:
        """What the tensors do not say, under the names of config.json."""
        return {"control": self.kind, "fits_length": self.fits_length}

    @classmethod
    def from_state_dict(cls, state: dict[str, Tensor], config: dict[str, Any]) -> Self:
        """Rebuild from the tensors of `ae.pt`; `control` and `fits_length` must be in `config`.

        Raises:
            UserError: a key is missing or unexpected, or `config` does not say which control it is.
        """
        state_sizes(cls.__name__, state, _SHAPES, {"activation_dim": config.get("activation_dim")})
        if "control" not in config:
            raise UserError(
                f"config.json does not say which control this {cls.__name__} is: write it again with "
                "temporal-saes controls."
            )
        return cls(
            state["b"],
            config["control"],
            constant_D=state["constant"],
            sharpness=float(state["sharpness"]),
            fits_length=bool(config.get("fits_length", False)),
        )


def recalled(x_BLD: Tensor, sharpness: float) -> Tensor:
    """The mean of the earlier tokens, weighted by the softmax of sharpness * cosine; zeros at the first."""
    unit_BLD = normalize(x_BLD, dim=-1)
    score_BLL = sharpness * unit_BLD @ unit_BLD.transpose(-1, -2)
    is_earlier_LL = torch.ones(score_BLL.shape[-2:], dtype=torch.bool, device=x_BLD.device).tril(-1)
    weight_BLL = score_BLL.masked_fill(~is_earlier_LL, -math.inf).softmax(-1)
    return torch.where(is_earlier_LL, weight_BLL, 0) @ x_BLD  # the first row has nothing to weigh
