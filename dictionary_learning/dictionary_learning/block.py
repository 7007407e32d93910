"""A block: the contexts of activations that are in memory together.

Shapes: T stored positions, C contexts, U usable tokens, K contexts with usable tokens, D model width; N
contexts of a batch, L positions of the longest of them.

Contexts are packed one behind the other without padding, position t of context c in row start_C[c] + t. On
a corpus of short documents a padded [C, L, D] rectangle would be mostly empty (a Wikipedia lead fills about
60 of 256 positions), so the same memory would hold a fraction of the tokens; and a token or a pair of tokens
is one or two row numbers here, which one `index_select` gathers. Padding comes back only in batches of whole
contexts.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor


class Contexts(NamedTuple):
    """Whole contexts, padded on the right."""

    x_NLD: Tensor  # float32; zero where the mask is False
    mask_NL: Tensor  # bool: usable tokens, so neither padding nor special nor of an outlying norm
    tokens_NL: Tensor  # int32, padded with 0
    document_N: Tensor  # int64, the id of each context's document


class BlockStart(NamedTuple):
    """Where in the corpus a block begins."""

    position: int  # of the document stream
    context: int  # number of the first context within that document
    n_tokens: int  # text tokens of the corpus in front of it


class Statistics(NamedTuple):
    """What is in some blocks, and what was left out."""

    n_documents: int
    n_contexts: int
    n_positions: int  # stored positions, usable or not
    n_tokens: int  # usable tokens
    n_special: int  # not usable: special tokens
    n_high_norm: int  # not usable: norm above max_norm_ratio times the median
    n_alone: int  # not usable: the only one left in its context
    median_norm: float  # of the text tokens, before the norm filter
    mean_square_norm: float  # of the usable tokens

    @property
    def dropped(self) -> dict[str, float]:
        """The share of positions that are not usable, by reason."""
        counts = {"special": self.n_special, "high_norm": self.n_high_norm, "alone": self.n_alone}
        return {reason: n / self.n_positions for reason, n in counts.items()}

    def __str__(self) -> str:
        shares = ", ".join(
            f"{reason.replace('_', ' ')} {share:.2%}" for reason, share in self.dropped.items()
        )
        return (
            f"{self.n_tokens:,} tokens in {self.n_contexts:,} contexts of {self.n_documents:,} documents"
            f" (dropped: {shares}; median norm {self.median_norm:.4g})"
        )


@dataclass(frozen=True)
class Block:
    """Contexts of activations, packed. All tensors but `x_TD` are on the CPU."""

    x_TD: Tensor
    tokens_T: Tensor  # int32
    usable_T: Tensor  # bool
    start_C: Tensor  # int64 [C + 1]: first row of each context, and the end
    document_C: Tensor  # int64
    start: BlockStart
    next: BlockStart | None  # None: the corpus ends with this block
    statistics: Statistics

    @cached_property
    def rows_U(self) -> Tensor:
        """Row numbers of the usable tokens, ascending."""
        return self.usable_T.nonzero().flatten()

    @cached_property
    def context_T(self) -> Tensor:
        """The context of each row."""
        return torch.repeat_interleave(torch.arange(len(self.document_C)), self.start_C.diff())

    @cached_property
    def contexts_K(self) -> Tensor:
        """Numbers of the contexts with usable tokens, ascending."""
        return self.context_T[self.rows_U].unique()

    def rows(self, rows: Tensor) -> Tensor:
        """Activations [..., D] of row numbers [...], as float32."""
        x = self.x_TD.index_select(0, rows.flatten().to(self.x_TD.device))
        return x.float().unflatten(0, rows.shape)

    def contexts(self, contexts_N: Tensor) -> Contexts:
        """Whole contexts by number, as long as the longest of them."""
        first_N, length_N = self.start_C[contexts_N], self.start_C.diff()[contexts_N]
        at_NL, real_NL = packed_rows(first_N, length_N)
        mask_NL = real_NL & self.usable_T[at_NL]
        device = self.x_TD.device
        # An attention sink's activation must not reach anybody who forgets the mask.
        x_NLD = self.rows(at_NL).masked_fill_(~mask_NL.to(device).unsqueeze(-1), 0)
        tokens_NL = self.tokens_T[at_NL].masked_fill_(~real_NL, 0)
        return Contexts(
            x_NLD, mask_NL.to(device), tokens_NL.to(device), self.document_C[contexts_N].to(device)
        )


def packed_rows(first_N: Tensor, length_N: Tensor) -> tuple[Tensor, Tensor]:
    """Row numbers [N, L] of packed contexts, and where they are real; padding points at a first row."""
    offset_L = torch.arange(int(length_N.max()))
    real_NL = offset_L < length_N.unsqueeze(1)
    return first_N.unsqueeze(1) + offset_L * real_NL, real_NL
