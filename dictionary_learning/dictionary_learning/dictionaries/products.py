"""The dense float32 products on a CPU, by the quicker of two libraries.

PyTorch's own library for float32 products does not know every processor; oneDNN, which PyTorch brings along,
may take half its time, or longer than it. It is timed once in a process (`library`), at the sizes of the
first large product, over the three products that a linear map costs a training step:

    Y = X M + b        dX = dY M^T        dM = X^T dY

Sums are made in another order by each, so results may differ in the last digits: a run that goes on has to go
on by the same library (`use`).

Shapes: T rows, I inputs, O outputs.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dictionary_learning.command.devices import seconds_of

DEFAULT, ONEDNN = "PyTorch", "oneDNN"
TIMED = (1024, 1152, 1152)  # rows, inputs and outputs, at most: larger products are timed at these
ROUNDS = 5
CLEARLY = 0.95  # oneDNN has to take less than this share of the time
FROM_ROWS, FROM_PRODUCTS = 64, 1 << 26  # with less oneDNN's preparations take longer than they save

_library: str | None = None


def onednn_linear(x_TI: Tensor, W_OI: Tensor, b_O: Tensor | None = None) -> Tensor:
    """x W^T + b by oneDNN; AttributeError where PyTorch was built without it."""
    return torch.ops.mkldnn._linear_pointwise(x_TI, W_OI, b_O, "none", [], "")


def library(rows: int = TIMED[0], n_in: int = TIMED[1], n_out: int = TIMED[2]) -> str:
    """Which library makes large float32 products in this process; timed at the first call.

    Which one is quicker depends on the sizes, powers of two above all: those of the first product are likely
    to be those of most.

    Args:
        rows, n_in, n_out: of the product that asks.
    """
    global _library
    if _library is None:
        _library = _timed_library(*map(min, (rows, n_in, n_out), TIMED))
    return _library


def library_in_use() -> str | None:
    """The same without a timing: None where no product was large enough so far."""
    return _library


def use(name: str | None) -> None:
    """Take this library from now on, as an earlier process did, if it is here; None: it had none."""
    global _library
    if name == DEFAULT or (name == ONEDNN and torch.backends.mkldnn.is_available()):
        _library = name


def _timed_library(rows: int, n_in: int, n_out: int) -> str:
    generator = torch.Generator().manual_seed(0)
    x_TI = torch.randn(rows, n_in, generator=generator)
    W_OI = torch.randn(n_out, n_in, generator=generator)
    d_y_TO = torch.randn(rows, n_out, generator=generator)
    products: dict[str, Callable[[Tensor, Tensor], Tensor]] = {DEFAULT: F.linear, ONEDNN: onednn_linear}

    def three(linear: Callable[[Tensor, Tensor], Tensor]) -> Callable[[], object]:
        return lambda: (linear(x_TI, W_OI), linear(d_y_TO, W_OI.T), linear(d_y_TO.T, x_TI.T))

    seconds = seconds_of({name: three(linear) for name, linear in products.items()}, ROUNDS)
    return ONEDNN if seconds.get(ONEDNN, torch.inf) < CLEARLY * seconds[DEFAULT] else DEFAULT


def linear(x: Tensor, W_OI: Tensor, b_O: Tensor | None = None) -> Tensor:
    """x W^T + b [..., O] of x [..., I], with gradients."""
    if not _is_large(x, W_OI) or _library_for(x, W_OI.T) == DEFAULT:
        return F.linear(x, W_OI, b_O)
    return _OneDNNProduct.apply(x.flatten(0, -2), W_OI.T, b_O).unflatten(0, x.shape[:-1])


def product(x: Tensor, M_IO: Tensor) -> Tensor:
    """x M [..., O] of x [..., I], with gradients."""
    if not _is_large(x, M_IO) or _library_for(x, M_IO) == DEFAULT:
        return x @ M_IO
    return _OneDNNProduct.apply(x.flatten(0, -2), M_IO, None).unflatten(0, x.shape[:-1])


def _library_for(x: Tensor, M_IO: Tensor) -> str:
    return library(x.numel() // x.shape[-1], *M_IO.shape)


def _is_large(x: Tensor, weights: Tensor) -> bool:
    if x.device.type != "cpu" or not x.dtype == weights.dtype == torch.float32:
        return False
    rows = x.numel() // x.shape[-1] if x.ndim > 1 else 0
    if rows < FROM_ROWS or rows * weights.numel() < FROM_PRODUCTS:
        return False
    return not torch.is_autocast_enabled("cpu")


class _OneDNNProduct(torch.autograd.Function):
    """x M + b, whose gradients are such products again."""

    @staticmethod
    def forward(ctx: Any, x_TI: Tensor, M_IO: Tensor, b_O: Tensor | None) -> Tensor:
        ctx.save_for_backward(x_TI, M_IO)
        return onednn_linear(x_TI, M_IO.T, b_O)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        x_TI, M_IO = ctx.saved_tensors
        needs_x, needs_M, needs_b = ctx.needs_input_grad
        d_y_TO = grads[0]
        d_x = d_M = None
        if needs_x:
            d_x = _OneDNNProduct.apply(d_y_TO, M_IO.T, None)
        if needs_M and M_IO.is_contiguous():
            d_M = _OneDNNProduct.apply(x_TI.T, d_y_TO, None)
        elif needs_M:  # stored by columns, as M is
            d_M = _OneDNNProduct.apply(d_y_TO.T, x_TI, None).T
        return d_x, d_M, d_y_TO.sum(0) if needs_b else None
