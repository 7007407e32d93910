"""Maps of features in two dimensions, and numbers that say whether their clusters are real.

    x_NF = unit_rows(features.x)
    flat = reduce(x_NF, 50, seed=0)
    xy_N2 = project(flat.x_NP, "tsne", perplexity=30, seed=0)
    score(agreement(neighbours(distances(x_NF), 10), codes_N), ...)

A map shows clusters also where there are none, so classes are compared in the full space, too, and with
labels dealt out anew: silhouette (Rousseeuw 1987) and the share of the nearest neighbours that have the
same class. t-SNE is van der Maaten and Hinton's (2008).

Shapes: N points, F features, P principal components, K neighbours, C classes.
"""

import io
import re
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from scipy import sparse

from dictionary_learning.command.progress import LoopProgress, say
from dictionary_learning.errors import UserError
from temporal_saes.experiment.intervals import Interval, around
from temporal_saes.maps.options import check_method

Matrix: TypeAlias = "sparse.csr_array | np.ndarray"

_TSNE_STEPS = 1000
_ROWS = 1000  # of the distances, that are sorted at a time

# Okabe and Ito's palette without black and yellow, each with two shapes: twelve classes are told apart
# by readers with any of the common colour-vision deficiencies.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9")
_SHAPES = ("circle", "triangle")
MAX_COLOURED = len(_COLOURS) * len(_SHAPES)
OTHER_COLOUR = "#B5B5BB"


# --- the map ---


def unit_rows(x_NF: Matrix) -> Matrix:
    """The rows at length 1, so that distances are those of directions; a row of zeros stays.

    Dense activations lose their mean first: it is so long that all of them point the same way.
    """
    if isinstance(x_NF, np.ndarray):
        centred_NF = x_NF - x_NF.mean(axis=0)
        norm_N1 = np.linalg.norm(centred_NF, axis=1, keepdims=True)
        return np.divide(centred_NF, norm_N1, out=np.zeros_like(centred_NF), where=norm_N1 > 0)
    norm_N = np.sqrt(np.asarray(x_NF.multiply(x_NF).sum(axis=1)).ravel())
    scale_N = np.divide(1.0, norm_N, out=np.zeros_like(norm_N), where=norm_N > 0)
    return sparse.csr_array(sparse.diags_array(scale_N) @ x_NF)


def silent(x_NF: Matrix) -> np.ndarray:
    """[N] bool: rows without a value other than zero; they have no direction."""
    if isinstance(x_NF, np.ndarray):
        return np.asarray(~x_NF.any(axis=1))
    return np.asarray(abs(x_NF).sum(axis=1)).ravel() == 0


def all_alike(x_NF: Matrix) -> bool:
    """Whether no two rows differ by more than rounding."""
    spread: Any = x_NF.max(axis=0) - x_NF.min(axis=0)
    return float(abs(spread).max()) < 1e-6


class Reduced(NamedTuple):
    """Points in their principal components."""

    x_NP: np.ndarray
    variance_share: float  # of the features' variance, that the components have


def reduce(x_NF: Matrix, n_components: int, *, seed: int = 0) -> Reduced:
    """The first principal components, or as many as there can be; two columns at least."""
    from sklearn.decomposition import PCA

    x_NF = x_NF.astype(np.float64)
    if min(x_NF.shape) > n_components:
        # the sparse features are centred without being made dense
        pca = PCA(n_components, svd_solver="arpack", random_state=seed)
    else:
        pca = PCA(min(n_components, x_NF.shape[0] - 1, x_NF.shape[1]), svd_solver="full")
        x_NF = x_NF if isinstance(x_NF, np.ndarray) else x_NF.toarray()
    x_NP = pca.fit_transform(x_NF)
    spare = max(0, 2 - x_NP.shape[1])  # a map has two dimensions
    return Reduced(np.pad(x_NP, ((0, 0), (0, spare))), float(np.sum(pca.explained_variance_ratio_)))


def project(
    x_NP: np.ndarray, method: str, *, perplexity: float = 30.0, n_neighbours: int = 15, seed: int = 0
) -> np.ndarray:
    """The points in two dimensions, [N, 2].

    Args:
        x_NP: from `reduce`.
        perplexity: of tsne, about how many neighbours a point has.
        n_neighbours: of umap.

    Raises:
        UserError: as `check_method`.
    """
    check_method(method, perplexity, len(x_NP))
    if method == "pca":
        return x_NP[:, :2]
    if method == "umap":
        import umap

        say(f"UMAP of {len(x_NP):,} points, which does not tell how far it is")
        n_neighbours = min(n_neighbours, len(x_NP) - 1)
        return umap.UMAP(n_neighbors=n_neighbours, random_state=seed).fit_transform(x_NP)
    from sklearn.manifold import TSNE

    tsne = TSNE(
        perplexity=perplexity,
        init="pca",
        learning_rate="auto",
        max_iter=_TSNE_STEPS,
        random_state=seed,
        verbose=2,
    )
    with LoopProgress(_TSNE_STEPS, "t-SNE", "steps") as progress, redirect_stdout(_Told(progress)):
        return tsne.fit_transform(x_NP)


class _Told(io.TextIOBase):
    """What t-SNE prints every 50 steps, as progress; there is no other way to follow it."""

    def __init__(self, progress: LoopProgress) -> None:
        self._progress, self._done = progress, 0

    def write(self, text: str) -> int:
        if found := re.search(r"Iteration (\d+): error = ([0-9.]+)", text):
            done = int(found[1])
            with self._progress.piece(f"divergence {float(found[2]):.3f}", done - self._done):
                self._done = done
        return len(text)


# --- its quality ---


def distances(x_NF: Matrix) -> np.ndarray:
    """Euclidean distances of all pairs, [N, N] float32."""
    from sklearn.metrics import pairwise_distances

    return pairwise_distances(x_NF, metric="euclidean").astype(np.float32, copy=False)


def neighbours(distance_NN: np.ndarray, k: int, apart_N: np.ndarray | None = None) -> np.ndarray:
    """The k nearest of each point, [N, K] indices in no order; never the point itself.

    Args:
        apart_N: neighbours are only points with another value here (another text, another word).

    Raises:
        UserError: a point has fewer than k others.
    """
    n = len(distance_NN)
    largest = 1 if apart_N is None else max(Counter(apart_N.tolist()).values())
    if n - largest < k:
        raise UserError(f"--neighbours {k} is too many: a point may have as few as {n - largest} others.")
    found = []
    for first in range(0, n, _ROWS):
        some_RN = distance_NN[first : first + _ROWS].copy()
        rows = np.arange(len(some_RN))
        some_RN[rows, first + rows] = np.inf
        if apart_N is not None:
            some_RN[apart_N[first : first + _ROWS, None] == apart_N[None, :]] = np.inf
        found.append(np.argpartition(some_RN, k - 1, axis=1)[:, :k])
    return np.concatenate(found)


def agreement(neighbour_NK: np.ndarray, codes_N: np.ndarray) -> np.ndarray:
    """[N] share of a point's neighbours that have its class."""
    return (codes_N[neighbour_NK] == codes_N[:, None]).mean(axis=1)


def silhouette(distance_NN: np.ndarray, codes_N: np.ndarray) -> np.ndarray:
    """[N] how much nearer a point is to its own class than to the next one, from -1 to 1.

    (b - a) / max(a, b), with a the mean distance to the others of its class and b the least mean
    distance to another class; 0 for the only point of a class.

    Args:
        codes_N: classes 0 to C - 1, of which there are two at least.
    """
    rows = np.arange(len(codes_N))
    count_C = np.bincount(codes_N)
    one_hot_NC = np.zeros((len(codes_N), len(count_C)), dtype=np.float32)
    one_hot_NC[rows, codes_N] = 1
    sum_NC = (distance_NN @ one_hot_NC).astype(np.float64)
    own_N = sum_NC[rows, codes_N] / np.maximum(count_C[codes_N] - 1, 1)
    mean_NC = sum_NC / count_C
    mean_NC[rows, codes_N] = np.inf
    next_N = mean_NC.min(axis=1)
    longest_N = np.maximum(own_N, next_N)
    known_N = (count_C[codes_N] > 1) & (longest_N > 0)
    return np.divide(next_N - own_N, longest_N, out=np.zeros(len(codes_N)), where=known_N)


class Score(NamedTuple):
    """A mean over points, its interval over texts, and what labels without meaning give."""

    value: float
    interval: Interval
    chance: float  # mean over permutations
    p: float  # share of permutations, with the true labels one of them, that are as good


def score(
    measure: Callable[[np.ndarray], np.ndarray],
    codes_N: np.ndarray,
    units_N: np.ndarray,
    texts_N: np.ndarray,
    *,
    permutations: int,
    seed: int = 0,
) -> Score:
    """The mean of a measure of labels, and of the same labels dealt out anew.

    Args:
        measure: from classes [N] to a number a point.
        codes_N: classes 0 to C - 1.
        units_N: what has a class: 0 to U - 1. Where a text has one class, a permutation gives another
            text's to all its points, as its tokens were never independent.
        texts_N: the text each point is from, for the interval: t, 95 %, over texts.
    """
    values_N = measure(codes_N)
    value = float(values_N.mean())
    text_means = np.array([values_N[texts_N == text].mean() for text in np.unique(texts_N)])
    interval = Interval(value, None, None)
    if len(text_means) > 1:
        error = float(np.std(text_means, ddof=1) / np.sqrt(len(text_means)))
        interval = around(value, error, len(text_means))
    code_of_unit = np.empty(units_N.max() + 1, dtype=np.int64)
    code_of_unit[units_N] = codes_N
    assert (code_of_unit[units_N] == codes_N).all(), "a unit has two classes"
    generator = np.random.default_rng(seed)
    permuted = [
        float(measure(generator.permutation(code_of_unit)[units_N]).mean()) for _ in range(permutations)
    ]
    as_good = sum(one >= value for one in permuted)
    return Score(
        value,
        interval,
        float(np.mean(permuted)),
        (1 + as_good) / (1 + permutations),
    )


def compact(values: Sequence[Any]) -> tuple[list[Any], np.ndarray]:
    """The distinct values in order, and the number of each value among these."""
    names = sorted(set(values))
    number = {name: i for i, name in enumerate(names)}
    return names, np.array([number[value] for value in values], dtype=np.int64)


# --- its colours ---


class Class(NamedTuple):
    """How a class of points is drawn."""

    label: Any
    n: int  # points
    colour: str
    shape: str  # circle or triangle
    coloured: bool  # False: grey, as there are more classes than colours


def classes(labels: Sequence[Any], *, by_count: bool = True) -> list[Class]:
    """Each class with its colour: the largest `MAX_COLOURED`, or the first, have one of their own.

    Args:
        labels: a label a point; None is no class.
        by_count: the most frequent first; otherwise in the order of the labels.
    """
    counts = Counter(label for label in labels if label is not None)
    names = sorted(counts, key=lambda name: (-counts[name] if by_count else 0, name))
    made = []
    for i, name in enumerate(names):
        coloured = i < MAX_COLOURED
        colour = _COLOURS[i % len(_COLOURS)] if coloured else OTHER_COLOUR
        shape = _SHAPES[i // len(_COLOURS)] if coloured else _SHAPES[0]
        made.append(Class(name, counts[name], colour, shape, coloured))
    return made
