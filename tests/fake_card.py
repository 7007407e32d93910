"""A device that has no values: what would make a host wait for a card raises, and so does mixing devices.

Torch's fake tensors have shapes, types and a device. "cuda" needs a driver where PyTorch is built with CUDA;
where no card is, the same is a device of torch's own for backends in Python. It is registered for the whole
process, so tests use this in a process of their own (`card_steps`).
"""

from collections import Counter
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

if not torch.cuda.is_available():
    _setup_privateuseone_for_python_backend("card")
    torch.card.get_amp_supported_dtype = lambda: [torch.bfloat16]  # type: ignore[attr-defined]
CARD = torch.device("cuda:0" if torch.cuda.is_available() else "card:0")


class Operations(TorchDispatchMode):
    """Counts what is done within it, but for views and empty memory, which give a card nothing to do."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func)
        is_view = any(r.alias_info is not None and not r.alias_info.is_write for r in func._schema.returns)
        if not is_view and not name.startswith(
            ("prim.", "profiler.", "aten.detach", "aten.empty", "aten.new_empty")
        ):
            self.counts[name] += 1
        return func(*args, **(kwargs or {}))

    @property
    def started(self) -> int:
        return self.counts.total()


def fake_card() -> AbstractContextManager[Any]:
    """Within it tensors have no values, and only such tensors can be used."""
    return FakeTensorMode(allow_non_fake_inputs=False)


def away(x: Tensor) -> Tensor:
    """A tensor of the same shape, order in memory and type, on the card."""
    return torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device=CARD)


def move(module: nn.Module) -> None:
    """Put a module's parameters and buffers on the card, within `fake_card`."""
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None:
                part._parameters[name] = nn.Parameter(away(parameter), parameter.requires_grad)
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = away(buffer)
