"""T-SAE (Bhalla et al., arXiv 2511.05541): a Matryoshka BatchTopK SAE with a steady first group.

The contrastive loss itself is `losses.contrastive_loss`.

Shapes: B pairs, D model width, F latents; x [B, 2, D] holds (current token, earlier token), or runs of them.
"""

from typing import Any

from torch import Tensor

from dictionary_learning.dictionaries.sparse import SparseCode
from dictionary_learning.errors import UserError
from dictionary_learning.trainers.batch_top_k import Tokens
from dictionary_learning.trainers.losses import contrastive_loss, temporal_l1_loss
from dictionary_learning.trainers.matryoshka_batch_top_k import (
    MatryoshkaBatchTopKSAE,
    MatryoshkaBatchTopKTrainer,
)
from dictionary_learning.trainers.trainer import whole_number


class TemporalMatryoshkaBatchTopKSAE(MatryoshkaBatchTopKSAE):
    """A Matryoshka dictionary on disk and in use; only its training differs."""


class TemporalMatryoshkaBatchTopKTrainer(MatryoshkaBatchTopKTrainer):
    """Matryoshka with a term that holds group 0 steady between a token and an earlier one of its text.

    Args (beside those of `MatryoshkaBatchTopKTrainer`):
        temporal: "p" for pairs with the previous token, "r" for a random earlier one (recorded; the
            batches decide); False trains on x [B, D] without the temporal term.
        contrastive: InfoNCE (True) or the L1 similarity loss.
        temp_alpha: strength of the temporal term.
        temperature: of the contrastive loss.
        run_length: r, for batches of runs of r + 1 adjacent tokens [B / r, r + 1, D], the latest first, which
            are B pairs: each token is encoded once, (r + 1) / r of them a pair instead of 2. Current and
            earlier tokens have each their own BatchTopK, as for single pairs (`_encode`). Pairs of one run
            are no negatives of each other.

    Raises:
        UserError: as the base class, and x that is not [B, 2, D], or not of runs.
    """

    dictionary_class = TemporalMatryoshkaBatchTopKSAE

    def __init__(
        self,
        *,
        temporal: str | bool = "p",
        contrastive: bool = True,
        temp_alpha: float = 0.1,
        temperature: float = 1.0,
        run_length: int = 1,
        wandb_name: str = "TemporalMatryoshkaBatchTopKSAE",
        **options: Any,
    ) -> None:
        self.temporal = temporal
        self.contrastive = contrastive
        self.temp_alpha = temp_alpha
        self.temperature = temperature
        self.run_length = whole_number("run_length", run_length)
        super().__init__(wandb_name=wandb_name, **options)

    def _make_dictionary(self, activation_dim: int, dict_size: int) -> TemporalMatryoshkaBatchTopKSAE:
        return TemporalMatryoshkaBatchTopKSAE(activation_dim, dict_size, self.k, self.group_sizes, self.seed)

    @property
    def config(self) -> dict[str, Any]:
        names = ("temporal", "contrastive", "temp_alpha", "temperature", "run_length")
        return super().config | {name: getattr(self, name) for name in names}

    def _tokens_of(self, x: Tensor) -> Tokens:
        if not self.temporal:
            return super()._tokens_of(x)
        length = self.run_length + 1
        if x.ndim != 3 or x.shape[1:] != (length, self.ae.activation_dim):
            what = "pairs" if length == 2 else f"runs of {self.run_length} pairs"
            raise UserError(
                f"T-SAE trains on {what} [B, {length}, {self.ae.activation_dim}] of a token and "
                f"{'an earlier one' if length == 2 else 'those before it'}, and got {list(x.shape)}."
            )
        return Tokens(x.transpose(0, 1).contiguous().flatten(0, 1), len(x))

    def _temporal_strength(self) -> float:
        return self.temp_alpha

    def _temporal_loss(self, tokens: Tokens, code: SparseCode, code_earlier: SparseCode) -> Tensor:
        z, z_earlier = (c.columns(self.group_sizes[0]) for c in (code, code_earlier))
        if self.contrastive:
            return contrastive_loss(z, z_earlier, self.form, self.temperature, self.run_length)
        loss = temporal_l1_loss(tokens.x_BD, tokens.earlier_BD, z, z_earlier, self._n_tokens)
        return self.group_weights[0] * loss
