"""How smoothly each latent follows texts: the papers' smoothness of one latent, and its steadiness.

    smoothness = LatentSmoothness(n_latents)
    smoothness.add(smoothness.measure(f_uF, x_uD))    # a text after the other
    smoothness.lipschitz_F          # mean over the texts in which a latent is active; lower is smoother
    smoothness.steadiness_F         # 0 fires at single tokens, 1 - 1/n holds its value over n tokens

Shapes: u usable tokens of one text, D model width, F latents, A latents that are active in the text.
"""

import numpy as np
import torch
from torch import Tensor

from dictionary_learning.smoothness import latents_lipschitz


class LatentSmoothness:
    """Sums over the texts that went by."""

    def __init__(self, n_latents: int) -> None:
        self._sum_F = np.zeros(n_latents)
        self._texts_F = np.zeros(n_latents, dtype=np.int64)
        self._change_F = np.zeros(n_latents)
        self._total_F = np.zeros(n_latents)

    @staticmethod
    def measure(f_uF: Tensor, x_uD: Tensor) -> tuple[np.ndarray, ...]:
        """What there is to add of one text.

        Args:
            f_uF: its codes; values below 0 count as 0.
            x_uD: the activations they were encoded from.
        """
        f_uF = f_uF.float().clamp(min=0)
        columns_A, lipschitz_A = latents_lipschitz(f_uF, x_uD)
        active_A = (f_uF != 0).any(0).nonzero().flatten()
        f_uA = f_uF.index_select(1, active_A)
        change_A = torch.nn.functional.pad(f_uA, (0, 0, 1, 1)).diff(dim=0).abs().sum(0)
        sums = (active_A.cpu().numpy(), change_A.cpu().numpy(), f_uA.sum(0).cpu().numpy())
        return columns_A, lipschitz_A, *sums

    def add(self, measured: tuple[np.ndarray, ...]) -> None:
        """Add what was measured of one text."""
        columns_A, lipschitz_A, active_A, change_A, total_A = measured
        self._sum_F[columns_A] += lipschitz_A
        self._texts_F[columns_A] += 1
        self._change_F[active_A] += change_A
        self._total_F[active_A] += total_A

    @property
    def lipschitz_F(self) -> np.ndarray:
        """Largest change a unit of distance, mean over texts; NaN where no text defines it."""
        return np.where(self._texts_F > 0, self._sum_F / np.maximum(self._texts_F, 1), np.nan)

    @property
    def steadiness_F(self) -> np.ndarray:
        """1 - Σ|f_t - f_{t-1}| / 2 Σ f over all texts, zeros before and behind each; NaN for dead latents.

        The same as `report.text_latents.steadiness`, a latent at a time.
        """
        alive_F = self._total_F > 0
        return np.where(alive_F, 1 - self._change_F / (2 * np.where(alive_F, self._total_F, 1)), np.nan)
