"""A SAELens folder from a dictionary.

Shapes: D model width, F latents, W atoms.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from dictionary_learning.command.checksums import save_with_checksum
from dictionary_learning.command.files import save_text
from dictionary_learning.dictionaries.base import Dictionary
from dictionary_learning.dictionaries.classics import (
    AutoEncoder,
    AutoEncoderNew,
    GatedAutoEncoder,
    JumpReluAutoEncoder,
)
from dictionary_learning.dictionaries.temporal_sae import TemporalSAE
from dictionary_learning.dictionaries.temporal_tensors import released_form
from dictionary_learning.errors import UserError
from dictionary_learning.exchange.fidelity import Fidelity
from dictionary_learning.exchange.saelens.cfg import CFG, RUNNER, WEIGHTS, make_cfg, make_runner_cfg
from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKSAE
from dictionary_learning.trainers.threshold import ThresholdDictionary
from dictionary_learning.trainers.top_k import AutoEncoderTopK

_FLAT = ("W_enc", "b_enc", "W_dec", "b_dec")


class Form(NamedTuple):
    """A dictionary in SAELens' terms."""

    architecture: str
    tensors: dict[str, Tensor]
    cfg: dict[str, Any]  # beside the fields that every architecture has
    training_architecture: str


def write(
    dictionary: Dictionary,
    config: Mapping[str, Any],
    folder: str | Path,
    fidelity: Fidelity | None = None,
) -> None:
    """Write a SAELens folder.

    Args:
        config: what `load_dictionary` returned with the dictionary.

    Raises:
        UserError: SAELens has no architecture that computes the same codes, and losses are not allowed.
    """
    from safetensors.torch import save as to_bytes

    fidelity = fidelity or Fidelity()
    form = form_of(dictionary, fidelity)
    tensors = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in form.tensors.items()}
    cfg = make_cfg(
        dictionary,
        config,
        architecture=form.architecture,
        training_architecture=form.training_architecture,
        fields=form.cfg,
    )
    if cfg["metadata"]["prepend_bos"] is None:
        fidelity.remark(
            "whether a BOS stood in front of the contexts in training is not recorded, and the tokenizer of "
            f"{cfg['metadata']['model_name']} is not there to tell: prepend_bos is left open (null)"
        )
    folder = Path(folder)
    save_with_checksum(
        folder / WEIGHTS, lambda file: file.write(to_bytes(tensors, metadata={"format": "pt"}))
    )
    save_text(folder / RUNNER, json.dumps(make_runner_cfg(cfg), indent=1) + "\n")
    save_text(folder / CFG, json.dumps(cfg, indent=1) + "\n")


def form_of(dictionary: Dictionary, fidelity: Fidelity) -> Form:
    """The tensors and settings with which SAELens computes the same codes.

    Raises:
        UserError: none does.
    """
    if isinstance(dictionary, TemporalSAE):
        return _temporal_form(dictionary, fidelity)
    subtracts = {"apply_b_dec_to_input": True}
    if isinstance(dictionary, ThresholdDictionary):
        weights = dictionary.weights()
        tensors = dict(zip(_FLAT, weights, strict=True))
        if isinstance(dictionary, AutoEncoderTopK):
            return Form("topk", tensors, subtracts | {"k": int(dictionary.k)}, "topk")
        # relu(p) > t and p > t are the same condition for t >= 0; for t < 0 both leave relu(p)
        tensors["threshold"] = dictionary.threshold.expand(dictionary.dict_size)
        if float(dictionary.threshold) < 0:
            fidelity.remark("the threshold was never set, so that the code is a plain ReLU's, here as there")
        grouped = isinstance(dictionary, MatryoshkaBatchTopKSAE)
        return Form("jumprelu", tensors, subtracts, "matryoshka_batchtopk" if grouped else "batchtopk")
    if isinstance(dictionary, JumpReluAutoEncoder):
        tensors = dict(dictionary.named_parameters())
        return Form(
            "jumprelu", tensors, {"apply_b_dec_to_input": dictionary.apply_b_dec_to_input}, "jumprelu"
        )
    if isinstance(dictionary, GatedAutoEncoder):
        tensors = {
            "W_enc": dictionary.encoder.weight.T,
            "W_dec": dictionary.decoder.weight.T,
            "b_dec": dictionary.decoder_bias,
            "b_gate": dictionary.gate_bias,
            "b_mag": dictionary.mag_bias,
            "r_mag": dictionary.r_mag,
        }
        return Form("gated", tensors, subtracts, "gated")
    if isinstance(dictionary, AutoEncoder | AutoEncoderNew):
        b_dec = dictionary.decoder.bias if isinstance(dictionary, AutoEncoderNew) else dictionary.bias
        tensors = {
            "W_enc": dictionary.encoder.weight.T,
            "b_enc": dictionary.encoder.bias,
            "W_dec": dictionary.decoder.weight.T,
            "b_dec": b_dec,
        }
        return Form(
            "standard", tensors, {"apply_b_dec_to_input": isinstance(dictionary, AutoEncoder)}, "standard"
        )
    raise UserError(f"SAELens has no architecture for a {type(dictionary).__name__}.")


def _temporal_form(dictionary: TemporalSAE, fidelity: Fidelity) -> Form:
    kind, k = dictionary.sae_diff_type, dictionary.kval_topk
    if kind == "nullify":
        raise UserError(
            "SAELens has no TemporalSAE without novel codes (sae_diff_type nullify): train one with topk or "
            "relu."
        )
    if kind == "batchtopk":
        fidelity.lose(
            f"SAELens has no TemporalSAE that selects over a batch; as topk its novel codes would have {k} "
            "latents at every token instead of on average"
        )
        kind = "topk"
    tensors = {"W_dec": dictionary.D, "b_dec": dictionary.b.squeeze(0)}
    if not dictionary.tied_weights:
        tensors["W_enc"] = dictionary.E
    form = released_form(dictionary.state_dict(), dictionary.architecture)
    if dictionary.value_rank is not None:
        fidelity.remark(
            f"SAELens has no value_rank ({dictionary.value_rank}): zeros follow the attention's values, with "
            "which the codes are the same"
        )
    tensors |= {name: tensor for name, tensor in form.state.items() if name.startswith("attn_layers.")}
    cfg = {
        "apply_b_dec_to_input": True,
        "normalize_activations": "constant_scalar_rescale",
        "activation_normalization_factor": float(dictionary.scaling_factor),
        **form.architecture,
        "sae_diff_type": kind,
        "kval_topk": k if kind == "topk" else None,
    }
    fidelity.remark(
        "in SAELens encode gives the novel codes and decode reconstructs from those alone; forward is "
        "complete, and encode_with_predictions gives (novel, predicted)"
    )
    return Form("temporal", tensors, cfg, "temporal")
