"""The outputs of some modules, from a forward pass that ends behind the last of them.

Shapes: B texts, L positions, D model width.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import Any

import torch
from torch import Tensor, nn

Edit = Callable[[Tensor], Tensor]


def record(model: nn.Module, inputs: Mapping[str, Tensor], modules: Sequence[nn.Module]) -> list[Tensor]:
    """The outputs [B, L, D] of several different modules, from one pass that ends behind the last of them."""
    shape_BL = inputs["input_ids"].shape
    found: dict[int, Tensor] = {}

    def keep(number: int, output: Any) -> None:
        x_BLD = unflattened(hidden_states(output), shape_BL)
        if len(found) == len(modules) - 1:
            found[number] = x_BLD
            raise _Stop
        # what runs on may write into it: Falcon adds the attention's output to that of the MLP in place
        found[number] = x_BLD.clone()

    with ExitStack() as hooks:
        for number, module in enumerate(modules):
            handle = module.register_forward_hook(
                lambda module, args, output, number=number: keep(number, output)
            )
            hooks.callback(handle.remove)
        with suppress(_Stop):
            model(**inputs, use_cache=False)
    assert len(found) == len(modules), "a module did not run"
    return [found[number] for number in range(len(modules))]


def hidden_states(output: Any) -> Tensor:
    """The hidden states in what a module returns: a tensor, or (GPT-J, Bloom, attention, ...) a tuple."""
    return output if torch.is_tensor(output) else output[0]


def with_hidden_states(output: Any, x: Tensor) -> Any:
    """What the module returned, with `x` in place of its hidden states."""
    return x if torch.is_tensor(output) else (x, *output[1:])


def unflattened(x: Tensor, shape_BL: torch.Size) -> Tensor:
    """The output [B, L, D] of a module that may see all positions in a row, as OPT's `fc2` does."""
    return x.view(*shape_BL, x.shape[-1]) if x.ndim == 2 else x


class _Stop(Exception):  # noqa: N818
    """Ends a forward pass behind the last module that was wanted."""
