"""Which class a text is of, by the language model's own activations: a verdict on steered texts.

    probe = train_domain_probe(pooled_ND, labels, seed=0)
    probe.accuracy            # on texts that it was not trained on
    probe(pooled_MD)          # probability of each class, [M, C]

A text is the mean of its activations, so no dictionary has a say, and dictionaries can be compared.

Shapes: N labelled texts, M texts to judge, D model width, C classes.
"""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dictionary_learning.command.progress import n_of, say
from dictionary_learning.errors import UserError
from temporal_saes.labelled.data import LabelledText
from temporal_saes.probing.probes import learn_best, split
from temporal_saes.probing.regression import Regression

HELD_OUT_SHARE = 0.2
MIN_TEXTS = 5  # of a class: some to learn from, one to choose the penalty, one to test


class DomainProbe(NamedTuple):
    """A trained probe."""

    classes: list[str]
    accuracy: float
    """On held-out texts."""
    n_train: int
    n_test: int
    mean_D: np.ndarray
    std_D: np.ndarray
    model: Regression

    def __call__(self, pooled_MD: np.ndarray) -> np.ndarray:
        """The probability of each class, [M, C]."""
        if not len(pooled_MD):
            return np.zeros((0, len(self.classes)))
        return self.model.probabilities((pooled_MD - self.mean_D) / self.std_D)


def of_frequent_classes(texts: Sequence[LabelledText]) -> list[LabelledText]:
    """The texts whose class can be learnt; says which classes are left out.

    Raises:
        UserError: fewer than two are left.
    """
    counts = Counter(text.label for text in texts)
    rare = {label: n for label, n in sorted(counts.items()) if n < MIN_TEXTS}
    if len(counts) - len(rare) < 2:
        raise UserError(
            f"fewer than two classes have {MIN_TEXTS} texts, so that no probe can tell them apart: give more "
            f"(a --max_texts of at least {MIN_TEXTS * len(counts)}, if the data have them), or other data."
        )
    if rare:
        told = ", ".join(f"{label} ({n})" for label, n in rare.items())
        say(f"left out, with fewer than {MIN_TEXTS} texts, which no probe can learn: {told}.")
    return [text for text in texts if text.label not in rare]


def train_domain_probe(pooled_ND: np.ndarray, labels: list[str], seed: int = 0) -> DomainProbe:
    """A logistic regression on four fifths of the texts, tested on the rest.

    The strength of its penalty is chosen on a part of the training texts.

    Raises:
        UserError: a class has too few texts.
    """
    classes, y, counts = np.unique(np.array(labels), return_inverse=True, return_counts=True)
    if counts.min() < MIN_TEXTS:
        raise UserError(
            f"the class {str(classes[counts.argmin()])!r} has {n_of(counts.min(), 'text')}, too few to "
            f"learn it: give more of it (a --max_texts of at least {MIN_TEXTS * len(classes)}, if the "
            "data have them), or data without it."
        )
    n_test = max(1, round(HELD_OUT_SHARE * len(y)))
    train, test = split(y, len(y) - n_test, n_test, seed)
    mean_D, std_D = pooled_ND[train].mean(0), pooled_ND[train].std(0)
    std_D = np.where(std_D > 1e-6, std_D, 1)
    x_ND = (pooled_ND - mean_D) / std_D
    model = learn_best(x_ND[train], y[train]).model
    accuracy = float(np.mean(model.predict(x_ND[test]) == y[test]))
    return DomainProbe(
        classes.tolist(),
        accuracy,
        len(train),
        len(test),
        mean_D,
        std_D,
        model,
    )
