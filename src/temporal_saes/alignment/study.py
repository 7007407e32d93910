"""One subject: the answers read, its latents tested, and the pairs found in which they differ most.

Shapes: P pairs, F tested latents.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from dictionary_learning.dictionaries.base import chunk_slice
from dictionary_learning.language_model import LanguageModel
from temporal_saes.alignment.differences import Differences, Settings, differences_of
from temporal_saes.alignment.examples import Shown, examples_of
from temporal_saes.alignment.options import AlignmentOptions
from temporal_saes.alignment.pairs import PreferenceData
from temporal_saes.alignment.responses import ChooseResponses, fit, response_means
from temporal_saes.alignment.result import result_of, top_latents
from temporal_saes.experiment.subjects import Subject
from temporal_saes.features import extract_features
from temporal_saes.sparsity import reading_l0


class Found(NamedTuple):
    """What a study of one subject found."""

    told: dict[str, Any]
    """As it goes into the JSON."""
    differences: Differences
    shown: dict[int, Shown]
    """Examples of the top latents, by number; empty for dense activations."""


def study(
    subject: Subject,
    options: AlignmentOptions,
    data: PreferenceData,
    lm: LanguageModel,
    explanations: Mapping[int, str],
) -> Found:
    """Read the answers and test every latent."""
    dictionary = subject.load_dictionary(lm.device)
    reading = subject.reading(options)
    texts = fit(data.pairs, lm, reading)
    with reading_l0() as l0:
        features = extract_features(
            [text.text for text in texts],
            lm,
            subject.place,
            reading,
            dictionary,
            subject.chunk,
            choose=ChooseResponses(texts),
            turns=[text.turns for text in texts] if options.chat_template else None,
        )
    means = response_means(texts, features, options.pool)
    n_tokens_P2 = np.array([text.n_tokens for text in texts]).reshape(-1, 2)[means.pair_P]
    first = chunk_slice(dictionary, subject.chunk).start if dictionary is not None else 0
    settings = Settings(
        fdr=options.fdr,
        min_active=options.min_active,
        length_correlation=options.length_correlation,
        length_tolerance=options.length_tolerance,
        n_flips=options.n_flips,
        seed=options.seed,
    )
    found = differences_of([data.pairs[p] for p in means.pair_P], n_tokens_P2, means, first, settings)
    top = top_latents(found, options.rank_by, options.n_latents)
    shown: dict[int, Shown] = {}
    if dictionary is not None:
        for latents, sign in zip(top, (1, -1), strict=True):
            for f in latents:
                latent = int(found.latent_F[f])
                shown[latent] = examples_of(
                    latent - first, sign, data.pairs, texts, features, means, options.n_examples
                )
    told = {
        **l0.told(subject.name),
        **result_of(found, top, means, data, options.fdr, explanations, shown),
        "outlier_share": features.outlier_share,
    }
    return Found(told, found, shown)
