"""A dictionary as a trainer's folder, `config.json` and `ae.pt`: our own form, and the library's.

The dictionary_learning library reads `trainer.dict_class` and `trainer.k` of config.json and the tensors of
ae.pt. What it has no class for is written as the class that computes the same.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dictionary_learning.command.files import save_text
from dictionary_learning.dictionaries.base import Dictionary
from dictionary_learning.dictionaries.classics import AutoEncoder, JumpReluAutoEncoder
from dictionary_learning.dictionaries.context_mean import ContextMean
from dictionary_learning.dictionaries.temporal_sae import TemporalSAE
from dictionary_learning.dictionaries.weights_file import save_weights
from dictionary_learning.errors import UserError
from dictionary_learning.exchange import names
from dictionary_learning.exchange.fidelity import Fidelity
from dictionary_learning.trainers.temporal_sequence_top_k import TemporalMatryoshkaBatchTopKSAE
from dictionary_learning.trainers.threshold import ThresholdDictionary


def write(dictionary: Dictionary, config: Mapping[str, Any], folder: str | Path) -> None:
    """Write a trainer's folder as our own training leaves it; `load_dictionary` gives the same back."""
    _save(folder, type(dictionary).__name__, dictionary.state_dict(), dictionary, config)


def write_for_library(
    dictionary: Dictionary, config: Mapping[str, Any], folder: str | Path, fidelity: Fidelity | None = None
) -> None:
    """Write a folder that the dictionary_learning library loads.

    Raises:
        UserError: the library has no class that computes the same.
    """
    fidelity = fidelity or Fidelity()
    if isinstance(dictionary, ContextMean):
        raise UserError(
            "the dictionary_learning library has no ContextMean, in which nothing is learnt: choose --to run."
        )
    name, state = type(dictionary).__name__, dictionary.state_dict()
    if isinstance(dictionary, TemporalSAE):
        raise UserError(
            "the dictionary_learning library has no TemporalSAE: choose --to saelens, or --to released for "
            "the layout in which TemporalSAEs are released."
        )
    if isinstance(dictionary, TemporalMatryoshkaBatchTopKSAE):
        name = "MatryoshkaBatchTopKSAE"
        fidelity.remark(
            "written as the MatryoshkaBatchTopKSAE that a T-SAE is in use; the T-SAE's own code reads the "
            "run's folder as it is"
        )
    if isinstance(dictionary, JumpReluAutoEncoder) and dictionary.apply_b_dec_to_input:
        shift_F = dictionary.b_dec.double() @ dictionary.W_enc.double()
        state["b_enc"] = (dictionary.b_enc - shift_F).float()
        fidelity.remark(
            "the library does not subtract this dictionary's b_dec from the input: what that takes away was "
            "added to b_enc, so that codes are equal up to rounding"
        )
    if isinstance(dictionary, ThresholdDictionary) and int(dictionary.k) < 1:
        raise UserError("k of this dictionary is unknown, and the library loads none without it.")
    if isinstance(dictionary, AutoEncoder):
        norm_F = dictionary.decoder_directions().detach().norm(dim=1)
        if not torch.allclose(norm_F, torch.ones_like(norm_F)):
            fidelity.lose(
                f"the decoder's rows have norms from {float(norm_F.min()):.3g} to {float(norm_F.max()):.3g}, "
                "and the library rescales an AutoEncoder to norm 1 when it loads one, so that its codes are "
                "multiplied by them (AutoEncoder.from_pretrained(..., normalize_decoder=False) leaves them)"
            )
    _save(folder, name, state, dictionary, config)


def _save(
    folder: str | Path,
    name: str,
    state: Mapping[str, Tensor],
    dictionary: Dictionary,
    config: Mapping[str, Any],
) -> None:
    trainer = dict(config["trainer"]) | {
        "dict_class": name,
        "activation_dim": dictionary.activation_dim,
        "dict_size": dictionary.dict_size,
    }
    if isinstance(dictionary, ThresholdDictionary):
        trainer["k"] = int(dictionary.k)
    if isinstance(dictionary, TemporalSAE):
        trainer |= dictionary.architecture
    public = names.public_config({"trainer": trainer, "buffer": config.get("buffer") or {}})
    tensors = {key: tensor.detach().cpu().clone().contiguous() for key, tensor in state.items()}
    save_weights(Path(folder) / "ae.pt", tensors)
    save_text(Path(folder) / "config.json", json.dumps(public, indent=4) + "\n")
