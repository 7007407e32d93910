"""JumpReLU SAEs (Rajamanoharan et al. 2024, arXiv 2407.14435) and their straight-through gradients.

The loss as a function of a threshold is a staircase, whose derivative is zero or undefined. In its
mean over tokens the stairs blur into a slope, and the pseudo-derivatives here estimate that slope
from the tokens within half a bandwidth of the threshold (section 4, with the rectangle kernel).

Shapes: B tokens, D model width, F latents.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor

from dictionary_learning.dictionaries.classics import JumpReluAutoEncoder
from dictionary_learning.errors import UserError
from dictionary_learning.trainers.dense import DenseTrainer, Losses, check_penalty


def jump_relu(pre_BF: Tensor, threshold_F: Tensor, bandwidth: float) -> Tensor:
    """`pre` where it exceeds its latent's threshold, 0 elsewhere [B, F].

    Gradients: to `pre` where it exceeds the threshold; to the threshold
    -(threshold / bandwidth) where |pre - threshold| < bandwidth / 2.
    """
    return _JumpRelu.apply(pre_BF, threshold_F, bandwidth)


def step_function(pre_BF: Tensor, threshold_F: Tensor, bandwidth: float) -> Tensor:
    """1 where `pre` exceeds its latent's threshold, 0 elsewhere [B, F]; its sum is the L0.

    Gradients: none to `pre`; to the threshold -1 / bandwidth where
    |pre - threshold| < bandwidth / 2.
    """
    return _Step.apply(pre_BF, threshold_F, bandwidth)


class JumpReluTrainer(DenseTrainer):
    """||x - x_hat||^2 + sparsity_penalty (L0 / target_l0 - 1)^2, L0 the mean over the batch.

    With `target_l0` None the penalty is `sparsity_penalty` * L0, the paper's main form; the form with
    a target is in its appendix. The biases start so that the first codes are those of
    x minus the geometric median of the first batch. The thresholds themselves are trained, as the
    dictionary_learning library does, and kept at 0 or above; the paper trains their logarithms, which
    takes as many steps as it has.

    Args (beside those of `DenseTrainer`):
        bandwidth: width of the kernel, in units of pre-activations (for activations of mean square norm 1).
        sparsity_penalty: strength of the penalty.
        target_l0: latents that should fire a token on average.

    Raises:
        UserError: a negative penalty, a bandwidth of 0 or less, a target outside 1..dict_size.
    """

    ae: JumpReluAutoEncoder
    dictionary_class = JumpReluAutoEncoder
    betas: ClassVar[tuple[float, float]] = (0.0, 0.999)
    max_grad_norm: ClassVar[float] = 1.0
    recorded = ("bandwidth", "sparsity_penalty", "target_l0")

    def __init__(
        self,
        *,
        dict_size: int,
        lr: float = 7e-5,
        bandwidth: float = 0.001,
        sparsity_penalty: float = 1.0,
        target_l0: float | None = 20.0,
        **options: Any,
    ) -> None:
        check_penalty("sparsity_penalty", sparsity_penalty)
        if bandwidth <= 0:
            raise UserError(f"bandwidth is {bandwidth:g}, and must be positive.")
        if target_l0 is not None and not 0 < target_l0 <= dict_size:
            raise UserError(f"target_l0 is {target_l0:g}, and must be between 0 and the {dict_size} latents.")
        super().__init__(dict_size=dict_size, lr=lr, **options)
        self.bandwidth = bandwidth
        self.sparsity_penalty = sparsity_penalty
        self.target_l0 = target_l0

    def _losses(self, x_BD: Tensor, penalty_factor: float) -> Losses:
        pre_BF = x_BD @ self.ae.W_enc + self.ae.b_enc
        f_BF = jump_relu(pre_BF, self.ae.threshold, self.bandwidth)
        x_hat_BD = self.ae.decode(f_BF)
        l0 = self._mean(step_function(pre_BF, self.ae.threshold, self.bandwidth).sum(-1))

        reconstruction = self._squared_error(x_BD, x_hat_BD)
        sparsity = l0 if self.target_l0 is None else self._share_of_square(l0 / self.target_l0, 1.0)
        total = reconstruction + self.sparsity_penalty * penalty_factor * sparsity
        terms = {"reconstruction": reconstruction, "sparsity": sparsity}
        return Losses(total, terms, f_BF, x_hat_BD)

    def _start(self, median_D: Tensor) -> None:
        self.ae.b_dec.copy_(median_D)
        self.ae.b_enc.copy_(-median_D @ self.ae.W_enc)

    def _after_step(self) -> None:
        self.ae.threshold.clamp_(min=0)

    def _decoder_gradient(self) -> Tensor:
        assert self.ae.W_dec.grad is not None
        return self.ae.W_dec.grad


class _JumpRelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, pre_BF: Tensor, threshold_F: Tensor, bandwidth: float) -> Tensor:
        ctx.save_for_backward(pre_BF, threshold_F)
        ctx.bandwidth = bandwidth
        return torch.where(pre_BF > threshold_F, pre_BF, 0)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        pre_BF, threshold_F = ctx.saved_tensors
        d_threshold_F = -(threshold_F / ctx.bandwidth) * _near(pre_BF, threshold_F, ctx.bandwidth, grads[0])
        return torch.where(pre_BF > threshold_F, grads[0], 0), d_threshold_F, None


class _Step(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, pre_BF: Tensor, threshold_F: Tensor, bandwidth: float) -> Tensor:
        ctx.save_for_backward(pre_BF, threshold_F)
        ctx.bandwidth = bandwidth
        return (pre_BF > threshold_F).to(pre_BF.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        pre_BF, threshold_F = ctx.saved_tensors
        d_threshold_F = -_near(pre_BF, threshold_F, ctx.bandwidth, grads[0]) / ctx.bandwidth
        return None, d_threshold_F, None


def _near(pre_BF: Tensor, threshold_F: Tensor, bandwidth: float, grad_BF: Tensor) -> Tensor:
    """Sum over tokens [F] of the gradient where `pre` is within half a bandwidth of the threshold."""
    near_BF = (pre_BF - threshold_F).abs() < bandwidth / 2
    return torch.where(near_BF, grad_BF, 0).sum(0)
