"""BatchTopK SAE (Bussmann et al. 2024): the dictionary, and the trainer that its variants build on.

The variants are BatchTopK plus groups of latents (Matryoshka) plus a temporal term (T-SAE): they
override `group_sizes` and `_temporal_loss`, and nothing else.

Shapes: B tokens of this process (of pairs: current ones), T with the earlier ones, D model width, F latents,
G groups, N non-zero entries.
"""

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dictionary_learning import distributed
from dictionary_learning.dictionaries.base import UNSET_THRESHOLD, state_sizes
from dictionary_learning.dictionaries.sparse import SparseCode
from dictionary_learning.errors import UserError
from dictionary_learning.selection.encoder import Encoder
from dictionary_learning.trainers.losses import auxk_loss, matryoshka_weights, reconstruction_losses
from dictionary_learning.trainers.threshold import (
    ThresholdDictionary,
    Weights,
    find_threshold,
    initial_decoder,
    with_defaults,
)
from dictionary_learning.trainers.trainer import (
    DeadLatents,
    Trainer,
    adam,
    batch_variance,
    check_decay_start,
    default_learning_rate,
    follow_average,
    geometric_median,
    learning_rate_factor,
    remove_parallel_gradient,
    smallest_positive,
    unit_norm_rows_,
    whole_number,
)


class BatchTopKSAE(ThresholdDictionary):
    """A single group of latents, with upstream's names: `encoder.*`, `decoder.weight`, `b_dec`."""

    def __init__(self, activation_dim: int, dict_size: int, k: int, seed: int = 0) -> None:
        super().__init__()
        self.activation_dim, self.dict_size = activation_dim, dict_size
        self.register_buffer("k", torch.tensor(k, dtype=torch.int32))
        self.register_buffer("threshold", torch.tensor(UNSET_THRESHOLD))
        self.encoder = nn.Linear(activation_dim, dict_size)
        self.decoder = nn.Linear(dict_size, activation_dim, bias=False)
        self.b_dec = nn.Parameter(torch.zeros(activation_dim))
        W_dec_FD = initial_decoder(dict_size, activation_dim, seed)
        self.encoder.weight = nn.Parameter(W_dec_FD.clone())
        nn.init.zeros_(self.encoder.bias)
        # Stored by latent: the sparse products gather rows of W_dec and of W_enc transposed.
        self.decoder.weight = nn.Parameter(W_dec_FD.T)

    def weights(self) -> Weights:
        return Weights(self.encoder.weight.T, self.encoder.bias, self.decoder.weight.T, self.b_dec)

    def decoder_gradient(self) -> Tensor:
        assert self.decoder.weight.grad is not None
        return self.decoder.weight.grad.T

    @classmethod
    def from_state_dict(cls, state: dict[str, Tensor], config: dict[str, Any]) -> Self:
        state = with_defaults(state, config)
        shapes = {"encoder.weight": "FD", "encoder.bias": "F", "decoder.weight": "DF", "b_dec": "D"}
        sizes = state_sizes(cls.__name__, state, shapes | {"k": "", "threshold": ""}, config)
        ae = cls(sizes["D"], sizes["F"], int(state["k"]))
        ae.load_state_dict(state)
        return ae


class BatchTopKTrainer(Trainer):
    """Trains BatchTopK SAEs with AuxK; loss and update as in DESIGN's T-SAE, with one group.

    Args:
        steps: optimiser steps of the whole run (for the decay of the learning rate).
        k: latents kept a token, on average over the batch.
        lr: learning rate; `default_learning_rate(dict_size)` when None.
        auxk_alpha: strength of the AuxK term.
        warmup_steps: steps of linear warm-up; `decay_start`: first step of the decay to 0, or None.
        k_anneal_steps: steps over which k falls linearly from the width of the activations to `k`; None
            for never. Files and the inference threshold are those of `k`.
        threshold_beta: decay of the moving average of the smallest kept activation, which is the
            inference threshold; it starts after `threshold_start_step`.
        encoder_dtype: of the dense encoder product, "float32" or "bfloat16"; values that are
            selected, gradients and weights are float32 in both.
        form: `code` or `paper`, see `losses.matryoshka_weights`.
        batch_topk: `global` selects over the rows of all processes, `local` over each one's own; for one
            process the same.
        tf32: on a card, find candidates by TF32 products; what is kept is ranked by float32 values.

    Raises:
        UserError: `k` outside 1..dict_size, or no end of its fall within the run.
    """

    ae: ThresholdDictionary
    dictionary_class: ClassVar[type[ThresholdDictionary]] = BatchTopKSAE

    def __init__(
        self,
        steps: int,
        activation_dim: int,
        dict_size: int,
        k: int,
        layer: int | None = None,
        lm_name: str | None = None,
        lr: float | None = None,
        auxk_alpha: float = 1 / 32,
        warmup_steps: int = 1000,
        decay_start: int | None = None,
        threshold_beta: float = 0.999,
        threshold_start_step: int = 1000,
        seed: int | None = None,
        device: str | torch.device | None = None,
        wandb_name: str = "BatchTopKSAE",
        submodule_name: str | None = None,
        encoder_dtype: str = "float32",
        form: str = "code",
        dict_class: type | None = None,
        k_anneal_steps: int | None = None,
        batch_topk: str = "global",
        tf32: bool = True,
    ) -> None:
        super().__init__(steps, layer, lm_name, seed, device, wandb_name, submodule_name, dict_class)
        k, activation_dim = whole_number("k", k), whole_number("activation_dim", activation_dim)
        dict_size = whole_number("dict_size", dict_size)
        if not 0 < k <= dict_size:
            raise UserError(f"k is {k}, and must be between 1 and the {dict_size} latents.")
        check_decay_start(decay_start, warmup_steps, steps)
        self.k = self.current_k = k
        self.k_anneal_steps = _checked_anneal(k_anneal_steps, self.steps, k, activation_dim)
        self.lr = default_learning_rate(dict_size) if lr is None else lr
        self.auxk_alpha = auxk_alpha
        self.warmup_steps = warmup_steps
        self.decay_start = decay_start
        self.threshold_beta = threshold_beta
        self.threshold_start_step = threshold_start_step
        self.encoder_dtype = encoder_dtype
        self.form = form
        self.top_k_aux = activation_dim // 2
        self.dead_feature_threshold = 10_000_000

        self.ae = self._make_dictionary(activation_dim, dict_size).to(self.device)
        self.optimizer = adam(self.ae.parameters(), self.lr)
        self.dead_latents = DeadLatents(dict_size, self.device)
        self.batch_topk = batch_topk
        self.tf32 = tf32
        self._encoder = Encoder(getattr(torch, encoder_dtype), batch_topk, tf32)
        self._weights_G: Tensor | None = None
        self._last: LastBatch | None = None

    def _make_dictionary(self, activation_dim: int, dict_size: int) -> ThresholdDictionary:
        return BatchTopKSAE(activation_dim, dict_size, self.k, self.seed)

    @property
    def group_weights(self) -> Sequence[float]:
        return [1.0]

    @property
    def facts(self) -> dict[str, Any]:
        return {"encoder_product": self._encoder.product}

    @property
    def config(self) -> dict[str, Any]:
        names = (
            "k lr auxk_alpha warmup_steps decay_start threshold_beta threshold_start_step top_k_aux "
            "k_anneal_steps dead_feature_threshold encoder_dtype tf32 form batch_topk"
        )
        return super().config | {name: getattr(self, name) for name in names.split()}

    @property
    def num_tokens_since_fired(self) -> Tensor:
        """Tokens since each latent last fired, [F]."""
        return self.dead_latents.tokens_since_fired_F

    def _step(self, step: int, x: Tensor) -> Tensor:
        """One step on activations [B, D]."""
        tokens = self._tokens_of(x.to(self.device, torch.float32))
        self._see_batch(len(tokens.x_BD), tokens.all_TD)
        if step == 0 and not self.is_begun:
            with torch.no_grad():
                self.ae.weights().b_dec_D.copy_(geometric_median(tokens.x_BD))
        self.current_k = self.k_at(step)
        loss = self._loss(tokens)
        assert self._last is not None
        self._watch.see("loss", self._last.terms["loss"])
        loss.backward()
        distributed.sum_gradients(self.ae.parameters())
        self._descend(step)
        self._update_threshold(step)
        return self._last.terms["loss"]

    def k_at(self, step: int) -> int:
        """Latents kept a token at a step, which are more at the beginning where k is annealed."""
        if self.k_anneal_steps is None or step >= self.k_anneal_steps:
            return self.k
        share = step / self.k_anneal_steps
        return min(int(self.ae.activation_dim * (1 - share) + self.k * share), self.ae.dict_size)

    def _tokens_of(self, x: Tensor) -> "Tokens":
        if x.ndim != 2 or x.shape[1] != self.ae.activation_dim:
            raise UserError(
                f"{type(self).__name__} trains on activations [B, {self.ae.activation_dim}], "
                f"and got {list(x.shape)}."
            )
        return Tokens(x)

    def _loss(self, tokens: "Tokens") -> Tensor:
        x_BD = tokens.x_BD
        code, code_earlier = self._encode(tokens)
        _, _, W_dec_FD, b_dec_D = self.ae.weights()
        losses_G, residual_BD = reconstruction_losses(
            x_BD, code, W_dec_FD, b_dec_D, self.ae.group_ends, self._n_tokens
        )
        reconstruction = losses_G @ self._weights_on(losses_G.device)

        self.dead_latents.count(code.fired(), self._n_tokens)
        loss, terms = reconstruction, {"reconstruction": reconstruction}
        auxk = self._auxk_loss(x_BD, residual_BD)
        if auxk is not None:
            loss, terms["auxk"] = torch.add(loss, auxk, alpha=self.auxk_alpha), auxk
        if code_earlier is not None:
            temporal = self._temporal_loss(tokens, code, code_earlier)
            loss, terms["temporal"] = torch.add(loss, temporal, alpha=self._temporal_strength()), temporal
        terms["loss"] = loss
        terms = distributed.total_terms({name: term.detach() for name, term in terms.items()})
        self._last = LastBatch(x_BD, residual_BD, code.col_N.detach(), code.values_N.detach(), terms)
        return loss

    def _weights_on(self, device: torch.device) -> Tensor:
        """What the groups' losses count, copied to a device once."""
        if self._weights_G is None or self._weights_G.device != device:
            self._weights_G = torch.tensor(matryoshka_weights(self.group_weights, self.form), device=device)
        return self._weights_G

    def _encode(self, tokens: "Tokens") -> tuple[SparseCode, SparseCode | None]:
        """Codes of the tokens and of the earlier tokens, each with its own BatchTopK.

        The B current tokens keep the k B largest of their entries, and the B earlier ones the k B largest of
        theirs, also where a token is both: it is multiplied once, and may keep more entries as the one than
        as the other.
        """
        W_enc_DF, b_enc_F, _, b_dec_D = self.ae.weights()
        if tokens.n_runs is None:
            (code,) = self._encoder(
                tokens.x_BD, W_enc_DF, b_enc_F, b_dec_D, self.current_k, n_tokens=self._n_tokens
            )
            return code, None
        stops = (None, self.ae.group_ends[0])  # of an earlier token only the first group is used
        starts = (0, tokens.n_runs)
        code, code_earlier = self._encoder(
            tokens.all_TD, W_enc_DF, b_enc_F, b_dec_D, self.current_k, stops, starts, self._n_tokens
        )
        return code, code_earlier

    def _auxk_loss(self, x_BD: Tensor, residual_BD: Tensor) -> Tensor | None:
        """AuxK's term; None where no latent is dead."""
        n_dead = self.dead_latents.at_most(self.dead_feature_threshold)
        if n_dead == 0:
            return None
        dead_F = self.dead_latents.dead(self.dead_feature_threshold)
        dead_K = torch.nonzero_static(dead_F, size=n_dead, fill_value=0).squeeze(1)
        is_dead_K = torch.arange(n_dead, device=dead_F.device) < dead_F.sum()
        W_enc_DF, b_enc_F, W_dec_FD, b_dec_D = self.ae.weights()
        f_BK = torch.relu(F.linear(x_BD - b_dec_D, W_enc_DF.T[dead_K], b_enc_F[dead_K])) * is_dead_K
        if n_dead > self.top_k_aux:
            top = f_BK.topk(self.top_k_aux, sorted=False)
            f_BK = torch.zeros_like(f_BK).scatter(1, top.indices, top.values)
        return auxk_loss(residual_BD, f_BK, W_dec_FD[dead_K], self._n_tokens)

    def _temporal_loss(self, tokens: "Tokens", code: SparseCode, code_earlier: SparseCode) -> Tensor:
        raise NotImplementedError

    def _temporal_strength(self) -> float:
        return 0.0

    def _descend(self, step: int) -> None:
        W_dec_FD = self.ae.weights().W_dec_FD
        remove_parallel_gradient(W_dec_FD, self.ae.decoder_gradient())
        factor = learning_rate_factor(step, self.steps, self.warmup_steps, self.decay_start)
        self._set_learning_rate(self.lr, factor)
        self._clipped_step(1.0)
        unit_norm_rows_(W_dec_FD.detach())

    @torch.no_grad()
    def _update_threshold(self, step: int) -> None:
        assert self._last is not None
        if step <= self.threshold_start_step:
            return
        threshold = self.ae.threshold
        follow_average(threshold, self._smallest_kept(self._last.values_N), self.threshold_beta)

    def _smallest_kept(self, values_N: Tensor) -> Tensor:
        """The smallest positive value of the batch's codes; not finite where there is none."""
        return smallest_positive(values_N)

    def metrics(self) -> dict[str, float]:
        """Loss terms, FVE, L0 (whole and by group), dead share and threshold at the last update."""
        if self._last is None:
            return {}
        last, n_tokens = self._last, self._n_tokens
        unexplained = distributed.total(last.residual_BD.square().sum())
        variance = batch_variance(last.x_BD, n_tokens)
        groups = torch.bucketize(
            last.col_N[last.values_N > 0],
            torch.tensor(self.ae.group_ends, device=last.col_N.device),
            right=True,
        )
        l0_G = distributed.total(torch.bincount(groups, minlength=len(self.ae.group_ends))) / n_tokens
        dead = self.dead_latents.dead(self.dead_feature_threshold)
        return (
            dict.fromkeys(("reconstruction", "auxk"), 0.0)  # of AuxK where no latent was dead
            | {name: float(value) for name, value in last.terms.items()}
            | {"fve": float(1 - unexplained / variance), "l0": float(l0_G.sum())}
            | ({f"l0_group_{g}": float(l0) for g, l0 in enumerate(l0_G)} if len(l0_G) > 1 else {})
            | {"dead_share": float(dead.float().mean()), "threshold": float(self.ae.threshold)}
        )

    @torch.no_grad()
    def calibrate(self, batches: Iterable[Tensor]) -> dict[str, float] | None:
        """Set the inference threshold at which the mean L0 over `batches` is k, with the final weights.

        The moving average follows the smallest kept activation of batches that are long past while
        the weights go on changing, and can leave inference several times denser than training.

        Returns:
            `threshold`, `threshold_moving_average`, `calibration_tokens` and `calibration_l0`.
        """
        tokens = (self._tokens_of(batch.to(self.device, torch.float32)).x_BD for batch in batches)
        found = find_threshold(self.ae, tokens, self.k)
        if found is None:
            return None
        moving_average = float(self.ae.threshold)
        self.ae.threshold.fill_(found.threshold)
        return {
            "threshold": found.threshold,
            "threshold_moving_average": moving_average,
            "calibration_tokens": found.tokens,
            "calibration_l0": found.l0,
        }

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"tokens_since_fired": self.num_tokens_since_fired}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.num_tokens_since_fired.copy_(state["tokens_since_fired"])
        self.dead_latents.forget()


class Tokens(NamedTuple):
    """The tokens of a batch, each once, and where among them the pairs are.

    Runs of r + 1 adjacent tokens stand position by position: first the latest token of every run, then the
    one before it of every run, and so on. So a token's earlier token stands `n_runs` rows behind it, and
    B = r * `n_runs` pairs are two slices of T = (r + 1) * `n_runs` rows.
    """

    all_TD: Tensor
    n_runs: int | None = None  # None: there are no pairs
    text_B: Tensor | None = None  # the text of each pair, where the batch tells it

    @property
    def x_BD(self) -> Tensor:
        """The current tokens."""
        return self.all_TD if self.n_runs is None else self.all_TD[: len(self.all_TD) - self.n_runs]

    @property
    def earlier_BD(self) -> Tensor:
        """The earlier tokens."""
        return self.all_TD[self.n_runs :]


class LastBatch(NamedTuple):
    """What `metrics` and the threshold need of the last update."""

    x_BD: Tensor
    residual_BD: Tensor
    col_N: Tensor
    values_N: Tensor
    terms: dict[str, Tensor]


def _checked_anneal(k_anneal_steps: int | None, steps: int, k: int, activation_dim: int) -> int | None:
    if k_anneal_steps is None:
        return None
    n_steps = whole_number("k_anneal_steps", k_anneal_steps)
    if not 0 <= n_steps < steps:
        raise UserError(f"k_anneal_steps is {n_steps}, and must be less than the {steps} steps.")
    if n_steps and k >= activation_dim:
        raise UserError(
            f"k is {k}, and cannot fall to that from the width of the activations, {activation_dim}: leave "
            "k_anneal_steps out."
        )
    return n_steps or None
