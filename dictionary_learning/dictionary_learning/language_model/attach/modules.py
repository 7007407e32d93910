"""The module that a dictionary is attached to, under any of the names that it has."""

from numbers import Integral
from typing import Any

from torch import nn

from dictionary_learning.errors import UserError
from dictionary_learning.language_model.decoder_layers import find_added, find_decoder_layers
from dictionary_learning.language_model.places import Place

Where = int | str | Place | nn.Module
"""A decoder layer by its number, a place in one, the path of a module, or a module."""


def module_at(model: Any, where: Where) -> nn.Module:
    """The module of a model.

    Raises:
        UserError: there is none.
    """
    if isinstance(where, str):
        modules = dict(model.named_modules())
        if where not in modules:
            raise UserError(
                f"{type(model).__name__} has no module {where!r}: give a path as in named_modules(), such as "
                f"{_example(modules)!r}."
            )
        return modules[where]
    if isinstance(where, nn.Module):
        if not any(module is where for module in model.modules()):
            raise UserError(f"this {type(where).__name__} is no module of the {type(model).__name__}.")
        return where
    if not hasattr(getattr(model, "config", None), "get_text_config"):
        raise UserError(
            f"{type(model).__name__} is no transformers model, so that {where} says nothing: give the path "
            "of a module."
        )
    if not isinstance(where, int | Integral | Place):
        raise UserError(
            f"{where!r} is no place in a model: give the number of a decoder layer, the path of a module, or "
            "the module."
        )
    place = where.output if isinstance(where, Place) else Place(int(where))
    _, layers = find_decoder_layers(model)
    if place is None or place.layer is None or not 0 <= place.layer < len(layers):
        raise UserError(
            f"{type(model).__name__} has no {place or where}: its layers are 0 to {len(layers) - 1}."
        )
    layer = layers[place.layer]
    return find_added(model, layer)[place.site] if place.is_added else layer


def _example(modules: dict[str, nn.Module]) -> str:
    lists = [name for name, module in modules.items() if isinstance(module, nn.ModuleList) and len(module)]
    return f"{lists[0]}.0" if lists else next((name for name in modules if name), "")
