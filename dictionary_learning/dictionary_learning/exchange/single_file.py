"""A dictionary in a file by itself, as others publish them; read without running pickled code.

    load(Path("ckpts/tsae_paper_k20__seed42.pt"))
    load(Path("SAE-Res-Qwen3-8B-Base-W64K-L0_50/layer12.sae.pt"))

Two kinds, told apart by their tensors and never by a name:

temp_xc     {"state_dict", "arch", "meta", "state_dict_dtype"}, or the state dict alone with its meta in
            <name>.json beside it or in ../training_logs. A T-SAE has W_enc, b_enc, W_dec, b_dec, k, threshold
            and group_sizes; a TemporalSAE D, b and attn_layers.*. Weights are float16 there, and float32 here
Qwen-Scope  {"W_enc" [F, D], "b_enc", "W_dec" [D, F], "b_dec"}, a TopK SAE of one layer. k, the language model
            and the layer stand in the names of folder and file. Its input has no bias taken off: what that
            takes away is added to the encoder's bias here, so codes are equal up to rounding

Shapes: D model width, F latents.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dictionary_learning.command import fields
from dictionary_learning.command.files import read_json
from dictionary_learning.dictionaries.base import UNSET_THRESHOLD, Dictionary
from dictionary_learning.dictionaries.temporal_sae import TemporalSAE
from dictionary_learning.dictionaries.weights_file import load_safely
from dictionary_learning.errors import UserError
from dictionary_learning.exchange.fidelity import Fidelity
from dictionary_learning.exchange.saelens.folding import fold_bias
from dictionary_learning.trainers.temporal_sequence_top_k import TemporalMatryoshkaBatchTopKSAE
from dictionary_learning.trainers.top_k import AutoEncoderTopK

SUFFIX = ".pt"
QWEN = {"W_enc", "b_enc", "W_dec", "b_dec"}
T_SAE = QWEN | {"k", "threshold", "group_sizes"}
QWEN_NAME = re.compile(r"SAE-Res-(?P<model>[\w.-]+?)-W\d+K-L0_(?P<k>\d+)")
_LAYER = re.compile(r"layer(\d+)")
TFA_HEADS = 4  # of all TemporalSAEs of temp_xc, whose files do not say it
_LONGEST = 16  # numbers in a row; more are a training curve
OVERRIDES = ("k", "scaling_factor", "n_heads", "layer", "lm_name")
META = {
    **dict.fromkeys(("k_pos", "k_win", "n_heads", "T"), fields.whole(1)),
    **dict.fromkeys(("scale", "input_scale", "scaling_factor"), fields.above(0)),
    **dict.fromkeys(("subject_model", "arch"), fields.TEXT),
}


class Read(NamedTuple):
    """A dictionary from a file."""

    dictionary: Dictionary
    config: dict[str, Any]  # in the form of a run's config.json, with the file's own words under "meta"


def load(path: Path, fidelity: Fidelity | None = None, overrides: Mapping[str, Any] | None = None) -> Read:
    """The dictionary of a file, on the CPU in float32, for evaluation.

    Args:
        overrides: some of `OVERRIDES`, in place of what the file or its names say.

    Raises:
        UserError: the file is damaged, holds code or another kind of dictionary, or does not say enough.
    """
    fidelity, given = fidelity or Fidelity(), dict(overrides or {})
    if unknown := given.keys() - set(OVERRIDES):
        raise UserError(
            f"{', '.join(sorted(unknown))} cannot be set for {path}: choose among {', '.join(OVERRIDES)}."
        )
    content = load_safely(path, "no file of weights needs any; get one of plain tensors.")
    meta = _meta(path, content)
    state = _state(path, content, fidelity)
    if state.keys() == QWEN:
        read = _qwen(path, state, given, fidelity)
    elif QWEN <= state.keys() <= T_SAE:
        read = _t_sae(path, state, meta, given)
    elif {"D", "b"} <= state.keys() and any(name.startswith("attn_layers.") for name in state):
        read = _tfa(path, state, meta, given)
    else:
        raise UserError(
            f"{path} holds a {meta.get('arch') or 'dictionary'} with the tensors "
            f"{', '.join(sorted(state)[:8])}, and only T-SAEs and TemporalSAEs of temp_xc and TopK SAEs of "
            "Qwen-Scope are read from single files: choose another."
        )
    dictionary, trainer = read
    trainer = {
        "dict_class": type(dictionary).__name__,
        "activation_dim": dictionary.activation_dim,
        "dict_size": dictionary.dict_size,
        **trainer,
    }
    buffer = {"model": trainer.get("lm_name"), "layer": trainer.get("layer")}
    kept = {key: value for key, value in buffer.items() if value is not None}
    return Read(dictionary.eval(), {"trainer": trainer, "buffer": kept, "meta": meta})


_Parts = tuple[Dictionary, dict[str, Any]]


def _state(path: Path, content: Any, fidelity: Fidelity) -> dict[str, Tensor]:
    """The named tensors, floating-point ones in float32."""
    state = content.get("state_dict", content) if isinstance(content, dict) else content
    if (
        not isinstance(state, dict)
        or not state
        or not all(isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in state.items())
    ):
        raise UserError(
            f'{path} holds something else: named tensors, bare or under "state_dict", were expected.'
        )
    if any(tensor.dtype in (torch.float16, torch.bfloat16) for tensor in state.values()):
        fidelity.remark("the weights were rounded to a shorter float there; here they are float32")
    found = {name: t.float() if t.is_floating_point() else t for name, t in state.items()}
    for name, tensor in found.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise UserError(f"{name} in {path} holds NaN or infinity: take another file.")
    return found


def _meta(path: Path, content: Any) -> dict[str, Any]:
    """What the file says of itself; of a bare state dict, what the JSON that belongs to it says."""
    meta: Any = None
    if isinstance(content, dict) and "meta" in content:
        meta = {**(content["meta"] or {}), "arch": content.get("arch")}
    else:
        logs = (path.with_suffix(".json"), path.parent.parent / "training_logs" / f"{path.stem}.json")
        found = next((log for log in logs if log.is_file()), None)
        meta = {} if found is None else read_json(found, "a JSON object")
    if not isinstance(meta, dict):
        raise UserError(f"what {path} says of itself (meta) is no object: take another file.")
    is_curve = {name for name, value in meta.items() if isinstance(value, list) and len(value) > _LONGEST}
    meta = {name: value for name, value in meta.items() if value is not None and name not in is_curve}
    fields.check_fields(path, meta, META)
    return meta


def _trainer(meta: Mapping[str, Any], given: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """What config.json would say of the training."""
    trainer = {
        "lm_name": given.get("lm_name", meta.get("subject_model")),
        "layer": given.get("layer", meta.get("anchor_layer", meta.get("layer"))),
        "seed": meta.get("seed"),
        **more,
    }
    return {name: value for name, value in trainer.items() if value is not None}


def _t_sae(path: Path, state: dict[str, Tensor], meta: Mapping[str, Any], given: Mapping[str, Any]) -> _Parts:
    sizes = meta.get("group_sizes")
    own = state["group_sizes"].tolist() if "group_sizes" in state else None
    if sizes is not None and own is not None and list(sizes) != own:
        raise UserError(
            f"{path} has groups of {own} latents in its weights and of {list(sizes)} in its meta: the two do "
            "not belong together."
        )
    if own is None and sizes is None:
        raise UserError(
            f"{path} says nowhere how its latents are grouped (group_sizes), and without that nobody knows "
            "which are high-level: take a newer file."
        )
    state = {**state, "group_sizes": torch.tensor(own if own is not None else list(sizes or ()))}
    k = given.get("k", int(state["k"]) if "k" in state else meta.get("k_pos"))
    if k is None:
        raise UserError(f"{path} does not say its k: give overrides={{'k': 20}} to load_dictionary.")
    state["k"] = torch.tensor(int(k), dtype=torch.int32)
    state.setdefault("threshold", torch.tensor(UNSET_THRESHOLD))
    dictionary = _fits(path, TemporalMatryoshkaBatchTopKSAE, state, {})
    return dictionary, _trainer(meta, given, k=int(k), group_sizes=state["group_sizes"].tolist())


def _tfa(path: Path, state: dict[str, Tensor], meta: Mapping[str, Any], given: Mapping[str, Any]) -> _Parts:
    if meta.get("use_pos"):
        raise UserError(f"{path} is a TemporalSAE with positional encodings, which those here do not have.")
    k = given.get("k", meta.get("k_pos", meta.get("k_win")))
    known = (meta[name] for name in ("scaling_factor", "input_scale", "scale") if name in meta)
    scale = given.get("scaling_factor", next(known, None))
    if scale is None:
        raise UserError(
            f"{path} does not say by what activations are multiplied before they meet its weights: give "
            "overrides={'scaling_factor': ...} to load_dictionary."
        )
    state["scaling_factor"] = torch.tensor(float(scale))
    config = {
        "n_heads": given.get("n_heads", meta.get("n_heads", TFA_HEADS)),
        "sae_diff_type": "relu" if k is None else "topk",
        "kval_topk": k,
        "context_length": meta.get("T"),
    }
    dictionary = _fits(path, TemporalSAE, state, config)
    assert isinstance(dictionary, TemporalSAE)
    more = {"k": k, "width": dictionary.width, **dictionary.architecture, "scaling_factor": float(scale)}
    return dictionary, _trainer(meta, given, context_length=dictionary.context_length, **more)


def _qwen(path: Path, state: dict[str, Tensor], given: Mapping[str, Any], fidelity: Fidelity) -> _Parts:
    # No tensor tells a TopK SAE from one with a ReLU alone: its repository's name has to, or the user.
    named = next(reversed(list(QWEN_NAME.finditer(str(path)))), None)
    k = given.get("k", int(named["k"]) if named else None)
    if k is None:
        raise UserError(
            f"nothing says that {path} is a TopK SAE of Qwen-Scope, or how many latents a token keeps: leave "
            "the file in a folder with the name of its repository, such as "
            "SAE-Res-Qwen3-8B-Base-W64K-L0_50, or give overrides={'k': 50} to load_dictionary."
        )
    layer = _LAYER.search(path.name)
    state = {**state, "W_enc": state["W_enc"].T, "W_dec": state["W_dec"].T}
    try:
        fold_bias(state, fidelity)
    except UserError as error:
        raise UserError(f"{path} is no file of Qwen-Scope: {error}") from error
    renamed = {
        "encoder.weight": state["W_enc"].T.contiguous(),
        "encoder.bias": state["b_enc"],
        "decoder.weight": state["W_dec"].T.contiguous(),
        "b_dec": state["b_dec"],
        "k": torch.tensor(int(k), dtype=torch.int32),
        "threshold": torch.tensor(UNSET_THRESHOLD),
    }
    meta: dict[str, Any] = {
        "subject_model": f"Qwen/{named['model']}" if named else None,
        "layer": int(layer[1]) if layer else None,
    }
    dictionary = _fits(path, AutoEncoderTopK, renamed, {})
    return dictionary, _trainer(meta, given, k=int(k))


def _fits(path: Path, cls: type[Dictionary], state: dict[str, Tensor], config: dict[str, Any]) -> Dictionary:
    try:
        return cls.from_state_dict(state, config)
    except UserError as error:
        raise UserError(f"{path} is damaged or of another kind: {error}") from error
