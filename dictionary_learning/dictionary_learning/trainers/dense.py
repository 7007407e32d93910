"""The step of the trainers whose sparsity comes from a penalty: their codes are dense tensors.

Shapes: B tokens, D model width, F latents.
"""

import math
from abc import abstractmethod
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from dictionary_learning import distributed
from dictionary_learning.errors import UserError
from dictionary_learning.trainers.trainer import (
    DeadLatents,
    Trainer,
    adam,
    batch_variance,
    check_decay_start,
    geometric_median,
    learning_rate_factor,
    remove_parallel_gradient,
    unit_norm_rows_,
    whole_number,
)


class Losses(NamedTuple):
    """A loss, the terms that `metrics` names, and the codes and reconstructions behind it."""

    total: Tensor
    terms: dict[str, Tensor]
    f_BF: Tensor
    x_hat_BD: Tensor


class DenseTrainer(Trainer):
    """Adam on `_losses`, with warm-up of the learning rate and of the sparsity penalty.

    A subclass names its dictionary and says in class attributes how it descends. Penalties and
    learning rates are meant for activations of mean square norm 1.

    Args:
        steps: optimiser steps of the whole run (for the decay of the learning rate).
        lr: learning rate.
        warmup_steps: steps of linear warm-up from 0; `decay_start`: first step of the decay to 0, or None.
        sparsity_warmup_steps: steps over which the penalty grows from 0 to its strength; None for none.

    Raises:
        UserError: a decay that does not lie between the warm-up and the end.
    """

    betas: ClassVar[tuple[float, float]] = (0.9, 0.999)
    max_grad_norm: ClassVar[float] = math.inf
    unit_norm_decoder: ClassVar[bool] = True
    recorded: ClassVar[tuple[str, ...]]
    """Attributes that `config` records beside the common ones."""

    def __init__(
        self,
        *,
        steps: int,
        activation_dim: int,
        dict_size: int,
        lr: float,
        layer: int | None = None,
        lm_name: str | None = None,
        warmup_steps: int = 1000,
        sparsity_warmup_steps: int | None = 2000,
        decay_start: int | None = None,
        seed: int | None = None,
        device: str | torch.device | None = None,
        wandb_name: str | None = None,
        submodule_name: str | None = None,
        dict_class: type | None = None,
    ) -> None:
        name = wandb_name or type(self).__name__
        super().__init__(steps, layer, lm_name, seed, device, name, submodule_name, dict_class)
        activation_dim = whole_number("activation_dim", activation_dim)
        dict_size = whole_number("dict_size", dict_size)
        check_decay_start(decay_start, warmup_steps, steps)
        self.lr = lr
        self.warmup_steps = warmup_steps
        self.sparsity_warmup_steps = sparsity_warmup_steps
        self.decay_start = decay_start
        self.dead_feature_threshold = 10_000_000

        # Every one-layer dictionary takes its seed as the third argument.
        make: Any = self.dictionary_class
        self.ae = make(activation_dim, dict_size, self.seed).to(self.device)
        self.optimizer = adam(self.ae.parameters(), lr, self.betas)
        self.dead_latents = DeadLatents(dict_size, self.device)

    @property
    def config(self) -> dict[str, Any]:
        common = ("lr", "warmup_steps", "sparsity_warmup_steps", "decay_start", "dead_feature_threshold")
        return super().config | {name: getattr(self, name) for name in (*common, *self.recorded)}

    def _step(self, step: int, x: Tensor) -> Tensor:
        """One step on activations [B, D]."""
        if x.ndim != 2 or x.shape[1] != self.ae.activation_dim:
            raise UserError(
                f"{type(self).__name__} trains on single tokens [B, {self.ae.activation_dim}], "
                f"and got {list(x.shape)}; pairs are for T-SAE."
            )
        x_BD = x.to(self.device, torch.float32)
        self._see_batch(len(x_BD), x_BD)
        if step == 0 and not self.is_begun:
            with torch.no_grad():
                self._start(geometric_median(x_BD))
        losses = self._losses(x_BD, self._penalty_factor(step))
        loss = distributed.total(losses.total.detach())
        self._watch.see("loss", loss)
        losses.total.backward()
        distributed.sum_gradients(self.ae.parameters())
        self._descend(step)
        self._observe(x_BD, losses)
        return loss

    @abstractmethod
    def _losses(self, x_BD: Tensor, penalty_factor: float) -> Losses:
        """The loss, as this process's share of it; `penalty_factor`, from 0 to 1, warms the penalty up."""

    def _mean(self, values_B: Tensor) -> Tensor:
        """This process's share of the mean over the tokens of all processes."""
        return values_B.sum(0) / self._n_tokens

    def _share_of_square(self, share: Tensor, target: float) -> Tensor:
        """This process's share of (mean - target)^2, from its share of the mean.

        The square is of the mean over all processes, so its derivative by each share is the whole one.
        """
        whole = share + (distributed.total(share.detach()) - share.detach())
        square = (whole - target).square()
        return square - square.detach() * (1 - 1 / distributed.size())

    def _squared_error(self, x_BD: Tensor, x_hat_BD: Tensor) -> Tensor:
        """Mean over tokens of ||x - x_hat||^2, as this process's share of it."""
        return self._mean((x_BD - x_hat_BD).square().sum(-1))

    def _start(self, median_D: Tensor) -> None:
        """Fit the biases to the data at step 0; `median_D` is the geometric median of its batch."""

    def _after_step(self) -> None:
        """Put parameters back where they belong after the optimiser moved them."""

    def _penalty_factor(self, step: int) -> float:
        return min(step / self.sparsity_warmup_steps, 1.0) if self.sparsity_warmup_steps else 1.0

    def _descend(self, step: int) -> None:
        W_dec_FD = self.ae.decoder_directions().detach()
        if self.unit_norm_decoder:
            remove_parallel_gradient(W_dec_FD, self._decoder_gradient())
        factor = learning_rate_factor(step, self.steps, self.warmup_steps, self.decay_start)
        self._set_learning_rate(self.lr, factor)
        self._clipped_step(self.max_grad_norm)
        if self.unit_norm_decoder:
            unit_norm_rows_(W_dec_FD)
        with torch.no_grad():
            self._after_step()

    def _decoder_gradient(self) -> Tensor:
        """The gradient of the decoder as a view [F, D]."""
        gradient = self.ae.get_parameter("decoder.weight").grad
        assert gradient is not None
        return gradient.T

    @torch.no_grad()
    def _observe(self, x_BD: Tensor, losses: Losses) -> None:
        """Count the latents that fired and keep the health of this update for `metrics`."""
        fired_BF = losses.f_BF > 0
        self.dead_latents.count(fired_BF.any(0), self._n_tokens)
        terms = {
            "loss": losses.total.detach(),
            **{name: term.detach() for name, term in losses.terms.items()},
            "unexplained": (x_BD - losses.x_hat_BD).square().sum(),
            "l0": fired_BF.sum() / self._n_tokens,
        }
        of_all = dict(zip(terms, distributed.total(torch.stack(list(terms.values()))), strict=True))
        unexplained = of_all.pop("unexplained")
        self._metrics = {
            **of_all,
            "fve": 1 - unexplained / batch_variance(x_BD, self._n_tokens),
            "dead_share": self.dead_latents.dead(self.dead_feature_threshold).float().mean(),
        }

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"tokens_since_fired": self.dead_latents.tokens_since_fired_F}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.dead_latents.tokens_since_fired_F.copy_(state["tokens_since_fired"])
        self.dead_latents.forget()


def check_penalty(name: str, value: float) -> None:
    """Refuse a negative strength of a penalty with a sentence."""
    if value < 0:
        raise UserError(f"{name} is {value:g}, and must not be negative.")
