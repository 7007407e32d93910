"""TemporalSAE: what the context predicts of an activation, and what is novel in it (arXiv 2511.01836).

Each activation is taken apart into a predicted part, made by attention over the earlier tokens of its
text, and a novel part, a sparse code of what is left. Both are written with the same `width` atoms:

    x <- scaling_factor * x - b
    for each attention layer:
        z_in = relu(lam x E),  E = D.T where the weights are tied
        z_p  = relu(causal attention; queries from z_in, keys and values from z_in one position earlier)
        s    = <z_p D, x> / (|z_p D| + eps)^2
        predicted += s z_p;  x <- x - s z_p D
    novel = the `sae_diff_type` selection of relu(lam x E)
    x_hat = ((predicted + novel) D + b) / scaling_factor

A latent of the dictionary is an atom in one of the two roles, so `dict_size` is 2 * width: `encode` gives
predicted codes, then novel codes. Parameters have the names and shapes of the released files.

A code depends on its own token and the earlier ones alone. Texts of a batch are therefore padded on the
right, with anything: no padding mask is needed, and what comes out at the padding means nothing. Give the
usable tokens only, one behind another: a BOS or an attention sink in front would be context for all others.

How each part is computed stands in `prediction`, `attention` and `novel_code`. What is left here is one class
and what its users have to know of it, which is most of the lines.

Shapes: B texts, L positions, T tokens of all texts, D model width, W atoms, F = 2 W latents, H attention
heads, K atoms kept, P entries of a sparse code.
"""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dictionary_learning.dictionaries.attention import ContextAttention, Memory
from dictionary_learning.dictionaries.base import UNSET_THRESHOLD, Dictionary
from dictionary_learning.dictionaries.novel_code import check_k, select, top_entries
from dictionary_learning.dictionaries.prediction import Prediction, predict
from dictionary_learning.dictionaries.products import linear, product
from dictionary_learning.dictionaries.sparse import SparseCode, sparse_matmul
from dictionary_learning.dictionaries.temporal_sizes import check_sizes
from dictionary_learning.dictionaries.temporal_tensors import rebuild
from dictionary_learning.errors import UserError

FLOAT32_BUFFERS = ("scaling_factor", "expected_min_act")


class TemporalSAE(Dictionary):
    """Predicted and novel codes of whole texts (Temporal Feature Analysis, arXiv 2511.01836, section 3).

    Parameters: `D` [W, D], `b` [1, D], `E` [D, W] unless tied, and `attn_layers.{i}.{k_ctx, q_target,
    v_ctx, c_proj}.{weight, bias}`. Buffers, both always float32: `scaling_factor`, by which activations
    are multiplied before they meet the weights, and, for `batchtopk`, `expected_min_act` [1], the
    threshold of inference, negative while it is not set.

    `batchtopk` selects over all tokens it is given in training mode, and what exceeds the threshold in
    evaluation mode; an unset threshold leaves the selection as in training. Nothing else depends on the mode.

    Args:
        dimin: width of the activations.
        width: atoms.
        n_heads: attention heads.
        sae_diff_type: how the novel part is selected: `topk` (a token), `batchtopk`, `relu` (everything),
            `nullify` (nothing).
        kval_topk: atoms of a novel code (a token, on average for `batchtopk`).
        tied_weights: codes are read with `D.T` instead of a matrix `E`.
        n_attn_layers: attention layers, each predicting what those before it left.
        bottleneck_factor: keys and queries have width / bottleneck_factor dimensions.
        value_rank: values have so many dimensions; as many as there are atoms, as in the paper, when None.
        seed: of the first weights.
        context_length: tokens of the texts that it was trained on; longer ones work with a warning.

    Raises:
        UserError: sizes that do not go together.
    """

    reads_sequences = True
    scaling_factor: Tensor
    expected_min_act: Tensor

    def __init__(
        self,
        dimin: int,
        width: int,
        n_heads: int = 8,
        *,
        sae_diff_type: str = "topk",
        kval_topk: int | None = None,
        tied_weights: bool = True,
        n_attn_layers: int = 1,
        bottleneck_factor: int = 1,
        value_rank: int | None = None,
        seed: int = 0,
        context_length: int | None = None,
    ) -> None:
        super().__init__()
        check_sizes(width, n_heads, bottleneck_factor, n_attn_layers, sae_diff_type, kval_topk, value_rank)
        self.activation_dim, self.width, self.dict_size = dimin, width, 2 * width
        self.sae_diff_type = sae_diff_type
        self.kval_topk = kval_topk
        self.tied_weights = tied_weights
        self.bottleneck_factor = bottleneck_factor
        self.value_rank = None if value_rank == width else value_rank
        self.context_length = context_length
        self.lam = 1 / (4 * dimin)
        self.takes_raw = True
        """Whether `scaling_factor` is applied here; otherwise the caller gives scaled activations."""
        self._warned = False

        generator = torch.Generator().manual_seed(seed)
        self.D = nn.Parameter(torch.randn(width, dimin, generator=generator))
        self.b = nn.Parameter(torch.zeros(1, dimin))
        if not tied_weights:
            # stored by atom, as D is: sparse products gather its columns
            self.E = nn.Parameter(self.D.detach().clone().T)
        self.attn_layers = nn.ModuleList(
            ContextAttention(width, n_heads, bottleneck_factor, generator, value_rank)
            for _ in range(n_attn_layers)
        )
        self.register_buffer("scaling_factor", torch.tensor(1.0))
        if sae_diff_type == "batchtopk":
            self.register_buffer("expected_min_act", torch.full((1,), UNSET_THRESHOLD))

    @property
    def n_heads(self) -> int:
        return self.layers[0].n_heads

    @property
    def layers(self) -> list[ContextAttention]:
        """The attention layers, first to last."""
        return list(self.attn_layers)  # type: ignore[arg-type]

    @property
    def architecture(self) -> dict[str, Any]:
        """The sizes and kinds, named as in the constructor and (but for `value_rank`) in released configs."""
        return {
            "n_heads": self.n_heads,
            "n_attn_layers": len(self.attn_layers),
            "bottleneck_factor": self.bottleneck_factor,
            "value_rank": self.value_rank,
            "sae_diff_type": self.sae_diff_type,
            "kval_topk": self.kval_topk,
            "tied_weights": self.tied_weights,
        }

    # --- what callers ask for ---

    def forward(  # type: ignore[override]
        self,
        x: Tensor,
        return_graph: bool = False,
        inf_k: int | None = None,
        *,
        output_features: bool | None = None,
    ) -> Any:
        """Take texts [B, L, D] apart.

        Args:
            return_graph: make the attention maps, too.
            inf_k: atoms of a novel code in place of `kval_topk`.
            output_features: as for every `Dictionary`: False gives the reconstruction alone, True gives
                (reconstruction, codes [B, L, F]). None gives the form of the released code, below.

        Returns:
            the reconstruction [B, L, D] and a dictionary of `novel_codes` and `pred_codes` [B, L, W],
            `novel_recons` and `pred_recons` [B, L, D] (in the units of `x`, without `b`), and `attn_graphs`
            [B, layers, H, L, L], None unless asked for.
        """
        if output_features is False:
            return self.reconstruct(x, inf_k)
        prediction = self.predict(self.centred(x), codes=True, graphs=return_graph)
        pred_codes = prediction.codes()
        novel_codes = self.novel(prediction.residual_BLD, inf_k)
        novel_recons = product(novel_codes, self.D)
        x_hat = self.uncentred(prediction.recons_BLD + novel_recons)
        if output_features:
            return x_hat, torch.cat([pred_codes, novel_codes], dim=-1)
        return x_hat, {
            "novel_codes": novel_codes,
            "novel_recons": self.unscaled(novel_recons),
            "pred_codes": pred_codes,
            "pred_recons": self.unscaled(prediction.recons_BLD),
            "attn_graphs": torch.stack(prediction.graphs, dim=1) if return_graph else None,
        }

    def encode(self, x: Tensor) -> Tensor:
        """Codes [B, L, F] of texts [B, L, D]: predicted, then novel."""
        prediction = self.predict(self.centred(x), codes=True)
        return torch.cat([prediction.codes(), self.novel(prediction.residual_BLD)], dim=-1)

    @property
    def goes_on(self) -> bool:
        """Whether codes depend on no later token, so that `encode_on` gives those of `encode`."""
        return self.sae_diff_type != "batchtopk" or (not self.training and self.has_threshold)

    @torch.no_grad()
    def encode_on(self, x: Tensor, before: Sequence[Memory] | None = None) -> tuple[Tensor, Sequence[Memory]]:
        """Codes [B, L, F] of positions [B, L, D] that follow others, and what positions behind them need.

        Args:
            before: what the positions before these needed kept; None: these are the first.
        """
        memories = [None] * len(self.layers) if before is None else before
        prediction = predict(
            self.centred(x),
            self.layers,
            self.activations,
            self.D,
            codes=True,
            graphs=False,
            before=memories,
        )
        codes = torch.cat([prediction.codes(), self.novel(prediction.residual_BLD)], dim=-1)
        return codes, prediction.memories

    def predicted_codes(self, x: Tensor) -> Tensor:
        """Predicted codes [B, L, W] alone."""
        return self.predict(self.centred(x), codes=True).codes()

    def novel_codes(self, x: Tensor, inf_k: int | None = None) -> Tensor:
        """Novel codes [B, L, W] alone."""
        return self.novel(self.predict(self.centred(x)).residual_BLD, inf_k)

    def reconstruct(self, x: Tensor, inf_k: int | None = None) -> Tensor:
        """Reconstructed activations [B, L, D] alone."""
        prediction = self.predict(self.centred(x))
        return self.uncentred(prediction.recons_BLD + self.novel_recons(prediction.residual_BLD, inf_k))

    def decode(self, f: Tensor) -> Tensor:
        """Activations [..., D] of codes [..., F]; with zeros in one part, what the other gives alone."""
        return self.uncentred(product(f[..., : self.width] + f[..., self.width :], self.D))

    def splits(self) -> dict[str, slice]:
        return {"predicted": slice(0, self.width), "novel": slice(self.width, self.dict_size)}

    def decoder_directions(self) -> Tensor:
        """What each latent adds to the reconstruction, [F, D]: every atom twice."""
        return self.unscaled(torch.cat([self.D, self.D]))

    # --- the steps, in the units of the weights ---

    def centred(self, x: Tensor) -> Tensor:
        """Texts [B, L, D] as the attention layers see them: scaled, without the bias.

        Raises:
            UserError: not [B, L, D], or of another width.
        """
        if x.ndim != 3:
            raise UserError(
                f"{type(self).__name__} reads whole texts, [texts, tokens, {self.activation_dim}], and got "
                f"activations of shape {list(x.shape)}: give all tokens of a text together."
            )
        self._check_length(x.shape[1])
        x = self.taken(x, self.D)
        return (x * self.scaling_factor.to(x.dtype) if self.takes_raw else x) - self.b

    def uncentred(self, recons: Tensor) -> Tensor:
        """What `centred` undoes: a reconstruction [..., D] in the units of the activations."""
        return self.unscaled(recons + self.b.squeeze(0))

    def unscaled(self, x: Tensor) -> Tensor:
        """A part of a reconstruction in the units of the activations."""
        return x / self.scaling_factor.to(x.dtype) if self.takes_raw else x

    def predict(
        self,
        centred_BLD: Tensor,
        *,
        codes: bool = False,
        graphs: bool = False,
        first_BLW: Tensor | None = None,
    ) -> Prediction:
        """What the earlier tokens say about each token.

        Args:
            codes: keep what `Prediction.codes` needs.
            graphs: make the attention maps, too.
            first_BLW: the activations of `centred_BLD`, where they are known.
        """
        return predict(
            centred_BLD,
            self.layers,
            self.activations,
            self.D,
            codes=codes,
            graphs=graphs,
            first_BLW=first_BLW,
        )

    def activations(self, centred: Tensor) -> Tensor:
        """relu(lam x E) [..., W]."""
        return F.relu(linear(centred * self.lam, self._reading_WD))

    def activations_of_data(self, centred: Tensor) -> Tensor:
        """The same of centred activations that have no gradient but the bias's.

        All tokens move the bias against the same directions, so that one matrix-vector product is left of
        the gradient that `activations` hands on to each token.
        """
        no_shift_1D = self.b - self.b.detach()
        bias_W = -linear(no_shift_1D * self.lam, self._reading_WD).squeeze(0)
        return F.relu(linear(centred.detach() * self.lam, self._reading_WD, bias_W))

    @property
    def _reading_WD(self) -> Tensor:
        return self.D if self.tied_weights else self.E.T

    def novel(self, residual_BLD: Tensor, inf_k: int | None = None) -> Tensor:
        """The selected activations of what the context left, [B, L, W]."""
        k = self._k(inf_k)
        if self.sae_diff_type == "nullify":
            return residual_BLD.new_zeros(*residual_BLD.shape[:-1], self.width)
        by_threshold = inf_k is None and not self.training and self.has_threshold
        threshold = self.expected_min_act if by_threshold else None
        return select(self.activations(residual_BLD), self.sae_diff_type, k, threshold)

    def novel_entries(self, residual_TD: Tensor, inf_k: int | None = None) -> SparseCode:
        """The same, of tokens [T, D] and sparse: never a dense tensor after the selection."""
        k = self._k(inf_k)
        if self.sae_diff_type != "topk":
            return SparseCode.of(self.novel(residual_TD, inf_k))
        return top_entries(self.activations(residual_TD), k)

    def novel_recons(self, residual_BLD: Tensor, inf_k: int | None = None) -> Tensor:
        """What the novel code says, [B, L, D]."""
        if self.sae_diff_type == "nullify":
            return torch.zeros_like(residual_BLD)
        if self.sae_diff_type == "relu":
            return product(self.novel(residual_BLD), self.D)
        return self.decode_entries(self.novel_entries(residual_BLD.flatten(0, 1), inf_k)).view_as(
            residual_BLD
        )

    def decode_entries(self, code: SparseCode) -> Tensor:
        """What a sparse code [T, W] of either part says, [T, D], in the units of the weights."""
        return sparse_matmul(code.values_N, self.D, code.row_N, code.col_N, code.n_rows)

    @property
    def has_threshold(self) -> bool:
        """Whether `batchtopk` has the threshold that inference needs."""
        return self.sae_diff_type == "batchtopk" and float(self.expected_min_act) >= 0

    def _k(self, inf_k: int | None) -> int:
        if inf_k is not None:
            check_k(inf_k, self.sae_diff_type, self.width)
        return inf_k or self.kval_topk or 0

    def _check_length(self, length: int) -> None:
        if self.context_length is not None and length > self.context_length and not self._warned:
            self._warned = True
            warnings.warn(
                f"these texts have {length} tokens, and the TemporalSAE was trained on "
                f"{self.context_length}: it works, and its predictions behind that are untried."
            )

    # --- keeping and scaling ---

    @torch.no_grad()
    def scale_biases(self, scale: float) -> None:
        """Turn a dictionary for activations x into the same one for activations `scale * x`.

        With tied weights no change of `D` and `b` does that, so it is `scaling_factor` that changes.
        """
        if not self.takes_raw:
            self.scaling_factor.fill_(1.0)
            self.takes_raw = True
        self.scaling_factor.div_(scale)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """`.to(dtype)` and its like, but for the two buffers that a shorter float would round."""
        exact = {name: self._buffers[name] for name in FLOAT32_BUFFERS if name in self._buffers}
        super()._apply(fn, recurse)
        for name, before in exact.items():
            after = self._buffers[name]
            assert before is not None
            assert after is not None
            if after.dtype != torch.float32:
                self._buffers[name] = before.to(after.device)
        return self

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls,
        folder: str | Path,
        dtype: torch.dtype | None = None,
        device: str | torch.device | None = None,
        *,
        raw_activations: bool = False,
        revision: str | None = None,
        trainable: bool = False,
        **overrides: Any,
    ) -> Self:
        """Load a released folder (`conf.yaml`, `latest_ckpt.safetensors` or `.pt`), or a run's.

        Args:
            folder: on disk, or `user/repository/folder` on the Hugging Face hub.
            dtype: of the weights; float32 when None.
            device: the CPU when None.
            raw_activations: True: `scaling_factor` is applied here, so that the dictionary takes and gives
                raw activations, as after `load_dictionary`. False: as released, the caller multiplies
                activations by `scaling_factor`.
            revision: branch, tag or commit on the hub.
            trainable: let its parameters take gradients.
            overrides: values in place of those of conf.yaml, such as `kval_topk=64`.

        Raises:
            UserError: a file or a value is missing or damaged, or the sizes do not fit the weights.
        """
        dictionary = super().from_pretrained(
            folder, "cpu", revision=revision, trainable=trainable, **overrides
        )
        dictionary.takes_raw = raw_activations
        return dictionary.to(device or "cpu", dtype or torch.float32)

    @classmethod
    def from_state_dict(cls, state: dict[str, Tensor], config: dict[str, Any]) -> Self:
        """Rebuild from the tensors of `ae.pt` or of a released file.

        Args:
            config: `n_heads`, `sae_diff_type` and `kval_topk` must be in it; the other sizes are checked
                against the tensors, where they are given. `context_length` may be there.

        Raises:
            UserError: a key is missing or unexpected, or the sizes do not fit each other or `config`.
        """
        rebuilt = rebuild(state, config)
        dictionary = cls(**rebuilt.arguments)
        dictionary.load_state_dict(rebuilt.state)
        return dictionary
