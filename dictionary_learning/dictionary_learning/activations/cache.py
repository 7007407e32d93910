"""An activation cache: a language model's activations of a corpus on disk, in place of running the model.

    <cache>/
      index.json                  which activations these are, and every shard with its length and checksum
      train-00000.safetensors     a block of the activations, see `shard`
      eval-00000.safetensors      the documents that are kept for evaluation

A block of the cache is a shard: `--memory` says how large they are when the cache is written, and a run that
reads it shuffles within one shard after the other, as a run straight from the model with the same `--memory`
does within its blocks. Both give the same batches. Shards are mapped, not read: they take no memory that the
system could not take back.

    store = ActivationCache.open("activations").store("train")
    for x_B2D in store.pairs(2048): ...
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import fields
from typing import Any, Literal, Self

import torch

from dictionary_learning.activations.block import (
    BEGINNING,
    N_TOLD,
    Block,
    BlockStart,
    bytes_per_token,
    told_tokens,
)
from dictionary_learning.activations.options import DataOptions, from_anywhere, without_settled
from dictionary_learning.activations.shard import Shard
from dictionary_learning.activations.shard_files import INDEX, Part, ShardEntry, caches_of_layers, files_at
from dictionary_learning.activations.store import Store
from dictionary_learning.command.files import save_text
from dictionary_learning.command.memory import memory_for_data, parse_bytes
from dictionary_learning.command.options import difference, is_plain_name, shown
from dictionary_learning.command.progress import n_of
from dictionary_learning.command.secrets import scrub_values
from dictionary_learning.errors import UserError
from dictionary_learning.language_model.places import Place
from dictionary_learning.remote.file_system import told
from dictionary_learning.remote.options import LocalCacheOptions
from dictionary_learning.remote.path import AnyPath, path_of

FORMAT = "activation cache"
VERSION = 1
WRITE = "python -m dictionary_learning.cache_activations --activations"
# What a cache knows of its activations.
OPTIONS = {field.name for field in fields(DataOptions)} - {"device", "lm_device", "max_tokens"}
ESSENTIAL = {"model", "lm_dtype", "layer", "dataset", "context_length", "memory", "store_dtype"}
FACTS = {"d_model", "drop_special", "add_bos", "tokenizer_sha256", "weights_sha256"}


class ActivationCache:
    """A folder of activations, of this machine or at a URL, with its index.

    Attributes:
        files: where its files lie; `address` is what that is called.
        path: the folder of this machine in which it is written.
        options: of `DataOptions`, those that the activations were made with.
        facts: the width and the fingerprints of the language model, its revision, and how contexts were made.
        parts: by name ("train", "eval", "all").
        provenance: command, versions and machine that began it.
    """

    def __init__(
        self,
        path: str | AnyPath,
        options: Mapping[str, Any],
        facts: Mapping[str, Any],
        provenance: Mapping[str, Any],
        parts: Mapping[str, Part] | None = None,
        *,
        local_cache: str = LocalCacheOptions.local_cache,
    ) -> None:
        self.files = files_at(path_of(path), parse_bytes(local_cache))
        self.path, self.address = self.files.folder, self.files.address
        self.options = dict(options)
        self.facts = dict(facts)
        self.provenance = dict(provenance)
        self.parts = dict(parts or {})

    @classmethod
    def open(cls, path: str | AnyPath, local_cache: str = LocalCacheOptions.local_cache) -> Self:
        """The cache in a folder.

        Args:
            path: the folder, or its URL.
            local_cache: what shards at a URL, of this cache and of others, may take of this disk.

        Raises:
            UserError: there is none, its index cannot be read, or the URL cannot be reached.
        """
        path = path_of(path)
        files = files_at(path, parse_bytes(local_cache))
        index = files.read_index(INDEX)
        if index is None and not files.is_folder():
            raise UserError(
                f"there is no folder {path}: write a cache with {WRITE} {path}, or say with --activations"
                " where it is now."
            )
        if index is None and (layers := caches_of_layers(path)):
            names = ", ".join(layer.name for layer in layers)
            raise UserError(
                f"{path} holds the caches of several layers ({names}): give one of them, such as {layers[0]}."
            )
        if index is None:
            raise UserError(
                f"{path} is no activation cache (it has no {INDEX}): give another folder with --activations."
            )
        try:
            if index["format"] != FORMAT:
                raise ValueError("another index")
            if index["version"] != VERSION:
                raise UserError(
                    f"{path} is an activation cache of version {index['version']}, and this program reads"
                    f" version {VERSION}: write it again."
                )
            parts = {
                name: Part(
                    part["max_tokens"],
                    [
                        ShardEntry(**{**entry, "start": BlockStart(*entry["start"])})
                        for entry in part["shards"]
                    ],
                )
                for name, part in index["parts"].items()
            }
            # an option that is younger than the cache was not there, as it is not by default
            options = {name: getattr(DataOptions, name) for name in OPTIONS} | index["options"]
            cache = cls(path, options, index["facts"], index["provenance"], parts, local_cache=local_cache)
            shards = [shard for part in parts.values() for shard in part.shards]
            if not all(is_plain_name(shard.file) and _is_digest(shard.sha256) for shard in shards):
                raise ValueError("names of files")
            if ESSENTIAL - index["options"].keys() or FACTS - cache.facts.keys():
                raise ValueError("options")
        except UserError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError):
            raise UserError(
                f"{path / INDEX} is damaged, or of something else than an activation cache: give another"
                " folder with --activations, or write the cache again into a new one."
            ) from None
        return cache

    @property
    def place(self) -> Place:
        """Where in the language model the activations were read."""
        return Place(self.options["layer"], site=self.options["site"])

    def save_index(self) -> None:
        """Write the index, atomically; to a URL it is sent."""
        content = {
            "format": FORMAT,
            "version": VERSION,
            "options": scrub_values(self.options),
            "facts": self.facts,
            # `asdict` would copy every shard's entry
            "parts": {
                name: {"max_tokens": part.max_tokens, "shards": [vars(shard) for shard in part.shards]}
                for name, part in self.parts.items()
            },
            "provenance": self.provenance,
        }
        # without indent, which would take 20 times as long
        save_text(self.path / INDEX, json.dumps(content, ensure_ascii=False) + "\n")

    def check(
        self,
        asked: Mapping[str, Any],
        remedy: str = "leave them out, or write another cache",
        free: Collection[str] = ("max_norm_ratio",),
    ) -> None:
        """Compare options that somebody asked for with those of the cache; others are passed over.

        Args:
            remedy: what to do where they contradict each other.
            free: may differ; the norm filter may be another one when activations are read.

        Raises:
            UserError: they contradict each other.
        """
        own = {**self.options, **self.facts}
        told = [
            difference(name, value, own[name], "cache")
            if name in self.options
            else f"{name} {shown(value)} (the cache has {shown(own[name])})"
            for name, value in asked.items()
            if name in own and name not in free and not _agree(name, value, own[name])
        ]
        if told:
            raise UserError(
                f"{self.address} holds other activations than asked for: {', '.join(told)}; {remedy}."
            )

    def check_model(self, fingerprints: Mapping[str, str]) -> None:
        """Compare the language model that was loaded, as `fingerprint.fingerprints` describes it.

        Raises:
            UserError: it is not the one whose activations these are.
        """
        for what, name in (("tokenizer", "tokenizer_sha256"), ("weights", "weights_sha256")):
            if self.facts[name] is None:
                continue  # imported, and not compared
            if fingerprints[name] != self.facts[name]:
                raise UserError(
                    f"the activations in {self.address} are those of another {self.options['model']} than is"
                    f" there now (its {what} changed): restore it, or write another cache."
                )

    def store(
        self,
        part: str = "train",
        *,
        max_tokens: int | None = None,
        max_norm_ratio: float | Literal["own"] | None = "own",
        device: str | torch.device = "cpu",
        log: Callable[[str], None] = print,
    ) -> "CachedStore":
        """The activations of a part, to be read like those that come straight from the language model.

        Args:
            max_tokens: use only so many text tokens, from the beginning.
            max_norm_ratio: norm filter instead of the cache's own, a multiple of the median; None keeps all.
            device: where the batches arise. Where it has room for a shard, the shard is copied there.

        Raises:
            UserError: the part is not there or not complete; a shard is missing or of another length.
        """
        self.check_complete(part)
        for entry in self.parts[part].shards:
            self.check_length(entry)
        ratio: float | None = self.options["max_norm_ratio"] if max_norm_ratio == "own" else max_norm_ratio
        return CachedStore(self, part, max_tokens, ratio, torch.device(device), log)

    def check_complete(self, part: str) -> None:
        """Raise a UserError unless all of a part was written."""
        if part not in self.parts:
            there = " and ".join(self.parts) or "no part yet"
            raise UserError(
                f"{self.address} has no activations of the part {part!r} (it has {there}): add them with"
                f" {WRITE} {self.address} --parts {part}."
            )
        n_written, n_shards = self.parts[part].n_written, len(self.parts[part].shards)
        if n_written < n_shards:
            raise UserError(
                f"{self.address} is half-written ({n_written} of {n_of(n_shards, 'shard')} of the part"
                f" {part!r}): finish it with {WRITE} {self.address}."
            )

    def is_written(self, parts: Collection[str]) -> bool:
        """Whether all of these parts are there."""
        return all(
            part in self.parts and self.parts[part].n_written == len(self.parts[part].shards)
            for part in parts
        )

    def check_length(self, entry: ShardEntry) -> None:
        """Raise a UserError unless the file of a shard is there, as long as it was written."""
        n_bytes = self.files.length(entry)
        if n_bytes != entry.n_bytes:
            fault = "missing" if n_bytes is None else f"{n_bytes:,} bytes long instead of {entry.n_bytes:,}"
            raise UserError(
                f"{self.address / entry.file} is {fault}: write it again with {WRITE} {self.address}."
            )

    def check_content(self, entry: ShardEntry, always: bool = False) -> None:
        """Raise a UserError if a shard has changed since it was written.

        The checksum is computed where the file's time is not that of its writing, or `always`; of a shard
        at a URL whenever it is fetched.
        """
        self.check_length(entry)
        if not self.files.is_as_written(entry, always):
            raise UserError(
                f"{self.address / entry.file} has changed since it was written (its checksum is another):"
                f" write it again with {WRITE} {self.address}."
            )

    def is_intact(self, entry: ShardEntry) -> bool:
        """Whether `check_content` finds nothing."""
        try:
            self.check_content(entry)
        except UserError:
            return False
        return True

    def digest(self, part: str) -> str:
        """A SHA-256 of what a part holds."""
        shards = [shard.sha256 for shard in self.parts[part].shards]
        return hashlib.sha256(json.dumps(shards).encode()).hexdigest()


class CachedStore(Store):
    """The activations of a cache, shard by shard."""

    def __init__(
        self,
        cache: ActivationCache,
        part: str,
        max_tokens: int | None,
        max_norm_ratio: float | None,
        device: torch.device,
        log: Callable[[str], None],
    ) -> None:
        """See `ActivationCache.store`."""
        options, facts = cache.options, cache.facts
        dtype: torch.dtype = getattr(torch, options["store_dtype"])
        memory_bytes = parse_bytes(options["memory"])
        config = {
            "d_submodule": facts["d_model"],
            "layer": options["layer"],
            "site": options["site"],
            "io": "out",
            "ctx_len": options["context_length"],
            "refresh_batch_size": options["lm_batch_size"],
            "device": str(device),
            "memory_bytes": memory_bytes,
            "dtype": options["store_dtype"],
            "max_norm_ratio": max_norm_ratio,
            "document_tokens": options["document_tokens"],
            "max_tokens": max_tokens if max_tokens is not None else cache.parts[part].max_tokens,
            "drop_special": facts["drop_special"],
            "add_bos": facts["add_bos"],
            **({"bos": facts["bos"]} if "bos" in facts else {}),  # older caches do not say
            "weights_sha256": facts["weights_sha256"],
            "tokenizer_sha256": facts["tokenizer_sha256"],
            "cache_sha256": cache.digest(part),
        }
        capacity = memory_bytes // bytes_per_token(facts["d_model"], dtype)
        super().__init__(facts["d_model"], capacity, config, log)
        self._cache = cache
        self._max_tokens = max_tokens
        self._max_norm_ratio = max_norm_ratio
        self._device = device
        self._checked: set[str] = set()
        self._entries = {entry.start: entry for entry in cache.parts[part].shards}
        self._entries = self._within_max_tokens()
        log(
            f"activations of {cache.place} of {options['model']} in contexts of"
            f" {options['context_length']} tokens from {cache.address}:"
            f" {n_of(len(self._entries), 'shard')} of the part {part!r}{self._told_tokens()}"
        )

    def _told_tokens(self) -> str:
        """What the norm filter leaves out most often, where it is the one that the cache was written with."""
        if self._max_norm_ratio != self._cache.options["max_norm_ratio"]:
            return ""
        counts: Counter[str] = Counter()
        for entry in self._entries.values():
            counts.update(entry.high_norm_tokens or {})
        return told_tokens(dict(counts.most_common(N_TOLD)))

    def _within_max_tokens(self) -> dict[BlockStart, ShardEntry]:
        """The shards of which at least one context is used."""
        if self._max_tokens is None:
            return self._entries
        used = {start: entry for start, entry in self._entries.items() if start.n_tokens < self._max_tokens}
        last = next(reversed(used), BEGINNING)
        if last != BEGINNING and self._n_contexts(last, self._map(used[last])) == 0:
            del used[last]
        return used

    @property
    def devices(self) -> Collection[torch.device]:
        return {self._device}

    def _read(self, start: BlockStart) -> Block:
        shard = self._map(self._entries[start])
        packed = shard.packed.first(self._n_contexts(start, shard))
        n = len(packed.tokens_T)
        if n == 0:
            raise UserError(f"max_tokens {self._max_tokens} is less than the first context: give more.")
        starts = list(self._entries)
        following = starts[starts.index(start) + 1 :]
        if following:
            self._cache.files.prefetch(self._entries[following[0]], after=self._entries[start])
        x_TD = shard.x_TD[:n]
        if self._device.type != "cpu" and x_TD.nbytes <= memory_for_data(self._device):
            x_TD = x_TD.to(self._device)
        return Block.of(
            packed,
            x_TD,
            shard.norm_T[:n],
            self._max_norm_ratio,
            start=start,
            next=following[0] if following else None,
            device=self._device,
        )

    def _map(self, entry: ShardEntry) -> Shard:
        if entry.file not in self._checked:
            self._cache.check_content(entry)
            self._checked.add(entry.file)
        return self._cache.files.read(entry)

    def _n_contexts(self, start: BlockStart, shard: Shard) -> int:
        """How many contexts of a shard are within `max_tokens`."""
        n_text_C = shard.packed.n_text_C
        if self._max_tokens is None:
            return len(n_text_C)
        return int((start.n_tokens + n_text_C.cumsum(0) <= self._max_tokens).sum())


def _is_digest(text: str | None) -> bool:
    """Whether it is a SHA-256, or there is none yet."""
    return text is None or re.fullmatch(r"[0-9a-f]{64}", text) is not None


def _agree(name: str, asked: Any, own: Any) -> bool:
    """Whether two values of an option mean the same."""
    if not without_settled({name: asked}, {name: own}):
        return True
    if name == "memory":
        return parse_bytes(asked) == parse_bytes(own)
    if name in ("model", "dataset"):
        return told(from_anywhere(asked)) == told(from_anywhere(own))
    return shown(asked) == shown(own)
