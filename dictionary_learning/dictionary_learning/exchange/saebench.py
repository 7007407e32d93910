"""Dictionaries as SAEBench takes them: pass `[(name, SAEBenchSAE.load(folder))]` as `selected_saes`.

SAEBench asks an SAE for `encode`, `decode` and `forward` of [B, D] and [B, L, D], for `W_enc`, `b_enc`,
`W_dec` (rows of norm 1), `b_dec`, `dtype`, `device` and a `cfg`. Nothing of it is needed here.

The code is computed in float32 whatever `.to(dtype=...)` says, which is the type of what comes out: a
shorter float would move latents over their threshold. Where the decoder's rows are not of norm 1, their
norms are taken into the codes, and reconstructions stay as they are.

An activation of zeros has no codes: so SAEBench marks padding and special tokens. Its SCR and TPP ablate
latents there, too, and would add what that changes to the mean of a text's tokens.

A TemporalSAE needs whole texts [B, L, D]. SAEBench's core, sparse probing, SCR and TPP give those;
absorption, RAVEL and others give single activations, which is refused. Its latents are the novel codes, and
what the context predicts is added to the reconstruction of the batch that was encoded last.

Shapes: B texts or tokens, L positions, D model width, F latents, W atoms.
"""

import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn

from dictionary_learning.dictionaries.base import Dictionary
from dictionary_learning.dictionaries.temporal_sae import TemporalSAE
from dictionary_learning.errors import UserError
from dictionary_learning.exchange import names
from dictionary_learning.exchange.fidelity import Fidelity
from dictionary_learning.exchange.saelens import form_of
from dictionary_learning.language_model.places import Place

CODES = ("novel", "all")
UNIT = 1e-5  # the distance from 1 at which SAEBench complains about a norm


@dataclass
class SAEBenchConfig:
    """What SAEBench reads of an SAE beside its weights; the names are its own."""

    model_name: str
    d_in: int
    d_sae: int
    hook_layer: int
    hook_name: str
    dtype: str = "float32"
    device: str = "cpu"
    context_size: int | None = None
    hook_head_index: int | None = None
    architecture: str = ""
    apply_b_dec_to_input: bool = True
    finetuning_scaling_factor: bool = False
    activation_fn_str: str = ""
    activation_fn_kwargs: dict[str, Any] = field(default_factory=dict)
    prepend_bos: bool | None = True
    normalize_activations: str = "none"
    model_from_pretrained_kwargs: dict[str, Any] = field(default_factory=dict)
    dataset_path: str = ""
    dataset_trust_remote_code: bool = True
    seqpos_slice: tuple[int | None, ...] = (None,)
    training_tokens: int = -1
    sae_lens_training_version: str | None = None
    neuronpedia_id: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The fields above, as they are written beside results."""
        return asdict(self)


class SAEBenchSAE(nn.Module):
    """A dictionary in SAEBench's interface.

    Args:
        dictionary: works on raw activations.
        config: what `load_dictionary` returned with it.
        model_name: the language model as TransformerLens names it; the config's when None.
        codes: of a TemporalSAE, whether the latents are the `novel` codes, or `all`: predicted, then novel.

    Raises:
        UserError: the config names no layer or model, or `codes` is another word.
    """

    def __init__(
        self,
        dictionary: Dictionary,
        config: Mapping[str, Any],
        *,
        model_name: str | None = None,
        codes: str = "novel",
    ) -> None:
        super().__init__()
        if codes not in CODES:
            raise UserError(f"codes is {codes!r}: choose one of {', '.join(CODES)}.")
        # not a submodule: it stays float32
        self._held = [dictionary.float().requires_grad_(False).eval()]
        self._is_novel = isinstance(dictionary, TemporalSAE) and codes == "novel"
        weights, architecture, subtracts = _weights(dictionary, self._is_novel)
        self.cfg = _cfg(dictionary, config, model_name)
        self.cfg.d_sae = len(weights["W_dec"])
        self.cfg.architecture, self.cfg.apply_b_dec_to_input = architecture, subtracts

        norm_F = weights["W_dec"].norm(dim=1)
        is_unit = bool(((norm_F - 1).abs() <= UNIT).all())
        norm_F = torch.ones_like(norm_F) if is_unit else norm_F.where(norm_F > 0, 1)
        self._norm_F = None if is_unit else norm_F
        self.W_enc = nn.Parameter(weights["W_enc"] * norm_F)
        self.b_enc = nn.Parameter(weights["b_enc"] * norm_F)
        self.W_dec = nn.Parameter(weights["W_dec"] / norm_F.unsqueeze(1))
        self.b_dec = nn.Parameter(weights["b_dec"].clone())
        if architecture == "gated":
            self.b_mag = nn.Parameter(self.b_enc.detach().clone())
        self.dtype, self.device = torch.float32, torch.device("cpu")
        self._last: _Encoded | None = None

    @classmethod
    def load(
        cls,
        source: str | Path,
        *,
        revision: str | None = None,
        model_name: str | None = None,
        codes: str = "novel",
    ) -> Self:
        """From whatever `load_dictionary` reads, on the CPU.

        Raises:
            UserError: as `load_dictionary` and the constructor.
        """
        from dictionary_learning.exchange.loading import load_dictionary

        return cls(*load_dictionary(source, "cpu", revision=revision), model_name=model_name, codes=codes)

    @property
    def dictionary(self) -> Dictionary:
        """The dictionary behind it, in float32."""
        return self._held[0]

    def encode(self, x: Tensor) -> Tensor:
        """Latents [..., F] of activations [..., D]; none where all D are 0.

        Raises:
            UserError: a TemporalSAE gets something else than texts [B, L, D].
        """
        dictionary = self.dictionary
        if dictionary.reads_sequences and x.ndim != 3:
            raise UserError(
                f"this evaluation gives single activations {list(x.shape)}, and the codes of a "
                f"{type(dictionary).__name__} depend on the earlier tokens of a text: use core, "
                "sparse_probing, scr or tpp, which give [texts, tokens, width]."
            )
        with torch.no_grad():
            blank = ~x.any(-1, keepdim=True)
            if not self._is_novel:
                return self._out(dictionary.encode(x.float())).masked_fill(blank, 0)
            assert isinstance(dictionary, TemporalSAE)
            _, parts = dictionary(x.float())
            f = self._out(parts["novel_codes"]).masked_fill(blank, 0)
            self._last = _Encoded(f, parts["pred_recons"])
        return f

    def decode(self, feature_acts: Tensor) -> Tensor:
        """Activations [..., D] of latents [..., F].

        Of novel codes: latents may have been changed or set to zero since `encode`, but not moved.

        Raises:
            UserError: novel codes that do not come from the batch that was encoded last.
        """
        dictionary = self.dictionary
        f = feature_acts.float()
        if self._norm_F is not None:
            f = f / self._norm_F.to(f.device)
        with torch.no_grad():
            if not self._is_novel:
                return dictionary.decode(f).to(self.dtype)
            assert isinstance(dictionary, TemporalSAE)
            predicted_BLD = self._predicted(feature_acts)
            novel_BLD = dictionary.unscaled(f @ dictionary.D + dictionary.b.squeeze(0))
            return (predicted_BLD + novel_BLD).to(self.dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Reconstructions [..., D] of activations [..., D]."""
        return self.decode(self.encode(x))

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Move to a device, and choose the type of what comes out."""
        super().to(*args, **kwargs)
        self.device, self.dtype = self.W_dec.device, self.W_dec.dtype
        self.cfg.device, self.cfg.dtype = str(self.device), str(self.dtype).removeprefix("torch.")
        self.dictionary.to(self.device)
        self._last = None
        return self

    def check_decoder_norms(self) -> bool:
        """Whether all rows of `W_dec` have norm 1; always, here."""
        tolerance = UNIT if self.dtype == torch.float32 else 1e-2
        return bool(((self.W_dec.float().norm(dim=1) - 1).abs() <= tolerance).all())

    def _out(self, f: Tensor) -> Tensor:
        return (f if self._norm_F is None else f * self._norm_F.to(f.device)).to(self.dtype)

    def _predicted(self, f_BLW: Tensor) -> Tensor:
        """What the context predicts of the batch that `f` was encoded from, in the activations' units."""
        last = self._last
        is_same = last is not None and (
            f_BLW is last.f_BLW
            or (f_BLW.shape == last.f_BLW.shape and not bool(((f_BLW != 0) & (last.f_BLW == 0)).any()))
        )
        if not is_same or last is None:
            raise UserError(
                "these novel codes are not of the batch that was encoded last, so that what the context "
                "predicts of it is not known: decode each batch right after its encode, or take codes='all'."
            )
        return last.predicted_BLD


class _Encoded(NamedTuple):
    """The last batch: its novel codes, and the predicted part of its reconstruction without the bias."""

    f_BLW: Tensor
    predicted_BLD: Tensor


def _weights(dictionary: Dictionary, novel_only: bool) -> tuple[dict[str, Tensor], str, bool]:
    """W_enc, b_enc, W_dec, b_dec, the architecture's name, and whether b_dec is subtracted first."""
    with torch.no_grad():
        if isinstance(dictionary, TemporalSAE):
            scale = float(dictionary.scaling_factor)
            directions_FD = dictionary.decoder_directions()
            encoder_DW = (
                (dictionary.D.T if dictionary.tied_weights else dictionary.E) * dictionary.lam * scale
            )
            n = 1 if novel_only else 2
            weights = {
                "W_enc": encoder_DW.repeat(1, n),
                "b_enc": directions_FD.new_zeros(n * dictionary.width),
                "W_dec": directions_FD[: n * dictionary.width],
                "b_dec": dictionary.b.squeeze(0) / scale,
            }
            return weights, "temporal", True
        form = form_of(dictionary, Fidelity())
        weights = {name: tensor.detach().clone() for name, tensor in form.tensors.items()}
        if form.architecture == "gated":
            weights["b_enc"] = weights["b_mag"]
        return weights, form.architecture, form.cfg["apply_b_dec_to_input"]


def _cfg(dictionary: Dictionary, config: Mapping[str, Any], model_name: str | None) -> SAEBenchConfig:
    trainer, buffer = config.get("trainer") or {}, config.get("buffer") or {}
    place = Place.of_run(config)
    model = model_name or names.model_name(trainer)
    if model is None or place is None or place.layer is None or place.hook_name is None:
        raise UserError(
            "the config of this dictionary names no language model (trainer.lm_name) or no place in it that "
            "TransformerLens has (trainer.layer), which SAEBench has to know: add them."
        )
    bos = names.prepends_bos(config)
    if bos is None:
        warnings.warn(
            "whether a BOS stood in front of the contexts in training is not recorded, and the tokenizer of "
            f"{model} is not there to tell: set cfg.prepend_bos."
        )
    return SAEBenchConfig(
        model_name=str(model),
        d_in=dictionary.activation_dim,
        d_sae=dictionary.dict_size,
        hook_layer=place.layer,
        hook_name=place.hook_name,
        context_size=names.context_length(config),
        prepend_bos=bos,
        dataset_path=str(buffer.get("dataset") or ""),
    )
