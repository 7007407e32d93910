"""Training a TemporalSAE: predicted and novel codes from whole texts (arXiv 2511.01836).

The dictionary itself is `temporal_sae.TemporalSAE`. In training the novel codes are sparse: they are
selected without a graph, and what is selected is computed, decoded and differentiated as (row, column,
value), so that of the three dense products of an ordinary SAE one is left.

Shapes: N texts, L positions, T usable tokens of all texts, D model width, W atoms, P non-zero entries.
"""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from dictionary_learning import distributed
from dictionary_learning.activations.block import Contexts
from dictionary_learning.activations.sequences import Sequences
from dictionary_learning.dictionaries.prediction import Prediction
from dictionary_learning.dictionaries.products import library_in_use, product, use
from dictionary_learning.dictionaries.sparse import SparseCode, sparse_matmul
from dictionary_learning.dictionaries.temporal_sae import TemporalSAE
from dictionary_learning.errors import UserError
from dictionary_learning.selection.encoder import Encoder, TokenTopKEncoder
from dictionary_learning.trainers.options import BIAS_OF_START, BIAS_STARTS, STARTS
from dictionary_learning.trainers.recall_start import start_at_recall, start_bias_at_mean
from dictionary_learning.trainers.threshold import ROOM, threshold_between
from dictionary_learning.trainers.trainer import (
    DeadLatents,
    Trainer,
    batch_variance,
    follow_average,
    smallest_positive,
    whole_number,
)


class TemporalAttentionTrainer(Trainer):
    """AdamW on the squared error a token; learning rate by warm-up and cosine.

    Meant for activations of mean square norm 1.

    Args:
        steps: optimiser steps of the whole run (for the cosine).
        width: atoms.
        k: atoms of a novel code (a token, on average for `batchtopk`).
        n_heads, n_attn_layers, bottleneck_factor, value_rank, sae_diff_type, tied_weights: see `TemporalSAE`.
        gamma_reg: strength of the mean norm of novel codes in the loss, for `relu`.
        lr: highest learning rate.
        atom_lr: that of `D`, `E` and `b`; `lr` when None.
        start: `random` weights, or `recall`, which short runs need: weights that the first batch chooses
            (`recall_start`), and learning rates that are shares of each parameter's root mean square at the
            start, which lies between 0.03 and 100. What is zero then, the attention's biases, stays zero.
        bias_start: `b` starts at `zero`, as in the paper, or at the `mean` of the first batch; when None at
            zero with random weights and at the mean with recall. Where it is zero the predicted part has
            to say the mean as well, so that its share of the norm means something else.
        warmup_steps: steps over which it grows.
        lr_floor: share of it that the cosine ends with.
        weight_decay: of AdamW.
        threshold_beta: decay of the moving average of the smallest value kept, which is the inference
            threshold of `batchtopk`; it starts after `threshold_start_step`.
        encoder_dtype: of the dense product that novel codes are selected from, "float32" or "bfloat16".
        batch_topk: `global` selects novel codes of `batchtopk` over the tokens of all processes, `local` over
            each one's own.
        tf32: on a card, find candidates for novel codes by TF32 products; what is kept is ranked by float32
            values.
        context_length: recorded, so that longer texts are told in inference.

    Raises:
        UserError: sizes that do not go together.
    """

    ae: TemporalSAE
    dictionary_class = TemporalSAE
    betas = (0.9, 0.95)

    def __init__(
        self,
        *,
        steps: int,
        activation_dim: int,
        width: int,
        k: int,
        n_heads: int = 4,
        n_attn_layers: int = 1,
        bottleneck_factor: int = 8,
        value_rank: int | None = None,
        sae_diff_type: str = "topk",
        tied_weights: bool = True,
        gamma_reg: float = 0.0,
        layer: int | None = None,
        lm_name: str | None = None,
        lr: float = 1e-3,
        atom_lr: float | None = None,
        start: str = "random",
        bias_start: str | None = None,
        warmup_steps: int = 200,
        lr_floor: float = 0.9,
        weight_decay: float = 1e-4,
        threshold_beta: float = 0.999,
        threshold_start_step: int = 1000,
        encoder_dtype: str = "float32",
        batch_topk: str = "global",
        tf32: bool = True,
        context_length: int | None = None,
        seed: int | None = None,
        device: str | torch.device | None = None,
        wandb_name: str = "TemporalSAE",
        submodule_name: str | None = None,
        dict_class: type | None = None,
    ) -> None:
        super().__init__(steps, layer, lm_name, seed, device, wandb_name, submodule_name, dict_class)
        if start not in STARTS:
            raise UserError(f"start is {start!r}: choose one of {', '.join(STARTS)}.")
        if bias_start not in (None, *BIAS_STARTS):
            raise UserError(f"bias_start is {bias_start!r}: choose one of {', '.join(BIAS_STARTS)}.")
        self.k = whole_number("k", k)
        self.gamma_reg = gamma_reg
        self.lr = lr
        self.atom_lr = lr if atom_lr is None else atom_lr
        self.start = start
        self.bias_start = bias_start or BIAS_OF_START[start]
        self.warmup_steps = warmup_steps
        self.lr_floor = lr_floor
        self.weight_decay = weight_decay
        self.threshold_beta = threshold_beta
        self.threshold_start_step = threshold_start_step
        self.encoder_dtype = encoder_dtype
        self.dead_feature_threshold = 10_000_000

        self.ae = TemporalSAE(
            activation_dim,
            width,
            n_heads,
            sae_diff_type=sae_diff_type,
            kval_topk=self.k,
            tied_weights=tied_weights,
            n_attn_layers=n_attn_layers,
            bottleneck_factor=bottleneck_factor,
            value_rank=value_rank,
            seed=self.seed,
            context_length=context_length,
        ).to(self.device)
        self.optimizer = torch.optim.AdamW(
            [
                {"params": [parameter], "highest_lr": self.atom_lr if name in ("D", "E", "b") else lr}
                for name, parameter in self.ae.named_parameters()
            ],
            betas=self.betas,
            weight_decay=weight_decay,
            fused=True,
        )
        self.dead_latents = DeadLatents(self.ae.dict_size, self.device)
        select = TokenTopKEncoder if sae_diff_type == "topk" else Encoder
        self.batch_topk = batch_topk
        self.tf32 = tf32
        self._encoder = select(getattr(torch, encoder_dtype), batch_topk, tf32)

    @property
    def facts(self) -> dict[str, Any]:
        return {"encoder_product": self._encoder.product, "dense_product": library_in_use()}

    @property
    def config(self) -> dict[str, Any]:
        names = (
            "k gamma_reg lr atom_lr start bias_start warmup_steps lr_floor weight_decay threshold_beta "
            "threshold_start_step encoder_dtype tf32 batch_topk dead_feature_threshold"
        )
        return (
            super().config
            | {"width": self.ae.width, **self.ae.architecture, "context_length": self.ae.context_length}
            | {name: getattr(self, name) for name in names.split()}
        )

    def _step(self, step: int, x: Tensor | Sequences | Contexts) -> Tensor:
        """One step on texts: packed, as contexts with a mask, or [N, L, D] with usable tokens only."""
        texts = self._texts(x)
        self._see_batch(len(texts), texts.x_TD)
        if step == 0 and self.bias_start == "mean":
            start_bias_at_mean(self.ae, texts)
        if step == 0 and self.start == "recall":
            if not self.is_begun:
                start_at_recall(self.ae, texts, self.seed)
            for group in self.optimizer.param_groups:
                group["highest_lr"] *= float(group["params"][0].detach().square().mean().sqrt())
        loss, novel = self._loss(texts)
        value = torch.as_tensor(self._metrics["loss"])
        self._watch.see("loss", value)
        loss.backward()
        distributed.sum_gradients(self.ae.parameters())
        self._descend(step)
        if novel is not None and self.ae.sae_diff_type == "batchtopk":
            self._update_threshold(step, novel.values_N.detach())
        return value

    def _texts(self, x: Tensor | Sequences | Contexts) -> Sequences:
        if isinstance(x, Contexts):
            x = Sequences.of(x.x_NLD, x.mask_NL)
        elif isinstance(x, Tensor):
            if x.ndim != 3:
                raise UserError(
                    f"{type(self).__name__} trains on whole texts [N, L, {self.ae.activation_dim}], and got "
                    f"activations of shape {list(x.shape)}: give sequences, such as store.sequences(...)."
                )
            x = Sequences.of(x)
        if x.x_TD.shape[1] != self.ae.activation_dim:
            raise UserError(
                f"{type(self).__name__} trains on activations of width {self.ae.activation_dim}, and got "
                f"width {x.x_TD.shape[1]}: choose activation_dim to fit."
            )
        return x.to(self.device, torch.float32)

    def _loss(self, texts: Sequences) -> tuple[Tensor, SparseCode | None]:
        """Summed squared error / tokens (and the novel part's norm), and the sparse novel code, if any.

        The sum is over this process's tokens, and divided by those of all.
        """
        ae, n = self.ae, self._n_tokens
        centred_BLD = ae.centred(texts.padded())
        prediction = ae.predict(centred_BLD, codes=True, first_BLW=ae.activations_of_data(centred_BLD))
        residual_TD = texts.tokens(prediction.residual_BLD)
        novel_TD, code, norms = self._novel(residual_TD)
        error = (residual_TD - novel_TD).square().sum() / n
        loss = error if norms is None else error + self.gamma_reg * norms.sum() / n
        with torch.no_grad():
            self._observe(texts, prediction, residual_TD, novel_TD, code)
            self._metrics = {"loss": distributed.total(loss.detach()), **self._metrics}
        return loss, code if isinstance(code, SparseCode) else None

    def _novel(self, residual_TD: Tensor) -> tuple[Tensor, SparseCode | Tensor, Tensor | None]:
        """The novel part of tokens [T, D], its code (sparse where it is selected), and, of `relu`, norms."""
        ae = self.ae
        if ae.sae_diff_type in ("relu", "nullify"):
            code_TW = ae.novel(residual_TD)
            norms_T = torch.linalg.vector_norm(code_TW, dim=1) if ae.sae_diff_type == "relu" else None
            return product(code_TW, ae.D), code_TW, norms_T
        with torch.autocast(residual_TD.device.type, enabled=False):
            residual_TD = residual_TD.float()
            W_enc_DW = ae.D.T if ae.tied_weights else ae.E
            zeros_W, zeros_D = ae.D.new_zeros(ae.width), ae.D.new_zeros(ae.activation_dim)
            (code,) = self._encoder(
                residual_TD * ae.lam, W_enc_DW, zeros_W, zeros_D, self.k, n_tokens=self._n_tokens
            )
            novel_TD = sparse_matmul(code.values_N, ae.D, code.row_N, code.col_N, code.n_rows)
        return novel_TD, code, None

    def _descend(self, step: int) -> None:
        factor = cosine_factor(step, self.steps, self.warmup_steps, self.lr_floor)
        for group in self.optimizer.param_groups:
            group["lr"] = group["highest_lr"] * factor
        self._clipped_step(1.0)

    def _update_threshold(self, step: int, values_P: Tensor) -> None:
        if step <= self.threshold_start_step:
            return
        with torch.no_grad():
            follow_average(self.ae.expected_min_act, smallest_positive(values_P), self.threshold_beta)

    def _observe(
        self,
        texts: Sequences,
        prediction: Prediction,
        residual_TD: Tensor,
        novel_TD: Tensor,
        code: SparseCode | Tensor,
    ) -> None:
        """Count the latents that fired, and keep what `metrics` says of this update."""
        ae, n = self.ae, self._n_tokens
        active_TW = torch.zeros((), dtype=torch.bool, device=self.device)
        for z_BLW, strength_BL1 in prediction.parts:
            active_TW = active_TW | texts.tokens((z_BLW > 0) & (strength_BL1 != 0))
        fired = [active_TW.any(0)]
        n_predicted = active_TW.sum()
        if isinstance(code, SparseCode):
            is_on_P = code.values_N > 0
            fired.append(code.fired())
            n_novel = is_on_P.sum()
        else:
            fired.append((code > 0).any(0))
            n_novel = (code > 0).sum()
        self.dead_latents.count(torch.cat(fired), n)
        dead_F = self.dead_latents.dead(self.dead_feature_threshold).float()

        x_TD, b_D = texts.x_TD, ae.b.squeeze(0)
        predicted_TD = texts.tokens(prediction.recons_BLD).float()
        centred_TD = x_TD - b_D
        errors = {
            "": residual_TD - novel_TD,
            "_predicted": centred_TD - predicted_TD,
            "_novel": centred_TD - novel_TD,
        }
        norm_p, norm_n = (torch.linalg.vector_norm(part, dim=1) for part in (predicted_TD, novel_TD))
        both = (norm_p > 0) & (norm_n > 0)
        cosine_T = torch.where(both, (predicted_TD * novel_TD).sum(1) / (norm_p * norm_n), 0.0)
        sums = [
            *(error.square().sum() for error in errors.values()),
            *(norm_p.sum(), norm_n.sum(), norm_p.square().sum(), norm_n.square().sum()),
            *(cosine_T.sum(), both.sum(), x_TD.square().sum(), n_predicted, n_novel),
        ]
        of_all = distributed.total(torch.stack([value.double() for value in sums])).float()
        squared = dict(zip(errors, of_all, strict=False))
        norms_p, norms_n, energy_p, energy_n, cosines, n_both, energy, n_predicted, n_novel = of_all[
            len(errors) :
        ]
        variance = batch_variance(x_TD, n)
        l0_novel, l0_predicted = n_novel / n, n_predicted / n
        self._metrics = {
            **{f"nmse{part}": value / energy for part, value in squared.items()},
            **{f"fve{part}": 1 - value / variance for part, value in squared.items()},
            "norm_share_predicted": norms_p / (norms_p + norms_n),
            "energy_share_predicted": energy_p / (energy_p + energy_n),
            "cosine_of_parts": cosines / n_both,
            "l0": l0_novel,
            "l0_predicted": l0_predicted,
            "density_novel": l0_novel / ae.width,
            "density_predicted": l0_predicted / ae.width,
            "dead_share": dead_F[ae.width :].mean(),
            "dead_share_predicted": dead_F[: ae.width].mean(),
        }
        if ae.sae_diff_type == "batchtopk":
            self._metrics["threshold"] = ae.expected_min_act.detach().clone()

    @property
    def needs_calibration(self) -> bool:
        return self.ae.sae_diff_type == "batchtopk"

    @torch.no_grad()
    def calibrate(self, batches: Iterable[Any]) -> dict[str, float] | None:
        """Set the inference threshold of `batchtopk` at which the mean L0 over `batches` is k.

        Returns:
            `expected_min_act`, its moving average, `calibration_tokens` and `calibration_l0`; None for the
            kinds that need no threshold.
        """
        if not self.needs_calibration:
            return None
        largest: list[Tensor] = []
        n_tokens = 0
        for batch in batches:
            texts = self._texts(batch)
            prediction = self.ae.predict(self.ae.centred(texts.padded()))
            values = self.ae.activations(texts.tokens(prediction.residual_BLD)).flatten()
            largest.append(values.topk(min(ROOM * self.k * len(texts), values.numel())).values)
            n_tokens += len(texts)
        found = threshold_between(torch.cat(largest) if largest else torch.empty(0), self.k, n_tokens)
        if found is None:
            return None
        moving_average = float(self.ae.expected_min_act)
        self.ae.expected_min_act.fill_(found.threshold)
        return {
            "expected_min_act": found.threshold,
            "expected_min_act_moving_average": moving_average,
            "calibration_tokens": found.tokens,
            "calibration_l0": found.l0,
        }

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {
            "tokens_since_fired": self.dead_latents.tokens_since_fired_F,
            "dense_product": library_in_use(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        use(state.get("dense_product"))  # another one would round in other places
        self.dead_latents.tokens_since_fired_F.copy_(state["tokens_since_fired"])
        self.dead_latents.forget()


def cosine_factor(step: int, steps: int, warmup_steps: int, floor: float) -> float:
    """Linear up to 1 over the warm-up, then half a cosine down to `floor` at the last step."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    done = (step - warmup_steps) / max(1, steps - 1 - warmup_steps)
    return floor + (1 - floor) * (1 + math.cos(math.pi * min(done, 1.0))) / 2
