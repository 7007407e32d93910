"""Similarity of a text's positions to each other, and the events that it shows.

    kernel_LL = similarity_kernel(f_LF)         # cosine of centred codes
    curve_L = novelty(kernel_LL, half_width=12)  # high where what comes differs from what was
    found = peaks(curve_L, half_width=12)
    score(found, true, tolerance=3)

The cosine of centred codes is the similarity kernel of Temporal Feature Analysis (arXiv 2511.01836).
Boundaries are read off it in two ways: as peaks of the novelty along its diagonal (Foote 2000,
"Automatic audio segmentation using a measure of audio novelty"), and by cutting a dendrogram in
which only neighbouring segments are joined, by the mean of the cosines between them. A boundary b
lies between the positions b - 1 and b.

Shapes: L positions of one text, F latents.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse
from scipy.signal import find_peaks


def similarity_kernel(x: Any) -> np.ndarray:
    """Cosine [L, L] between the positions of x [L, F] (array or sparse), after their mean is taken away.

    A position that is the mean itself has no direction: its row, the diagonal included, is 0.
    """
    assert x.shape[0] > 0
    product_LL = x @ x.T
    gram_LL = np.asarray(product_LL.toarray() if sparse.issparse(product_LL) else product_LL, np.float64)
    raw_size = np.diag(gram_LL).mean()
    # <x_i - m, x_j - m> needs the products <x_i, x_j> alone
    mean_L = gram_LL.mean(axis=1)
    gram_LL = gram_LL - mean_L[:, None] - mean_L[None, :] + mean_L.mean()
    squared_L = np.diag(gram_LL)
    has_direction_L = squared_L > 1e-6 * raw_size  # float32 products leave so much of nothing
    scale_L = np.where(has_direction_L, 1 / np.sqrt(np.where(has_direction_L, squared_L, 1)), 0)
    kernel_LL = np.clip(gram_LL * scale_L[:, None] * scale_L[None, :], -1, 1)
    np.fill_diagonal(kernel_LL, has_direction_L.astype(np.float64))
    return kernel_LL


def novelty(kernel_LL: np.ndarray, half_width: int) -> np.ndarray:
    """For every boundary b, [L]: similarity within the windows before and behind it minus that between them.

    Within is the mean over pairs of different positions among the `half_width` positions on either side,
    averaged over both sides; between is the mean over pairs from either side. It is 0 where a text
    goes on as it was, and at most 2. NaN where a window does not fit.
    """
    assert half_width >= 2
    n = len(kernel_LL)
    block = _BlockSums(kernel_LL)
    curve_L = np.full(n, np.nan)
    diagonal_L = np.concatenate([[0], np.cumsum(np.diag(kernel_LL))])
    for b in range(half_width, n - half_width + 1):
        first, last = b - half_width, b + half_width
        own = diagonal_L[last] - diagonal_L[first]
        within = block(first, b, first, b) + block(b, last, b, last) - own
        between = block(first, b, b, last)
        curve_L[b] = within / (2 * half_width * (half_width - 1)) - between / half_width**2
    return curve_L


def peaks(curve_L: np.ndarray, half_width: int, *, n: int | None = None, threshold: float = 1.0) -> list[int]:
    """Boundaries at the peaks of a novelty curve, at least `half_width` apart, in order.

    Args:
        n: take the n highest; None takes those above the curve's mean by `threshold` standard deviations.
    """
    defined_L = np.flatnonzero(np.isfinite(curve_L))
    if not defined_L.size:
        return []
    # the first and the last are no peaks: it is not known what is beside them
    values = curve_L[defined_L]
    found, _ = find_peaks(values, distance=half_width)
    if n is None:
        found = found[values[found] > values.mean() + threshold * values.std()]
    else:
        found = found[np.argsort(-values[found], kind="stable")[:n]]
    return sorted(defined_L[found].tolist())


class Merge(NamedTuple):
    """Two neighbouring segments become one."""

    boundary: int  # between them, which is gone now
    height: float  # 1 - mean cosine at which they are joined


def segment_tree(kernel_LL: np.ndarray) -> list[Merge]:
    """All L - 1 merges of neighbouring segments, the most similar two first (average linkage).

    Similarity of two segments is the mean of the kernel over pairs from either. As only neighbours
    may join, a merge can be more similar than an earlier one: heights are the largest so far.
    """
    ends = list(range(len(kernel_LL) + 1))
    block = _BlockSums(kernel_LL)

    def similarity(i: int) -> float:
        left, boundary, right = ends[i - 1 : i + 2]
        return block(left, boundary, boundary, right) / ((boundary - left) * (right - boundary))

    similarities = [np.inf, *(similarity(i) for i in range(1, len(ends) - 1)), np.inf]
    merges: list[Merge] = []
    while len(ends) > 2:
        best = 1 + int(np.argmax(similarities[1:-1]))
        height = 1 - similarities[best]
        merges.append(Merge(ends[best], max(height, merges[-1].height if merges else height)))
        del ends[best], similarities[best]
        for i in (best - 1, best):
            if 0 < i < len(ends) - 1:
                similarities[i] = similarity(i)
    return merges


def cut(merges: Sequence[Merge], *, n: int | None = None, height: float = 0.8) -> list[int]:
    """The boundaries that are left when the tree is cut: at a height, or into n + 1 segments."""
    if n is None:
        return sorted(merge.boundary for merge in merges if merge.height > height)
    return sorted(merge.boundary for merge in merges[len(merges) - min(n, len(merges)) :])


class _BlockSums:
    """Sums over blocks of a matrix, each in constant time."""

    def __init__(self, matrix_LL: np.ndarray) -> None:
        self._sums = np.pad(matrix_LL, ((1, 0), (1, 0))).cumsum(0).cumsum(1)

    def __call__(self, top: int, bottom: int, left: int, right: int) -> float:
        """Sum over the rows [top, bottom) and the columns [left, right)."""
        sums = self._sums
        return float(sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left])


# --- scores ---


class Score(NamedTuple):
    """How well boundaries were found."""

    precision: float | None  # None where none was found
    recall: float
    f1: float


def score(found: Sequence[int], true: Sequence[int], tolerance: int) -> Score:
    """Score found boundaries; each true one is met by one found within `tolerance` tokens at most.

    Pairs are made so that as many as can be are met.
    """
    assert true, "without a true boundary there is no recall"
    ahead = sorted(found)
    n_met = 0
    for boundary in sorted(true):
        while ahead and ahead[0] < boundary - tolerance:
            ahead.pop(0)
        if ahead and ahead[0] <= boundary + tolerance:
            ahead.pop(0)
            n_met += 1
    return Score(
        n_met / len(found) if found else None, n_met / len(true), 2 * n_met / (len(found) + len(true))
    )


def chance_f1(
    n_found: int,
    candidates: Sequence[int],
    true: Sequence[int],
    tolerance: int,
    *,
    draws: int = 200,
    seed: int | Sequence[int] = 0,
) -> float:
    """Mean F1 of as many boundaries drawn at random from `candidates`, over so many draws."""
    size = min(n_found, len(candidates))
    if size == 0:
        return 0.0
    generator = np.random.default_rng(seed)
    drawn = (generator.choice(np.asarray(candidates), size, replace=False) for _ in range(draws))
    return float(np.mean([score(one.tolist(), true, tolerance).f1 for one in drawn]))
