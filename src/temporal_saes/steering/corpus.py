"""The labelled texts, read once for each dictionary: what its latents do, and a probe of the classes.

Shapes: N texts, u usable tokens of one text, L positions, D model width.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from dictionary_learning.dictionaries.base import Dictionary, chunk_slice
from dictionary_learning.language_model import LanguageModel
from temporal_saes.experiment.subjects import Subject
from temporal_saes.features import TextActivations, read_activations
from temporal_saes.labelled.data import LabelledText
from temporal_saes.latents.tables import MIN_TOKENS, LatentTable, tabulate
from temporal_saes.probing.domain_probe import DomainProbe, train_domain_probe
from temporal_saes.steering.options import SteeringOptions


class Corpus(NamedTuple):
    """What was read of the texts."""

    table: LatentTable
    probe: DomainProbe

    def told(self) -> dict[str, Any]:
        """What a result says of it."""
        table, probe = self.table, self.probe
        return {
            "corpus": {
                "n_texts": len(table.tokens),
                "n_tokens": table.n_tokens,
                "median_norm": table.median_norm,
                "n_alive": int((table.count_F >= MIN_TOKENS).sum()),
                "min_tokens": MIN_TOKENS,
            },
            "probe": {
                "classes": probe.classes,
                "accuracy": probe.accuracy,
                "n_train": probe.n_train,
                "n_test": probe.n_test,
            },
        }


class CorpusReader:
    """Reads the texts with one dictionary after another; those of the same activations share a probe."""

    def __init__(self, options: SteeringOptions, texts: Sequence[LabelledText]) -> None:
        self.options, self.texts = options, list(texts)
        self._probes: dict[tuple[Any, ...], DomainProbe] = {}

    def read(self, lm: LanguageModel, dictionary: Dictionary, subject: Subject) -> Corpus:
        """One pass over the texts: what the latents do, and the mean activation of each text."""
        pooled: list[np.ndarray | None] = []
        reading = subject.reading(self.options)
        activations = read_activations([text.text for text in self.texts], lm, subject.place, reading)
        table = tabulate(
            self.texts, self._pooling(activations, pooled), dictionary, chunk_slice(dictionary, subject.chunk)
        )
        key = (subject.model, subject.place, subject.lm_dtype, reading)
        if key not in self._probes:
            labels = [text.label for text, x_D in zip(self.texts, pooled, strict=True) if x_D is not None]
            x_ND = np.stack([x_D for x_D in pooled if x_D is not None])
            self._probes[key] = train_domain_probe(x_ND, labels, self.options.seed)
        return Corpus(table, self._probes[key])

    def _pooling(
        self, activations: Iterable[TextActivations], pooled: list[np.ndarray | None]
    ) -> Iterator[TextActivations]:
        """The activations as they come; the mean over as many tokens as will be written goes to `pooled`."""
        for one in activations:
            place_u = np.flatnonzero(one.tokens.usable_L)[: self.options.max_new_tokens]
            x_uD = one.x_LD[torch.from_numpy(place_u)]
            pooled.append(x_uD.float().mean(0).numpy() if len(place_u) else None)
            yield one
