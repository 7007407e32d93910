"""Dictionaries of one setting evaluated together, on activations that are made once."""

import dataclasses
import time
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any

from dictionary_learning import distributed
from dictionary_learning.activations.batches import MeanView
from dictionary_learning.activations.block import Contexts
from dictionary_learning.activations.cache import ActivationCache
from dictionary_learning.activations.live_store import ActivationStore
from dictionary_learning.activations.store import Numbered, Store
from dictionary_learning.command.memory import parse_bytes
from dictionary_learning.command.processes import check_alike, n_processes
from dictionary_learning.command.progress import TokenProgress, say, time_left
from dictionary_learning.dictionaries.base import Dictionary, check_width
from dictionary_learning.errors import UserError
from dictionary_learning.evaluation.measures import evaluate_together
from dictionary_learning.evaluation.options import EvalOptions
from dictionary_learning.evaluation.setting import Setting
from dictionary_learning.jobs.data import chat_of
from dictionary_learning.language_model import LanguageModel
from dictionary_learning.language_model.fingerprint import fingerprints
from dictionary_learning.language_model.sizes import check_width as check_width_of_model
from dictionary_learning.language_model.source import read_tokenizer
from dictionary_learning.texts.documents import DocumentStream, is_eval


class Study:
    """The language model and the contexts of the setting that was evaluated in last."""

    def __init__(self, options: EvalOptions) -> None:
        """Raises UserError where `--activations` is no cache."""
        self.options = options
        self.cache: ActivationCache | None = None
        if options.activations is not None:
            self.cache = ActivationCache.open(options.activations, options.local_cache)
        self.lm: LanguageModel | None = None
        self.store: Store | None = None
        self.setting: Setting | None = None
        self._progress: TokenProgress | None = None
        self._loss_began: tuple[float, int] | None = None

    def check(self, dictionary: Dictionary, setting: Setting, buffer: dict[str, Any]) -> None:
        """What can be seen before anything is read.

        Args:
            buffer: what the run recorded of its activations; with fingerprints if they were cached, too.

        Raises:
            UserError: the cache, if there is one, does not hold what the setting asks for; or the activations
                are of another width than the dictionary's.
        """
        if self.cache is None:
            check_width_of_model(dictionary, setting.model)
            return
        known = {name: buffer[name] for name in ("tokenizer_sha256", "weights_sha256") if name in buffer}
        remedy = "leave out --activations, or give a cache that fits the run"
        self.cache.check(dataclasses.asdict(setting) | known, remedy)
        self.cache.check_complete(setting.part)
        self._check_width(dictionary, setting, self.cache.facts["d_model"])

    def evaluate(self, dictionaries: Mapping[str, Dictionary], setting: Setting) -> dict[str, dict[str, Any]]:
        """What `evaluate_together` says of the dictionaries, and what they were measured on.

        `seconds` are those of all of them together.

        Raises:
            UserError: no such texts, model or layer, or of another width than a dictionary.
        """
        began = time.monotonic()
        store = self._prepare(setting)
        for dictionary in dictionaries.values():
            self._check_width(dictionary, setting, store.d_model)
        results = evaluate_together(
            dictionaries,
            self._batches(store, setting),
            lm=self.lm if self._measures_loss(setting) else None,
            layer=setting.place if self._measures_loss(setting) else None,
            loss_tokens=self.options.loss_tokens,
            watch_loss=self._show_loss,
        )
        beside = {
            "texts": store.statistics.record(None if self.lm is None else self.lm.tokenizer),
            "seconds": round(time.monotonic() - began, 1),
            "processes": distributed.size(),
        }
        return {name: result | beside for name, result in results.items()}

    def contexts(self, dictionary: Dictionary, setting: Setting) -> Iterator[Contexts]:
        """The contexts on which the dictionary is evaluated; of several processes each has some of them.

        Raises:
            UserError: as `evaluate`.
        """
        store = self._prepare(setting)
        self._check_width(dictionary, setting, store.d_model)
        for batch in self._batches(store, setting):
            yield batch.contexts

    @staticmethod
    def _check_width(dictionary: Dictionary, setting: Setting, d_model: int) -> None:
        check_width(dictionary, SimpleNamespace(name=setting.model, d_model=d_model))

    def _prepare(self, setting: Setting) -> Store:
        """The store of the setting, with the language model in memory where it is needed."""
        if self.store is not None and setting == self.setting:
            return self.store
        self.store = None  # free the old one first
        if self.cache is None:
            _check_documents(setting)  # before the model is loaded
            self.store = self._live_store(self._load(setting), setting)
        else:
            # the store first: a damaged shard is told before the model is loaded
            self.store = self.cache.store(
                setting.part,
                max_tokens=self._max_tokens(setting),
                max_norm_ratio=setting.max_norm_ratio,
                log=say,
            )
            if self._measures_loss(setting):
                self.cache.check_model(fingerprints(self._load(setting), setting.layer))
        self.setting = setting
        check_alike({"activations": self.store.identity})
        if self.lm is not None and n_processes() > 1:
            check_alike(fingerprints(self.lm, setting.layer))
        return self.store

    def _load(self, setting: Setting) -> LanguageModel:
        """The language model of the setting."""
        of_lm = (setting.model, setting.lm_dtype)
        if self.lm is None or self.setting is None or of_lm != (self.setting.model, self.setting.lm_dtype):
            self.lm = None  # free the old one first
            self.lm = LanguageModel.load(
                setting.model,
                device=self.options.lm_device or self.options.device,
                dtype=setting.lm_dtype,
                layer=setting.layer,
            )
        return self.lm

    def _live_store(self, lm: LanguageModel, setting: Setting) -> ActivationStore:
        return ActivationStore(
            lm,
            setting.place,
            lambda start: _documents(setting, start),
            context_length=setting.context_length,
            lm_batch_size=self.options.batch_size,
            memory_bytes=parse_bytes(self.options.memory),
            max_norm_ratio=setting.max_norm_ratio,
            max_tokens=self._max_tokens(setting),
            document_tokens=setting.document_tokens,
            drop_special=setting.drop_special,
            add_bos=setting.add_bos,
            log=say,
        )

    def _max_tokens(self, setting: Setting) -> int:
        if self.options.n_contexts is None:
            return self.options.max_tokens
        return min(self.options.max_tokens, self.options.n_contexts * setting.context_length)

    def _measures_loss(self, setting: Setting) -> bool:
        """Whether the language model's cross-entropy is wanted; nothing goes on from the mean of a span."""
        return self.options.measures_loss and setting.pool == "token"

    def _means(self, setting: Setting) -> MeanView | None:
        """What finds the spans; None where single tokens are measured."""
        if setting.pool == "token":
            return None
        tokenizer = None
        if setting.pool == "sentence":
            tokenizer = read_tokenizer(setting.model) if self.lm is None else self.lm.tokenizer
        return MeanView(setting.pool, tokenizer)

    def _batches(self, store: Store, setting: Setting) -> Iterator[Numbered]:
        """The contexts, as many as were asked for, under a bar of tokens; of several processes each has some.

        The bar counts the tokens of the corpus that lie behind: the others are about as far.
        """
        batches = store.numbered_contexts(
            self.options.batch_size,
            (distributed.rank(), distributed.size()),
            unmasked=self._measures_loss(setting),
            at_most=self.options.n_contexts,
            means=self._means(setting),
        )
        try:
            for batch in batches:
                if self._progress is None:
                    self._progress = TokenProgress(store.statistics.n_tokens, 0, "evaluating")
                yield batch
                self._progress.note("")
                self._progress.add(batch.n_before + int(batch.contexts.mask_NL.sum()) - self._progress.done)
        finally:
            if self._progress is not None:
                self._progress.close()
            self._progress = self._loss_began = None

    def _show_loss(self, done: int) -> None:
        """How far the cross-entropy is, which takes most of the time where the vocabulary is large."""
        assert self._progress is not None
        now, total = time.monotonic(), self.options.loss_tokens
        done *= distributed.size()  # the others are about as far
        if self._loss_began is None:
            self._loss_began = now, done  # the time of the first tokens is not known
        began, first = self._loss_began
        said = f"cross-entropy {min(done, total):,} of {total:,}"
        if done > first and done < total:
            said += f", {time_left((total - done) * (now - began) / (done - first))}"
        self._progress.note(said)


def _check_documents(setting: Setting) -> None:
    documents = _documents(dataclasses.replace(setting, part="all"), 0)
    if not any(setting.part == "all" or is_eval(document.id, setting.eval_share) for document in documents):
        raise UserError(
            f"{setting.dataset} has no document left to evaluate on (the share kept out of training is "
            f"{setting.eval_share:g}): give more text with --dataset, or --part all for texts that the run "
            "was not trained on."
        )


def _documents(setting: Setting, start: int) -> DocumentStream:
    return DocumentStream.open(
        setting.dataset,
        text_field=setting.text_field,
        split=setting.split,
        subset=setting.subset,
        part=setting.part,
        eval_share=setting.eval_share,
        start=start,
        chat=chat_of(setting.model, setting.chat_template, setting.roles),
    )
