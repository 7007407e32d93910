"""A dictionary from a SAELens folder.

Shapes: D model width, F latents, W atoms.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dictionary_learning.dictionaries.base import UNSET_THRESHOLD, Dictionary
from dictionary_learning.dictionaries.classics import (
    AutoEncoder,
    AutoEncoderNew,
    GatedAutoEncoder,
    JumpReluAutoEncoder,
)
from dictionary_learning.dictionaries.temporal_sae import TemporalSAE
from dictionary_learning.dictionaries.weights_file import read_safetensors
from dictionary_learning.errors import UserError
from dictionary_learning.exchange.fidelity import Fidelity
from dictionary_learning.exchange.saelens.cfg import CFG, OURS, WEIGHTS, check_fields, read_cfg, run_config
from dictionary_learning.exchange.saelens.folding import (
    FOLDED_BIAS,
    SCALINGS,
    fold_bias,
    fold_decoder_norms,
    fold_scaling,
    shift,
)
from dictionary_learning.trainers.batch_top_k import BatchTopKSAE
from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKSAE
from dictionary_learning.trainers.temporal_sequence_top_k import TemporalMatryoshkaBatchTopKSAE
from dictionary_learning.trainers.threshold import ThresholdDictionary
from dictionary_learning.trainers.top_k import AutoEncoderTopK

FLAT = ("W_enc", "b_enc", "W_dec", "b_dec")
GATED = ("W_enc", "W_dec", "b_dec", "b_gate", "b_mag", "r_mag")
TENSORS: dict[str, tuple[str, ...]] = {
    "standard": FLAT,
    "topk": FLAT,
    "jumprelu": (*FLAT, "threshold"),
    "batchtopk": (*FLAT, "topk_threshold"),
    "matryoshka_batchtopk": (*FLAT, "topk_threshold"),
    "gated": GATED,
    "temporal": ("W_dec", "b_dec"),
}


class Read(NamedTuple):
    """A dictionary from a SAELens folder."""

    dictionary: Dictionary
    config: dict[str, Any]  # in the form of a run's config.json, with the content of cfg.json under "cfg"


def read(folder: str | Path, fidelity: Fidelity | None = None) -> Read:
    """The dictionary of a SAELens folder, on the CPU in float32, for evaluation.

    Raises:
        UserError: a file is missing or damaged, the architecture is one that we do not have, or the
            dictionary does something with its input that ours do not.
    """
    folder, fidelity = Path(folder), fidelity or Fidelity()
    cfg = read_cfg(folder)
    architecture = cfg["architecture"]
    if architecture not in TENSORS:
        raise UserError(
            f"{folder / CFG} is of a SAELens {architecture}, which has no counterpart here: choose an SAE of "
            f"the architectures {', '.join(TENSORS)}."
        )
    state = _read_weights(folder / WEIGHTS, architecture, cfg)
    check_fields(folder, cfg)
    state = {name: _as_float32(name, tensor, fidelity) for name, tensor in state.items()}
    config = run_config(folder, cfg)
    try:
        dictionary = _dictionary(architecture, state, cfg, config["trainer"], fidelity)
    except UserError as error:
        raise UserError(f"{folder / WEIGHTS} does not fit {folder / CFG}: {error}") from error
    config["trainer"] |= {
        "dict_class": type(dictionary).__name__,
        "activation_dim": dictionary.activation_dim,
        "dict_size": dictionary.dict_size,
    }
    if isinstance(dictionary, JumpReluAutoEncoder):
        config["trainer"]["apply_b_dec_to_input"] = dictionary.apply_b_dec_to_input
    if isinstance(dictionary, TemporalSAE):
        config["trainer"] |= {"width": dictionary.width, **dictionary.architecture}
    return Read(dictionary.eval(), config)


def _read_weights(path: Path, architecture: str, cfg: Mapping[str, Any]) -> dict[str, Tensor]:
    if not path.is_file():
        there = ", ".join(sorted(file.name for file in path.parent.glob("*.safetensors"))) or "none"
        raise UserError(
            f"{path.parent} has a {CFG} and no {path.name} (its .safetensors: {there}): copy the weights "
            "beside it, under that name."
        )
    state = read_safetensors(path)
    expected = set(TENSORS[architecture])
    if cfg.get("finetuning_scaling_factor"):
        expected.add(next((name for name in SCALINGS if name in state), SCALINGS[0]))
    for name in set(SCALINGS) - expected:
        if name in state and bool((state[name] == 1).all()):
            del state[name]
    if architecture == "temporal":
        if not cfg.get("tied_weights", True):
            expected.add("W_enc")
        expected |= {name for name in state if name.startswith("attn_layers.")}
    for problem, found in (("lacks", expected - state.keys()), ("has", state.keys() - expected)):
        if found:
            raise UserError(
                f"{path} is no file of a {architecture} as {CFG} says: it {problem} "
                f"{', '.join(sorted(found))}. Take both files from the same folder."
            )
    return state


def _as_float32(name: str, tensor: Tensor, fidelity: Fidelity) -> Tensor:
    if tensor.dtype == torch.float64 and name != "topk_threshold" and not _fits_float32(tensor):
        fidelity.lose(f"{name} is float64, and the dictionaries here are float32")
    elif tensor.dtype in (torch.bfloat16, torch.float16):
        said = "the weights are of a shorter float, in which SAELens also computes; here they are float32"
        if said not in fidelity.remarks:
            fidelity.remark(said)
    return tensor.float()


def _fits_float32(tensor: Tensor) -> bool:
    return torch.equal(tensor.float().double(), tensor)


def _dictionary(
    architecture: str,
    state: dict[str, Tensor],
    cfg: Mapping[str, Any],
    trainer: Mapping[str, Any],
    fidelity: Fidelity,
) -> Dictionary:
    if architecture == "temporal":
        return _read_temporal(state, cfg, trainer)
    sizes = {"activation_dim": cfg["d_in"], "dict_size": cfg["d_sae"]}
    subtracts = cfg.get("apply_b_dec_to_input", True)
    fold_scaling(state, fidelity)
    if architecture == "standard":
        return _read_standard(state, sizes, subtracts)
    if architecture == "gated":
        return _read_gated(state, sizes, subtracts, fidelity)
    if cfg.get("rescale_acts_by_decoder_norm", False):
        fold_decoder_norms(state, fidelity)
    if architecture == "jumprelu":
        return _read_jumprelu(state, cfg, sizes, subtracts)
    if not subtracts:
        fold_bias(state, fidelity)
    threshold = state.pop("topk_threshold", torch.tensor(UNSET_THRESHOLD))
    k = cfg.get("k")
    if not isinstance(k, int | float) or isinstance(k, bool) or not 1 <= k <= cfg["d_sae"]:
        raise UserError(f"k is {k}, and must be between 1 and the {cfg['d_sae']} latents.")
    if int(k) != k:
        fidelity.lose(f"k is {k}, and here it is a whole number (it matters in training alone)")
    widths = cfg.get("matryoshka_widths") if architecture == "matryoshka_batchtopk" else None
    cls: type[ThresholdDictionary] = AutoEncoderTopK if architecture == "topk" else BatchTopKSAE
    return _thresholded(MatryoshkaBatchTopKSAE if widths else cls, state, threshold, int(k), widths, sizes)


def _read_jumprelu(
    state: dict[str, Tensor], cfg: Mapping[str, Any], sizes: dict[str, int], subtracts: bool
) -> Dictionary:
    """A T-SAE or one of its relatives where the metadata say so, and a JumpReLU dictionary otherwise."""
    metadata, threshold_F = cfg["metadata"], state["threshold"]
    k = metadata.get("k")
    is_constant = threshold_F.numel() > 0 and bool((threshold_F == threshold_F.flatten()[0]).all())
    if subtracts and is_constant and isinstance(k, int) and k > 0:
        del state["threshold"]
        widths = metadata.get("matryoshka_widths")
        is_tsae = (metadata.get(OURS) or {}).get("dict_class") == TemporalMatryoshkaBatchTopKSAE.__name__
        grouped = TemporalMatryoshkaBatchTopKSAE if is_tsae else MatryoshkaBatchTopKSAE
        cls = grouped if widths else BatchTopKSAE
        return _thresholded(cls, state, threshold_F.flatten()[0], k, widths, sizes)
    return JumpReluAutoEncoder.from_state_dict(state, sizes | {"apply_b_dec_to_input": subtracts})


def _thresholded(
    cls: type[ThresholdDictionary],
    state: dict[str, Tensor],
    threshold: Tensor,
    k: int,
    widths: list[int] | None,
    sizes: dict[str, int],
) -> Dictionary:
    if not 0 < k <= sizes["dict_size"]:
        raise UserError(f"k is {k}, and must be between 1 and the {sizes['dict_size']} latents.")
    state = state | {"threshold": threshold, "k": torch.tensor(k, dtype=torch.int32)}
    if widths is None:
        return cls.from_state_dict(_as_linear(state), sizes)
    if not isinstance(widths, list) or not all(isinstance(width, int) for width in widths):
        raise UserError(f"matryoshka_widths is {widths}, and must be a list of numbers.")
    ends = [*widths, *([sizes["dict_size"]] if widths[-1:] != [sizes["dict_size"]] else [])]
    groups = [end - start for start, end in zip([0, *ends], ends, strict=False)]
    if min(groups) < 1:
        raise UserError(
            f"matryoshka_widths is {widths}, and must rise to the {sizes['dict_size']} latents: SAELens "
            "counts the latents up to each level's end."
        )
    return cls.from_state_dict(state | {"group_sizes": torch.tensor(groups)}, sizes)


def _as_linear(
    state: Mapping[str, Tensor], *, names_of: Mapping[str, str] | None = None
) -> dict[str, Tensor]:
    """The same tensors under the names, and in the orientation, of two linear maps."""
    renamed = {
        "W_enc": "encoder.weight",
        "W_dec": "decoder.weight",
        "b_enc": "encoder.bias",
        **(names_of or {}),
    }
    return {
        renamed.get(name, name): tensor.T if name in ("W_enc", "W_dec") and tensor.ndim == 2 else tensor
        for name, tensor in state.items()
    }


def _read_standard(state: dict[str, Tensor], sizes: dict[str, int], subtracts: bool) -> Dictionary:
    if subtracts:
        return AutoEncoder.from_state_dict(_as_linear(state, names_of={"b_dec": "bias"}), sizes)
    return AutoEncoderNew.from_state_dict(_as_linear(state, names_of={"b_dec": "decoder.bias"}), sizes)


def _read_gated(
    state: dict[str, Tensor], sizes: dict[str, int], subtracts: bool, fidelity: Fidelity
) -> Dictionary:
    if not subtracts:
        shift_F = shift(state)
        state["b_gate"] = (state["b_gate"] + shift_F).float()
        state["b_mag"] = (state["b_mag"] + state["r_mag"].double().exp() * shift_F).float()
        fidelity.remark(FOLDED_BIAS)
    names_of = {"b_dec": "decoder_bias", "b_gate": "gate_bias", "b_mag": "mag_bias"}
    return GatedAutoEncoder.from_state_dict(_as_linear(state, names_of=names_of), sizes)


def _read_temporal(
    state: dict[str, Tensor], cfg: Mapping[str, Any], trainer: Mapping[str, Any]
) -> Dictionary:
    tied = bool(cfg.get("tied_weights", True))
    state = {
        {"W_dec": "D", "b_dec": "b", "W_enc": "E"}.get(name, name): tensor for name, tensor in state.items()
    }
    if not cfg.get("apply_b_dec_to_input", True):
        if not tied:
            raise UserError(
                "apply_b_dec_to_input is false: its bias is added to reconstructions and not subtracted from "
                "the input, which a TemporalSAE here cannot do."
            )
        state["b"] = torch.zeros_like(state["b"])  # with tied weights SAELens then uses no bias at all
    factor = 1.0
    if cfg.get("normalize_activations") == "constant_scalar_rescale":
        said = cfg.get("activation_normalization_factor", 1.0)
        if said is None:
            raise UserError(
                "activation_normalization_factor is null, where activations are rescaled by it: put the "
                "factor of the training there."
            )
        factor = float(said)
    k = cfg.get("kval_topk")
    kind = cfg.get("sae_diff_type", "topk")
    config = {
        "activation_dim": cfg["d_in"],
        "width": cfg["d_sae"],
        "n_heads": cfg.get("n_heads", 8),
        "n_attn_layers": cfg.get("n_attn_layers", 1),
        "bottleneck_factor": cfg.get("bottleneck_factor", 64),
        # without a k SAELens keeps every latent that is positive
        "sae_diff_type": "relu" if kind == "topk" and k is None else kind,
        "kval_topk": k,
        "tied_weights": tied,
        "context_length": cfg["metadata"].get("context_size"),
    }
    return TemporalSAE.from_state_dict(state | {"scaling_factor": torch.tensor(factor)}, config)
