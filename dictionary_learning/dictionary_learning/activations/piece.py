"""A block of the corpus while it becomes a shard of one cache, or of each of several.

Its texts go through the language model once, whatever number of caches keep what it says. Several processes
of a machine fill the same files side by side, each with its batches of the language model.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Self

import torch

from dictionary_learning.activations.block import N_COUNTED, Block
from dictionary_learning.activations.cache import ActivationCache
from dictionary_learning.activations.contexts import PackedTokens
from dictionary_learning.activations.live_store import ActivationStore
from dictionary_learning.activations.recording import Recorded
from dictionary_learning.activations.shard import ShardInProgress
from dictionary_learning.activations.shard_files import ShardEntry
from dictionary_learning.errors import UserError


class Piece(NamedTuple):
    """A block that some caches lack."""

    part: str
    number: int
    caches: Sequence[ActivationCache]
    store: ActivationStore
    """The activations of the part, straight from the language model; of whichever place."""

    @property
    def entries(self) -> list[ShardEntry]:
        """What the caches' indices say of it."""
        return [cache.parts[self.part].shards[self.number] for cache in self.caches]


class Written(NamedTuple):
    """What there is to say of a shard that is on the disk; JSON can hold it."""

    entry: dict[str, Any]
    """For the index, under the names of `ShardEntry`."""
    line: str
    """For a person."""


class PieceInProgress:
    """A piece whose files are open to be filled.

    Attributes:
        n_found: positions that are there at all places already.
    """

    def __init__(self, piece: Piece, shards: Sequence[ShardInProgress]) -> None:
        self.piece = piece
        self.packed = shards[0].packed
        self._shards = shards
        self.n_found = int(torch.stack([shard.norm_T != 0 for shard in shards]).all(0).sum())

    @classmethod
    def begin(cls, piece: Piece) -> Self:
        """Tokenise the texts and make the files, or go on with those that are there.

        Raises:
            UserError: the texts have changed since the cache was begun.
            OSError: the disk is full.
        """
        entry = piece.entries[0]
        packed = next(piece.store.plan(entry.start)).packed
        if packed.sha256() != entry.texts_sha256:
            raise UserError(
                f"the texts have changed since {piece.caches[0].address} was begun (behind record"
                f" {entry.start.position:,}): restore them, or write another cache."
            )
        return cls(piece, [_begin(cache, piece.part, entry.file, packed) for cache in piece.caches])

    @classmethod
    def join(cls, piece: Piece) -> Self:
        """The files that another process of this machine has begun.

        Raises:
            UserError: they cannot be read here.
        """
        files = [entry.file for entry in piece.entries]
        paths = [cache.path / file for cache, file in zip(piece.caches, files, strict=True)]
        return cls(piece, [ShardInProgress.join(path) for path in paths])

    def fill(self, every: tuple[int, int]) -> Iterator[int]:
        """Write activations and norms; args, yields and raises as `recording.record_contexts`."""
        targets = [
            Recorded(cache.place, shard.x_TD, shard.norm_T)
            for cache, shard in zip(self.piece.caches, self._shards, strict=True)
        ]
        return self.piece.store.fill(self.packed, targets, every)

    def flush(self) -> None:
        """Have everything that was written on the disk."""
        for shard in self._shards:
            shard.flush()

    def discard_if_empty(self) -> None:
        """Remove files in which there is nothing."""
        for shard in self._shards:
            if not shard.norm_T.any():
                shard.part.unlink(missing_ok=True)

    def finish(self) -> list[Written]:
        """Give the full files their names, and have them where the caches are; what there is to say of each.

        Raises:
            UserError: one cannot be sent to its URL.
        """
        return [self._finish(*pair) for pair in zip(self.piece.caches, self._shards, strict=True)]

    def _finish(self, cache: ActivationCache, shard: ShardInProgress) -> Written:
        tokenizer = self.piece.store.lm.tokenizer
        start, ratio = self.piece.entries[0].start, cache.options["max_norm_ratio"]
        block = Block.of(self.packed, shard.x_TD, shard.norm_T, ratio, start=start, next=None)
        sha256 = shard.finish()
        status = shard.path.stat()
        entry = {
            "n_tokens": block.statistics.n_tokens,
            "n_bytes": status.st_size,
            "sha256": sha256,
            "mtime_ns": status.st_mtime_ns,
            "high_norm_tokens": block.statistics.high_norm_tokens(tokenizer, N_COUNTED),
        }
        cache.files.deliver(shard.path.name, sha256)
        where = cache.address / shard.path.name
        return Written(entry, f"written: {where}, {block.statistics.describe(tokenizer)}")


def _begin(cache: ActivationCache, part: str, file: str, packed: PackedTokens) -> ShardInProgress:
    """The file of a shard, new or as far as it is."""
    facts = {
        "format": "pt",
        "part": part,
        "model": str(cache.options["model"]),
        "layer": str(cache.options["layer"]),
        # as before there were sites, so that a shard that was begun then is gone on with
        **({"site": cache.place.site} if cache.place.is_added else {}),
        "weights_sha256": cache.facts["weights_sha256"],
    }
    dtype: torch.dtype = getattr(torch, cache.options["store_dtype"])
    cache.files.begin(file)
    return ShardInProgress(cache.path / file, packed, cache.facts["d_model"], dtype, facts)
