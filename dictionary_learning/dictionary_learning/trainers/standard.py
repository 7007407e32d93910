"""SAEs with an L1 penalty: Bricken et al. 2023, and the revision of April 2024 (Anthropic).

Shapes: B tokens, D model width, F latents.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from dictionary_learning import distributed
from dictionary_learning.dictionaries.classics import AutoEncoder, AutoEncoderNew
from dictionary_learning.errors import UserError
from dictionary_learning.trainers.dense import DenseTrainer, Losses, check_penalty


class StandardTrainer(DenseTrainer):
    """||x - x_hat||^2 + l1_penalty ||f||_1 with unit-norm decoder rows ("Towards Monosemanticity", appendix).

    `bias` starts at the geometric median of the first batch.

    Args (beside those of `DenseTrainer`):
        l1_penalty: strength of the L1 term.
        resample_steps: every so many steps, latents that were silent for the last half of them are set
            to badly reconstructed tokens, see `_resample`; None for never.

    Raises:
        UserError: a negative penalty, or fewer than 2 steps between resamplings.
    """

    ae: AutoEncoder
    dictionary_class = AutoEncoder
    recorded = ("l1_penalty", "resample_steps")

    def __init__(
        self,
        *,
        lr: float = 1e-3,
        l1_penalty: float = 1e-1,
        resample_steps: int | None = None,
        **options: Any,
    ) -> None:
        check_penalty("l1_penalty", l1_penalty)
        if resample_steps is not None and resample_steps < 2:
            raise UserError(f"resample_steps is {resample_steps}, and must be at least 2.")
        super().__init__(lr=lr, **options)
        self.l1_penalty = l1_penalty
        self.resample_steps = resample_steps

    def _step(self, step: int, x: Tensor) -> Tensor:
        loss = super()._step(step, x)
        if self.resample_steps is not None and step > 0 and step % self.resample_steps == 0:
            self._resample(step, x.to(self.device, torch.float32))
        return loss

    def _losses(self, x_BD: Tensor, penalty_factor: float) -> Losses:
        x_hat_BD, f_BF = self.ae(x_BD, output_features=True)
        reconstruction, l1 = self._squared_error(x_BD, x_hat_BD), self._mean(f_BF.sum(-1))
        total = reconstruction + self.l1_penalty * penalty_factor * l1
        return Losses(total, {"reconstruction": reconstruction, "l1": l1}, f_BF, x_hat_BD)

    def _start(self, median_D: Tensor) -> None:
        self.ae.bias.copy_(median_D)

    @torch.no_grad()
    def _resample(self, step: int, x_BD: Tensor) -> None:
        """Point silent latents at tokens of this batch, drawn with the square of their loss as weight.

        The new decoder row is the token's direction from `bias`, the new encoder row the same at 0.2
        of the mean norm of live encoder rows, the new encoder bias 0, and Adam forgets them. Source:
        Bricken et al. 2023, "Neuron resampling", which looks for tokens in a larger sample.
        """
        assert self.resample_steps is not None
        dead_F = self.dead_latents.dead(self.resample_steps // 2 * self._n_tokens)
        loss_B = distributed.gather((x_BD - self.ae(x_BD)).square().sum(-1))  # of the tokens of all processes
        n_new = min(int(dead_F.sum()), int((loss_B > 0).sum()))
        if n_new == 0:
            return
        # Seeded by the step, so that a resumed run draws the same tokens.
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        chosen = torch.multinomial(loss_B.square().cpu(), n_new, generator=generator).to(self.device)
        dead = dead_F.nonzero().squeeze(1)[:n_new]
        direction_ND = nn.functional.normalize(_rows_of_all(x_BD, chosen) - self.ae.bias, dim=-1)

        encoder, decoder = self.ae.encoder, self.ae.decoder
        live_norm = encoder.weight[~dead_F].norm(dim=-1).mean() if not dead_F.all() else 1.0
        encoder.weight[dead] = direction_ND * live_norm * 0.2
        encoder.bias[dead] = 0.0
        decoder.weight[:, dead] = direction_ND.T
        for parameter, index in (
            (encoder.weight, (dead,)),
            (encoder.bias, (dead,)),
            (decoder.weight, (slice(None), dead)),
        ):
            for moment in ("exp_avg", "exp_avg_sq"):
                self.optimizer.state[parameter][moment][index] = 0.0
        self.dead_latents.tokens_since_fired_F[dead] = 0


def _rows_of_all(x_BD: Tensor, rows_N: Tensor) -> Tensor:
    """Rows [N, D] of the global batch, each from the process that has it."""
    here_N = rows_N - distributed.rows_before(len(x_BD))
    is_here_N = (here_N >= 0) & (here_N < len(x_BD))
    found_ND = x_BD.new_zeros(len(rows_N), x_BD.shape[1])
    found_ND[is_here_N] = x_BD[here_N[is_here_N]]
    return distributed.total(found_ND)


class StandardTrainerAprilUpdate(DenseTrainer):
    """||x - x_hat||^2 + l1_penalty sum_j f_j ||W_dec_j|| with a free decoder (Circuits Updates, April 2024).

    The penalty sees decoder norms, so nothing is gained by a large decoder row and nothing constrains
    it; gradients are clipped to norm 1; there is no resampling.

    Args (beside those of `DenseTrainer`):
        l1_penalty: strength of the penalty.

    Raises:
        UserError: a negative penalty.
    """

    ae: AutoEncoderNew
    dictionary_class = AutoEncoderNew
    max_grad_norm: ClassVar[float] = 1.0
    unit_norm_decoder: ClassVar[bool] = False
    recorded = ("l1_penalty",)

    def __init__(self, *, lr: float = 1e-3, l1_penalty: float = 1e-1, **options: Any) -> None:
        check_penalty("l1_penalty", l1_penalty)
        super().__init__(lr=lr, **options)
        self.l1_penalty = l1_penalty

    def _losses(self, x_BD: Tensor, penalty_factor: float) -> Losses:
        x_hat_BD, f_BF = self.ae(x_BD, output_features=True)
        reconstruction = self._squared_error(x_BD, x_hat_BD)
        l1 = self._mean(f_BF @ self.ae.decoder_directions().norm(dim=-1))
        total = reconstruction + self.l1_penalty * penalty_factor * l1
        return Losses(total, {"reconstruction": reconstruction, "l1": l1}, f_BF, x_hat_BD)
