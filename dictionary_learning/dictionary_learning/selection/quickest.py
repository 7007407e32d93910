"""Which screens a search looks with: the quickest on this processor, and those that stand in for it.

Shapes: D model width, F latents.
"""

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from dictionary_learning.command.devices import multiplies, seconds_of
from dictionary_learning.selection.int8 import WIDEST, Int8Screen, whole_numbers
from dictionary_learning.selection.screens import BFloat16Screen, Float32Screen, Screen

TIMED_ROWS, TIMED_LATENTS = 256, 4096
TIMED_FROM = 1 << 20  # weights; with fewer a product takes no time to speak of
INT8_HAS_TO_TAKE = 0.85  # of the time of another: it lets more candidates through


def screens_for(W_enc_FD: Tensor, b_enc_F: Tensor, product_dtype: torch.dtype) -> list[Screen]:
    """The quickest screen for weights of this shape first; the last one is exact.

    Each is for what the one before it cannot tell. The timing is made once in a process.

    Args:
        product_dtype: bfloat16 allows whole numbers a bound that holds but once in a billion times, and where
            bfloat16 is quicker a product without bounds.
    """
    is_certain = product_dtype != torch.bfloat16
    if W_enc_FD.numel() < TIMED_FROM:
        quickest = "bfloat16" if product_dtype == torch.bfloat16 and multiplies("bfloat16") else "float32"
    else:
        shape = (min(len(W_enc_FD), TIMED_LATENTS), W_enc_FD.shape[1])
        quickest = _quickest(shape)
    if quickest == "int8":
        between = [BFloat16Screen(is_certain)] if multiplies("bfloat16") else []
        return [Int8Screen(is_certain=is_certain), *between, Float32Screen()]
    if quickest == "bfloat16":
        return [BFloat16Screen(is_certain), Float32Screen()]
    return [Float32Screen(by_onednn=quickest == "oneDNN")]


@functools.lru_cache
def _quickest(shape: tuple[int, int]) -> str:
    screens: dict[str, Callable[[], Screen]] = {
        "float32": Float32Screen,
        "oneDNN": lambda: Float32Screen(by_onednn=True),
    }
    if multiplies("bfloat16"):  # else one product of that size takes a second
        screens["bfloat16"] = BFloat16Screen
    if shape[1] <= WIDEST and whole_numbers():
        screens["int8"] = Int8Screen
    generator = torch.Generator().manual_seed(0)
    W_FD, b_F = torch.randn(shape, generator=generator), torch.zeros(shape[0])
    x_TD = torch.randn(TIMED_ROWS, shape[1], generator=generator)

    def multiply(make: Callable[[], Screen]) -> Callable[[], object]:
        screen = make()
        screen.set_weights(W_FD, b_F)
        return functools.partial(screen.multiply, x_TD)

    seconds = seconds_of({name: multiply(make) for name, make in screens.items()})
    if "int8" in seconds:
        seconds["int8"] /= INT8_HAS_TO_TAKE
    return min(seconds, key=seconds.__getitem__)
