"""A block: the contexts of activations that are in memory together.

Shapes: T stored positions, C contexts, U usable tokens, K contexts with usable tokens, D model width; N
contexts of a batch, L positions of the longest of them; B pairs or runs.

Contexts are packed one behind the other without padding, position t of context c in row start_C[c] + t. On
a corpus of short documents a padded [C, L, D] rectangle would be mostly empty (a Wikipedia lead fills about
60 of 256 positions), so the same memory would hold a fraction of the tokens; and a token or a pair of tokens
is one or two row numbers here, which one `index_select` gathers. Padding comes back only in batches of whole
contexts.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from dictionary_learning.activations.contexts import MIN_TEXT_TOKENS, PackedTokens
from dictionary_learning.command.progress import n_of
from dictionary_learning.language_model.token_text import Sentences, token_texts

# Beside its activation a position has a token id, a mask and a norm, its row and context number, and a place
# in the order of a pair view, which takes nine more numbers while it is drawn.
_EXTRA_BYTES = 4 + 1 + 4 + 2 * 8 + 2 * 8 + 9 * 8


# Of the tokens that the norm filter leaves out so many are counted a block, and so many told.
N_COUNTED, N_TOLD = 100, 5


def bytes_per_token(d_model: int, dtype: torch.dtype = torch.float32) -> int:
    """What a position takes of a block's memory."""
    return d_model * dtype.itemsize + _EXTRA_BYTES


class Contexts(NamedTuple):
    """Whole contexts, padded on the right."""

    x_NLD: Tensor  # float32; zero where the mask is False
    mask_NL: Tensor  # bool: usable tokens, so neither padding nor special nor of an outlying norm
    tokens_NL: Tensor  # int32, padded with 0
    document_N: Tensor  # int64, the id of each context's document

    def part(self, contexts: slice | Tensor, length: int | None = None) -> "Contexts":
        """Some of the contexts, with so many of their positions."""
        x_NLD, mask_NL, tokens_NL = (tensor[contexts, :length] for tensor in self[:3])
        return Contexts(x_NLD, mask_NL, tokens_NL, self.document_N[contexts])


class UnmaskedContexts(Contexts):
    """Contexts, and what stands where the mask is False as well, for a language model to go on from.

    It is no field of theirs: an attention sink's activation must not reach anybody who forgets the mask.
    """

    unmasked_NLD: Tensor

    @classmethod
    def of(cls, contexts: Contexts, unmasked_NLD: Tensor) -> Self:
        made = cls(*contexts)
        made.unmasked_NLD = unmasked_NLD
        return made

    def part(self, contexts: slice | Tensor, length: int | None = None) -> Self:
        return self.of(super().part(contexts, length), self.unmasked_NLD[contexts, :length])


@dataclass(frozen=True)
class TextPairs:
    """Pairs, or runs of them, each with the text that it is of.

    `len`, `.to`, `/` and slices act as on the tensor of activations.
    """

    x_BLD: Tensor
    """As without texts: [B, 2, D] of (current, earlier), or runs [B / r, r + 1, D]."""
    text_B: Tensor
    """int64: equal ids are one text."""

    @property
    def shape(self) -> torch.Size:
        return self.x_BLD.shape

    @property
    def ndim(self) -> int:
        return self.x_BLD.ndim

    def to(self, device: torch.device, dtype: torch.dtype) -> "TextPairs":
        return TextPairs(self.x_BLD.to(device, dtype), self.text_B.to(device, non_blocking=True))

    def __len__(self) -> int:
        return len(self.x_BLD)

    def __truediv__(self, factor: float) -> "TextPairs":
        return TextPairs(self.x_BLD / factor, self.text_B)

    def __getitem__(self, rows: slice) -> "TextPairs":
        return TextPairs(self.x_BLD[rows], self.text_B[rows])


class BlockStart(NamedTuple):
    """Where in the corpus a block begins."""

    position: int  # of the document stream
    context: int  # number of the first context within that document
    n_tokens: int  # text tokens of the corpus in front of it


BEGINNING = BlockStart(0, 0, 0)


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
    high_norm_ids: Mapping[int, int] = {}  # how often a token is among n_high_norm, the most frequent first

    @classmethod
    def sum(cls, parts: Iterable[Self]) -> Self:
        """Of several blocks together; norms are averaged over their tokens."""
        parts = list(parts)
        n_tokens = sum(part.n_tokens for part in parts)
        values: dict[str, Any] = {}
        for name in cls._fields:
            if name.startswith("n_"):
                values[name] = sum(getattr(part, name) for part in parts)
            elif name == "high_norm_ids":
                counts: Counter[int] = Counter()
                for part in parts:
                    counts.update(part.high_norm_ids)
                values[name] = _most_frequent(counts)
            else:
                total = sum(getattr(part, name) * part.n_tokens for part in parts)
                values[name] = total / max(n_tokens, 1)
        return cls(**values)

    @property
    def dropped(self) -> dict[str, float]:
        """The share of positions that are not usable, by reason."""
        counts = {"special": self.n_special, "high_norm": self.n_high_norm, "alone": self.n_alone}
        return {reason: n / self.n_positions for reason, n in counts.items()}

    def high_norm_tokens(self, tokenizer: Any, n: int = N_TOLD) -> dict[str, int]:
        """The `n` tokens that the norm filter leaves out most often, as text, and how often it does."""
        ids = list(self.high_norm_ids)[:n]
        counts: Counter[str] = Counter()
        for token, text in zip(ids, token_texts(tokenizer, ids) if ids else [], strict=True):
            counts[text] += self.high_norm_ids[token]
        return dict(counts)

    def record(self, tokenizer: Any = None) -> dict[str, Any]:
        """All of it for a file of results; tokens are told by their ids where there is no tokenizer."""
        values = self._asdict()
        counts = values.pop("high_norm_ids")
        told = {f"[{token}]": counts[token] for token in list(counts)[:N_TOLD]}
        if tokenizer is not None:
            told = self.high_norm_tokens(tokenizer)
        return values | {"dropped": self.dropped, "high_norm_tokens": told}

    def describe(self, tokenizer: Any) -> str:
        """One line for a person."""
        shares = ", ".join(
            f"{reason.replace('_', ' ')} {share:.2%}" for reason, share in self.dropped.items()
        )
        sinks = told_tokens(self.high_norm_tokens(tokenizer))
        return (
            f"{n_of(self.n_tokens, 'token')} in {n_of(self.n_contexts, 'context')} of"
            f" {n_of(self.n_documents, 'document')} (dropped: {shares}{sinks};"
            f" median norm {self.median_norm:.4g})"
        )


def told_tokens(counts: Mapping[str, int]) -> str:
    """`; high norm most often '\\n' 12, ' the' 3`; nothing where there are none."""
    often = [f"{text!r} {n:,}" for text, n in counts.items()]
    return f"; high norm most often {', '.join(often)}" if often else ""


def _most_frequent(counts: Counter[int]) -> dict[int, int]:
    """The most frequent tokens; the smaller id first where two are as frequent."""
    ranked = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return dict(ranked[:N_COUNTED])


@dataclass(frozen=True)
class Block:
    """Contexts of activations, packed. All tensors but `x_TD` are on the CPU."""

    x_TD: Tensor
    device: torch.device
    """Where batches arise; `x_TD` is there, too, or on the CPU."""
    tokens_T: Tensor  # int32
    text_T: Tensor  # bool: neither special nor, in a chat, beside what the roles said
    usable_T: Tensor  # bool: text of no outlying norm, with another such token in its context
    start_C: Tensor  # int64 [C + 1]: first row of each context, and the end
    document_C: Tensor  # int64
    start: BlockStart
    next: BlockStart | None  # None: the corpus ends with this block
    statistics: Statistics

    @classmethod
    def of(
        cls,
        packed: PackedTokens,
        x_TD: Tensor,
        norm_T: Tensor,
        max_norm_ratio: float | None,
        *,
        start: BlockStart,
        next: BlockStart | None,
        device: torch.device | None = None,
    ) -> Self:
        """The block of some contexts and their activations: decides which positions are usable.

        Args:
            norm_T: norms of the activations, on the CPU.
            max_norm_ratio: tokens with a norm above this multiple of the median of the block's text tokens
                (attention sinks) are not usable; None keeps all.
            device: where batches arise, if not where the activations are.
        """
        usable_T, statistics = _select(packed, norm_T, max_norm_ratio)
        return cls(
            x_TD=x_TD,
            device=device or x_TD.device,
            tokens_T=packed.tokens_T,
            text_T=packed.text_T,
            usable_T=usable_T,
            start_C=packed.start_C,
            document_C=packed.document_C,
            start=start,
            next=next,
            statistics=statistics,
        )

    @cached_property
    def rows_U(self) -> Tensor:
        """Row numbers of the usable tokens, ascending."""
        return self.usable_T.nonzero().flatten()

    @cached_property
    def context_T(self) -> Tensor:
        """The context of each row."""
        return torch.repeat_interleave(torch.arange(len(self.document_C)), self.start_C.diff())

    @cached_property
    def turn_T(self) -> Tensor:
        """The number of the stretch of text that each row is in, or behind: in a chat, what one turn said."""
        begins_T = self.text_T.clone()
        begins_T[1:] &= ~self.text_T[:-1] | (self.context_T[1:] != self.context_T[:-1])
        return begins_T.cumsum(0)

    def sentence_T(self, sentences: Sentences) -> Tensor:
        """The number of the sentence that each row of text is in: it never falls, or spans contexts."""
        number_T = torch.zeros(len(self.text_T), dtype=torch.int64)
        rows_n = self.text_T.nonzero().flatten()
        _, length_n = self.turn_T[rows_n].unique_consecutive(return_counts=True)
        before = 0
        for run in rows_n.split(length_n.tolist()):
            numbers = sentences(self.tokens_T[run].tolist())
            number_T[run] = torch.tensor(numbers) + before
            before += numbers[-1] + 1
        return number_T

    def first_of_text_U(self, between: Collection[int] = ()) -> Tensor:
        """For each usable token the first one of its text and context, as a place among the usable tokens.

        Args:
            between: tokens that stand between the texts of a context; without any, it has one text.
        """
        first_U = torch.searchsorted(self.rows_U, self.start_C[self.context_T[self.rows_U]])
        if not between:
            return first_U
        ends_T = torch.isin(self.tokens_T, torch.tensor(sorted(between), dtype=self.tokens_T.dtype))
        text_U = ends_T.cumsum(0)[self.rows_U]
        return first_U.maximum(torch.searchsorted(text_U, text_U))

    def documents(self, rows_N: Tensor) -> Tensor:
        """The ids [N] of the documents of row numbers."""
        return self.document_C[self.context_T[rows_N]]

    @cached_property
    def contexts_K(self) -> Tensor:
        """Numbers of the contexts with usable tokens, ascending."""
        return self.context_T[self.rows_U].unique()

    @cached_property
    def n_usable_C(self) -> Tensor:
        """Usable tokens of each context."""
        return torch.bincount(self.context_T[self.rows_U], minlength=len(self.document_C))

    def rows(self, rows: Tensor) -> Tensor:
        """Activations [..., D] of row numbers [...], as float32."""
        rows_n = rows.flatten().to(self.x_TD.device)
        if self.x_TD.device.type == self.device.type:
            x_nD = self.x_TD.index_select(0, rows_n)
        else:
            # gathered into pinned memory, out of which CUDA copies while the CPU goes on
            size = len(rows_n), self.x_TD.shape[1]
            pinned_nD = torch.empty(size, dtype=self.x_TD.dtype, pin_memory=self.device.type == "cuda")
            torch.index_select(self.x_TD, 0, rows_n, out=pinned_nD)
            x_nD = pinned_nD.to(self.device, non_blocking=True)
        return x_nD.float().unflatten(0, rows.shape)

    def pairs(self, rows_BL: Tensor) -> TextPairs:
        """Pairs of row numbers, or runs of them, with their documents."""
        text_B = self.documents(rows_BL[:, 0])
        return TextPairs(self.rows(rows_BL), text_B.to(self.device, non_blocking=True))

    def contexts(self, contexts_N: Tensor, unmasked: bool = False) -> Contexts:
        """Whole contexts by number, as long as the longest of them.

        Args:
            unmasked: give `UnmaskedContexts`.
        """
        first_N, length_N = self.start_C[contexts_N], self.start_C.diff()[contexts_N]
        at_NL, real_NL = packed_rows(first_N, length_N)
        mask_NL = real_NL & self.usable_T[at_NL]
        device = self.device
        unmasked_NLD = self.rows(at_NL)
        x_NLD = unmasked_NLD.clone() if unmasked else unmasked_NLD
        tokens_NL = self.tokens_T[at_NL].masked_fill_(~real_NL, 0)
        contexts = Contexts(
            # An attention sink's activation must not reach anybody who forgets the mask.
            x_NLD.masked_fill_(~mask_NL.to(device).unsqueeze(-1), 0),
            mask_NL.to(device),
            tokens_NL.to(device),
            self.document_C[contexts_N].to(device),
        )
        return UnmaskedContexts.of(contexts, unmasked_NLD) if unmasked else contexts


def _select(packed: PackedTokens, norm_T: Tensor, max_norm_ratio: float | None) -> tuple[Tensor, Statistics]:
    """Which positions are usable."""
    n_contexts = len(packed.document_C)
    median = norm_T[packed.text_T].median()
    usable_T = packed.text_T.clone()
    if max_norm_ratio is not None:
        usable_T &= norm_T <= max_norm_ratio * median
    high_norm = packed.tokens_T[packed.text_T & ~usable_T].unique(return_counts=True)
    n_normal = int(usable_T.sum())
    # A context needs two tokens; what the filter left of a shorter one goes, too.
    context_T = torch.repeat_interleave(torch.arange(n_contexts), packed.start_C.diff())
    n_usable_C = torch.bincount(context_T[usable_T], minlength=n_contexts)
    usable_T &= (n_usable_C >= MIN_TEXT_TOKENS)[context_T]
    n_tokens = int(usable_T.sum())
    n_text = int(packed.text_T.sum())
    return usable_T, Statistics(
        n_documents=len(packed.position_C.unique()),
        n_contexts=int((n_usable_C >= MIN_TEXT_TOKENS).sum()),
        n_positions=len(usable_T),
        n_tokens=n_tokens,
        n_special=len(usable_T) - n_text,
        n_high_norm=n_text - n_normal,
        n_alone=n_normal - n_tokens,
        median_norm=float(median),
        mean_square_norm=float(norm_T[usable_T].double().square().sum()) / max(n_tokens, 1),
        high_norm_ids=_most_frequent(Counter(dict(zip(*(part.tolist() for part in high_norm), strict=True)))),
    )


def packed_rows(first_N: Tensor, length_N: Tensor) -> tuple[Tensor, Tensor]:
    """Row numbers [N, L] of packed contexts, and where they are real; padding points at a first row."""
    offset_L = torch.arange(int(length_N.max()))
    real_NL = offset_L < length_N.unsqueeze(1)
    return first_N.unsqueeze(1) + offset_L * real_NL, real_NL
