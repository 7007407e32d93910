"""Passes of a language model that differ from some layer on: the layers below it run once.

    with kept_output(layers[15]) as kept:
        lm.logits(tokens_BL, mask_BL)
    with skipped(layers[:16], kept):
        lm.logits(tokens_BL, mask_BL, 15, edit)       # the layers 16 to 29 alone, and the head

Whatever else a model does with its embeddings, masks and positions it does again, so nothing has to be known
of its kind, but that a layer depends on those below it by what it is given alone. `CrossEntropy` checks that.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn


@contextmanager
def kept_output(layer: nn.Module) -> Iterator[list[Any]]:
    """What the layer returns in the passes inside the block, before anybody has changed it."""
    kept: list[Any] = []
    handle = layer.register_forward_hook(lambda module, args, output: kept.append(_copied(output)))
    try:
        yield kept
    finally:
        handle.remove()


@contextmanager
def skipped(layers: Sequence[nn.Module], output: Any) -> Iterator[None]:
    """Inside the block the layers do not run: each returns `output` whatever it is given.

    Their hooks run as ever, so what the last of them returns can be edited.
    """
    with ExitStack() as restored:
        for layer in layers:
            own = layer.__dict__.get("forward")
            if own is None:
                restored.callback(layer.__dict__.pop, "forward")
            else:
                restored.callback(layer.__dict__.__setitem__, "forward", own)
            # a copy each time: what runs on may write into it
            layer.__dict__["forward"] = lambda *args, **kwargs: _copied(output)
        yield


def _copied(output: Any) -> Any:
    """A layer's output, with its hidden states as a tensor of their own."""
    if torch.is_tensor(output):
        return output.clone()
    return (output[0].clone(), *output[1:])
