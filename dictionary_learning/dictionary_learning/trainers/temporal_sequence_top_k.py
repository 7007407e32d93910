"""T-SAE (Bhalla et al., arXiv 2511.05541): a Matryoshka BatchTopK SAE with a steady first group.

The contrastive loss itself is `losses.contrastive_loss`.

Shapes: B pairs, D model width, F latents; x [B, 2, D] holds (current token, earlier token), or runs.
"""

from typing import Any

from torch import Tensor

from dictionary_learning import distributed
from dictionary_learning.activations.block import TextPairs
from dictionary_learning.dictionaries.sparse import SparseCode
from dictionary_learning.errors import UserError
from dictionary_learning.trainers.batch_top_k import Tokens
from dictionary_learning.trainers.losses import contrastive_loss, temporal_l1_loss
from dictionary_learning.trainers.matryoshka_batch_top_k import (
    MatryoshkaBatchTopKSAE,
    MatryoshkaBatchTopKTrainer,
)
from dictionary_learning.trainers.options import NEGATIVES
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
        negatives: of a pair in the contrastive loss: "all" other pairs of the batch, or those of
            "other_texts", for which batches have to be `TextPairs`. A pair without any has a loss of 0.

    Raises:
        UserError: as the base class, and x that is not [B, 2, D], or not of runs, or without its texts; a
            first batch of one text alone, none of whose pairs has a negative.
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
        negatives: str = "all",
        wandb_name: str = "TemporalMatryoshkaBatchTopKSAE",
        **options: Any,
    ) -> None:
        self.temporal = temporal
        self.contrastive = contrastive
        self.temp_alpha = temp_alpha
        self.temperature = temperature
        self.run_length = whole_number("run_length", run_length)
        if negatives not in NEGATIVES:
            raise UserError(f"there are no negatives {negatives!r}: choose one of {', '.join(NEGATIVES)}.")
        self.negatives = negatives
        self._text_B: Tensor | None = None  # of the last batch
        super().__init__(wandb_name=wandb_name, **options)

    def _make_dictionary(self, activation_dim: int, dict_size: int) -> TemporalMatryoshkaBatchTopKSAE:
        return TemporalMatryoshkaBatchTopKSAE(activation_dim, dict_size, self.k, self.group_sizes, self.seed)

    @property
    def config(self) -> dict[str, Any]:
        names = ("temporal", "contrastive", "temp_alpha", "temperature", "run_length", "negatives")
        return super().config | {name: getattr(self, name) for name in names}

    def metrics(self) -> dict[str, float]:
        """Those of the base class, and where texts count how many negatives a pair has."""
        found = super().metrics()
        if self._text_B is not None:
            n_T = distributed.gather(self._text_B).unique(return_counts=True)[1].double()
            found["negatives"] = float(n_T.sum() - n_T.square().sum() / n_T.sum())
        return found

    def _step(self, step: int, x: Any) -> Tensor:
        if step == 0 and isinstance(x, TextPairs) and self._leaves_texts_out:
            text_N = distributed.gather(x.text_B)
            if len(text_N.unique()) < 2:
                raise UserError(
                    "the first batch is of one text alone, so that no pair has a negative among other_texts: "
                    "give more texts, or all other pairs as negatives (negatives all)."
                )
        return super()._step(step, x)

    @property
    def _leaves_texts_out(self) -> bool:
        return bool(self.temporal) and self.contrastive and self.negatives == "other_texts"

    def _tokens_of(self, x: Any) -> Tokens:
        if not self.temporal:
            return super()._tokens_of(x)
        text_B = None
        if isinstance(x, TextPairs):
            x, text_B = x.x_BLD, x.text_B.repeat(self.run_length)
        length = self.run_length + 1
        if x.ndim != 3 or x.shape[1:] != (length, self.ae.activation_dim):
            what = "pairs" if length == 2 else f"runs of {self.run_length} pairs"
            raise UserError(
                f"T-SAE trains on {what} [B, {length}, {self.ae.activation_dim}] of a token and "
                f"{'an earlier one' if length == 2 else 'those before it'}, and got {list(x.shape)}."
            )
        if self._leaves_texts_out and text_B is None:
            raise UserError(
                "to leave pairs of one text out of the negatives their texts have to be known: give batches "
                "of store.pairs(..., with_texts=True), or negatives='all'."
            )
        all_TD = x.transpose(0, 1).contiguous().flatten(0, 1)
        return Tokens(all_TD, len(x), text_B if self._leaves_texts_out else None)

    def _temporal_strength(self) -> float:
        return self.temp_alpha

    def _temporal_loss(self, tokens: Tokens, code: SparseCode, code_earlier: SparseCode) -> Tensor:
        z, z_earlier = (c.columns(self.group_sizes[0]) for c in (code, code_earlier))
        if self.contrastive:
            self._text_B = tokens.text_B
            return contrastive_loss(z, z_earlier, self.form, self.temperature, self.run_length, tokens.text_B)
        loss = temporal_l1_loss(tokens.x_BD, tokens.earlier_BD, z, z_earlier, self._n_tokens)
        return self.group_weights[0] * loss
