"""A card that is none: tensors that say they lie on it, and have values, which a CPU works out.

As on a card, an operation that mixes its tensors with those of the CPU raises. What a host has to wait for
is counted: a value that is read, a shape that depends on values, a copy to the host. Unlike on `fake_card`,
where all of these raise, whole evaluations run here, and must say what they say on a CPU.

It registers the device for the whole process, so tests use it in a process of their own.
"""

from collections import Counter
from typing import Any

import torch
from fake_card import CARD
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

SHAPES_OF_VALUES = {
    "aten.nonzero",
    "aten.masked_select",
    "aten._unique2",
    "aten.unique_dim",
    "aten.unique_consecutive",
    "aten.bincount",
    "aten.repeat_interleave",
}


class OnCard(Tensor):
    """A tensor that says it lies on the card; `inner` has its values."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> "OnCard":
        made = Tensor._make_wrapper_subclass(
            cls, inner.shape, inner.stride(), inner.storage_offset(), dtype=inner.dtype, device=CARD
        )
        made.inner = inner
        return made

    def __init__(self, inner: Tensor) -> None:
        pass

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return f"OnCard({self.inner!r})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError(f"{func} was called outside `Card`.")


class Card(TorchDispatchMode):
    """Within it the card is there.

    Attributes:
        waits: how often the host had to wait, by what it did.
        drains: how often there was something to wait for, because work had been queued since the last time.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()
        self.drains = 0
        self._is_queued = False
        self._lists = _Lists()

    def __enter__(self) -> "Card":
        self._lists.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *of_error: Any) -> None:
        super().__exit__(*of_error)
        self._lists.__exit__(*of_error)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        tensors = [leaf for leaf in tree_flatten((args, kwargs))[0] if isinstance(leaf, Tensor)]
        is_mine = any(isinstance(tensor, OnCard) for tensor in tensors)
        name = str(func).removesuffix(".default")
        if is_mine:
            self._check(name, tensors)
            self._count(name, args, kwargs)
        if kwargs.get("device") is not None:
            is_mine = torch.device(kwargs["device"]).type == CARD.type
            kwargs["device"] = torch.device("cpu")
        elif name == "aten.copy_":
            is_mine = isinstance(args[0], OnCard)
        out = func(*tree_map(_bare, args), **tree_map(_bare, kwargs))
        return _wrapped(out, tensors) if is_mine else out

    def _check(self, name: str, tensors: list[Tensor]) -> None:
        """A tensor of the host's may take part as a number, as an index or in a copy."""
        if name.startswith(("aten.copy_", "aten._to_copy", "aten.index.", "aten.index_put")):
            return
        for tensor in tensors:
            if not isinstance(tensor, OnCard) and tensor.ndim > 0:
                raise RuntimeError(
                    f"{name} mixes tensors on the card with one {list(tensor.shape)} that is not."
                )

    def _count(self, name: str, args: Any, kwargs: Any) -> None:
        wait = _wait(name, args, kwargs)
        if wait is None:
            self._is_queued = True
            return
        self.waits[wait] += 1
        self.drains += self._is_queued or wait in SHAPES_OF_VALUES
        self._is_queued = False


def _wait(name: str, args: Any, kwargs: Any) -> str | None:
    """What of an operation the host waits for."""
    operation = ".".join(name.split(".")[:2])  # without the overload
    if operation in ("aten.index", "aten.index_put", "aten.index_put_"):
        by_mask = any(isinstance(index, Tensor) and index.dtype == torch.bool for index in args[1])
        return "a mask as an index" if by_mask else None
    if operation == "aten._to_copy" and kwargs.get("device") is not None:
        return "a copy to the host" if torch.device(kwargs["device"]).type == "cpu" else None
    if operation == "aten.copy_":
        return None if isinstance(args[0], OnCard) else "a copy to the host"
    if operation == "aten.repeat_interleave" and kwargs.get("output_size") is not None:
        return None
    return operation if operation in SHAPES_OF_VALUES or operation == "aten._local_scalar_dense" else None


class _Lists(TorchFunctionMode):
    """`torch.tensor` and `tolist`, which PyTorch does below what `Card` sees."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        device = kwargs.get("device")
        if func is torch.tensor and device is not None and torch.device(device).type == CARD.type:
            return OnCard(func(*args, **kwargs | {"device": "cpu"}))
        if func is Tensor.tolist and isinstance(args[0], OnCard):
            return args[0].cpu().tolist()
        return func(*args, **kwargs)


def _bare(leaf: Any) -> Any:
    return leaf.inner if isinstance(leaf, OnCard) else leaf


def _wrapped(out: Any, tensors: list[Tensor]) -> Any:
    """Results on the card; what was written to is the tensor that was given."""
    given = {id(tensor.inner): tensor for tensor in tensors if isinstance(tensor, OnCard)}

    def wrap(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        return given[id(leaf)] if id(leaf) in given else OnCard(leaf)

    return tree_map(wrap, out)


def on_card(x: Tensor) -> Tensor:
    """A tensor of the host's, as it is on the card."""
    return OnCard(x.detach().clone())


def move(module: nn.Module) -> nn.Module:
    """Put a module's parameters and buffers on the card."""
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None:
                part._parameters[name] = nn.Parameter(on_card(parameter), requires_grad=False)
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = on_card(buffer)
    return module
