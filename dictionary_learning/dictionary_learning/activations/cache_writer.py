"""Writing an activation cache: what it will hold, whether the disk holds that, and shard after shard."""

import hashlib
import shlex
import shutil
from collections.abc import Mapping

import torch

from dictionary_learning.activations.block import N_COUNTED, Block
from dictionary_learning.activations.cache import ActivationCache, Part, ShardEntry
from dictionary_learning.activations.contexts import PackedTokens
from dictionary_learning.activations.live_store import ActivationStore
from dictionary_learning.activations.shard import ShardInProgress, shard_bytes
from dictionary_learning.command import program
from dictionary_learning.command.interruption import Interrupted, Interruption
from dictionary_learning.command.memory import format_bytes
from dictionary_learning.command.progress import TokenProgress, say
from dictionary_learning.errors import UserError

# Beside its tensors a file has a header and the disk a directory.
_BYTES_BESIDE = 4096


def write(cache: ActivationCache, stores: Mapping[str, ActivationStore]) -> None:
    """Write every shard that is not there; the size is told, and has to be there, before the first.

    The caller holds the folder by `command.lock.locked`.

    Args:
        cache: new, begun, or with shards that are to be written again.
        stores: the activations of every part, straight from the language model.

    Raises:
        UserError: the disk is too small, the texts have changed since the cache was begun, or activations are
            not finite.
        SystemExit: interrupted (130 or 143); what has been made is kept.
    """
    for part, store in stores.items():
        if part not in cache.parts:
            cache.parts[part] = _planned(part, store)
    _check_disk(cache)
    cache.save_index()
    todo = [(part, entry) for part in stores for entry in cache.parts[part].shards if not entry.sha256]
    total = sum(entry.n_positions for part in cache.parts.values() for entry in part.shards)
    progress = TokenProgress(total, total - sum(entry.n_positions for _, entry in todo), "activations")
    try:
        with Interruption() as interruption:
            try:
                for part, entry in todo:
                    _fill(cache, part, entry, stores[part], progress, interruption)
            except Interrupted:
                assert interruption.signal is not None
                kept = f"{progress.done:,} of {total:,} tokens"
                say(f"stopped with {kept} on disk; to go on: {go_on(cache)}")
                raise SystemExit(128 + interruption.signal) from None
    finally:
        progress.close()


def go_on(cache: ActivationCache) -> str:
    """The command that goes on with a cache."""
    return shlex.join([*program.words(), "--activations", str(cache.path)])


def _planned(part: str, store: ActivationStore) -> Part:
    """The shards that a part will have; its texts are tokenised, the language model does not run."""
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


def _check_disk(cache: ActivationCache) -> None:
    """Say how large the cache will be; raise a UserError where the disk has no room for what is missing."""
    width, dtype = cache.facts["d_model"], cache.options["store_dtype"]
    total = missing = 0
    for part in cache.parts.values():
        for entry in part.shards:
            n_bytes = _BYTES_BESIDE + shard_bytes(
                entry.n_positions, entry.n_contexts, width, getattr(torch, dtype)
            )
            total += n_bytes
            if not entry.sha256:
                begun = ShardInProgress.part_of(cache.path / entry.file)
                missing += max(0, n_bytes - (begun.stat().st_size if begun.is_file() else 0))
    free = shutil.disk_usage(cache.path).free
    tokens = " and ".join(
        f"{sum(entry.n_positions for entry in part.shards):,} tokens of the part {name!r}"
        for name, part in cache.parts.items()
    )
    say(
        f"activation cache: {format_bytes(total)} for {tokens}, width {width} {dtype}, in {cache.path}"
        f" ({format_bytes(free)} free)"
    )
    if missing > free:
        raise UserError(
            f"the activations take another {format_bytes(missing)}, and the disk of {cache.path} has"
            f" {format_bytes(free)} free: free some, choose another folder with --activations, or ask for"
            " less with --max_tokens or --store_dtype bfloat16."
        )


def _fill(
    cache: ActivationCache,
    part: str,
    entry: ShardEntry,
    store: ActivationStore,
    progress: TokenProgress,
    interruption: Interruption,
) -> None:
    """Write one shard, or go on with it, and put it into the index."""
    with interruption.waiting():
        planned = next(store.plan(entry.start))
    if _texts_sha256(planned.packed) != entry.texts_sha256:
        raise UserError(
            f"the texts have changed since {cache.path} was begun (behind record {entry.start.position:,}):"
            " restore them, or write another cache."
        )
    facts = {
        "format": "pt",
        "part": part,
        "model": str(cache.options["model"]),
        "layer": str(cache.options["layer"]),
        "weights_sha256": cache.facts["weights_sha256"],
    }
    dtype: torch.dtype = getattr(torch, cache.options["store_dtype"])
    path = cache.path / entry.file
    shard = ShardInProgress(path, planned.packed, store.d_model, dtype, facts)
    progress.find(shard.n_done)
    try:
        for n_tokens in store.fill(planned.packed, shard.x_TD, shard.norm_T):
            progress.add(n_tokens)
            interruption.check()
    except Interrupted:
        shard.flush()
        raise
    ratio = cache.options["max_norm_ratio"]
    statistics = Block.of(
        planned.packed, shard.x_TD, shard.norm_T, ratio, start=entry.start, next=planned.next
    ).statistics
    entry.sha256 = shard.finish()
    entry.n_bytes, entry.mtime_ns = path.stat().st_size, path.stat().st_mtime_ns
    entry.n_tokens = statistics.n_tokens
    entry.high_norm_tokens = statistics.high_norm_tokens(store.lm.tokenizer, N_COUNTED)
    cache.save_index()
    say(f"written: {path}, {statistics.describe(store.lm.tokenizer)}")
    interruption.check()


def _texts_sha256(packed: PackedTokens) -> str:
    digest = hashlib.sha256()
    for tensor in packed:
        digest.update(tensor.contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
