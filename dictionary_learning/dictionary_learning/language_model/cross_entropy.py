"""What reconstructions cost the language model: cross-entropy clean, reconstructed and ablated.

Shapes: N contexts, n usable tokens, B contexts of a pass, L positions, D model width, V vocabulary.
"""

from collections.abc import Callable, Iterable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from dictionary_learning import distributed
from dictionary_learning.language_model.edits import only, replace, zero
from dictionary_learning.language_model.hooks import Edit
from dictionary_learning.language_model.model import LanguageModel
from dictionary_learning.language_model.places import Place
from dictionary_learning.language_model.skipping import LowerLayers

ROWS = 16  # positions whose losses are computed at a time: their logits stay in the processor's cache


class CrossEntropy:
    """Sums of next-token losses over passes of a language model over the same tokens.

    Clean: nothing is changed. Reconstructed, a pass for each dictionary: what it reads is its
    reconstruction. Ablated: it is zero. A position outside the mask (a BOS, an attention sink) keeps its own
    activation in all of them. Every prediction of a real next token counts, those made at such a position
    too: padding is the only thing that is left out.

    The layers up to the one that is changed run in the clean pass at most (`LowerLayers`).
    """

    def __init__(
        self,
        lm: LanguageModel,
        layer: int | Place,
        names: Iterable[str] = ("",),
        memory_bytes: int = 2**29,
        watch: Callable[[int], None] | None = None,
    ) -> None:
        """
        Args:
            layer: a decoder layer, or a place in one, whose output is replaced.
            names: of the dictionaries.
            memory_bytes: what logits may take; at least one context is run at a time.
            watch: gets `tokens` each time that it has grown.
        """
        self.lm = lm
        self.layer = layer
        self.memory_bytes = memory_bytes
        self.watch = watch
        self.tokens = 0  # whose activation is replaced
        self.predictions = 0
        self._lower = LowerLayers(lm, layer)
        self._clean = self._ablated = 0.0
        self._reconstructed = dict.fromkeys(names, 0.0)

    @torch.no_grad()
    def add(
        self,
        tokens_NL: Tensor,
        mask_NL: Tensor,
        x_hats: Mapping[str, Tensor],
        x_NLD: Tensor | None = None,
    ) -> None:
        """Run the passes over contexts padded on the right.

        Args:
            tokens_NL: token ids.
            mask_NL: bool, usable tokens; a context ends with its last one.
            x_hats: the reconstruction of each dictionary at the usable tokens, context after context: [n, D].
            x_NLD: what was recorded, at unusable positions, too; without it the clean pass runs whole.
        """
        device = self.lm.device
        tokens_NL, mask_NL = tokens_NL.to(device).long(), mask_NL.to(device)
        x_hats = {name: x_hat_nD.to(device) for name, x_hat_nD in x_hats.items()}
        position_L = torch.arange(mask_NL.shape[1], device=device)
        length_N = ((position_L + 1) * mask_NL).amax(1)
        rows = max(1, self.memory_bytes // (4 * self.lm.vocab_size * mask_NL.shape[1]))
        starts = list(range(0, len(tokens_NL), rows))
        if not self.predictions and len(tokens_NL):
            starts = [0, *range(1, len(tokens_NL), rows)]  # the first, which runs whole, is one context
        done = 0
        for start, stop in zip(starts, [*starts[1:], len(tokens_NL)], strict=True):
            some = slice(start, stop)
            length = int(length_N[some].max())
            tokens_BL, mask_BL = tokens_NL[some, :length], mask_NL[some, :length]
            real_BL = position_L[:length] < length_N[some, None]
            n = int(mask_BL.sum())
            here = {name: x_hat_nD[done : done + n] for name, x_hat_nD in x_hats.items()}
            done += n
            x_BLD = None if x_NLD is None else x_NLD[some, :length].to(device)
            self._run(tokens_BL, mask_BL, real_BL, here, x_BLD)
            self.tokens += n
            self.predictions += int(real_BL[:, 1:].sum())
            if self.watch is not None:
                self.watch(self.tokens)

    def _run(
        self,
        tokens_BL: Tensor,
        mask_BL: Tensor,
        real_BL: Tensor,
        x_hats: Mapping[str, Tensor],
        x_BLD: Tensor | None,
    ) -> None:
        logits_BLV, output = self._lower.clean(tokens_BL, real_BL, x_BLD)
        self._clean += _loss(logits_BLV, tokens_BL, real_BL)
        del logits_BLV  # the next ones need the room
        with self._lower.skipped(output):
            for name, x_hat_nD in x_hats.items():
                x_hat_BLD = x_hat_nD.new_zeros(*mask_BL.shape, x_hat_nD.shape[1])
                x_hat_BLD[mask_BL] = x_hat_nD
                edit = only(mask_BL, replace(x_hat_BLD))
                self._reconstructed[name] += self._edited(tokens_BL, real_BL, edit)
            self._ablated += self._edited(tokens_BL, real_BL, only(mask_BL, zero()))

    def _edited(self, tokens_BL: Tensor, real_BL: Tensor, edit: Edit) -> float:
        return _loss(self.lm.logits(tokens_BL, real_BL, self.layer, edit), tokens_BL, real_BL)

    def over_processes(self) -> None:
        """Turn the sums into those over all processes, each of which has done some of the contexts."""
        numbers = self.tokens, self.predictions, self._clean, self._ablated, *self._reconstructed.values()
        tokens, predictions, self._clean, self._ablated, *reconstructed = distributed.total_numbers(*numbers)
        self.tokens, self.predictions = int(tokens), int(predictions)
        self._reconstructed = dict(zip(self._reconstructed, reconstructed, strict=True))

    def means(self, name: str = "") -> dict[str, float | None]:
        """Nats a prediction: `loss_clean`, `loss_reconstructed`, `loss_ablated`; and `loss_recovered`.

        `loss_recovered` is (ablated - reconstructed) / (ablated - clean): 1 when the reconstruction
        costs nothing, 0 when it is no better than zeros. None where zeros cost the language model nothing,
        so that there is nothing to recover.
        """
        n, reconstructed = self.predictions, self._reconstructed[name]
        if not n:
            return dict.fromkeys(("loss_clean", "loss_reconstructed", "loss_ablated", "loss_recovered"))
        span = self._ablated - self._clean
        return {
            "loss_clean": self._clean / n,
            "loss_reconstructed": reconstructed / n,
            "loss_ablated": self._ablated / n,
            "loss_recovered": (self._ablated - reconstructed) / span if span > 0 else None,
        }


def _loss(logits_BLV: Tensor, tokens_BL: Tensor, real_BL: Tensor) -> float:
    """The sum over the predictions of real next tokens, in nats."""
    sums = []
    for logits_LV, tokens_L, real_L in zip(logits_BLV, tokens_BL, real_BL, strict=True):
        target_n = tokens_L[1:][real_L[1:]].to(logits_LV.device)
        rows = ROWS if logits_LV.device.type == "cpu" else max(1, len(target_n))
        for logits_RV, target_R in zip(
            logits_LV[: len(target_n)].split(rows), target_n.split(rows), strict=True
        ):
            losses = F.cross_entropy(logits_RV.float(), target_R, reduction="none")
            sums.append(losses.sum(dtype=torch.float32 if losses.device.type == "mps" else torch.float64))
    return torch.stack(sums).cpu().double().sum().item() if sums else 0.0
