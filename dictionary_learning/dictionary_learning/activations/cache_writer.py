"""Writing activation caches: what they will hold, whether the disk holds that, and shard after shard.

Caches of several places, such as the layers of one model, are written side by side: their texts are tokenised
once and go through the language model once. Each ends with the bytes that it has when it is written alone.
"""

import hashlib
import shlex
import shutil
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path

import torch

from dictionary_learning.activations.block import N_COUNTED, Block
from dictionary_learning.activations.cache import ActivationCache, Part, ShardEntry
from dictionary_learning.activations.contexts import PackedTokens
from dictionary_learning.activations.live_store import ActivationStore, PlannedBlock
from dictionary_learning.activations.recording import Recorded
from dictionary_learning.activations.shard import ShardInProgress, shard_bytes
from dictionary_learning.command import program
from dictionary_learning.command.interruption import Interrupted, Interruption
from dictionary_learning.command.memory import format_bytes
from dictionary_learning.command.progress import TokenProgress, say
from dictionary_learning.errors import UserError

# Beside its tensors a file has a header and the disk a directory.
_BYTES_BESIDE = 4096


def write(caches: Sequence[ActivationCache], stores: Mapping[str, ActivationStore], folder: Path) -> None:
    """Write every shard that is not there; the size is told, and has to be there, before the first.

    The caller holds the caches' folders by `command.lock.locked`.

    Args:
        caches: of different places and otherwise of the same options; new, begun, or with shards that are to
            be written again.
        stores: the activations of every part, straight from the language model; of whichever place.
        folder: that of the one cache, or the one that holds them all.

    Raises:
        UserError: the disk is too small, the texts have changed since a cache was begun, or activations are
            not finite.
        SystemExit: interrupted (130 or 143); what has been made is kept.
    """
    for part, store in stores.items():
        _plan(caches, part, store)
    _check_disk(caches, folder)
    for cache in caches:
        cache.save_index()
    sizes = {
        (part, number): shard.n_positions
        for part in stores
        for number, shard in enumerate(caches[0].parts[part].shards)
    }
    todo = {shard: some for shard in sizes if (some := [cache for cache in caches if _lacks(cache, *shard)])}
    total = sum(sizes.values())
    progress = TokenProgress(total, total - sum(sizes[shard] for shard in todo), "activations")
    try:
        with Interruption() as interruption:
            try:
                for (part, number), some in todo.items():
                    _fill(some, part, number, stores[part], progress, interruption)
            except Interrupted:
                assert interruption.signal is not None
                kept = f"{progress.done:,} of {total:,} tokens"
                say(f"stopped with {kept} on disk; to go on: {go_on(folder)}")
                raise SystemExit(128 + interruption.signal) from None
    finally:
        progress.close()


def go_on(folder: Path) -> str:
    """The command that goes on with the cache, or the caches, in a folder."""
    return shlex.join([*program.words(), "--activations", str(folder)])


def _lacks(cache: ActivationCache, part: str, number: int) -> bool:
    return not cache.parts[part].shards[number].sha256


def _plan(caches: Sequence[ActivationCache], part: str, store: ActivationStore) -> None:
    """Give every cache the part, of the same texts; they are tokenised, the language model does not run.

    Raises:
        UserError: a cache was begun with other texts.
    """
    begun = [cache for cache in caches if part in cache.parts]
    planned = begun[0].parts[part] if len(begun) == len(caches) else _planned(part, store)
    for cache in caches:
        own = cache.parts.setdefault(part, deepcopy(planned))
        if [shard.texts_sha256 for shard in own.shards] != [shard.texts_sha256 for shard in planned.shards]:
            raise UserError(
                f"{cache.path} was begun with other texts of the part {part!r} than there are now, or than"
                " the caches of the other layers: restore them, or write into another folder."
            )


def _planned(part: str, store: ActivationStore) -> Part:
    """The shards that a part will have."""
    shards = [
        ShardEntry(
            file=f"{part}-{number:05d}.safetensors",
            start=block.start,
            n_positions=len(block.packed.tokens_T),
            n_contexts=len(block.packed.document_C),
            texts_sha256=_texts_sha256(block.packed),
        )
        for number, block in enumerate(store.plan())
    ]
    return Part(store.config["max_tokens"], shards)


def _check_disk(caches: Sequence[ActivationCache], folder: Path) -> None:
    """Say how large the caches will be; raise a UserError where the disk has no room for what is missing."""
    width, dtype = caches[0].facts["d_model"], caches[0].options["store_dtype"]
    total = missing = 0
    for cache in caches:
        for entry in (entry for part in cache.parts.values() for entry in part.shards):
            n_bytes = _BYTES_BESIDE + shard_bytes(
                entry.n_positions, entry.n_contexts, width, getattr(torch, dtype)
            )
            total += n_bytes
            if not entry.sha256:
                begun = ShardInProgress.part_of(cache.path / entry.file)
                missing += max(0, n_bytes - (begun.stat().st_size if begun.is_file() else 0))
    free = shutil.disk_usage(caches[0].path).free
    tokens = " and ".join(
        f"{sum(entry.n_positions for entry in part.shards):,} tokens of the part {name!r}"
        for name, part in caches[0].parts.items()
    )
    places = f" at {', '.join(str(cache.place) for cache in caches)}" if len(caches) > 1 else ""
    say(
        f"activation cache: {format_bytes(total)} for {tokens}{places}, width {width} {dtype}, in {folder}"
        f" ({format_bytes(free)} free)"
    )
    if missing > free:
        raise UserError(
            f"the activations take another {format_bytes(missing)}, and the disk of {folder} has"
            f" {format_bytes(free)} free: free some, choose another folder with --activations, or ask for"
            " less with --max_tokens or --store_dtype bfloat16."
        )


def _fill(
    caches: Sequence[ActivationCache],
    part: str,
    number: int,
    store: ActivationStore,
    progress: TokenProgress,
    interruption: Interruption,
) -> None:
    """Write one shard of several caches, or go on with it, and put it into their indices."""
    entry = caches[0].parts[part].shards[number]
    with interruption.waiting():
        planned = next(store.plan(entry.start))
    if _texts_sha256(planned.packed) != entry.texts_sha256:
        raise UserError(
            f"the texts have changed since {caches[0].path} was begun (behind record"
            f" {entry.start.position:,}): restore them, or write another cache."
        )
    shards = [_begin(cache, part, entry, planned.packed) for cache in caches]
    targets = [
        Recorded(cache.place, shard.x_TD, shard.norm_T) for cache, shard in zip(caches, shards, strict=True)
    ]
    progress.find(int(torch.stack([shard.norm_T != 0 for shard in shards]).all(0).sum()))
    try:
        for n_tokens in store.fill(planned.packed, targets):
            progress.add(n_tokens)
            interruption.check()
    except Interrupted:
        for shard in shards:
            shard.flush()
        raise
    for cache, shard in zip(caches, shards, strict=True):
        _finish(cache, cache.parts[part].shards[number], shard, planned, store)
    interruption.check()


def _begin(cache: ActivationCache, part: str, entry: ShardEntry, packed: PackedTokens) -> ShardInProgress:
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
    return ShardInProgress(cache.path / entry.file, packed, cache.facts["d_model"], dtype, facts)


def _finish(
    cache: ActivationCache,
    entry: ShardEntry,
    shard: ShardInProgress,
    planned: PlannedBlock,
    store: ActivationStore,
) -> None:
    """Give a full shard its name and its place in the index."""
    ratio = cache.options["max_norm_ratio"]
    statistics = Block.of(
        planned.packed, shard.x_TD, shard.norm_T, ratio, start=planned.start, next=planned.next
    ).statistics
    entry.sha256 = shard.finish()
    status = shard.path.stat()
    entry.n_bytes, entry.mtime_ns = status.st_size, status.st_mtime_ns
    entry.n_tokens = statistics.n_tokens
    entry.high_norm_tokens = statistics.high_norm_tokens(store.lm.tokenizer, N_COUNTED)
    cache.save_index()
    say(f"written: {shard.path}, {statistics.describe(store.lm.tokenizer)}")


def _texts_sha256(packed: PackedTokens) -> str:
    digest = hashlib.sha256()
    for tensor in packed:
        digest.update(tensor.contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
