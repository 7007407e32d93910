"""A store: contexts of activations, block by block, read in shuffled batches.

Where the blocks come from is left open: `ActivationStore` runs a language model, `CachedStore` maps the files
of an activation cache. Every view of the activations is here, once.

Shapes: B batch, D model width.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dictionary_learning.activations.batches import (
    Batches,
    MeanView,
    PairView,
    RunView,
    SequenceView,
    TokenView,
)
from dictionary_learning.activations.block import BEGINNING, Block, BlockStart, Contexts, Statistics
from dictionary_learning.command.devices import own_defaults
from dictionary_learning.errors import UserError


class Numbered(NamedTuple):
    """A batch of contexts, and where it stands among all of them."""

    number: int
    n_before: int  # usable tokens in the batches before it
    contexts: Contexts


class Store(ABC):
    """The activations of a corpus at one place; a subclass says how a block is read.

    Attributes:
        is_shared: of several processes each has the same activations, and takes its rows of every batch; not
            so where each has documents of its own.
        d_model: width of the activations.
        capacity: positions that fit into a block.
        config: the options, under upstream's names and ours, for a run's record.
        log: takes one line for a person.
        n_blocks: how many are in use at a time: 2 where the next one is read meanwhile.
        pause: called now and then while a block is read; what it raises ends that.
    """

    is_shared = True
    n_blocks = 1

    def __init__(
        self, d_model: int, capacity: int, config: dict[str, Any], log: Callable[[str], None]
    ) -> None:
        self.d_model = d_model
        self.capacity = capacity
        self.config = config
        self.log = log
        self.pause: Callable[[], None] = lambda: None
        self._block: Block | None = None
        self._statistics: dict[BlockStart, Statistics] = {}

    @abstractmethod
    def _read(self, start: BlockStart) -> Block:
        """Read the block that starts there; of those before it `n_blocks - 1` may still be in use."""

    @property
    def devices(self) -> Collection[torch.device]:
        """On which a block is made."""
        return ()

    @property
    def identity(self) -> str:
        """What tells these activations from others, where it is known without reading them: of a cache."""
        return str(self.config.get("cache_sha256"))

    # --- views ---

    def pairs(
        self,
        batch_size: int,
        *,
        mode: str = "previous",
        max_offset: int | None = None,
        run_length: int = 1,
        tokenizer: Any = None,
        pairs_per_text: int | None = None,
        with_texts: bool = False,
        seed: int = 0,
        epochs: int | None = None,
    ) -> Batches[Any]:
        """Batches [B, 2, D] of (current, earlier) token of a context; see `batches.PairView`.

        Args:
            batch_size: pairs in a batch.
            mode: "previous" (position t-1), "random" (all usable earlier positions equally likely) or
                "sentence" (those of the same sentence).
            max_offset: how far back a drawn earlier token may be, in positions.
            run_length: r above 1 gives the pairs in runs of adjacent tokens, [B / r, r + 1, D]; see
                `batches.RunView`.
            tokenizer: says where sentences end; needed by mode "sentence". With one, "random" does not pair
                texts of one record that an EOS or BOS divides; a conversation, in which it ends turns, is
                read without.
            pairs_per_text: as many pairs of one document are in a batch, at most; see `batches.in_rounds`.
            with_texts: batches are `TextPairs`: each pair or run with the id of its document.
            seed: of the order and of the draws.
            epochs: end after so many; None goes on for ever.

        Raises:
            UserError: runs that are not of previous tokens, or do not fill a batch, or of more pairs than a
                text may have.
        """
        view = PairView(mode, max_offset, tokenizer, with_texts)
        if run_length != 1 and (mode != "previous" or run_length < 1 or batch_size % run_length):
            raise UserError(
                f"a batch of {batch_size:,} {mode} pairs does not divide into runs of {run_length} adjacent "
                "ones: give a multiple, of previous pairs."
            )
        if run_length > 1:
            view = RunView(run_length, with_texts)
        most = None if pairs_per_text is None else pairs_per_text // run_length
        if most is not None and most < 1:
            raise UserError(
                f"pairs_per_text {pairs_per_text} leaves no room for a run of {run_length} pairs: give at "
                "least as many."
            )
        return Batches(self, view, batch_size // run_length, seed, epochs, most)

    def tokens(self, batch_size: int, *, seed: int = 0, epochs: int | None = None) -> Batches[Tensor]:
        """Batches [B, D] of single tokens."""
        return Batches(self, TokenView(), batch_size, seed, epochs)

    def means(
        self, batch_size: int, pool: str, tokenizer: Any = None, *, seed: int = 0, epochs: int | None = None
    ) -> Batches[Tensor]:
        """Batches [B, D] of means over sentences, turns or documents; see `batches.MeanView`."""
        return Batches(self, MeanView(pool, tokenizer), batch_size, seed, epochs)

    def sequences(self, batch_size: int, *, seed: int = 0, epochs: int | None = None) -> Batches[Contexts]:
        """Batches of whole contexts, for what looks at several positions at once."""
        return Batches(self, SequenceView(), batch_size, seed, epochs)

    def contexts(self, batch_size: int, unmasked: bool = False) -> Iterator[Contexts]:
        """One pass over all contexts in the order of the corpus, the last of a block in a smaller batch.

        Args:
            unmasked: as `UnmaskedContexts`.
        """
        return (batch.contexts for batch in self.numbered_contexts(batch_size, unmasked=unmasked))

    def numbered_contexts(
        self,
        batch_size: int,
        every: tuple[int, int] = (0, 1),
        unmasked: bool = False,
        at_most: int | None = None,
        means: MeanView | None = None,
    ) -> Iterator[Numbered]:
        """The batches of `contexts`, and where each stands.

        Every block is read, also by whoever is given no batch of it: several processes may read it together.

        Args:
            every: (r, n) gives only the batches whose number leaves the rest r when divided by n.
            unmasked: as `UnmaskedContexts`.
            at_most: end after so many contexts, of which the batches that are not given count, too.
            means: give the means of spans in place of tokens.
        """
        number = n_before = n_contexts = 0
        start: BlockStart | None = BEGINNING
        while start is not None and n_contexts != at_most:
            # Blocks are asked for anew each time: another reader may have brought another one in between.
            with own_defaults():
                contexts_K, n_usable_C = self.block(start).contexts_K, self.block(start).n_usable_C
            if at_most is not None:
                contexts_K = contexts_K[: at_most - n_contexts]
            n_contexts += len(contexts_K)
            for numbers in contexts_K.split(batch_size):
                if not len(numbers):
                    continue
                if number % every[1] == every[0]:
                    with own_defaults():
                        block = self.block(start)
                        found = means.contexts(block, numbers) if means else block.contexts(numbers, unmasked)
                    yield Numbered(number, n_before, found)
                number += 1
                n_before += int(n_usable_C[numbers].sum())
            start = self.block(start).next

    @property
    def statistics(self) -> Statistics:
        """Of all blocks read so far; reads the first if there is none."""
        if not self._statistics:
            self.block(BEGINNING)
        return Statistics.sum(self._statistics.values())

    # --- blocks ---

    @own_defaults()
    def block(self, start: BlockStart) -> Block:
        """The block that starts there: the one at hand, or read into its place.

        Raises:
            UserError: the block cannot be read; the subclass says why.
        """
        if self._block is None or self._block.start != start:
            self._block = None
            self._block = self._read(start)
            self._statistics[start] = self._block.statistics
        return self._block
