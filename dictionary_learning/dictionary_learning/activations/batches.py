"""Batches: shuffled views of the blocks of a store, as single tokens, pairs, means or whole contexts.

Shapes: P items of a block, B batch, D model width, T rows and U usable tokens of a block, S spans, n rows of
some spans, b of them; R rounds.

The order of a block's items is drawn anew in every epoch, by a generator seeded with (seed, epoch, block). So
the batches are a function of the options and of a position among them, and a run that is resumed there sees
what it would have seen.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, Generic, Protocol, Self, TypeVar

import torch
from torch import Tensor

from dictionary_learning import distributed
from dictionary_learning.activations.block import BEGINNING, Block, BlockStart, Contexts, TextPairs
from dictionary_learning.activations.options import PAIR_MODES
from dictionary_learning.command.devices import own_defaults
from dictionary_learning.errors import UserError
from dictionary_learning.language_model.token_text import Sentences, check_tells_sentences
from dictionary_learning.language_model.tokens import text_ends
from dictionary_learning.texts.spans import POOLS

Batch = TypeVar("Batch")
_ROWS_AT_A_TIME = 65_536  # that are averaged together, whatever number of spans a batch has


class Blocks(Protocol):
    """What batches are drawn from: the blocks of a store."""

    capacity: int
    config: dict[str, Any]
    is_shared: bool
    log: Callable[[str], None]

    def block(self, start: BlockStart) -> Block:
        """The block that starts there."""


class View(ABC, Generic[Batch]):
    """A way to read a block: which items it has, and what a batch of them looks like."""

    what: str  # the name of an item, in the plural
    pairs_an_item: int = 1  # what an item counts for in a batch's size

    @abstractmethod
    def items(self, block: Block, generator: torch.Generator) -> Tensor:
        """All items [P, ...] of a block, each once, in a drawn order."""

    @abstractmethod
    def take(self, block: Block, items: Tensor) -> Batch:
        """The batch that some of the items stand for."""

    @property
    def config(self) -> dict[str, Any]:
        """Options of the view that belong in a run's record."""
        return {}


class TokenView(View[Tensor]):
    """Single tokens, [B, D]."""

    what = "usable tokens"

    def items(self, block: Block, generator: torch.Generator) -> Tensor:
        return block.rows_U[torch.randperm(len(block.rows_U), generator=generator)]

    def take(self, block: Block, items: Tensor) -> Tensor:
        return block.rows(items)


class PairView(View[Tensor | TextPairs]):
    """Each token with an earlier one of its text and context, [B, 2, D] as (current, earlier).

    `previous` takes position t-1; where that one is not usable there is no pair. `random` draws from the
    usable earlier positions of both, all equally likely, not more than `max_offset` back; one draw for each
    token and epoch. `sentence` draws from those of the token's sentence alone. Both tokens are usable.
    """

    what = "pairs"

    def __init__(
        self,
        mode: str = "previous",
        max_offset: int | None = None,
        tokenizer: Any = None,
        with_texts: bool = False,
    ) -> None:
        """
        Args:
            tokenizer: says where sentences end; of `random`, where the texts of a record do.
            with_texts: give `TextPairs`.
        """
        if mode not in PAIR_MODES:
            raise UserError(f"there are no {mode!r} pairs: choose one of {', '.join(PAIR_MODES)}.")
        if mode == "previous" and max_offset is not None:
            raise UserError(f"max_offset {max_offset} is for random pairs: leave it out, previous means 1.")
        if max_offset is not None and max_offset < 1:
            raise UserError(f"max_offset {max_offset} leaves no earlier token: give at least 1.")
        check_tells_sentences(tokenizer, mode)
        self.mode = mode
        self.max_offset = max_offset
        self._with_texts = with_texts
        self._sentences = Sentences(tokenizer)
        self._between = text_ends(tokenizer) if mode == "random" and tokenizer is not None else frozenset()
        self._last: tuple[BlockStart, Tensor] | None = None

    @property
    def config(self) -> dict[str, Any]:
        return {"pair_mode": self.mode, "max_offset": self.max_offset}

    def items(self, block: Block, generator: torch.Generator) -> Tensor:
        rows_U = block.rows_U
        # Among the usable tokens, those from `lowest` to before a token are the ones it can be paired with.
        lowest_U = block.first_of_text_U(self._between)
        if self.mode == "sentence":
            if self._last is None or self._last[0] != block.start:  # the same in every epoch
                self._last = block.start, block.sentence_T(self._sentences)[rows_U]
            lowest_U = lowest_U.maximum(torch.searchsorted(self._last[1], self._last[1]))
        reach = 1 if self.mode == "previous" else self.max_offset
        if reach is not None:
            lowest_U = lowest_U.maximum(torch.searchsorted(rows_U, rows_U - reach))
        n_earlier_U = torch.arange(len(rows_U)) - lowest_U
        current_P = n_earlier_U.nonzero().flatten()
        # A double below 1 times n stays below n, so the draw never reaches the token itself.
        draw_P = torch.rand(len(current_P), generator=generator, dtype=torch.float64)
        earlier_P = draw_P.mul_(n_earlier_U[current_P]).long().add_(lowest_U[current_P])
        pairs_P2 = torch.stack([rows_U[current_P], rows_U[earlier_P]], dim=1)
        return pairs_P2[torch.randperm(len(pairs_P2), generator=generator)]

    def take(self, block: Block, items: Tensor) -> Tensor | TextPairs:
        return block.pairs(items) if self._with_texts else block.rows(items)


class MeanView(View[Tensor]):
    """Means of activations, [B, D], each over the usable tokens of a span.

    A span lies within a context: of a sentence, a turn or a document that contexts cut, each part gives a
    mean of its own. A span without a usable token gives none.
    """

    what = "spans"

    def __init__(self, pool: str, tokenizer: Any = None) -> None:
        """Args: tokenizer: says where sentences end; of `sentence` alone."""
        assert pool in POOLS[1:], pool
        check_tells_sentences(tokenizer, pool)
        self.pool = pool
        self._sentences = Sentences(tokenizer)
        self._last: tuple[BlockStart, Tensor] | None = None

    @property
    def config(self) -> dict[str, Any]:
        return {"pool": self.pool}

    def items(self, block: Block, generator: torch.Generator) -> Tensor:
        if self._last is None or self._last[0] != block.start:  # the same in every epoch
            self._last = block.start, self._spans(block)
        spans_S2 = self._last[1]
        return spans_S2[torch.randperm(len(spans_S2), generator=generator)]

    def take(self, block: Block, items: Tensor) -> Tensor:
        length_B = items[:, 1] - items[:, 0]
        means = []
        for some in _of_about(length_B, _ROWS_AT_A_TIME):
            length_b, first_b = length_B[some], items[some, 0]
            offset_n = torch.arange(int(length_b.sum())) - torch.repeat_interleave(
                length_b.cumsum(0) - length_b, length_b
            )
            x_nD = block.rows(block.rows_U[torch.repeat_interleave(first_b, length_b) + offset_n])
            start_b = (length_b.cumsum(0) - length_b).to(x_nD.device)
            rows_n = torch.arange(len(x_nD), device=x_nD.device)
            means.append(torch.nn.functional.embedding_bag(rows_n, x_nD, start_b, mode="mean"))
        return torch.cat(means)

    def contexts(self, block: Block, contexts_N: Tensor) -> Contexts:
        """Contexts whose positions are the means of their spans; of tokens the last one of each.

        Args:
            contexts_N: numbers of contexts with usable tokens, ascending.
        """
        self.items(block, torch.Generator())  # finds the spans
        assert self._last is not None
        spans_S2 = self._last[1]
        context_S = block.context_T[block.rows_U[spans_S2[:, 0]]]
        is_asked_S = torch.isin(context_S, contexts_N)
        spans_s2, context_s = spans_S2[is_asked_S], context_S[is_asked_S]
        n_N = context_s.unique_consecutive(return_counts=True)[1]
        x_sD = self.take(block, spans_s2)
        mask_NL = torch.arange(int(n_N.max())) < n_N[:, None]
        x_NLD = x_sD.new_zeros(*mask_NL.shape, x_sD.shape[1])
        x_NLD[mask_NL.to(x_sD.device)] = x_sD
        tokens_NL = torch.zeros(mask_NL.shape, dtype=block.tokens_T.dtype)
        tokens_NL[mask_NL] = block.tokens_T[block.rows_U[spans_s2[:, 1] - 1]]
        device = x_sD.device
        return Contexts(
            x_NLD, mask_NL.to(device), tokens_NL.to(device), block.document_C[contexts_N].to(device)
        )

    def _spans(self, block: Block) -> Tensor:
        """Which of the usable tokens are in each span: the first, and the one behind the last [S, 2]."""
        number_U = self._number_T(block)[block.rows_U]
        first_S = torch.cat([torch.zeros(1, dtype=torch.int64), number_U.diff().nonzero().flatten() + 1])
        end_S = torch.cat([first_S[1:], torch.tensor([len(number_U)])])
        return torch.stack([first_S, end_S], dim=1)

    def _number_T(self, block: Block) -> Tensor:
        """The number of the span that each row is in; it never falls."""
        if self.pool == "document":
            return block.context_T
        if self.pool == "turn":
            return block.turn_T
        return block.sentence_T(self._sentences)


def _of_about(length_B: Tensor, n: int) -> Iterator[slice]:
    """The spans in stretches of about `n` rows, at least one span each."""
    end_B = length_B.cumsum(0)
    first = 0
    while first < len(end_B):
        before = int(end_B[first - 1]) if first else 0
        last = max(first + 1, int(torch.searchsorted(end_B, before + n, right=True)))
        yield slice(first, last)
        first = last


class RunView(PairView):
    """Runs of adjacent tokens, [B, r + 1, D], each the latest first: r pairs with the previous token in each.

    A stretch of n adjacent usable tokens of a context gives (n - 1) / r runs, rounded down, which share their
    ends, so no pair is in two. Which of its first tokens are left over is drawn for each stretch and epoch.

    Args:
        run_length: r.
    """

    def __init__(self, run_length: int, with_texts: bool = False) -> None:
        super().__init__(with_texts=with_texts)
        self.pairs_an_item = run_length
        self.what = f"runs of {run_length} pairs"

    @property
    def config(self) -> dict[str, Any]:
        return {**super().config, "run_length": self.pairs_an_item}

    def items(self, block: Block, generator: torch.Generator) -> Tensor:
        rows_U, r = block.rows_U, self.pairs_an_item
        context_U = block.context_T[rows_U]
        begins_U = torch.ones_like(rows_U, dtype=torch.bool)  # a stretch
        begins_U[1:] = (rows_U[1:] != rows_U[:-1] + 1) | (context_U[1:] != context_U[:-1])
        stretch_U = begins_U.cumsum(0) - 1
        spare_S = (torch.bincount(stretch_U) - 1) % r
        draw_S = torch.rand(len(spare_S), generator=generator, dtype=torch.float64)
        left_S = draw_S.mul_(spare_S + 1).long()
        place_U = torch.arange(len(rows_U)) - begins_U.nonzero().squeeze(1)[stretch_U] - left_S[stretch_U]
        latest_P = rows_U[(place_U > 0) & (place_U % r == 0)]
        return latest_P[torch.randperm(len(latest_P), generator=generator), None] - torch.arange(r + 1)


def in_rounds(
    items: Tensor, text_P: Tensor, most: int, batch_size: int, generator: torch.Generator
) -> Tensor:
    """Whole batches of the items, of which none has more than `most` of one text.

    A round has the next `most` items of every text that has any left, in the order in which they come; it
    gives as many batches as it fills, and the rest of it is left out. The batches of all rounds are shuffled.
    """
    by_text_P = text_P.argsort(stable=True)
    _, n_T = text_P[by_text_P].unique_consecutive(return_counts=True)
    round_P = torch.empty_like(text_P)
    first_P = torch.repeat_interleave(n_T.cumsum(0) - n_T, n_T)
    round_P[by_text_P] = (torch.arange(len(text_P)) - first_P) // most
    n_R = torch.bincount(round_P)
    batches = [
        some[: len(some) // batch_size * batch_size].unflatten(0, (-1, batch_size))
        for some in items[round_P.argsort(stable=True)].split(n_R.tolist())
        if len(some) >= batch_size
    ]
    if not batches:
        return items[:0]
    whole = torch.cat(batches)
    return whole[torch.randperm(len(whole), generator=generator)].flatten(0, 1)


class SequenceView(View[Contexts]):
    """Whole contexts."""

    what = "contexts"

    def items(self, block: Block, generator: torch.Generator) -> Tensor:
        return block.contexts_K[torch.randperm(len(block.contexts_K), generator=generator)]

    def take(self, block: Block, items: Tensor) -> Contexts:
        return block.contexts(items)


class Batches(Iterator[Batch]):
    """An iterator of batches that does not end, epoch after epoch, unless `epochs` is given.

    Every item is given once an epoch, but for fewer than a batch at the end of a block, others each time.

    Several processes divide a batch. Of a store that all of them share each gives its rows of the same
    batches, so that the batches are those of one process; where each has documents of its own, a batch is put
    together from as many items of each.

    Attributes:
        epoch: passes over the corpus that are complete.
        division: among the processes, by "rows" or by "documents".
    """

    def __init__(
        self,
        store: Blocks,
        view: View[Batch],
        batch_size: int,
        seed: int = 0,
        epochs: int | None = None,
        most_of_a_text: int | None = None,
    ) -> None:
        if batch_size < 1:
            raise UserError(f"a batch of {batch_size} is empty: give at least 1.")
        self.division = "rows" if store.is_shared else "documents"
        self._whole_size = batch_size
        self._rows = distributed.share(batch_size)
        if not store.is_shared:
            batch_size = self._rows.stop - self._rows.start
            self._rows = slice(0, batch_size)
        if batch_size > store.capacity:
            raise UserError(
                f"a batch of {batch_size:,} {view.what} is larger than the {store.capacity:,} tokens that are"
                " in memory together: ask for more with --memory (memory_bytes), or choose a smaller batch."
            )
        self.epoch = 0
        self._store = store
        self._view = view
        self._batch_size = batch_size
        self._seed = seed
        self._epochs = epochs
        self._most_of_a_text = most_of_a_text
        self._block = 0
        self._start = BEGINNING
        self._batch = 0
        self._document: int | None = None  # id of the block's first document, as a saved state knows it
        self._items: Tensor | None = None  # of the present block in the present epoch
        self._gave_something = False  # in this epoch

    @property
    def config(self) -> dict[str, Any]:
        """What the batches were made from, under upstream's names and ours; for a run's record."""
        n = self._view.pairs_an_item
        batch = {"out_batch_size": self._whole_size * n, "seed": self._seed}
        if self._most_of_a_text is not None:
            batch["pairs_per_text"] = self._most_of_a_text * n
        return {**self._store.config, **batch, **self._view.config}

    def __iter__(self) -> Self:
        return self

    @own_defaults()
    def __next__(self) -> Batch:
        while self._epochs is None or self.epoch < self._epochs:
            block = self._store.block(self._start)
            items = self._items_of(block)
            first = self._batch * self._batch_size
            if first + self._batch_size > len(items):
                self._go_on(block)
                continue
            self._batch += 1
            self._gave_something = True
            batch = self._view.take(block, items[first : first + self._batch_size][self._rows])
            # A state behind the last batch of a block names the next one, so that resuming reads only that.
            if first + 2 * self._batch_size > len(items):
                self._go_on(block)
            return batch
        raise StopIteration

    def state_dict(self) -> dict[str, Any]:
        """The position behind the last batch."""
        return {
            "epoch": self.epoch,
            "block": self._block,
            "batch": self._batch,
            "start": list(self._start),
            "document": self._document,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to a saved position; the next batches are those that followed it.

        Raises:
            UserError: (at the next batch) the corpus is not what it was.
        """
        self.epoch = state["epoch"]
        self._block = state["block"]
        self._batch = state["batch"]
        self._start = BlockStart(*state["start"])
        self._document = state["document"]
        self._items = None
        self._gave_something = True

    def _items_of(self, block: Block) -> Tensor:
        if self._items is None:
            document = int(block.document_C[0])
            if self._document not in (None, document):
                raise UserError(
                    "the corpus has changed since the run was saved (another document is at record"
                    f" {self._start.position:,}): resume with the same texts, or start a new run."
                )
            self._document = document
            generator = _generator(self._seed, self.epoch, self._block)
            self._items = self._view.items(block, generator)
            if self._most_of_a_text is not None:
                text_P, size = block.documents(self._items[:, 0]), self._batch_size
                self._items = in_rounds(self._items, text_P, self._most_of_a_text, size, generator)
        return self._items

    def _go_on(self, block: Block) -> None:
        """To the next block, or to the next epoch."""
        self._batch, self._items, self._document = 0, None, None
        if block.next is not None:
            self._block += 1
            self._start = block.next
            return
        if not self._gave_something:
            items, limit, remedy = self._view.items(block, torch.Generator()), "", ""
            if self._most_of_a_text is not None:
                limit = f" with at most {self._most_of_a_text:,} of one text"
                remedy = f" of {len(block.documents(items[:, 0]).unique()):,} texts in its last block"
            raise UserError(
                f"a batch of {self._batch_size:,}{limit} cannot be filled: the corpus gives {len(items):,}"
                f" {self._view.what}{remedy}; choose a smaller batch, or give more text."
            )
        self._gave_something = False
        self.epoch += 1
        self._block = 0
        self._start = BEGINNING
        # Many epochs over a small corpus are not worth a line each.
        if self.epoch & (self.epoch - 1) == 0 and self.epoch != self._epochs:
            times = "once" if self.epoch == 1 else f"{self.epoch} times"
            self._store.log(f"the corpus has been read {times}: epoch {self.epoch + 1} begins.")


def _generator(*key: int) -> torch.Generator:
    """A generator whose seed mixes all of `key`, so that neighbouring keys have nothing in common."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)
