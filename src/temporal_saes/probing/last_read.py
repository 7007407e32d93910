"""The texts as one dictionary after another reads them: the chunks of one share a reading.

last_read = LastRead(options, texts)
features, positions = last_read.features(subject, lm)
"""

import dataclasses
from collections.abc import Sequence

from dictionary_learning.dictionaries.base import chunk_slice
from dictionary_learning.language_model import LanguageModel
from temporal_saes.experiment.subjects import Subject
from temporal_saes.features import Features, extract_features
from temporal_saes.labelled.data import LabelledText
from temporal_saes.probing.examples import Positions
from temporal_saes.probing.options import ProbingOptions
from temporal_saes.sparsity import count_again, reading_l0


class LastRead:
    """The features of the subject that was read last, of all its latents."""

    def __init__(self, options: ProbingOptions, texts: Sequence[LabelledText]) -> None:
        self._options, self._texts = options, texts
        self._of: Subject | None = None

    def features(self, subject: Subject, lm: LanguageModel) -> tuple[Features, Positions]:
        """The features of the subject's chunk at the tokens of all tasks, and which tokens these are.

        Raises:
            UserError: as `extract_features`.
        """
        whole = dataclasses.replace(subject, chunk=2, split="all")
        if whole != self._of:
            self._of = None
            self._read(subject, lm)
            self._of = whole
        count_again(self._l0)
        features = self._features
        if self._dictionary is not None:
            columns = chunk_slice(self._dictionary, subject.chunk)
            features = dataclasses.replace(features, x=features.x[:, columns])
        return features, self._positions

    def _read(self, subject: Subject, lm: LanguageModel) -> None:
        texts, options = self._texts, self._options
        self._dictionary = subject.load_dictionary(lm.device)
        with reading_l0() as self._l0:
            positions = Positions(texts, options)
            self._features = extract_features(
                [text.text for text in texts],
                lm,
                subject.place,
                subject.reading(options),
                self._dictionary,
                spans=positions,
                averages_first=subject.trained_on != "token",
                turns=[text.turns for text in texts] if options.chat_template else None,
            )
        self._positions = positions
