"""The activation store: documents through the language model, kept as contexts, read in shuffled batches.

Shapes: T stored positions, C contexts of a block, B contexts of a language model batch, L positions of the
longest of them, n real positions of a batch, D model width.

    store = ActivationStore(lm, 15, lambda start: DocumentStream.open("demo", start=start),
                            context_length=256, lm_batch_size=8, memory_bytes=parse_bytes("4GB"))
    for x_B2D in store.pairs(2048): ...        # (token, an earlier token of the same context)
"""

import time
from collections.abc import Callable, Iterator
from itertools import chain, dropwhile
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from dictionary_learning.batches import Batches, PairView, SequenceView, TokenView
from dictionary_learning.block import Block, BlockStart, Contexts, Statistics, packed_rows
from dictionary_learning.contexts import MIN_TEXT_TOKENS, TokenContext, read_contexts, text_mask
from dictionary_learning.errors import UserError
from dictionary_learning.language_model import LanguageModel
from dictionary_learning.memory import available_memory, format_bytes
from dictionary_learning.text import DocumentStream

DTYPES = (torch.float32, torch.bfloat16)
# Beside its activation a position has a token id, a mask and a norm, its row and context number, and a place
# in the order of a pair view, which takes nine more numbers while it is drawn.
_EXTRA_BYTES = 4 + 1 + 4 + 2 * 8 + 2 * 8 + 9 * 8
_BEGINNING = BlockStart(0, 0, 0)


def bytes_per_token(d_model: int, dtype: torch.dtype = torch.float32) -> int:
    """What a stored position takes of `memory_bytes`."""
    return d_model * dtype.itemsize + _EXTRA_BYTES


class ActivationStore:
    """The activations of a corpus at one layer, block by block.

    A block holds as many contexts as fit into `memory_bytes`. A corpus that fits into one block goes through
    the language model once; a larger one goes through it in every epoch, block after block. How the corpus is
    cut into blocks depends on the token counts alone, so a block can be read again from its start.

    Attributes:
        d_model: width of the activations.
        capacity: positions that fit into a block.
        config: the options, under upstream's names and ours, for a run's record.
    """

    def __init__(
        self,
        lm: LanguageModel,
        layer: int,
        open_stream: Callable[[int], DocumentStream],
        *,
        context_length: int,
        lm_batch_size: int,
        memory_bytes: int,
        dtype: torch.dtype = torch.float32,
        max_norm_ratio: float | None = 10.0,
        max_tokens: int | None = None,
        device: str | torch.device = "cpu",
        drop_special: bool = True,
        add_bos: bool = True,
        log: Callable[[str], None] = print,
    ) -> None:
        """Nothing is read or allocated before the first batch.

        Args:
            layer: the residual stream after this decoder layer (from 0) is stored.
            open_stream: the documents from a position on; called again for every pass and on resuming.
            context_length: tokens of a context at most, a BOS included.
            lm_batch_size: contexts of full length in a language model batch; of shorter ones there are more,
                up to the same number of padded tokens.
            memory_bytes: what a block may take, with all its parts.
            dtype: of the stored activations, float32 or bfloat16; batches are always float32.
            max_norm_ratio: tokens with a norm above this multiple of their block's median (attention sinks)
                are not usable; None keeps all.
            max_tokens: use only so many text tokens of the corpus, from its beginning.
            device: where the activations are stored and the batches arise.
            drop_special: special tokens are not usable.
            add_bos: put a BOS in front of every context if the tokenizer puts one in front of a text.

        Raises:
            UserError: an option is out of range, or `memory_bytes` does not hold one context.
        """
        if context_length < 2:
            raise UserError(f"a context of {context_length} tokens has no earlier token: give at least 2.")
        if lm.max_positions is not None and context_length > lm.max_positions:
            raise UserError(
                f"{lm.name} cannot read contexts of {context_length} tokens: give at most {lm.max_positions}."
            )
        if lm_batch_size < 1:
            raise UserError(f"a language model batch of {lm_batch_size} is empty: give at least 1.")
        if dtype not in DTYPES:
            raise UserError(f"activations cannot be stored as {dtype}: choose float32 or bfloat16.")
        if max_norm_ratio is not None and max_norm_ratio <= 1:
            raise UserError(
                f"max_norm_ratio {max_norm_ratio} would drop ordinary tokens: give a multiple of the median"
                " norm above 1, such as 10."
            )
        if max_tokens is not None and max_tokens < MIN_TEXT_TOKENS:
            raise UserError(f"max_tokens {max_tokens} leaves no pair: give at least {MIN_TEXT_TOKENS}.")
        self.lm = lm
        self.layer = lm.check_layer(layer)
        self.d_model = lm.d_model
        self.log = log
        self._open_stream = open_stream
        self._context_length = context_length
        self._lm_batch_size = lm_batch_size
        self._dtype = dtype
        self._device = torch.device(device)
        self._max_norm_ratio = max_norm_ratio
        self._max_tokens = max_tokens
        self._add_bos = add_bos
        self._drop_special = drop_special
        self._bytes_per_row = bytes_per_token(self.d_model, dtype)
        self.capacity = memory_bytes // self._bytes_per_row
        if self.capacity < context_length:
            raise UserError(
                f"{format_bytes(memory_bytes)} hold {self.capacity:,} tokens of width {self.d_model}, less"
                f" than one context of {context_length}: ask for more with --memory, such as 4GB."
            )
        self.config: dict[str, Any] = {
            "d_submodule": self.d_model,
            "io": "out",
            "ctx_len": context_length,
            "refresh_batch_size": lm_batch_size,
            "device": str(self._device),
            "memory_bytes": memory_bytes,
            "dtype": str(dtype).removeprefix("torch."),
            "max_norm_ratio": max_norm_ratio,
            "max_tokens": max_tokens,
            "drop_special": drop_special,
            "add_bos": add_bos,
        }
        self._block: Block | None = None
        self._x_TD = torch.empty(0, self.d_model, dtype=dtype, device=self._device)
        self._statistics: dict[BlockStart, Statistics] = {}
        # The contexts behind the last block, so that a stream is not opened anew for each block.
        self._waiting: tuple[BlockStart, Iterator[TokenContext]] | None = None

    # --- views ---

    def pairs(
        self,
        batch_size: int,
        *,
        mode: str = "previous",
        max_offset: int | None = None,
        seed: int = 0,
        epochs: int | None = None,
    ) -> Batches[Tensor]:
        """Batches [B, 2, D] of (current, earlier) token of a context; see `batches.PairView`.

        Args:
            mode: "previous" (position t-1) or "random" (all usable earlier positions equally likely).
            max_offset: how far back a random earlier token may be, in positions.
            seed: of the order and of the draws.
            epochs: end after so many; None goes on for ever.
        """
        return Batches(self, PairView(mode, max_offset), batch_size, seed, epochs)

    def tokens(self, batch_size: int, *, seed: int = 0, epochs: int | None = None) -> Batches[Tensor]:
        """Batches [B, D] of single tokens."""
        return Batches(self, TokenView(), batch_size, seed, epochs)

    def sequences(self, batch_size: int, *, seed: int = 0, epochs: int | None = None) -> Batches[Contexts]:
        """Batches of whole contexts, for what looks at several positions at once."""
        return Batches(self, SequenceView(), batch_size, seed, epochs)

    def contexts(self, batch_size: int) -> Iterator[Contexts]:
        """One pass over all contexts in the order of the corpus, the last of a block in a smaller batch."""
        start: BlockStart | None = _BEGINNING
        while start is not None:
            for numbers in self.block(start).contexts_K.split(batch_size):
                if len(numbers):
                    # Asked for anew each time: another reader may have brought another block in between.
                    yield self.block(start).contexts(numbers)
            start = self.block(start).next

    @property
    def statistics(self) -> Statistics:
        """Of all blocks read so far; reads the first if there is none."""
        if not self._statistics:
            self.block(_BEGINNING)
        return _sum(list(self._statistics.values()))

    # --- blocks ---

    def block(self, start: BlockStart) -> Block:
        """The block that starts there: the one in memory, or read into its place.

        Raises:
            UserError: the texts give no context, the memory is not there, activations are not finite.
        """
        if self._block is None or self._block.start != start:
            self._block = None
            self._block = self._read(start)
            self._statistics[start] = self._block.statistics
        return self._block

    def _read(self, start: BlockStart) -> Block:
        contexts, following = self._plan(start)
        start_C = torch.tensor([0] + [len(context.tokens_L) for context in contexts]).cumsum(0)
        tokens_T = torch.cat([context.tokens_L for context in contexts])
        x_TD = self._allocate(len(tokens_T), is_last=following is None)
        began = time.monotonic()
        norm_T = self._run(contexts, start_C, tokens_T, x_TD)
        speed = len(tokens_T) / (time.monotonic() - began)
        usable_T, statistics = self._select(contexts, start_C, tokens_T, norm_T)
        self.log(f"activation store: {statistics}, {speed:,.0f} tokens/s")
        return Block(
            x_TD=x_TD,
            tokens_T=tokens_T,
            usable_T=usable_T,
            start_C=start_C,
            document_C=torch.tensor([context.document for context in contexts]),
            start=start,
            next=following,
            statistics=statistics,
        )

    def _plan(self, start: BlockStart) -> tuple[list[TokenContext], BlockStart | None]:
        """The contexts of a block, and where the next one starts (None: the corpus ends here)."""
        free_bytes = available_memory(self._device) + self._x_TD.nbytes
        n_rows, n_tokens = 0, start.n_tokens
        contexts: list[TokenContext] = []
        waiting = self._contexts_from(start)
        for context in tqdm(waiting, unit="context", desc="tokenising", leave=False, disable=None):
            n_rows += len(context.tokens_L)
            n_tokens += context.n_text
            if self._max_tokens is not None and n_tokens > self._max_tokens:
                break
            if n_rows > self.capacity:
                following = BlockStart(context.position, context.number, n_tokens - context.n_text)
                self._waiting = following, chain([context], waiting)
                return contexts, following
            if n_rows * self._bytes_per_row > free_bytes:
                raise UserError(
                    f"the activation store would take more than the {format_bytes(free_bytes)} of memory that"
                    f" are free: ask for less than {format_bytes(self.capacity * self._bytes_per_row)} with"
                    " --memory."
                )
            contexts.append(context)
        if not contexts:
            raise UserError(
                f"the texts give no context of at least {MIN_TEXT_TOKENS} tokens behind record"
                f" {start.position:,}: give more text, or a larger --max_tokens."
            )
        return contexts, None

    def _contexts_from(self, start: BlockStart) -> Iterator[TokenContext]:
        """The contexts of the corpus from `start` on."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None and waiting[0] == start:
            return waiting[1]
        contexts = read_contexts(
            self.lm,
            self._open_stream(start.position),
            self._context_length,
            drop_special=self._drop_special,
            add_bos=self._add_bos,
        )
        return dropwhile(lambda c: c.position == start.position and c.number < start.context, contexts)

    def _allocate(self, n_rows: int, is_last: bool) -> Tensor:
        """Room for the activations of a block: exactly what a small corpus needs, all that was asked else."""
        if len(self._x_TD) < n_rows:
            n_allocated = n_rows if is_last else self.capacity
            more = "" if is_last else "; the corpus is larger, so the language model runs in every epoch"
            self.log(
                f"activation store: {format_bytes(n_allocated * self._bytes_per_row)} for {n_allocated:,}"
                f" tokens of width {self.d_model} {self.config['dtype']}{more}"
            )
            self._x_TD = torch.empty(0)  # free the old one first
            self._x_TD = torch.empty(n_allocated, self.d_model, dtype=self._dtype, device=self._device)
        return self._x_TD[:n_rows]

    def _run(self, contexts: list[TokenContext], start_C: Tensor, tokens_T: Tensor, x_TD: Tensor) -> Tensor:
        """Fill `x_TD` with the layer's activations; returns their norms [T] on the CPU."""
        norm_T = torch.empty(len(tokens_T))
        bar = tqdm(
            total=len(tokens_T), unit="token", unit_scale=True, desc="activations", leave=False, disable=None
        )
        with bar, torch.no_grad():
            for number, contexts_B in enumerate(self._lm_batches(start_C.diff())):
                rows_BL, mask_BL = packed_rows(start_C[contexts_B], start_C.diff()[contexts_B])
                tokens_BL = tokens_T[rows_BL].long().masked_fill_(~mask_BL, 0)
                device = self.lm.device
                x_BLD = self.lm.record(tokens_BL.to(device), mask_BL.to(device), self.layer)
                rows_n = rows_BL[mask_BL]
                x_nD = x_BLD[mask_BL.to(x_BLD.device)]
                norm_T[rows_n] = torch.linalg.vector_norm(x_nD, dim=1, dtype=torch.float32).cpu()
                for row in rows_n[~norm_T[rows_n].isfinite()][:1].tolist():
                    context = contexts[int(torch.searchsorted(start_C, row, right=True)) - 1]
                    raise UserError(
                        f"layer {self.layer} of {self.lm.name} gives NaN or infinite activations in batch"
                        f" {number} of the language model, on the document behind record"
                        f" {context.position:,}: run the model in float32 or bfloat16, or take that document"
                        " out."
                    )
                x_TD.index_copy_(0, rows_n.to(x_TD.device), x_nD.to(x_TD.device, x_TD.dtype))
                bar.update(len(rows_n))
        return norm_T

    def _lm_batches(self, length_C: Tensor) -> Iterator[Tensor]:
        """Contexts of like lengths together, the longest first, in batches of about as many tokens."""
        order_C = length_C.argsort(descending=True, stable=True)
        n_padded = self._lm_batch_size * self._context_length
        first = 0
        while first < len(order_C):
            size = max(1, n_padded // int(length_C[order_C[first]]))
            yield order_C[first : first + size]
            first += size

    def _select(
        self, contexts: list[TokenContext], start_C: Tensor, tokens_T: Tensor, norm_T: Tensor
    ) -> tuple[Tensor, Statistics]:
        """Which positions are usable."""
        text_T = text_mask(self.lm, tokens_T, self._drop_special)
        median = norm_T[text_T].median()
        usable_T = text_T.clone()
        if self._max_norm_ratio is not None:
            usable_T &= norm_T <= self._max_norm_ratio * median
        n_normal = int(usable_T.sum())
        # A context needs two tokens; what the filter left of a shorter one goes, too.
        context_T = torch.repeat_interleave(torch.arange(len(contexts)), start_C.diff())
        n_usable_C = torch.bincount(context_T[usable_T], minlength=len(contexts))
        usable_T &= (n_usable_C >= MIN_TEXT_TOKENS)[context_T]
        n_tokens = int(usable_T.sum())
        return usable_T, Statistics(
            n_documents=len({context.position for context in contexts}),
            n_contexts=int((n_usable_C >= MIN_TEXT_TOKENS).sum()),
            n_positions=len(tokens_T),
            n_tokens=n_tokens,
            n_special=int((~text_T).sum()),
            n_high_norm=int(text_T.sum()) - n_normal,
            n_alone=n_normal - n_tokens,
            median_norm=float(median),
            mean_square_norm=float(norm_T[usable_T].double().square().sum()) / max(n_tokens, 1),
        )


def _sum(parts: list[Statistics]) -> Statistics:
    """The statistics of several blocks together; norms are averaged over their tokens."""
    n_tokens = sum(part.n_tokens for part in parts)
    counts = {
        name: sum(getattr(part, name) for part in parts)
        for name in Statistics._fields
        if name.startswith("n_")
    }
    norms = {
        name: sum(getattr(part, name) * part.n_tokens for part in parts) / max(n_tokens, 1)
        for name in Statistics._fields
        if not name.startswith("n_")
    }
    return Statistics(**counts, **norms)
