"""The tokens that a batch is evaluated on, and what every dictionary's figures need of them, made once.

Shapes: N contexts of a batch, L positions, C contexts with a usable token, n usable tokens, D model width.
"""

from functools import cached_property

import torch
from torch import Tensor

from dictionary_learning.activations.block import Contexts
from dictionary_learning.activations.sequences import Sequences
from dictionary_learning.evaluation.sums import double
from dictionary_learning.smoothness import Array, step_lengths


class Target:
    """The usable tokens of a batch, context after context."""

    def __init__(self, batch: Contexts, device: torch.device, dtype: torch.dtype) -> None:
        """
        Args:
            batch: every context has a usable token.
            device, dtype: of the dictionary.
        """
        self.texts = Sequences.of(batch.x_NLD.to(device, dtype), batch.mask_NL)
        self.counts: list[int] = self.texts.length_N.tolist()

    @property
    def x_nD(self) -> Tensor:
        """What the dictionary reads."""
        return self.texts.x_TD

    @cached_property
    def x_double_nD(self) -> Tensor:
        return double(self.x_nD)

    @cached_property
    def norm_n(self) -> Tensor:
        return self.x_double_nD.norm(dim=1)

    @cached_property
    def sum_D(self) -> Tensor:
        return self.x_double_nD.sum(0)

    @cached_property
    def count_C(self) -> Tensor:
        return self.texts.length_N.to(self.x_double_nD.device)

    @cached_property
    def context_n(self) -> Tensor:
        """The context of each token."""
        contexts_C = torch.arange(len(self.counts), device=self.count_C.device)
        return torch.repeat_interleave(contexts_C, self.count_C, output_size=len(self.x_nD))

    @cached_property
    def variation_C(self) -> Tensor:
        """Of each context, Σ‖x - mean x‖²."""
        mean_CD = self.sum_by_context(self.x_double_nD) / self.count_C[:, None]
        return self.sum_by_context((self.x_double_nD - mean_CD[self.context_n]).square().sum(1))

    @cached_property
    def step_lengths(self) -> list[Array]:
        """Of each context, ‖x_t - x_{t-1}‖₂."""
        return [step_lengths(x_TD) for x_TD in self.x_nD.cpu().split(self.counts)]

    def sum_by_context(self, values: Tensor) -> Tensor:
        """[n, ...] to sums [C, ...]."""
        return values.new_zeros(len(self.counts), *values.shape[1:]).index_add_(0, self.context_n, values)
