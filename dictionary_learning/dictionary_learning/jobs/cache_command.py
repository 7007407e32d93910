"""What cache_activations.py does: a cache of activations written, gone on with, or verified."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from dictionary_learning.activations import cache_writer
from dictionary_learning.activations.cache import INDEX, OPTIONS, ActivationCache
from dictionary_learning.activations.options import CacheOptions, from_anywhere
from dictionary_learning.command.devices import find_device
from dictionary_learning.command.files import check_writable
from dictionary_learning.command.lock import is_ours_alone, locked
from dictionary_learning.command.options import build
from dictionary_learning.command.progress import say
from dictionary_learning.errors import UserError
from dictionary_learning.jobs.data import check_texts, open_store
from dictionary_learning.language_model import LanguageModel
from dictionary_learning.language_model.fingerprint import fingerprints
from dictionary_learning.runs.provenance import provenance
from dictionary_learning.texts.documents import DEMO_CORPORA
from dictionary_learning.texts.records import is_local


def write(folder: Path, asked: Mapping[str, Any]) -> None:
    """Write the cache that the options ask for, or go on with the one in the folder.

    Raises:
        UserError: options, texts, model, memory, folder or disk that cannot work.
        SystemExit: interrupted (130 or 143), after saving.
    """
    find_cache(folder)  # before a new folder is made
    check_writable(folder, "--activations")
    with locked(folder):
        cache = find_cache(folder)  # as it is now that nobody else writes
        if cache is None:
            write_new(build(CacheOptions, asked))
        else:
            go_on_with(cache, asked)


def find_cache(folder: Path) -> ActivationCache | None:
    """The cache in a folder; None where there is nothing.

    Raises:
        UserError: there is something else.
    """
    if folder.is_file():
        raise UserError(f"{folder} is a file: choose a folder with --activations.")
    if (folder / INDEX).is_file():
        return ActivationCache.open(folder)
    if folder.is_dir() and not is_ours_alone(folder):
        raise UserError(
            f"{folder} is not empty and holds no activation cache: choose another folder with --activations."
        )
    return None


def write_new(options: CacheOptions) -> None:
    """Write a cache.

    Raises:
        UserError: options, texts, model, memory or disk that cannot work.
        SystemExit: interrupted (130 or 143), after saving.
    """
    options = replace(options, model=from_anywhere(options.model), dataset=from_anywhere(options.dataset))
    own = {name: value for name, value in asdict(options).items() if name in OPTIONS}
    cache = ActivationCache(Path(options.activations or ""), own, {}, provenance())
    _write(cache, options)


def go_on_with(cache: ActivationCache, asked: Mapping[str, Any]) -> None:
    """Write what is missing or damaged of a cache, and the parts that are asked for in addition.

    Raises:
        UserError: as `write_new`; options are asked for that the cache was not begun with.
    """
    remedy = "give the options that it was begun with (or --activations alone), or another folder"
    cache.check(asked, remedy, free=())
    for name, part in cache.parts.items():
        flag = "eval_tokens" if name == "eval" else "max_tokens"
        if flag in asked and asked[flag] != part.max_tokens:
            raise UserError(
                f"the part {name!r} of {cache.path} was begun with --{flag} {part.max_tokens}, not"
                f" {asked[flag]}: leave it out, or write another cache."
            )
    options = build(CacheOptions, asked, cache.options)
    new = [part for part in asked.get("parts", ()) if part not in cache.parts]
    for part in cache.parts.values():
        for entry in part.shards:
            if entry.sha256 is not None and not cache.is_intact(entry):
                say(f"{cache.path / entry.file} is not as it was written: it is written again.")
                entry.sha256 = None
    if not new and all(part.n_written == len(part.shards) for part in cache.parts.values()):
        say(f"{cache.path} is complete ({_content(cache)}): there is nothing to do.")
        return
    _write(cache, replace(options, parts=(*cache.parts, *new)))


def verify(folder: Path) -> None:
    """Compare every shard with its checksum; note its time, so that it need not be compared again.

    Raises:
        UserError: there is no cache, a shard is missing, cut short or changed, or it is not complete.
    """
    cache = ActivationCache.open(folder)
    entries = [entry for part in cache.parts.values() for entry in part.shards if entry.sha256 is not None]
    for entry in entries:
        cache.check_content(entry, always=True)
    for name in cache.parts:
        cache.check_complete(name)
    times = [(cache.path / entry.file).stat().st_mtime_ns for entry in entries]
    if times != [entry.mtime_ns for entry in entries]:
        with locked(cache.path):
            for entry, time in zip(entries, times, strict=True):
                entry.mtime_ns = time
            cache.save_index()
    say(f"every shard of {cache.path} is as it was written ({_content(cache)}).")


def _write(cache: ActivationCache, options: CacheOptions) -> None:
    """Write `options.parts`, in which those that the cache has begun keep their `max_tokens`."""
    limits = {part: options.eval_tokens if part == "eval" else options.max_tokens for part in options.parts}
    limits |= {name: part.max_tokens for name, part in cache.parts.items()}
    find_device(options.device)
    for part, limit in limits.items():
        if limit is None and _is_of_hub(options.dataset):
            raise UserError(
                f"{options.dataset} is streamed from the hub and may be endless: say with --max_tokens how"
                " much of it to keep, such as 10000000."
            )
        check_texts(options, part)
    lm = LanguageModel.load(options.model, device=options.device, dtype=options.lm_dtype, layer=options.layer)
    lm.truncate(options.layer)
    found = fingerprints(lm, options.layer)
    if cache.facts:
        cache.check_model(found)
    stores = {
        part: open_store(lm, replace(options, max_tokens=limit), part) for part, limit in limits.items()
    }
    made = next(iter(stores.values())).config
    cache.facts = {
        "d_model": lm.d_model,
        "drop_special": made["drop_special"],
        "add_bos": made["add_bos"],
        "bos": made["bos"],
        "revision": lm.revision,
        **found,
    }
    cache_writer.write(cache, stores)
    say(f"{cache.path} is complete ({_content(cache)}).")


def _is_of_hub(dataset: str) -> bool:
    return not (dataset in DEMO_CORPORA or is_local(dataset) or Path(dataset).exists())


def _content(cache: ActivationCache) -> str:
    """How much is there, for a person."""
    return ", ".join(
        f"{sum(entry.n_tokens or 0 for entry in part.shards):,} tokens of the part {name!r}"
        for name, part in cache.parts.items()
    )
