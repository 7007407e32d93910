"""What cache_activations.py does with --harvest: a cache from activations that were harvested elsewhere.

Shapes: D model width, c positions of one context.
"""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dictionary_learning.activations.block import BEGINNING, Block, BlockStart, bytes_per_token
from dictionary_learning.activations.cache import OPTIONS, ActivationCache
from dictionary_learning.activations.contexts import MIN_TEXT_TOKENS, PackedTokens
from dictionary_learning.activations.options import CacheOptions, from_anywhere
from dictionary_learning.activations.shard import ShardInProgress
from dictionary_learning.activations.shard_files import Part, ShardEntry
from dictionary_learning.command.files import check_writable
from dictionary_learning.command.lock import locked
from dictionary_learning.command.memory import parse_bytes
from dictionary_learning.command.options import build
from dictionary_learning.command.processes import n_processes
from dictionary_learning.command.progress import TokenProgress, say
from dictionary_learning.command.rehearsal import about_to
from dictionary_learning.errors import UserError
from dictionary_learning.harvest.arrays import Harvest, Span
from dictionary_learning.remote.file_system import is_url
from dictionary_learning.runs.provenance import provenance
from dictionary_learning.texts.documents import is_eval

N_COMPARED = 4  # contexts that the language model reads again
_TOLERANCE = 0.1  # median of the relative distances: bfloat16 and other kernels are well below
_FINGERPRINT = ("tokenizer_sha256", "weights_sha256")


def write(asked: Mapping[str, Any]) -> None:
    """Write the cache, whole or not at all.

    Args:
        asked: the options; `parts` and what describes texts mean nothing here.

    Raises:
        UserError: the model or the layer is not said, or several are; the harvest cannot be read; the folder
            is taken; the activations are not the language model's at that place, or they are not finite.
    """
    layer = asked.get("layer")
    layers = layer if isinstance(layer, list | tuple) else [layer]
    if "model" not in asked or layer is None or len(layers) != 1:
        raise UserError(
            "--harvest needs the --model and the one --layer that the activations are of: give both."
        )
    if n_processes() > 1:
        raise UserError("--harvest is read by one process: start the command without torchrun.")
    options = build(CacheOptions, {**asked, "layer": layers[0]}).settled()
    if is_url(options.activations or ""):
        raise UserError("--harvest is written to a folder of this machine: give one with --activations.")
    harvest = Harvest.open(Path(str(options.harvest)))
    folder = Path(options.activations or "")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is there already: give a new folder with --activations.")
    check_writable(folder.parent, "--activations")
    about_to(f"import {harvest.path}")
    part = folder.with_name(f".{folder.name}.import")
    with locked(part, "importing activations into"), _removed_at_the_end(part):
        shutil.rmtree(part / "cache", ignore_errors=True)  # of an import that was killed
        facts, never = _model_facts(harvest, options)
        own = _cache_options(harvest, options)
        cache = ActivationCache(part / "cache", own, facts, provenance())
        cache.path.mkdir(parents=True)
        spans = list(harvest.spans(int(own["context_length"])))
        n_positions = sum(span.stop - span.first for span in spans)
        progress = TokenProgress(n_positions, 0, "activations")
        try:
            for name in ("train", "eval"):
                inside = [
                    span for span in spans if is_eval(span.document, options.eval_share) == (name == "eval")
                ]
                cache.parts[name] = Part(None, _write_part(harvest, cache, name, inside, never, progress))
        finally:
            progress.close()
        cache.parts = {name: one for name, one in cache.parts.items() if one.shards}
        if "train" not in cache.parts:
            raise UserError(
                f"{harvest.path} has no context with {MIN_TEXT_TOKENS} tokens of text: check the mask."
            )
        cache.save_index()
        if folder.is_dir():
            folder.rmdir()  # empty
        cache.path.rename(folder)
    told = ", ".join(
        f"{sum(entry.n_tokens or 0 for entry in one.shards):,} tokens of the part {name!r}"
        for name, one in cache.parts.items()
    )
    say(f"{folder} is complete ({told}).")


@contextmanager
def _removed_at_the_end(folder: Path) -> Iterator[None]:
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _write_part(
    harvest: Harvest,
    cache: ActivationCache,
    part: str,
    spans: Sequence[Span],
    never: frozenset[int],
    progress: TokenProgress,
) -> list[ShardEntry]:
    """The shards of a part, each as large as --memory says."""
    dtype: torch.dtype = getattr(torch, cache.options["store_dtype"])
    capacity = parse_bytes(cache.options["memory"]) // bytes_per_token(harvest.d_model, dtype)
    entries: list[ShardEntry] = []
    start = BEGINNING
    waiting: list[tuple[Span, Tensor, Tensor]] = []
    n_waiting = n_text = 0

    def shard() -> None:
        nonlocal start, waiting, n_waiting, n_text
        entries.append(_write_shard(harvest, cache, part, len(entries), waiting, start))
        progress.add(n_waiting)
        waiting, n_waiting = [], 0

    for span in spans:
        tokens_c, mask_c = harvest.tokens_of(span)
        text_c = mask_c & ~torch.isin(tokens_c, torch.tensor(sorted(never), dtype=torch.int32))
        if int(text_c.sum()) < MIN_TEXT_TOKENS:
            continue
        if waiting and n_waiting + len(tokens_c) > capacity:
            shard()
            start = BlockStart(span.row or span.first, span.number, n_text)
        waiting.append((span, tokens_c, text_c))
        n_waiting += len(tokens_c)
        n_text += int(text_c.sum())
    if waiting:
        shard()
    return entries


def _write_shard(
    harvest: Harvest,
    cache: ActivationCache,
    part: str,
    number: int,
    contexts: Sequence[tuple[Span, Tensor, Tensor]],
    start: BlockStart,
) -> ShardEntry:
    spans = [span for span, _, _ in contexts]
    packed = PackedTokens(
        torch.cat([tokens_c for _, tokens_c, _ in contexts]),
        torch.cat([text_c for _, _, text_c in contexts]),
        torch.tensor([0] + [len(tokens_c) for _, tokens_c, _ in contexts]).cumsum(0),
        torch.tensor([span.document for span in spans]),
        torch.tensor([span.row or span.first for span in spans]),
        torch.tensor([span.number for span in spans]),
    )
    dtype: torch.dtype = getattr(torch, cache.options["store_dtype"])
    file = f"{part}-{number:05d}.safetensors"
    facts = {
        "format": "pt",
        "part": part,
        "model": str(cache.options["model"]),
        "imported": str(harvest.path),
    }
    shard = ShardInProgress(cache.path / file, packed, harvest.d_model, dtype, facts)
    for span, first, stop in zip(
        spans, packed.start_C[:-1].tolist(), packed.start_C[1:].tolist(), strict=True
    ):
        x_cD = harvest.x_of(span).float()
        wrong_c = packed.text_T[first:stop] & ~torch.isfinite(x_cD).all(1)
        for at in wrong_c.nonzero().flatten()[:1].tolist():
            row = "" if harvest.is_flat else f"row {span.row}, "
            raise UserError(
                f"the activations of {harvest.path} are not finite at {row}position {span.first + at}:"
                " harvest them in float32 or bfloat16, or give a mask that is 0 there."
            )
        shard.x_TD[first:stop] = torch.nan_to_num(x_cD).to(dtype)
        # a norm of 0 says that nothing is there yet
        norm_c = torch.linalg.vector_norm(shard.x_TD[first:stop].float(), dim=1)
        shard.norm_T[first:stop] = norm_c.clamp_min(torch.finfo(torch.float32).tiny)
    ratio = cache.options["max_norm_ratio"]
    block = Block.of(packed, shard.x_TD, shard.norm_T, ratio, start=start, next=None)
    n_tokens = block.statistics.n_tokens
    del block
    sha256 = shard.finish()
    status = shard.path.stat()
    return ShardEntry(
        file=file,
        start=start,
        n_positions=len(packed.tokens_T),
        n_contexts=len(packed.document_C),
        texts_sha256=packed.sha256(),
        n_tokens=n_tokens,
        n_bytes=status.st_size,
        sha256=sha256,
        mtime_ns=status.st_mtime_ns,
    )


# --- what the cache says of them ---


def _cache_options(harvest: Harvest, options: CacheOptions) -> dict[str, Any]:
    """The options of a cache, as far as they are known of activations that others made."""
    length = options.context_length if harvest.is_flat else harvest.x.shape[1]
    known = {
        "model": from_anywhere(options.model),
        "layer": options.layer,
        "site": options.site,
        "dataset": str(harvest.path.resolve()),
        "context_length": max(2, length),
        "lm_dtype": options.lm_dtype,
        "eval_share": options.eval_share,
        "memory": options.memory,
        "store_dtype": options.store_dtype,
        "max_norm_ratio": options.max_norm_ratio,
    }
    made = build(CacheOptions, known, {"activations": options.activations})
    return {name: value for name, value in asdict(made).items() if name in OPTIONS}


def _model_facts(harvest: Harvest, options: CacheOptions) -> tuple[dict[str, Any], frozenset[int]]:
    """What the index says of the language model, and the tokens that are no text.

    Raises:
        UserError: with `compare`, the activations are not what the model has at that place.
    """
    facts: dict[str, Any] = {
        "d_model": harvest.d_model,
        "drop_special": True,
        "add_bos": True,
        "revision": None,
        "imported": str(harvest.path.resolve()),
        **dict.fromkeys(_FINGERPRINT),
    }
    if not options.compare:
        from dictionary_learning.language_model.source import read_tokenizer
        from dictionary_learning.language_model.tokens import special_ids

        try:
            return facts, special_ids(read_tokenizer(options.model))
        except UserError as error:
            say(f"only the mask says what is no text: {error}")
            return facts, frozenset()

    from dictionary_learning.language_model import LanguageModel
    from dictionary_learning.language_model.fingerprint import fingerprints

    device = options.lm_device or options.device
    lm = LanguageModel.load(options.model, device=device, dtype=options.lm_dtype, layer=options.layer)
    lm.truncate(options.layer)
    if lm.d_model != harvest.d_model:
        raise UserError(
            f"{harvest.path} has activations of width {harvest.d_model}, and {options.model} has "
            f"{lm.d_model}: give the --model that they are of."
        )
    _compare(harvest, options, lm)
    return {**facts, "revision": lm.revision, **fingerprints(lm, options.layer)}, frozenset(lm.special_ids)


def _compare(harvest: Harvest, options: CacheOptions, lm: Any) -> None:
    """Let the language model read the first contexts again."""
    distances = []
    place = lm.check_place(options.place)
    length = options.context_length
    for span, _ in zip(harvest.spans(length), range(N_COMPARED), strict=False):
        tokens_c, mask_c = harvest.tokens_of(span)
        if int(tokens_c.max()) >= len(lm.tokenizer):
            raise UserError(
                f"{harvest.path} has the token {int(tokens_c.max())}, and {options.model} has "
                f"{len(lm.tokenizer)} tokens: give the --model that they are of."
            )
        own_cD = lm.record(tokens_c[None].long(), mask_c[None], place)[0].float().cpu()
        x_cD = harvest.x_of(span).float()
        distance_c = (own_cD - x_cD).norm(dim=1) / own_cD.norm(dim=1).clamp_min(1e-6)
        distances.append(distance_c[mask_c & torch.isfinite(x_cD).all(1)])  # the others are told of later
    off = float(torch.cat(distances).median()) if sum(map(len, distances)) else 0.0
    if not off <= _TOLERANCE:
        raise UserError(
            f"{options.model} has other activations at {place} than {harvest.path}: they are {off:.0%} apart "
            "at the median token; give the --model, --layer and --site that they are of, or --no_compare."
        )
    say(f"{options.model} has the same activations at {place}: {off:.1%} apart at the median token.")
