"""Contexts through the language model, and what it says at some places written where it is kept.

Shapes: T positions of packed contexts, C contexts, B contexts of a batch, L positions of the longest of them,
n real positions of a batch, D model width.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor

from dictionary_learning.activations.block import packed_rows
from dictionary_learning.activations.contexts import PackedTokens
from dictionary_learning.errors import UserError
from dictionary_learning.language_model import LanguageModel, Place


class Recorded(NamedTuple):
    """Where the activations of one place go."""

    place: Place
    x_TD: Tensor
    norm_T: Tensor  # float32, on the CPU; 0 where a position is not there yet


def batches_of_like_length(length_C: Tensor, n_padded: int) -> Iterator[Tensor]:
    """Contexts by number, the longest first, in batches of about `n_padded` positions with their padding."""
    order_C = length_C.argsort(descending=True, stable=True)
    first = 0
    while first < len(order_C):
        size = max(1, n_padded // int(length_C[order_C[first]]))
        yield order_C[first : first + size]
        first += size


def record_contexts(
    lm: LanguageModel,
    packed: PackedTokens,
    batches: Iterable[Tensor],
    targets: Sequence[Recorded],
    every: tuple[int, int] = (0, 1),
) -> Iterator[int]:
    """Write the activations of contexts and their norms, at all places from one pass of the language model.

    A norm is written after its activation. A batch that is there already is passed over, so that what was
    left half filled comes out like any other.

    Args:
        batches: the contexts that the language model reads together, by number.
        every: (r, n) records only the batches whose number leaves the rest r when divided by n.

    Yields:
        how many positions a batch has filled.

    Raises:
        UserError: activations are not finite.
    """
    length_C = packed.start_C.diff()
    first, step = every
    for number, contexts_B in islice(enumerate(batches), first, None, step):
        rows_BL, mask_BL = packed_rows(packed.start_C[contexts_B], length_C[contexts_B])
        rows_n = rows_BL[mask_BL]
        missing = [target for target in targets if not target.norm_T[rows_n].all()]
        if not missing:
            continue
        tokens_BL = packed.tokens_T[rows_BL].long().masked_fill_(~mask_BL, 0)
        recorded = lm.record_several(tokens_BL, mask_BL, [target.place for target in missing])
        for (place, x_TD, norm_T), x_BLD in zip(missing, recorded, strict=True):
            x_nD = x_BLD[mask_BL.to(x_BLD.device)]
            norm_n = torch.linalg.vector_norm(x_nD, dim=1, dtype=torch.float32).cpu()
            for row in rows_n[~norm_n.isfinite()][:1].tolist():
                context = int(torch.searchsorted(packed.start_C, row, right=True)) - 1
                raise UserError(
                    f"{place} of {lm.name} gives NaN or infinite activations in batch {number} of the"
                    f" language model, on the document behind record {int(packed.position_C[context]):,}: run"
                    " the model in float32 or bfloat16, or take that document out."
                )
            x_TD.index_copy_(0, rows_n.to(x_TD.device), x_nD.to(x_TD.device, x_TD.dtype))
            norm_T[rows_n] = norm_n
        yield len(rows_n)
