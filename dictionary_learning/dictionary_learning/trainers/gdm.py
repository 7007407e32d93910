"""Gated SAEs (Rajamanoharan et al. 2024, arXiv 2404.16014).

Shapes: B tokens, D model width, F latents.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor

from dictionary_learning.dictionaries.classics import GatedAutoEncoder
from dictionary_learning.trainers.dense import DenseTrainer, Losses, check_penalty


class GatedSAETrainer(DenseTrainer):
    """||x - x_hat||^2 + l1_penalty ||relu(pi_gate)||_1 + ||x - x_hat_frozen(relu(pi_gate))||^2 (section 3.2).

    The gate is a step without gradient, so it learns from the last two terms alone: to be sparse,
    and to reconstruct through a copy of the decoder that takes no gradient. `decoder_bias` starts
    at the geometric median of the first batch.

    Args (beside those of `DenseTrainer`):
        l1_penalty: strength of the L1 term.

    Raises:
        UserError: a negative penalty.
    """

    ae: GatedAutoEncoder
    dictionary_class = GatedAutoEncoder
    betas: ClassVar[tuple[float, float]] = (0.0, 0.999)
    recorded = ("l1_penalty",)

    def __init__(self, *, lr: float = 5e-5, l1_penalty: float = 1e-1, **options: Any) -> None:
        check_penalty("l1_penalty", l1_penalty)
        super().__init__(lr=lr, **options)
        self.l1_penalty = l1_penalty

    def _losses(self, x_BD: Tensor, penalty_factor: float) -> Losses:
        gate_BF, magnitude_BF = self.ae.paths(x_BD)
        f_BF = torch.where(gate_BF > 0, magnitude_BF, 0)
        x_hat_BD = self.ae.decode(f_BF)
        gate_BF = torch.relu(gate_BF)
        frozen_BD = gate_BF @ self.ae.decoder_directions().detach() + self.ae.decoder_bias.detach()

        reconstruction, auxiliary = self._squared_error(x_BD, x_hat_BD), self._squared_error(x_BD, frozen_BD)
        l1 = self._mean(gate_BF.sum(-1))
        total = reconstruction + self.l1_penalty * penalty_factor * l1 + auxiliary
        terms = {"reconstruction": reconstruction, "l1": l1, "auxiliary": auxiliary}
        return Losses(total, terms, f_BF, x_hat_BD)

    def _start(self, median_D: Tensor) -> None:
        self.ae.decoder_bias.copy_(median_D)
