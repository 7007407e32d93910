"""Between raw activations and what trainers see: one norm factor, which is folded into what is saved.

Shapes: D model width.
"""

import copy
import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from dictionary_learning import distributed
from dictionary_learning.activations.block import TextPairs
from dictionary_learning.activations.sequences import Sequences
from dictionary_learning.errors import UserError
from dictionary_learning.runs.source import Batch, Source

NORM_TOKENS, NORM_BATCHES = 32_768, 16  # the norm factor is measured on whichever is less


class Scaling:
    """How a batch reaches the trainers, and how weights and thresholds go back to raw activations.

    Attributes:
        factor: activations are divided by it; None while it is not known.
    """

    def __init__(self, device: torch.device, by_head: bool) -> None:
        self.device = device
        self.by_head = by_head
        self.factor: float | None = None

    @property
    def known_factor(self) -> float:
        assert self.factor is not None
        return self.factor

    def measure(self, source: Source) -> None:
        """The factor s for which E‖x / s‖² = 1, from the first batches, which stay to be trained on.

        Raises:
            UserError: activations that are not finite, or all zero.
        """
        total, n_rows = 0.0, 0.0
        for i, batch in enumerate(source.look_ahead(NORM_TOKENS, NORM_BATCHES)):
            x = activations(batch).to(self.device, torch.float32)
            if not distributed.is_all(is_finite(x)):
                raise UserError(
                    f"the activations of batch {i} (counted from 0) hold NaN or infinity: "
                    "try the language model in float32."
                )
            squared_norms = x.square().sum(-1)
            total += float(squared_norms.sum())
            n_rows += squared_norms.numel()
        total, n_rows = distributed.total_numbers(total, n_rows)
        if n_rows and not total:
            raise UserError(f"the first {n_rows:.0f} activations are all zero: try another layer.")
        self.factor = math.sqrt(total / n_rows) if n_rows else 1.0

    def scaled(self, batch: Batch) -> Batch:
        """The batch on the device, in float32, and divided by the factor."""
        x = batch.to(self.device, torch.float32)
        return x if self.known_factor == 1.0 else x / self.known_factor

    def part(self, x: Batch, i: int, trainer: Any) -> Batch:
        """What trainer i sees of a batch: whole texts, their tokens, or its head."""
        if isinstance(x, Sequences):
            return x if trainer.ae.reads_sequences else x.x_TD
        if not self.by_head:
            return x
        return TextPairs(x.x_BLD[..., i, :], x.text_B) if isinstance(x, TextPairs) else x[..., i, :]

    def calibrate(self, i: int, trainer: Any, batches: Iterable[Batch]) -> dict[str, float]:
        """Set trainer i's inference threshold on raw `batches`; returns facts about it for config.json.

        Thresholds are told in the units of raw activations, as they are in ae.pt.
        """
        facts = trainer.calibrate(self.part(self.scaled(batch), i, trainer) for batch in batches) or {}
        return {
            name: value * self.known_factor if name.startswith("threshold") and value >= 0 else value
            for name, value in facts.items()
        }

    def folded(self, trainer: Any) -> dict[str, Tensor]:
        """The weights as they work on raw activations, on the CPU; the trainer's own stay as they are."""
        ae = copy.deepcopy(trainer.ae)
        if self.known_factor != 1.0:
            ae.scale_biases(self.known_factor)
        return {name: tensor.detach().cpu() for name, tensor in ae.state_dict().items()}


def activations(batch: Batch) -> Tensor:
    """All activations [..., D] of a batch."""
    if isinstance(batch, TextPairs):
        return batch.x_BLD
    return batch.x_TD if isinstance(batch, Sequences) else batch


def is_finite(x: Tensor) -> bool:
    # a sum is finite only if every term is, and costs one pass without a mask
    return math.isfinite(float(x.sum())) or bool(torch.isfinite(x).all())
