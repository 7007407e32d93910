"""Passes of a language model that differ from some layer on: the layers below it run once, or not at all.

    lower = LowerLayers(lm, 15)
    logits_BLV, output = lower.clean(tokens_BL, mask_BL, x_BLD)
    with lower.skipped(output):
        lm.logits(tokens_BL, mask_BL, 15, edit)       # the layers from 16 on alone, and the head

Whatever else a model does with its embeddings, masks and positions it does again, so nothing has to be known
of its kind, but that a layer depends on those below it by what it is given alone. That is tried.

Shapes: B contexts, L positions, D model width, V vocabulary.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from dictionary_learning.command.progress import say
from dictionary_learning.language_model.hooks import hidden_states, with_hidden_states
from dictionary_learning.language_model.model import LanguageModel
from dictionary_learning.language_model.places import Place

# By how much logits may differ, as a share of their spread: activations that were recorded in another batch
# are rounded otherwise. A model that needs more than them is off by as much as its logits spread.
TOLERANCE, TOLERANCE_OF_HALVES = 1e-4, 0.1


class LowerLayers:
    """The decoder layers up to a place in a model, and the outputs that stand for them."""

    def __init__(self, lm: LanguageModel, layer: int | Place) -> None:
        place = lm.check_place(layer)
        assert place.layer is not None
        self.lm = lm
        self.layers: list[nn.Module] = list(lm.layers)[: place.layer + (not place.is_added)]
        self._is_tried = not self.layers
        self._can_skip = self._can_start = False
        self._form: Any = None  # of what a layer returns
        self._is_stream = not place.is_added

    def clean(self, tokens_BL: Tensor, mask_BL: Tensor, x_BLD: Tensor | None) -> tuple[Tensor, Any]:
        """Logits [B, L, V] of a pass in which nothing is changed, and the output to go on from.

        The first pass runs whole, and tries whether others need to.

        Args:
            x_BLD: the residual stream at the place, as recorded, at all positions of the mask.
        """
        if self._can_start and x_BLD is not None:
            output = self._output_of(x_BLD)
            with self.skipped(output):
                return self.lm.logits(tokens_BL, mask_BL), output
        kept: list[Any] = []
        with ExitStack() as hooks:
            if self.layers:
                # a copy, because what runs on may write into it
                keep = self.layers[-1].register_forward_hook(lambda m, args, out: kept.append(_copied(out)))
                hooks.callback(keep.remove)
            logits_BLV = self.lm.logits(tokens_BL, mask_BL)
        if not self._is_tried:
            self._try(tokens_BL, mask_BL, logits_BLV, kept[0], x_BLD)
        return logits_BLV, kept[0] if self._can_skip else None

    @contextmanager
    def skipped(self, output: Any) -> Iterator[None]:
        """Inside the block the layers do not run: each returns `output`, whatever it is given.

        Their hooks run as ever, so what the last of them returns can be edited. None: all of them run.
        """
        with ExitStack() as restored:
            for layer in [] if output is None else self.layers:
                own = layer.__dict__.get("forward")
                if own is None:
                    restored.callback(layer.__dict__.pop, "forward")
                else:
                    restored.callback(layer.__dict__.__setitem__, "forward", own)
                layer.__dict__["forward"] = lambda *args, **kwargs: _copied(output)
            yield

    def _try(
        self, tokens_BL: Tensor, mask_BL: Tensor, logits_BLV: Tensor, output: Any, x_BLD: Tensor | None
    ) -> None:
        self._is_tried, self._form = True, output
        if x_BLD is not None and self._is_stream:
            self._can_start = self._gives(self._output_of(x_BLD), tokens_BL, mask_BL, logits_BLV)
        self._can_skip = self._can_start or self._gives(output, tokens_BL, mask_BL, logits_BLV)
        if not self._can_skip:
            say(
                f"{self.lm.name} shares more between its layers than what each gives the next, so all "
                "of them run for every reconstruction."
            )

    def _gives(self, output: Any, tokens_BL: Tensor, mask_BL: Tensor, logits_BLV: Tensor) -> bool:
        """Whether the same logits come out when the layers are skipped."""
        try:
            with self.skipped(output):
                again_BLV = self.lm.logits(tokens_BL, mask_BL)
        except (RuntimeError, TypeError, ValueError, AttributeError, LookupError):
            return False  # it looks for something that its lower layers have not left
        logits_nV, again_nV = logits_BLV[mask_BL].float(), again_BLV[mask_BL].float()
        tolerance = TOLERANCE if logits_BLV.dtype == torch.float32 else TOLERANCE_OF_HALVES
        return bool((again_nV - logits_nV).norm() <= tolerance * (logits_nV - logits_nV.mean()).norm())

    def _output_of(self, x_BLD: Tensor) -> Any:
        """What the last of the layers returned when the residual stream was this."""
        return with_hidden_states(self._form, x_BLD.to(hidden_states(self._form)))


def _copied(output: Any) -> Any:
    return with_hidden_states(output, hidden_states(output).clone())
