"""Linear probes on a few chosen features: select latents by class means, fit, repeat, state the luck.

For every class the k latents are taken whose mean in the class exceeds the mean of the rest most
(T-SAE, arXiv 2511.05541, probing), from the training part alone. One multinomial logistic
regression is then fitted on the union over the classes. `k="all"` takes every feature. The strength
of its L2 penalty is chosen on a fifth of the training part: with one for all, a probe on thousands
of latents overfits and one on a few is held back.

Shapes: N examples, F features, C classes present in the training part.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import numpy as np
from scipy import sparse

from dictionary_learning.errors import UserError
from temporal_saes.experiment.intervals import NONE_OF_EQUAL, Interval, around
from temporal_saes.probing.regression import Regression, Rows

MIN_EXAMPLES = 10  # of a class; a rarer one cannot be both learnt and tested
# of each class in the training and in the test part, however rare it is
MIN_TRAIN, MIN_TEST = 2, 1
# C of scikit-learn, the inverse strength of the L2 penalty on standardised features: strong to weak
STRENGTHS = (0.001, 0.01, 0.1, 1.0)
VALIDATION_SHARE = 0.2  # of the training part, on which one of them is chosen
# Where a fit ends that only chooses the strength, as a few hundred held-out examples tell no less: the
# gradient, and the gain of an iteration at strength 1. The stronger the penalty, the less there is to gain.
ROUGH_TOLERANCE = 1e-4
ROUGH_GAIN = 3e-5  # nats an example
DENSE = 0.2  # share of entries that are not zero from which on dense products are faster
INTERVAL = (
    "t-interval, 95 %, over repeated random splits of the same examples, its variance enlarged by "
    f"n_test / n_train because the training parts overlap (Nadeau and Bengio, 2003); {NONE_OF_EQUAL}"
)


class Split(NamedTuple):
    """Indices of the examples in the training and in the test part."""

    train: np.ndarray
    test: np.ndarray


class Fit(NamedTuple):
    """One probe, fitted and tested."""

    accuracy: float
    n_features: int  # that the probe was given and that are not silent in the training part
    strength: float | None  # the one of `STRENGTHS` that was chosen; None without a feature
    converged: bool


class Accuracy(NamedTuple):
    """Test accuracy for one k, over all repeats."""

    k: int | str
    interval: Interval
    values: list[float]
    n_features: list[int]
    strengths: list[float | None]
    n_converged: int


class Result(NamedTuple):
    """Probes for every k on the same splits, and what blind guessing reaches."""

    accuracies: list[Accuracy]
    classes: dict[str, int]  # examples of each
    left_out: dict[str, int]  # classes too rare to be used, with their examples
    n_train: int
    n_test: int
    chance: float  # 1 / number of classes
    majority: float  # mean share, in the test parts, of the most frequent class of the training part


def probe(
    x: Rows,
    labels: Sequence[str],
    *,
    ks: Sequence[int | str],
    n_train: int,
    n_test: int,
    repeats: int,
    seed: int,
    by_magnitude: bool = False,
    scaled: bool = False,
    around_fit: Callable[[int | str, int], AbstractContextManager[object]] = lambda k, repeat: nullcontext(),
) -> Result:
    """Probes for every k, each on `repeats` random splits that are the same for every k and every x.

    Args:
        x: [N, F] features.
        labels: one class an example; those with fewer than `MIN_EXAMPLES` examples are left out.
        ks: latents a class, or "all".
        n_train, n_test: examples wanted; where there are fewer, both shrink in proportion.
        by_magnitude: select by the size of the difference, for features without a direction that
            means "more of it": dense activations.
        scaled: select by differences in standard deviations of the training part.
        around_fit: from k and the repeat to what each of the `len(ks) * repeats` fits runs in.

    Raises:
        UserError: fewer than two classes remain, or so few examples that nothing can be learnt.
    """
    counts = Counter(labels)
    left_out = {label: n for label, n in sorted(counts.items()) if n < MIN_EXAMPLES}
    kept = np.flatnonzero([label not in left_out for label in labels])
    x, y = x[kept], np.asarray(labels, dtype=object)[kept].astype(str)
    classes = {label: n for label, n in sorted(counts.items()) if n >= MIN_EXAMPLES}
    n_train, n_test = part_sizes(len(y), len(classes), n_train, n_test)
    fits: dict[int | str, list[Fit]] = {k: [] for k in ks}
    majorities = []
    for repeat in range(repeats):
        train, test = split(y, n_train, n_test, seed=[seed, repeat], least=(MIN_TRAIN, MIN_TEST))
        most_frequent = Counter(y[train]).most_common(1)[0][0]
        majorities.append(float(np.mean(y[test] == most_frequent)))
        ranked = rank_features(x[train], y[train], by_magnitude=by_magnitude, scaled=scaled)
        for k in ks:
            columns = ranked.union(k)
            with around_fit(k, repeat):
                fits[k].append(fit(x[train][:, columns], y[train], x[test][:, columns], y[test]))
    return Result(
        accuracies=[
            Accuracy(
                k=k,
                interval=interval([one.accuracy for one in fits[k]], n_train, n_test),
                values=[one.accuracy for one in fits[k]],
                n_features=[one.n_features for one in fits[k]],
                strengths=[one.strength for one in fits[k]],
                n_converged=sum(one.converged for one in fits[k]),
            )
            for k in ks
        ],
        classes=classes,
        left_out=left_out,
        n_train=n_train,
        n_test=n_test,
        chance=1 / len(classes),
        majority=float(np.mean(majorities)),
    )


def part_sizes(n: int, n_classes: int, n_train: int, n_test: int) -> tuple[int, int]:
    """Sizes of both parts when n examples are there: as wanted, or shrunk in proportion.

    Raises:
        UserError: fewer than two classes, two training examples a class, or one test example a class.
    """
    if n_classes < 2:
        raise UserError(
            f"fewer than two classes have {MIN_EXAMPLES} examples, so nothing is to be told apart: take more "
            f"texts (--max_texts, --n_train, --n_test) or another data set."
        )
    if n < n_train + n_test:
        n_test = max(1, round(n * n_test / (n_train + n_test)))
        n_train = n - n_test
    if n_train < MIN_TRAIN * n_classes or n_test < MIN_TEST * n_classes:
        raise UserError(
            f"{n_train} training and {n_test} test examples are too few for {n_classes} classes: give at "
            f"least {MIN_TRAIN * n_classes} and {MIN_TEST * n_classes} (--n_train, --n_test, --max_texts)."
        )
    return n_train, n_test


def split(
    y: np.ndarray, n_train: int, n_test: int, seed: int | Sequence[int], least: tuple[int, int] = (0, 0)
) -> Split:
    """Disjoint random parts in which every class has its share, up to rounding.

    The examples of each class are put in random order at even distances along one line, from a
    random start; the first n_test on the line are the test part, the next n_train the training part.

    Args:
        least: examples of every class in the training and in the test part. Where a rare class has fewer by
            its share, it gets them in place of examples of the class with most; else nothing is changed.
            There must be so many examples of each class, and room for them in the parts.
    """
    assert n_train + n_test <= len(y)
    generator = np.random.default_rng(seed)
    place = np.empty(len(y))
    for label in np.unique(y):
        members = generator.permutation(np.flatnonzero(y == label))
        place[members] = (np.arange(len(members)) + generator.random()) / len(members)
    order = np.argsort(place, kind="stable")
    parts = slice(n_test, n_test + n_train), slice(0, n_test)
    _give_rare_classes_their_least(order, y, parts, least)
    train, test = (np.sort(order[part]) for part in parts)
    return Split(train, test)


def _give_rare_classes_their_least(
    order: np.ndarray, y: np.ndarray, parts: Sequence[slice], least: Sequence[int]
) -> None:
    """Swap examples in `order` until every class is as often in each part as it has to be."""
    in_part = np.full(len(order), len(parts))  # those that are in none come last
    for number, part in enumerate(parts):
        in_part[part] = number
    needed = [*least, 0]
    for number, part in enumerate(parts):
        for label in np.unique(y):
            while np.sum(y[order[part]] == label) < needed[number]:
                count = np.bincount(in_part[y[order] == label], minlength=len(needed))
                spare = [other for other, n in enumerate(count) if other != number and n > needed[other]]
                assert spare, f"{label} is too rare"
                giver = np.flatnonzero((in_part == spare[-1]) & (y[order] == label))[0]
                most = Counter(y[order[part]].tolist()).most_common(1)[0][0]
                taker = np.flatnonzero((in_part == number) & (y[order] == most))[-1]
                order[[giver, taker]] = order[[taker, giver]]


class Ranking(NamedTuple):
    """The features of each class, the most typical first."""

    difference_CF: np.ndarray
    """Mean in the class minus mean of the rest; its size where features are chosen by magnitude."""

    def union(self, k: int | str) -> np.ndarray:
        """The features that are among the k most typical of any class, in index order.

        A feature that is no more active in the class than elsewhere is not typical of it. "all" is
        every feature.
        """
        n_features = self.difference_CF.shape[1]
        if k == "all":
            return np.arange(n_features)
        size = min(int(k), n_features)
        if size == 0:
            return np.arange(0)
        best_CK = np.argpartition(-self.difference_CF, size - 1, axis=1)[:, :size]
        typical_CK = np.take_along_axis(self.difference_CF, best_CK, axis=1) > 0
        return np.unique(best_CK[typical_CK])


def rank_features(x: Rows, y: np.ndarray, *, by_magnitude: bool = False, scaled: bool = False) -> Ranking:
    """How typical every feature is of every class that is in y: a class that is not there shifts nothing.

    Args:
        by_magnitude, scaled: as for `probe`.
    """
    classes, index = np.unique(y, return_inverse=True)
    n = len(y)
    member_CN = sparse.csr_array((np.ones(n), (index, np.arange(n))), shape=(len(classes), n))
    sum_CF = member_CN @ x
    sum_CF = sum_CF.toarray() if sparse.issparse(sum_CF) else sum_CF
    n_C1 = np.bincount(index)[:, None]
    difference_CF = sum_CF / n_C1 - (sum_CF.sum(axis=0) - sum_CF) / np.maximum(n - n_C1, 1)
    if scaled:
        _, std_F = _mean_and_std(x)
        difference_CF = difference_CF / np.where(std_F > 0, std_F, 1)
    return Ranking(np.abs(difference_CF) if by_magnitude else difference_CF)


def fit(x_train: Rows, y_train: np.ndarray, x_test: Rows, y_test: np.ndarray) -> Fit:
    """Accuracy of a multinomial logistic regression with an L2 penalty on standardised features.

    Sparse features are scaled to unit variance and not centred, so that they stay sparse: the
    intercept takes the mean up. Features that never vary in the training part are left out; with
    none left the probe says the most frequent class.
    """
    mean_F, std_F = _mean_and_std(x_train)
    varies = np.flatnonzero(std_F > 1e-6 * np.abs(mean_F))
    if varies.size == 0:
        most_frequent = Counter(y_train).most_common(1)[0][0]
        return Fit(float(np.mean(y_test == most_frequent)), 0, None, True)
    dense = sparse.issparse(x_train) and x_train[:, varies].nnz > DENSE * len(y_train) * varies.size
    x_train, x_test = (_scale(x[:, varies], mean_F[varies], std_F[varies], dense) for x in (x_train, x_test))
    classes, y = np.unique(y_train, return_inverse=True)
    learnt = learn_best(x_train, y)
    accuracy = float(np.mean(classes[learnt.model.predict(x_test)] == y_test))
    return Fit(accuracy, len(varies), learnt.strength, learnt.converged)


class Learnt(NamedTuple):
    """A regression, with the one of `STRENGTHS` that was chosen for it."""

    model: Regression
    strength: float
    converged: bool


def learn_best(x: Rows, y: np.ndarray) -> Learnt:
    """Learn from all examples, with the strength whose accuracy on a held-out part of them is best.

    The stronger penalty wins a tie.

    Args:
        y: numbers of classes, each from 0 to their highest at least once.
    """
    n_held_out = round(VALIDATION_SHARE * len(y))
    train, held_out = split(y, len(y) - n_held_out, n_held_out, seed=0)
    x_train, x_held_out = x[train], x[held_out]
    model = Regression(x.shape[1], int(y.max()) + 1)
    trials = []
    for strength in STRENGTHS:
        # each starts where the one before ended
        learn_roughly(model, x_train, y[train], strength)
        trials.append((float(np.mean(model.predict(x_held_out) == y[held_out])), strength, model.copy()))
    _, strength, best = max(trials, key=lambda trial: trial[0])
    return Learnt(best, strength, best.learn(x, y, strength))


def learn_roughly(model: Regression, x: Rows, y: np.ndarray, strength: float) -> None:
    """Learn as well as is needed to choose among strengths."""
    gain = ROUGH_GAIN * strength
    model.learn(x, y, strength, tolerance=ROUGH_TOLERANCE, least_gain=gain)


def _mean_and_std(x: Rows) -> tuple[np.ndarray, np.ndarray]:
    if sparse.issparse(x):
        mean_F = np.asarray(x.mean(axis=0), dtype=np.float64)
        square_F = np.asarray(x.multiply(x).mean(axis=0), dtype=np.float64)
        return mean_F, np.sqrt(np.maximum(square_F - mean_F**2, 0))
    return x.mean(axis=0, dtype=np.float64), x.std(axis=0, dtype=np.float64)


def _scale(x: Rows, mean_F: np.ndarray, std_F: np.ndarray, dense: bool) -> Rows:
    if not sparse.issparse(x):
        return ((x - mean_F) / std_F).astype(np.float32)
    scaled = sparse.csr_array((x @ sparse.diags_array(1 / std_F)).astype(np.float32))
    return scaled.toarray() if dense else scaled


def interval(values: Sequence[float], n_train: int, n_test: int) -> Interval:
    """Mean and 95 % interval over repeated random splits, see `INTERVAL`.

    With r values of variance s²: mean ± t(.975, r - 1) sqrt((1/r + n_test/n_train) s²).
    """
    mean = float(np.mean(values))
    if len(values) < 2:
        return Interval(mean, None, None)
    variance = (1 / len(values) + n_test / n_train) * float(np.var(values, ddof=1))
    return around(mean, math.sqrt(variance), len(values))
