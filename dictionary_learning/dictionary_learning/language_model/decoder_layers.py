"""Finding a transformer's decoder layers by structure, and reading and changing what a layer returns.

Shapes: B texts, L positions, D model width.
"""

from typing import Any

import torch
from torch import Tensor, nn

from dictionary_learning.errors import UserError


def find_decoder_layers(model: Any) -> tuple[str, nn.ModuleList]:
    """Path inside a transformers model, and list, of its decoder layers.

    They are the outermost list of modules that has as many members as the config has hidden layers,
    the largest one if there are several.

    Raises:
        UserError: the model has no such list.
    """
    n_layers = getattr(model.config.get_text_config(decoder=True), "num_hidden_layers", None)
    other_towers = ("vision", "visual", "audio", "encoder.")
    found = [
        (path.count("."), -sum(weight.numel() for weight in module.parameters()), path, module)
        for path, module in model.named_modules()
        if isinstance(module, nn.ModuleList)
        and len(module) == n_layers
        and not any(tower in path for tower in other_towers)
    ]
    if not found:
        raise UserError(f"{type(model).__name__} has no list of decoder layers: choose a decoder-only model.")
    *_, path, layers = min(found)
    return path, layers


def hidden_states(output: Any) -> Tensor:
    """The hidden states x_BLD in what a layer returns: a tensor, or (GPT-J, Bloom, ...) a tuple."""
    return output if torch.is_tensor(output) else output[0]


def with_hidden_states(output: Any, x_BLD: Tensor) -> Any:
    """What the layer returned, with `x_BLD` in place of its hidden states."""
    return x_BLD if torch.is_tensor(output) else (x_BLD, *output[1:])
