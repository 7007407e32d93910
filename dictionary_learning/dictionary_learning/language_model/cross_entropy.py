"""What a reconstruction costs the language model: cross-entropy clean, reconstructed and ablated.

Shapes: N contexts, L positions, D model width, V vocabulary.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from dictionary_learning.language_model.model import Edit, LanguageModel, only, replace, zero
from dictionary_learning.language_model.places import Place


class CrossEntropy:
    """Sums of next-token losses over three passes of a language model over the same tokens.

    Clean: nothing is changed. Reconstructed: what the dictionary reads is its reconstruction. Ablated: it is
    zero. A position outside the mask (a BOS, an attention sink) keeps its own activation in all three.
    Every prediction of a real next token counts, those made at such a position too: padding is the
    only thing that is left out.
    """

    def __init__(
        self,
        lm: LanguageModel,
        layer: int | Place,
        memory_bytes: int = 2**29,
        watch: Callable[[int], None] | None = None,
    ) -> None:
        """
        Args:
            layer: a decoder layer, or a place in one, whose output is replaced.
            memory_bytes: what logits may take; at least one context is run at a time.
            watch: gets `tokens` each time that it has grown.
        """
        self.lm = lm
        self.layer = layer
        self.memory_bytes = memory_bytes
        self.watch = watch
        self.tokens = 0  # whose activation is replaced
        self.predictions = 0
        self._clean = self._reconstructed = self._ablated = 0.0

    @torch.no_grad()
    def add(self, tokens_NL: Tensor, mask_NL: Tensor, x_hat_NLD: Tensor) -> None:
        """Run the three passes over contexts padded on the right.

        Args:
            tokens_NL: token ids.
            mask_NL: bool, usable tokens; a context ends with its last one.
            x_hat_NLD: reconstructed activations, read where the mask is True.
        """
        device = self.lm.device
        tokens_NL, mask_NL, x_hat_NLD = tokens_NL.to(device).long(), mask_NL.to(device), x_hat_NLD.to(device)
        position_L = torch.arange(mask_NL.shape[1], device=device)
        length_N = ((position_L + 1) * mask_NL).amax(1)
        rows = max(1, self.memory_bytes // (4 * self.lm.vocab_size * mask_NL.shape[1]))
        for some in torch.arange(len(tokens_NL), device=device).split(rows):
            length = int(length_N[some].max())
            tokens_BL, mask_BL = tokens_NL[some, :length], mask_NL[some, :length]
            real_BL = position_L[:length] < length_N[some, None]
            reconstruction = only(mask_BL, replace(x_hat_NLD[some, :length]))
            self._clean += self._loss(tokens_BL, real_BL, None)
            self._reconstructed += self._loss(tokens_BL, real_BL, reconstruction)
            self._ablated += self._loss(tokens_BL, real_BL, only(mask_BL, zero()))
            self.tokens += int(mask_BL.sum())
            self.predictions += int(real_BL[:, 1:].sum())
            if self.watch is not None:
                self.watch(self.tokens)

    def _loss(self, tokens_BL: Tensor, real_BL: Tensor, edit: Edit | None) -> float:
        layer = None if edit is None else self.layer
        total = 0.0
        logits_BLV = self.lm.logits(tokens_BL, real_BL, layer, edit)
        for logits_LV, tokens_L, real_L in zip(logits_BLV, tokens_BL, real_BL, strict=True):
            target = tokens_L[1:][real_L[1:]].to(logits_LV.device)
            if len(target):
                losses = F.cross_entropy(logits_LV[: len(target)].float(), target, reduction="none")
                total += losses.sum(
                    dtype=torch.float32 if losses.device.type == "mps" else torch.float64
                ).item()
        return total

    def means(self) -> dict[str, float | None]:
        """Nats a prediction: `loss_clean`, `loss_reconstructed`, `loss_ablated`; and `loss_recovered`.

        `loss_recovered` is (ablated - reconstructed) / (ablated - clean): 1 when the reconstruction
        costs nothing, 0 when it is no better than zeros. None where it has no meaning.
        """
        n = self.predictions
        if not n:
            return dict.fromkeys(("loss_clean", "loss_reconstructed", "loss_ablated", "loss_recovered"))
        span = self._ablated - self._clean
        return {
            "loss_clean": self._clean / n,
            "loss_reconstructed": self._reconstructed / n,
            "loss_ablated": self._ablated / n,
            "loss_recovered": (self._ablated - self._reconstructed) / span if span else None,
        }
