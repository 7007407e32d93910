"""The activations that a run is trained on: from a cache, or from a language model that reads texts."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from itertools import islice
from typing import TYPE_CHECKING, Any

from dictionary_learning.activations.options import DataOptions
from dictionary_learning.command.devices import SPREAD, find_device
from dictionary_learning.command.progress import say
from dictionary_learning.errors import UserError
from dictionary_learning.jobs.options import TrainingDataOptions, TrainOptions

if TYPE_CHECKING:
    from dictionary_learning.activations.batches import Batches
    from dictionary_learning.activations.live_store import ActivationStore
    from dictionary_learning.activations.store import Store
    from dictionary_learning.language_model import LanguageModel
    from dictionary_learning.texts.chat import ChatTemplate
    from dictionary_learning.texts.documents import DocumentStream


def open_activations(options: TrainingDataOptions, part: str = "train") -> "Store":
    """The store of the activations that `options` ask for, from a cache or else from the language model.

    Raises:
        UserError: the cache, the texts or the model cannot be read.
    """
    if options.activations is not None:
        from dictionary_learning.activations.cache import ActivationCache

        return ActivationCache.open(options.activations, options.local_cache).store(
            part,
            max_tokens=options.max_tokens,
            max_norm_ratio=options.max_norm_ratio,
            device=find_device(options.device),
            log=say,
        )
    check_texts(options, part)
    return open_store(load_language_model(options, options.layer), options, part, is_shared=False)


def load_language_model(options: DataOptions, layer: int) -> "LanguageModel":
    """The language model of `options`, on its device, up to a layer.

    Raises:
        UserError: there is no such model, layer or device.
    """
    from dictionary_learning.language_model import LanguageModel

    device = options.lm_device or options.device
    lm = LanguageModel.load(options.model, device=device, dtype=options.lm_dtype, layer=layer)
    lm.truncate(layer)
    return lm


def open_store(
    lm: "LanguageModel", options: DataOptions, part: str = "train", is_shared: bool = True
) -> "ActivationStore":
    """The store of the activations that `options` ask for, from the language model; nothing is read yet.

    Args:
        part: of the documents, "train", "eval" or "all".
        is_shared: False deals the documents out to the processes, by their number in the corpus.
    """
    from dictionary_learning import distributed
    from dictionary_learning.activations.live_store import ActivationStore

    every = (0, 1)
    if distributed.size() > 1 and not is_shared:
        every = (distributed.rank(), distributed.size())
        if options.max_tokens is not None:
            options = replace(options, max_tokens=options.max_tokens // distributed.size())
    return ActivationStore(
        lm,
        options.place,
        lambda start: _open_texts(options, start, part, every),
        is_shared=every == (0, 1),
        context_length=options.context_length,
        lm_batch_size=options.lm_batch_size,
        memory_bytes=options.memory_bytes,
        dtype=options.torch_store_dtype,
        max_norm_ratio=options.max_norm_ratio,
        max_tokens=options.max_tokens,
        document_tokens=options.document_tokens,
        device=find_device(options.device),
        log=say,
    )


def check_devices(options: DataOptions) -> None:
    """Raise a UserError unless the devices that are asked for exist."""
    find_device(options.device)
    if options.lm_device != SPREAD:
        find_device(options.lm_device, "--lm_device")


@contextmanager
def overlapped(store: "Store", options: TrainOptions) -> Iterator["Store"]:
    """The store, which reads the next block while the present one is in use, where `options` ask for that."""
    from dictionary_learning.activations.read_ahead import ReadAhead

    if not _overlaps(options):
        yield store
        return
    with ReadAhead(store) as ahead:
        yield ahead


def _overlaps(options: TrainOptions) -> bool:
    if options.overlap is not None or options.activations is not None:
        return bool(options.overlap)
    own = find_device(options.device)
    of_lm = own if options.lm_device in (None, SPREAD) else find_device(options.lm_device)
    return own.type == "cuda" or of_lm != own


def batches(store: "Store", options: TrainOptions) -> "Batches":
    """The batches of a store that the architecture trains on: pairs, whole texts, single tokens or means."""
    size, seed = options.batch_size, options.seeds[0]
    if options.pool != "token":
        return store.means(size, options.pool, _tokenizer_for(options), seed=seed)
    unit = batch_unit(options)
    if unit == "pairs":
        return store.pairs(
            size,
            mode=options.pair_mode,
            max_offset=options.max_offset,
            run_length=options.run_length,
            tokenizer=_tokenizer_for(options),
            pairs_per_text=options.pairs_per_text,
            with_texts=options.negatives == "other_texts",
            seed=seed,
        )
    if unit == "contexts":
        return store.sequences(size, seed=seed)
    return store.tokens(size, seed=seed)


def batch_unit(options: TrainOptions) -> str:
    """What `--batch_size` counts."""
    if options.pool != "token":
        return f"{options.pool}s"
    if options.arch == "attention":
        return "contexts"
    return "pairs" if options.arch == "temporal" and options.temporal else "tokens"


def _tokenizer_for(options: TrainOptions) -> Any:
    """The tokenizer that says where sentences end, or the texts of a record, if that is asked for.

    Raises:
        UserError: it cannot be read, and there are no sentences without it.
    """
    from dictionary_learning.language_model.source import read_tokenizer

    if "sentence" in (options.pool, options.pair_mode):
        return read_tokenizer(options.model)
    if options.pair_mode != "random" or options.chat_template:
        return None
    try:
        return read_tokenizer(options.model)
    except UserError as error:
        say(f"a record counts as one text, whatever end-of-text tokens are in it: {error}")
        return None


def buffer_config(options: TrainingDataOptions, store: Mapping[str, Any]) -> dict[str, Any]:
    """What config.json records under "buffer": upstream's keys, and how to make these activations again."""
    names = (
        "model lm_dtype layer site dataset subset split text_field chat_template roles eval_share "
        "context_length max_tokens document_tokens max_norm_ratio lm_batch_size memory store_dtype "
        "activations normalize"
    )
    return {**store, **{name: getattr(options, name) for name in names.split()}}


def check_texts(options: DataOptions, part: str = "train") -> None:
    """Read one document, so that a wrong name or field is told before the model is loaded."""
    if next(_open_texts(options, 0, part), None) is None:
        raise UserError(
            f"{options.dataset} has no document to train on: lower --eval_share or give more text."
        )


def check_pairs_per_text(options: TrainOptions) -> None:
    """Refuse fewer texts than a batch of at most `--pairs_per_text` pairs of each takes.

    No more than so many texts are read. Of a cache the number of contexts is known, and a text has one at
    least.

    Raises:
        UserError: says how many it takes and how many there are.
    """
    if options.pairs_per_text is None or options.resume:
        return
    needed = -(-options.batch_size // (options.pairs_per_text // options.run_length * options.run_length))
    if options.activations is not None:
        from dictionary_learning.activations.cache import ActivationCache

        shards = ActivationCache.open(options.activations, options.local_cache).parts["train"].shards
        n_texts, where = max(shard.n_contexts for shard in shards), f"a shard of {options.activations}"
    else:
        n_texts, where = sum(1 for _ in islice(_open_texts(options, 0), needed)), options.dataset
    if n_texts < needed:
        raise UserError(
            f"--pairs_per_text {options.pairs_per_text} fills no batch of {options.batch_size:,} pairs: that "
            f"takes {needed:,} texts, and {where} has {n_texts:,} at most to train on; raise it, or choose a "
            "smaller --batch_size."
        )


def _open_texts(
    options: DataOptions, start: int, part: str = "train", every: tuple[int, int] = (0, 1)
) -> "DocumentStream":
    from dictionary_learning.texts.documents import DocumentStream

    return DocumentStream.open(
        options.dataset,
        text_field=options.text_field,
        split=options.split,
        subset=options.subset,
        part=part,
        eval_share=options.eval_share,
        start=start,
        every=every,
        chat=chat_of(options.model, options.chat_template, options.roles),
    )


def chat_of(model: str, chat_template: bool, roles: Sequence[str] | None) -> "ChatTemplate | None":
    """The chat template through which conversations are read; None where texts are no conversations.

    Raises:
        UserError: the model has none, or its tokenizer cannot be read.
    """
    if not chat_template:
        return None
    return _chat_template(model, None if roles is None else tuple(roles))


@cache  # texts are opened anew for every block, and a tokenizer takes a second to read
def _chat_template(model: str, roles: tuple[str, ...] | None) -> "ChatTemplate":
    from dictionary_learning.language_model.source import read_tokenizer
    from dictionary_learning.texts.chat import ChatTemplate

    return ChatTemplate(read_tokenizer(model), roles)
