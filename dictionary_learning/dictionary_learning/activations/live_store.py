"""The activation store: documents through the language model, kept as contexts, read in shuffled batches.

Shapes: T stored positions, B batch, D model width.

    store = ActivationStore(lm, 15, lambda start: DocumentStream.open("demo", start=start),
                            context_length=256, lm_batch_size=8, memory_bytes=parse_bytes("4GB"))
    for x_B2D in store.pairs(2048): ...        # (token, an earlier token of the same context)
"""

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import chain, dropwhile
from typing import Any, NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from dictionary_learning import distributed
from dictionary_learning.activations.block import BEGINNING, Block, BlockStart, bytes_per_token
from dictionary_learning.activations.contexts import (
    MIN_TEXT_TOKENS,
    PackedTokens,
    TokenContext,
    pack,
    read_contexts,
)
from dictionary_learning.activations.recording import Recorded, batches_of_like_length, record_contexts
from dictionary_learning.activations.store import Store
from dictionary_learning.command.memory import format_bytes, memory_for_data
from dictionary_learning.command.processes import check_alike
from dictionary_learning.errors import UserError
from dictionary_learning.language_model import LanguageModel, Place
from dictionary_learning.texts.documents import DocumentStream

DTYPES = (torch.float32, torch.bfloat16)
CPU = torch.device("cpu")


class PlannedBlock(NamedTuple):
    """The tokens of a block, before the language model has seen them."""

    start: BlockStart
    packed: PackedTokens
    next: BlockStart | None  # None: the corpus ends with this block


class ActivationStore(Store):
    """The activations of a corpus at one place, straight from the language model.

    A block holds as many contexts as fit into `memory_bytes`. A corpus that fits into one block goes through
    the language model once; a larger one goes through it in every epoch, block after block. How the corpus is
    cut into blocks depends on the token counts alone, so a block can be read again from its start.
    """

    def __init__(
        self,
        lm: LanguageModel,
        layer: int | Place,
        open_stream: Callable[[int], DocumentStream],
        *,
        context_length: int,
        lm_batch_size: int,
        memory_bytes: int,
        dtype: torch.dtype = torch.float32,
        max_norm_ratio: float | None = 10.0,
        max_tokens: int | None = None,
        document_tokens: int | None = None,
        device: str | torch.device = "cpu",
        drop_special: bool = True,
        add_bos: bool = True,
        is_shared: bool = True,
        log: Callable[[str], None] = print,
    ) -> None:
        """Nothing is read or allocated before the first batch.

        Args:
            layer: what is stored: the residual stream after this decoder layer (from 0), or a place in one.
            open_stream: the documents from a position on; called again for every pass and on resuming.
            context_length: tokens of a context at most, a BOS included.
            lm_batch_size: contexts of full length in a language model batch; of shorter ones there are more,
                up to the same number of padded tokens.
            memory_bytes: what a block may take, with all its parts.
            dtype: of the stored activations, float32 or bfloat16; batches are always float32.
            max_norm_ratio: tokens with a norm above this multiple of their block's median (attention sinks)
                are not usable; None keeps all.
            max_tokens: use only so many text tokens of the corpus, from its beginning.
            document_tokens: use only so many tokens of a document, in contexts spread evenly over it.
            device: where the batches arise, and where the activations are stored if it has room for them.
            drop_special: special tokens are not usable.
            add_bos: put a BOS in front of every context if the tokenizer puts one in front of a text.
            is_shared: False where `open_stream` gives each of several processes documents of its own. True
                where all have the same: they run the language model together, each over some of its batches,
                and all get all activations.

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
        self.is_shared = is_shared
        self.lm = lm
        self.place = lm.check_place(layer)
        self._open_stream = open_stream
        self._context_length = context_length
        self._lm_batch_size = lm_batch_size
        self._dtype = dtype
        self._device = torch.device(device)
        self._max_norm_ratio = max_norm_ratio
        self._max_tokens = max_tokens
        self._document_tokens = document_tokens
        self._add_bos = add_bos
        self._drop_special = drop_special
        self._bytes_per_row = bytes_per_token(lm.d_model, dtype)
        capacity = memory_bytes // self._bytes_per_row
        if capacity < context_length:
            raise UserError(
                f"{format_bytes(memory_bytes)} hold {capacity:,} tokens of width {lm.d_model}, less than one"
                f" context of {context_length}: ask for more with --memory (memory_bytes), such as 4GB."
            )
        config: dict[str, Any] = {
            "d_submodule": lm.d_model,
            "layer": self.place.layer,
            "site": self.place.site,
            "io": "out",
            "ctx_len": context_length,
            "refresh_batch_size": lm_batch_size,
            "device": str(self._device),
            "memory_bytes": memory_bytes,
            "dtype": str(dtype).removeprefix("torch."),
            "max_norm_ratio": max_norm_ratio,
            "max_tokens": max_tokens,
            "document_tokens": document_tokens,
            "drop_special": drop_special,
            "add_bos": add_bos,
            "bos": add_bos and lm.bos_id is not None,  # what stood in front of the contexts
        }
        super().__init__(lm.d_model, capacity, config, log)
        # They take turns: where a block is read while another one is in use, there are two.
        self._buffers = [torch.empty(0, self.d_model, dtype=dtype)] * 2
        self._turn = 0
        # The contexts behind the last block, so that a stream is not opened anew for each block.
        self._waiting: tuple[BlockStart, Iterator[TokenContext]] | None = None

    @property
    def devices(self) -> Collection[torch.device]:
        return {self._device, *self.lm.devices}

    def _read(self, start: BlockStart) -> Block:
        """Run the language model over the texts of a block.

        Raises:
            UserError: the texts give no context, the memory is not there, activations are not finite.
        """
        deal = (distributed.rank(), distributed.size()) if self.is_shared else (0, 1)
        self._turn = (self._turn + 1) % self.n_blocks
        free_bytes = max(map(self._room, {self._device, CPU}))
        packed, following = self._plan(start, free_bytes)[1:]
        n_rows = len(packed.tokens_T)
        x_TD = self._allocate(n_rows, is_last=following is None)
        norm_T = torch.zeros(n_rows)
        if deal[1] > 1:
            check_alike({"texts": packed.sha256()[:12]})
            x_TD.zero_()
        began = time.monotonic()
        bar = tqdm(
            total=n_rows // deal[1],
            unit="token",
            unit_scale=True,
            desc="activations",
            leave=False,
            disable=None,
        )
        with bar:
            for n_done in self.fill(packed, [Recorded(self.place, x_TD, norm_T)], deal):
                bar.update(n_done)
                self.pause()
        if deal[1] > 1:
            distributed.fill_in(norm_T)
            distributed.fill_in(x_TD)
        speed = n_rows / (time.monotonic() - began)
        block = Block.of(
            packed, x_TD, norm_T, self._max_norm_ratio, start=start, next=following, device=self._device
        )
        content = block.statistics.describe(self.lm.tokenizer)
        self.log(f"activation store: {content}, {speed:,.0f} tokens/s")
        return block

    # --- the two halves of reading a block, for whoever keeps it elsewhere ---

    def plan(self, start: BlockStart = BEGINNING) -> Iterator[PlannedBlock]:
        """The tokens of each block from `start` to the end of the corpus; the language model does not run.

        Raises:
            UserError: the texts give no context.
        """
        following: BlockStart | None = start
        while following is not None:
            planned = self._plan(following)
            yield planned
            following = planned.next

    def fill(
        self, packed: PackedTokens, targets: Sequence[Recorded], every: tuple[int, int] = (0, 1)
    ) -> Iterator[int]:
        """Write the activations of a block to where they are kept, those of all targets from one pass.

        Args, Yields, Raises: as `recording.record_contexts`.
        """
        batches = batches_of_like_length(packed.start_C.diff(), self._lm_batch_size * self._context_length)
        return record_contexts(self.lm, packed, batches, targets, every)

    def _plan(self, start: BlockStart, free_bytes: int | None = None) -> PlannedBlock:
        """The contexts of a block, which have to fit into `free_bytes` where that is given."""
        n_rows, n_tokens = 0, start.n_tokens
        contexts: list[TokenContext] = []
        following: BlockStart | None = None
        waiting = self._contexts_from(start)
        for context in tqdm(waiting, unit="context", desc="tokenising", leave=False, disable=None):
            self.pause()
            n_rows += len(context.tokens_L)
            n_tokens += context.n_text
            if self._max_tokens is not None and n_tokens > self._max_tokens:
                break
            if n_rows > self.capacity:
                following = BlockStart(context.position, context.number, n_tokens - context.n_text)
                self._waiting = following, chain([context], waiting)
                break
            if free_bytes is not None and n_rows * self._bytes_per_row > free_bytes:
                raise UserError(
                    f"the activation store would take more than the {format_bytes(free_bytes)} of memory that"
                    f" are free: ask for less than {format_bytes(self.capacity * self._bytes_per_row)} with"
                    " --memory (memory_bytes)."
                )
            contexts.append(context)
        if not contexts:
            raise UserError(
                f"the texts give no context of at least {MIN_TEXT_TOKENS} tokens behind record"
                f" {start.position:,}: give more text, or a larger --max_tokens."
            )
        return PlannedBlock(start, pack(contexts), following)

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
            document_tokens=self._document_tokens,
        )
        return dropwhile(lambda c: c.position == start.position and c.number < start.context, contexts)

    def _allocate(self, n_rows: int, is_last: bool) -> Tensor:
        """Room for the activations of a block: exactly what a small corpus needs, all that was asked else.

        Raises:
            UserError: there is no room for as many blocks as are in use at a time.
        """
        if len(self._buffers[self._turn]) < n_rows:
            n_allocated = n_rows if is_last else self.capacity
            n_bytes = n_allocated * self.d_model * self._dtype.itemsize
            device = self._device if n_bytes <= self._room(self._device) else CPU
            more = "" if is_last else "; the corpus is larger, so the language model runs in every epoch"
            if self.n_blocks > 1 and not is_last:
                self._check_room()
                more += (
                    f", while the block before it is trained on (with --overlap there are {self.n_blocks})"
                )
            if device != self._device:
                more += f"; on the CPU, as {self._device} has no room for them beside its work"
            self.log(
                f"activation store: {format_bytes(n_allocated * self._bytes_per_row)} for {n_allocated:,}"
                f" tokens of width {self.d_model} {self.config['dtype']}{more}"
            )
            self._buffers[self._turn] = torch.empty(0)  # free the old one first
            self._buffers[self._turn] = torch.empty(
                n_allocated, self.d_model, dtype=self._dtype, device=device
            )
        return self._buffers[self._turn][:n_rows]

    def _check_room(self) -> None:
        """Raise a UserError unless all blocks that are in use at a time have room."""
        n_missing = sum(len(buffer) < self.capacity for buffer in self._buffers[: self.n_blocks])
        needed = n_missing * self.capacity * self._bytes_per_row
        free_bytes = sum(map(self._room, {self._device, CPU}))
        if needed > free_bytes:
            raise UserError(
                f"{self.n_blocks} blocks of activations, one read while the other is trained on, take"
                f" {format_bytes(needed)} of memory, and {format_bytes(free_bytes)} are free: ask for less"
                " with --memory (memory_bytes), or for one block with --no_overlap."
            )

    def _room(self, device: torch.device) -> int:
        """Bytes that a block may take on a device, in place of the one whose turn it is."""
        present = self._buffers[self._turn]
        return memory_for_data(device, present.nbytes if present.device.type == device.type else 0)
