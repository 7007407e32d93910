"""Where contexts come from: a data set through the language model, or activations on disk."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

from dictionary_learning.command.progress import TokenProgress, say
from dictionary_learning.dictionaries.base import Dictionary
from dictionary_learning.exchange.names import public_name
from dictionary_learning.language_model import LanguageModel
from dictionary_learning.remote.file_system import told
from temporal_saes.browser.options import BrowserOptions
from temporal_saes.experiment.subjects import Subject
from temporal_saes.experiment.texts import labelled_texts
from temporal_saes.labelled.data import LabelledText
from temporal_saes.latents.codes import CodesOfContexts, codes_of_store, codes_of_texts
from temporal_saes.latents.smoothness import LatentSmoothness
from temporal_saes.naming.names import Labels

SHORT_TEXT = 16  # tokens; texts are not shorter on average


class Source:
    """The contexts that are read."""

    def __init__(self, options: BrowserOptions, subject: Subject) -> None:
        """Raises UserError where they are not there."""
        self.options, self.subject = options, subject
        self.cache: Any = None
        self.documents: list[LabelledText] = []
        self.context_length = subject.context_length
        if options.activations is None:
            most = max(1, options.max_tokens // SHORT_TEXT)
            n_texts = most if options.max_texts is None else min(most, options.max_texts)
            self.documents = labelled_texts(options, n_texts, needs_label=False)
            self.name = public_name(told(options.dataset))
            return
        from dictionary_learning.activations.cache import ActivationCache

        self.cache = ActivationCache.open(options.activations, options.local_cache)
        own = {"model": subject.model, "layer": subject.layer, "site": subject.site}
        self.cache.check({**own, "lm_dtype": subject.lm_dtype})
        self.cache.check_complete(options.part)
        self.context_length = int(self.cache.options["context_length"])
        self.name = f"{public_name(self.cache.options['dataset'])}, the part {options.part}"

    @property
    def labels(self) -> Labels | None:
        """Titles and classes of the documents by their numbers; None for a cache, which keeps none."""
        if self.cache is not None:
            return None
        return Labels([one.title for one in self.documents], [one.label for one in self.documents])

    def codes(
        self, lm: LanguageModel, dictionary: Dictionary, columns: slice, smoothness: LatentSmoothness
    ) -> Iterator[CodesOfContexts]:
        """Codes of the contexts, as many as were asked for.

        Raises:
            UserError: as `read_activations` and `ActivationCache.store`.
        """
        if self.cache is None:
            reading = self.subject.reading(self.options)
            texts = self._enough(lm)
            yield from codes_of_texts(
                texts, lm, self.subject.place, reading, dictionary, columns, watch=smoothness
            )
            return
        from dictionary_learning.language_model.fingerprint import fingerprints

        self.cache.check_model(fingerprints(lm, self.subject.layer))
        ratio = self.subject.max_norm_ratio
        store = self.cache.store(
            self.options.part, max_tokens=self.options.max_tokens, max_norm_ratio=ratio, log=say
        )
        total = min(
            self.options.max_tokens,
            sum(shard.n_tokens for shard in self.cache.parts[self.options.part].shards),
        )
        with ExitStack() as stack:
            progress = TokenProgress(total, 0, "codes")
            stack.callback(progress.close)
            for chunk in codes_of_store(store, dictionary, columns, watch=smoothness):
                progress.add(int(chunk.usable_T.sum()))
                yield chunk

    def _enough(self, lm: LanguageModel) -> list[str]:
        """The first texts that together have as many tokens as may be read."""
        n_tokens = 0
        enough: list[str] = []
        for first in range(0, len(self.documents), 256):
            some = [one.text for one in self.documents[first : first + 256]]
            _, mask_BL, _ = lm.tokenize(some, self.context_length)
            for text, length in zip(some, mask_BL.sum(1).tolist(), strict=True):
                n_tokens += length
                if n_tokens > self.options.max_tokens and enough:
                    return enough
                enough.append(text)
        return enough
