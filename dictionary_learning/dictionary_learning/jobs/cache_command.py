"""What cache_activations.py does: a cache of activations written, gone on with, or verified."""

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

from dictionary_learning import distributed
from dictionary_learning.activations import cache_writer
from dictionary_learning.activations.cache import OPTIONS, ActivationCache
from dictionary_learning.activations.cache_plan import plan
from dictionary_learning.activations.options import CacheOptions, from_anywhere, without_settled
from dictionary_learning.activations.shard_files import INDEX, ShardEntry, cache_of_layer, caches_of_layers
from dictionary_learning.command.files import check_writable
from dictionary_learning.command.lock import is_ours_alone, locked, remove_leftovers
from dictionary_learning.command.options import build, shown
from dictionary_learning.command.processes import check_alike, is_first, n_processes
from dictionary_learning.command.progress import say
from dictionary_learning.command.secrets import HIDDEN, scrub_values
from dictionary_learning.errors import UserError
from dictionary_learning.jobs.data import check_devices, check_texts, load_language_model, open_store
from dictionary_learning.language_model.fingerprint import fingerprints
from dictionary_learning.remote import mirror
from dictionary_learning.remote.path import AnyPath, RemotePath, name_of, path_of
from dictionary_learning.runs.provenance import provenance, versions
from dictionary_learning.texts.documents import DEMO_CORPORA
from dictionary_learning.texts.records import is_local

TOGETHER = "caches that are written together have all options but the layer in common"


class Job(NamedTuple):
    """What there is to do, the same for all processes."""

    paths: list[AnyPath]
    """Of the caches."""
    layers: list[int]
    options: CacheOptions
    """Of every cache, but for its layer and its folder."""
    limits: dict[str, int | None]
    """The parts that are written, each with its `max_tokens`."""


def write(folder: str | AnyPath, asked: Mapping[str, Any]) -> None:
    """Write the caches that the options ask for, or go on with those in the folder, here or at a URL.

    A single layer has its cache in the folder itself, several have a folder each in it. Under torchrun the
    processes write them together. The first one has the folders, and says what is written.

    Args:
        asked: the options; under "layer" one number or several.

    Raises:
        UserError: options, texts, model, memory, folder or disk that cannot work.
        SystemExit: interrupted (130 or 143), after saving.
    """
    check_alike({"flags": scrub_values(dict(asked)), "versions": versions()})
    folder = path_of(folder)
    if is_first():
        _write_first(folder, asked)
    else:
        job = _of_first(None)
        if job is not None:
            _record(job, folder)


def _write_first(folder: AnyPath, asked: Mapping[str, Any]) -> None:
    """Write the caches in their folders, which no other command may have meanwhile."""
    every = _caches(folder, asked)
    local_cache = asked.get("local_cache", CacheOptions.local_cache)
    for path in every:
        find_cache(path, local_cache)  # before a new folder is made
        check_writable(mirror.folder_at(path), "--activations")
    with ExitStack() as held:
        for path in every:
            here = mirror.folder_at(path)
            held.enter_context(mirror.held(here, flag="--activations"))
            mirror.fetch(here / INDEX)
            remove_leftovers(here)
        caches = [_begun_or_new(path, one, local_cache) for path, one in every.items()]
        job = _of_first(_job(caches, asked))
        if job is not None:
            _record(job, folder, caches)


def _caches(folder: AnyPath, asked: Mapping[str, Any]) -> dict[AnyPath, dict[str, Any]]:
    """What is asked of each cache, by its folder: the same options, each with its own layer.

    Raises:
        UserError: a layer is there twice, or the folder holds the cache of a single one.
    """
    asked_layer = asked.get("layer", [])
    layers = [asked_layer] if isinstance(asked_layer, int) else list(asked_layer)
    twice = next((layer for layer in layers if layers.count(layer) > 1), None)
    if twice is not None:
        raise UserError(f"--layer {shown(layers)} names layer {twice} twice: leave one out.")
    there = caches_of_layers(folder)
    if len(layers) < 2 and not there:
        return {folder: {**asked, **({"layer": layers[0]} if layers else {})}}
    if (folder / INDEX).is_file():
        raise UserError(f"{folder} holds the cache of a single layer: choose another folder for several.")
    if not layers:
        return {path: {**asked} for path in there}
    # a layer that comes later has the options of those that are there, where it is not asked for others
    usual = ActivationCache.open(there[0]).options if there else {}
    asked = {**usual, **without_settled(asked, usual)}
    return {cache_of_layer(folder, layer): {**asked, "layer": layer} for layer in layers}


def find_cache(folder: AnyPath, local_cache: str = CacheOptions.local_cache) -> ActivationCache | None:
    """The cache in a folder; None where there is nothing.

    Raises:
        UserError: there is something else, or the URL cannot be reached.
    """
    if folder.is_file():
        raise UserError(f"{folder} is a file: choose a folder with --activations.")
    if (folder / INDEX).is_file():
        return ActivationCache.open(folder, local_cache)
    if _holds_others_files(folder):
        raise UserError(
            f"{folder} is not empty and holds no activation cache: choose another folder with --activations."
        )
    return None


def _holds_others_files(folder: AnyPath) -> bool:
    if isinstance(folder, RemotePath):
        return any(not name.startswith(".") for name in folder.files())
    return folder.is_dir() and not is_ours_alone(folder)


def _begun_or_new(path: AnyPath, asked: Mapping[str, Any], local_cache: str) -> ActivationCache:
    """The cache in a folder as far as it is, what is damaged of it marked to be written again; or a new one.

    Raises:
        UserError: options are asked for that cannot work, or that the cache was not begun with.
    """
    cache = find_cache(path, local_cache)  # as it is now that nobody else writes
    if cache is None:
        options = build(CacheOptions, asked).settled()
        options = replace(options, model=from_anywhere(options.model), dataset=from_anywhere(options.dataset))
        own = {name: value for name, value in asdict(options).items() if name in OPTIONS}
        return ActivationCache(path, own, {}, provenance(), local_cache=local_cache)
    remedy = "give the options that it was begun with (or --activations alone), or another folder"
    cache.check(asked, remedy, free=())
    for name, part in cache.parts.items():
        flag = "eval_tokens" if name == "eval" else "max_tokens"
        if flag in asked and asked[flag] != part.max_tokens:
            raise UserError(
                f"the part {name!r} of {cache.address} was begun with --{flag} {part.max_tokens}, not"
                f" {asked[flag]}: leave it out, or write another cache."
            )
    for entry in (entry for part in cache.parts.values() for entry in part.shards):
        if entry.sha256 is not None and not cache.is_intact(entry):
            say(f"{cache.address / entry.file} is not as it was written: it is written again.")
            entry.sha256 = None
    return cache


def _job(caches: Sequence[ActivationCache], asked: Mapping[str, Any]) -> Job | None:
    """What is missing of caches of several layers, and the parts that are asked for beside; None: nothing.

    Raises:
        UserError: options or texts that cannot work.
    """
    for cache in caches[1:]:
        cache.check({**caches[0].options, "layer": cache.options["layer"]}, TOGETHER, free=())
    begun = {name: part for cache in caches for name, part in cache.parts.items()}
    parts = tuple(dict.fromkeys([*begun, *asked.get("parts", () if begun else CacheOptions.parts)]))
    if all(cache.is_written(parts) for cache in caches):
        for cache in caches:
            say(f"{cache.address} is complete ({_content(cache)}): there is nothing to do.")
        return None
    # what has a secret is recorded without it
    secret = {name: asked[name] for name in asked if HIDDEN in str(caches[0].options.get(name))}
    options = build(CacheOptions, asked, caches[0].options, {"parts": parts}, secret)
    limits = {part: options.eval_tokens if part == "eval" else options.max_tokens for part in parts}
    limits |= {name: part.max_tokens for name, part in begun.items()}
    check_devices(options)
    for part, limit in limits.items():
        if limit is None and _is_of_hub(options.dataset):
            raise UserError(
                f"{options.dataset} is streamed from the hub and may be endless: say with --max_tokens how"
                " much of it to keep, such as 10000000."
            )
        check_texts(options, part)
    return Job(
        [cache.address for cache in caches], [cache.options["layer"] for cache in caches], options, limits
    )


def _of_first(job: Job | None) -> Job | None:
    """The first process's job, in every process."""
    if n_processes() == 1:
        return job
    told = distributed.value_of_first(
        job and [list(map(name_of, job.paths)), job.layers, asdict(job.options), job.limits]
    )
    if told is None or job is not None:
        return job
    paths, layers, options, limits = told
    return Job(list(map(path_of, paths)), layers, build(CacheOptions, options), limits)


def _record(job: Job, folder: AnyPath, caches: Sequence[ActivationCache] = ()) -> None:
    """Write what the job says; every process does its share.

    Args:
        caches: as far as they are, from the first process.

    Raises:
        UserError: model, memory or disk that cannot work, or processes with different models or folders.
        SystemExit: interrupted (130 or 143), after saving.
    """
    lm = load_language_model(job.options, max(job.layers))
    for layer in job.layers:
        lm.check_place(replace(job.options, layer=layer).place)
    found = [fingerprints(lm, layer) for layer in job.layers]
    check_alike({name: [one[name][:12] for one in found] for name in found[0]})
    stores = {
        part: open_store(lm, replace(job.options, max_tokens=limit), part)
        for part, limit in job.limits.items()
    }
    made = next(iter(stores.values())).config
    for cache, fingerprint in zip(caches, found, strict=False):
        if cache.facts:
            cache.check_model(fingerprint)
        cache.facts = {
            "d_model": lm.d_model,
            "drop_special": made["drop_special"],
            "add_bos": made["add_bos"],
            "bos": made["bos"],
            "revision": lm.revision,
            **fingerprint,
        }
    plan(caches, stores, folder)
    _check_shared(job.paths)
    caches = caches or [ActivationCache.open(path, job.options.local_cache) for path in job.paths]
    cache_writer.write(caches, stores, folder)
    for cache in caches:
        say(f"{cache.address} is complete ({_content(cache)}).")


def _check_shared(paths: Sequence[AnyPath]) -> None:
    """Raise a UserError unless all processes see the same folders."""
    if n_processes() == 1:
        return
    of_all = distributed.values_of_all([_sha256_if_there(path / INDEX) for path in paths])
    for rank, found in enumerate(of_all):
        for path, own, first in zip(paths, found, of_all[0], strict=True):
            if own != first:
                raise UserError(
                    f"{path} is not the same folder for process {rank} as for process 0: give one that all"
                    " machines share with --activations."
                )


def _sha256_if_there(path: AnyPath) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def verify(folder: str | AnyPath) -> None:
    """Compare every shard of the cache, or the caches, in a folder with its checksum.

    The times of the files are noted, so that they need not be compared again. Under torchrun each process
    takes some of the shards.

    Raises:
        UserError: there is no cache, a shard is missing, cut short or changed, or it is not complete.
    """
    folder = path_of(folder)
    for path in caches_of_layers(folder) or [folder]:
        _verify(ActivationCache.open(path))


def _verify(cache: ActivationCache) -> None:
    entries = [entry for part in cache.parts.values() for entry in part.shards if entry.sha256 is not None]
    fault = ""
    try:
        for entry in entries[distributed.rank() :: distributed.size()]:
            cache.check_content(entry, always=True)
    except UserError as error:
        fault = str(error)
    faults = [fault for fault in distributed.texts(fault) if fault]
    if faults:
        raise UserError(faults[0])
    for name in cache.parts:
        cache.check_complete(name)
    if not is_first():
        return
    if cache.address == cache.path:
        _note_times(cache, entries)
    say(f"every shard of {cache.address} is as it was written ({_content(cache)}).")


def _note_times(cache: ActivationCache, entries: list[ShardEntry]) -> None:
    """Record the times of shards that are as they were written."""
    times = [(cache.path / entry.file).stat().st_mtime_ns for entry in entries]
    if times != [entry.mtime_ns for entry in entries]:
        with locked(cache.path):
            for entry, time in zip(entries, times, strict=True):
                entry.mtime_ns = time
            cache.save_index()


def _is_of_hub(dataset: str) -> bool:
    return not (dataset in DEMO_CORPORA or is_local(dataset) or Path(dataset).exists())


def _content(cache: ActivationCache) -> str:
    """How much is there, for a person."""
    return ", ".join(
        f"{sum(entry.n_tokens or 0 for entry in part.shards):,} tokens of the part {name!r}"
        for name, part in cache.parts.items()
    )
