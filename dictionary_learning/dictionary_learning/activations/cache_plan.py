"""What activation caches will hold, and whether the disk holds that; before the language model runs.

The texts are tokenised and cut into blocks, and every block has its entry in the index of every cache. Of
several processes the first one plans, and the others wait for it.
"""

import os
import shutil
from collections.abc import Mapping, Sequence
from copy import deepcopy

import torch

from dictionary_learning import distributed
from dictionary_learning.activations.cache import ActivationCache
from dictionary_learning.activations.live_store import ActivationStore
from dictionary_learning.activations.shard import ShardInProgress, shard_bytes
from dictionary_learning.activations.shard_files import Part, ShardEntry
from dictionary_learning.command.memory import format_bytes
from dictionary_learning.command.progress import say
from dictionary_learning.errors import UserError
from dictionary_learning.remote.path import AnyPath

# Beside its tensors a file has a header and the disk a directory.
_BYTES_BESIDE = 4096


def plan(caches: Sequence[ActivationCache], stores: Mapping[str, ActivationStore], folder: AnyPath) -> None:
    """Give every cache the parts that the stores have, of the same texts, and save its index.

    The texts are tokenised, the language model does not run. The first process does it; the others come back
    when it is done.

    Args:
        folder: that of the one cache, or the one that holds them all.

    Raises:
        UserError: a cache was begun with other texts, or the disk has no room for what is missing.
    """
    if not distributed.is_first():
        while distributed.value_of_first(None):
            pass
        return
    for part, store in stores.items():
        _plan(caches, part, store)
    _take_up(caches)
    _check_disk(caches, folder)
    for cache in caches:
        cache.save_index()
    distributed.value_of_first(False)


def _plan(caches: Sequence[ActivationCache], part: str, store: ActivationStore) -> None:
    """Give every cache one part."""
    begun = [cache for cache in caches if part in cache.parts]
    planned = begun[0].parts[part] if len(begun) == len(caches) else _planned(part, store)
    for cache in caches:
        own = cache.parts.setdefault(part, deepcopy(planned))
        if [shard.texts_sha256 for shard in own.shards] != [shard.texts_sha256 for shard in planned.shards]:
            raise UserError(
                f"{cache.address} was begun with other texts of the part {part!r} than there are now, or than"
                " the caches of the other layers: restore them, or write into another folder."
            )


def _planned(part: str, store: ActivationStore) -> Part:
    """The shards that a part will have."""
    shards = []
    for number, block in enumerate(store.plan()):
        shards.append(
            ShardEntry(
                file=f"{part}-{number:05d}.safetensors",
                start=block.start,
                n_positions=len(block.packed.tokens_T),
                n_contexts=len(block.packed.document_C),
                texts_sha256=block.packed.sha256(),
            )
        )
        distributed.value_of_first(True)  # the others wait for one block at a time, however many there are
    return Part(store.config["max_tokens"], shards)


def _take_up(caches: Sequence[ActivationCache]) -> None:
    """Go on with shards that were full, and not in the index yet, when their writer was killed."""
    for cache in caches:
        for entry in (entry for part in cache.parts.values() for entry in part.shards):
            path = cache.path / entry.file
            if entry.n_bytes is None and path.is_file():  # one that was damaged since has its length there
                os.replace(path, ShardInProgress.part_of(path))


def _check_disk(caches: Sequence[ActivationCache], folder: AnyPath) -> None:
    """Say how large the caches will be; raise a UserError where the disk has no room for what is missing."""
    width, dtype = caches[0].facts["d_model"], caches[0].options["store_dtype"]
    total = needed = 0
    for cache in caches:
        missing = []
        for entry in (entry for part in cache.parts.values() for entry in part.shards):
            n_bytes = _BYTES_BESIDE + shard_bytes(
                entry.n_positions, entry.n_contexts, width, getattr(torch, dtype)
            )
            total += n_bytes
            if not entry.sha256:
                begun = ShardInProgress.part_of(cache.path / entry.file)
                missing.append(max(0, n_bytes - (begun.stat().st_size if begun.is_file() else 0)))
        needed += cache.files.bytes_at_once(missing)
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
    if needed > free:
        raise UserError(
            f"the activations take another {format_bytes(needed)}, and the disk of {caches[0].path} has"
            f" {format_bytes(free)} free: free some, choose another folder with --activations, or ask for"
            " less with --max_tokens or --store_dtype bfloat16."
        )
