"""Latents for lm-eval's `--model steered`: what does steering them cost on the benchmarks it knows?

    temporal-saes convert --from runs/demo/tsae --to lm_eval --steer 5=30 9=-4 --output steered
    lm-eval run --model steered --model_args pretrained=MODEL,steer_path=steered/steer.pt --tasks mmlu

A file of its own names one vector a module. Several latents of one dictionary are read at one place, so what
they add is added up here. (From a table of latents lm-eval 0.4.13 takes one vector a module too: of two rows
with the same module the later one alone counts.)
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from dictionary_learning.command.files import save_tensors, save_text
from dictionary_learning.dictionaries.base import Dictionary
from dictionary_learning.errors import UserError
from dictionary_learning.exchange.fidelity import Fidelity
from dictionary_learning.exchange.names import model_name
from dictionary_learning.language_model.places import RESIDUAL, Place
from dictionary_learning.language_model.sizes import layer_path


def read_strengths(words: Sequence[str], dict_size: int) -> dict[int, float]:
    """Strengths by latent from words such as "5=30".

    Raises:
        UserError: there is none, one is no such word, or a latent is not there or named twice.
    """
    if not words:
        raise UserError(
            "--steer is missing: give the latents and how far to push them, such as --steer 5=30 9=-4."
        )
    strengths: dict[int, float] = {}
    for word in words:
        latent, _, strength = word.partition("=")
        try:
            number, amount = int(latent), float(strength)
        except ValueError:
            raise UserError(f"--steer {word} is no latent with a strength: give one such as 5=30.") from None
        if not 0 <= number < dict_size:
            raise UserError(f"--steer {word}: there is no latent {number}, the last is {dict_size - 1}.")
        if number in strengths:
            raise UserError(f"--steer names latent {number} twice: give one strength for it.")
        if not abs(amount) < float("inf"):
            raise UserError(f"--steer {word}: the strength has to be a finite number.")
        strengths[number] = amount
    return strengths


def write(
    dictionary: Dictionary,
    config: Mapping[str, Any],
    folder: Path,
    fidelity: Fidelity,
    words: Sequence[str],
) -> None:
    """Write steer.pt, which adds the latents' directions, and steer.json, which says what it is.

    Args:
        config: of the run, which tells the language model and the layer.
        words: as `read_strengths` takes them; in units of the latents' activations.

    Raises:
        UserError: as `read_strengths`; a run that does not tell its model or is of another place than the
            output of a decoder layer.
    """
    strengths = read_strengths(words, dictionary.dict_size)
    place, model = Place.of_run(config), (config.get("trainer") or {}).get("lm_name")
    output = None if place is None else place.output
    if output is None or output.layer is None or output.site != RESIDUAL or model is None:
        raise UserError(
            "lm-eval steers the output of a decoder layer, and this run does not tell the language model and "
            "the layer whose output it was trained on: choose another run."
        )
    module = layer_path(str(model), output.layer)
    direction_FD = dictionary.decoder_directions().detach().float().cpu()
    vector_D = torch.stack([strength * direction_FD[latent] for latent, strength in strengths.items()]).sum(0)
    entry = {
        "steering_vector": vector_D,
        "steering_coefficient": 1.0,
        "action": "add",
        "bias": None,
        "head_index": None,
    }
    fidelity.remark(
        "lm-eval adds this at every position, a BOS, padding and attention sinks too; steering here leaves "
        "those as they are"
    )
    save_tensors(folder / "steer.pt", {module: entry})
    told = {
        "module": module,
        "model": model_name(config["trainer"]),
        "layer": output.layer,
        "strengths": {str(latent): strength for latent, strength in strengths.items()},
        "length": float(vector_D.norm()),
    }
    save_text(folder / "steer.json", json.dumps(told, indent=1, allow_nan=False) + "\n")
