import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from temporal_saes.experiment.intervals import mean_interval
from temporal_saes.similarity.kernel import (
    chance_f1,
    cut,
    novelty,
    peaks,
    score,
    segment_tree,
    similarity_kernel,
)


def blocks(*sizes: int, between: float = 0.0) -> np.ndarray:
    """A kernel of ones inside each block and `between` elsewhere."""
    label = np.repeat(np.arange(len(sizes)), sizes)
    return np.where(label[:, None] == label[None, :], 1.0, between)


# --- the kernel ---


def test_the_kernel_is_the_cosine_of_what_differs_from_the_mean():
    # mean (2, 1); differences (-1, 0), (1, 1), (0, -1): cosines -1/sqrt 2, 0 and -1/sqrt 2
    kernel = similarity_kernel(np.array([[1.0, 1], [3, 2], [2, 0]]))
    h = -1 / np.sqrt(2)
    np.testing.assert_allclose(kernel, [[1, h, 0], [h, 1, h], [0, h, 1]], atol=1e-12)


def test_a_sparse_code_has_the_kernel_of_the_dense_one():
    x = np.random.default_rng(0).random((9, 30)).astype(np.float32)
    x[x < 0.7] = 0
    np.testing.assert_allclose(similarity_kernel(sparse.csr_array(x)), similarity_kernel(x), atol=1e-5)


def test_the_kernel_is_that_of_plain_cosines_at_any_scale_and_offset():
    x = np.random.default_rng(1).normal(size=(12, 5))
    centred = x - x.mean(0)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    np.testing.assert_allclose(similarity_kernel(1e3 * x), unit @ unit.T, atol=1e-9)
    np.testing.assert_allclose(similarity_kernel(x + 7), unit @ unit.T, atol=1e-9)


def test_a_position_that_is_the_mean_has_no_similarity_and_a_constant_text_has_none_at_all():
    kernel = similarity_kernel(np.array([[1.0, 0], [3, 0], [2, 0]]))
    np.testing.assert_allclose(kernel, [[1, -1, 0], [-1, 1, 0], [0, 0, 0]], atol=1e-12)
    assert not similarity_kernel(np.full((4, 3), 0.1, np.float32)).any()
    assert not similarity_kernel(sparse.csr_array((4, 3), dtype=np.float32)).any()


# --- novelty ---


def test_novelty_is_one_at_the_boundary_of_two_unlike_blocks_and_zero_inside():
    curve = novelty(blocks(4, 4), half_width=2)
    # windows of two positions fit for the boundaries 2 to 6; at 3 the window behind has one position of
    # either block: its pair is 0, the one before is 1, and of the four pairs between two are 1: 1/2 - 1/2
    np.testing.assert_allclose(curve, [np.nan, np.nan, 0, 0, 1, 0, 0, np.nan])
    assert novelty(blocks(4, 4, between=-1), half_width=2)[4] == 2


def test_novelty_is_that_of_plain_loops():
    kernel = similarity_kernel(np.random.default_rng(2).normal(size=(20, 6)))
    curve = novelty(kernel, half_width=5)
    for b in range(5, 16):
        past, future = range(b - 5, b), range(b, b + 5)
        within = [
            np.mean([kernel[i, j] for i, j in itertools.permutations(side, 2)]) for side in (past, future)
        ]
        between = np.mean([kernel[i, j] for i in past for j in future])
        assert curve[b] == pytest.approx(np.mean(within) - between)
    assert np.isnan(curve[:5]).all()
    assert np.isnan(curve[16:]).all()


def test_peaks_are_found_at_the_boundaries_of_blocks():
    curve = novelty(blocks(9, 7, 12), half_width=4)
    assert peaks(curve, 4) == [9, 16]
    assert peaks(curve, 4, n=1) == [9]
    assert peaks(curve, 4, n=5) == [9, 16]  # there are no more


def test_the_threshold_is_in_standard_deviations_above_the_mean():
    # mean 1, standard deviation sqrt((6 + 1 + 9) / 8) = 1.41; peaks of 2 and 4
    curve = np.array([np.nan, 0, 0, 2, 0, 0, 4, 1, 1, np.nan])
    assert curve[1:9].mean() == 1
    assert peaks(curve, 2, threshold=0.7) == [3, 6]
    assert peaks(curve, 2, threshold=0.8) == [6]
    assert peaks(curve, 4, threshold=0.5) == [6]  # 3 is too near


def test_the_ends_of_the_curve_are_no_peaks():
    assert peaks(np.array([np.nan, 3.0, 1, 2, 1, 4, np.nan]), 2, n=3) == [3]


def test_a_text_shorter_than_the_window_has_no_peak():
    assert peaks(novelty(blocks(3, 3), half_width=4), 4) == []
    assert peaks(np.zeros(20), 4) == []


# --- the tree ---


def test_the_tree_joins_alike_neighbours_first():
    kernel = np.array(
        [
            [1.0, 0.9, 0.1, 0.0],
            [0.9, 1.0, 0.3, 0.2],
            [0.1, 0.3, 1.0, 0.6],
            [0.0, 0.2, 0.6, 1.0],
        ]
    )
    merges = segment_tree(kernel)
    assert [merge.boundary for merge in merges] == [1, 3, 2]
    # the last: mean of .1, 0, .3, .2 is .15
    assert [merge.height for merge in merges] == pytest.approx([0.1, 0.4, 0.85])
    assert cut(merges, n=1) == [2]
    assert cut(merges, n=2) == [2, 3]
    assert cut(merges, n=9) == [1, 2, 3]
    assert cut(merges, height=0.8) == [2]
    assert cut(merges, height=0.3) == [2, 3]
    assert cut(merges, height=0.9) == []


def test_heights_never_fall():
    # 0 joins 1 at .5; the two are closer to 2 (mean of .5 and .9) than they were to each other
    kernel = np.array([[1.0, 0.5, 0.9], [0.5, 1.0, 0.5 - 1e-9], [0.9, 0.5 - 1e-9, 1.0]])
    assert [merge.height for merge in segment_tree(kernel)] == pytest.approx([0.5, 0.5])


@given(st.lists(st.integers(2, 6), min_size=2, max_size=4))
def test_the_tree_cut_into_as_many_segments_gives_the_blocks(sizes):
    merges = segment_tree(blocks(*sizes))
    assert len(merges) == sum(sizes) - 1
    ends = np.cumsum(sizes)[:-1].tolist()
    assert cut(merges, n=len(sizes) - 1) == ends
    assert cut(merges, height=0.8) == ends


def test_the_tree_is_that_of_plain_loops():
    kernel = similarity_kernel(np.random.default_rng(3).normal(size=(15, 4)))
    segments = [[i] for i in range(15)]
    removed = []
    while len(segments) > 1:
        means = [kernel[np.ix_(a, b)].mean() for a, b in itertools.pairwise(segments)]
        best = int(np.argmax(means))
        removed.append(segments[best + 1][0])
        segments[best : best + 2] = [segments[best] + segments[best + 1]]
    assert [merge.boundary for merge in segment_tree(kernel)] == removed


# --- scores ---


def test_a_boundary_is_met_within_the_tolerance_and_only_once():
    # 11 and 12 are both near 10, and one of them counts; 33 is 3 away from 30; 50 is missed
    got = score([11, 12, 33, 70], [10, 30, 50], tolerance=3)
    assert got == pytest.approx((2 / 4, 2 / 3, 4 / 7))
    assert score([11, 34], [10, 30], tolerance=3).recall == 0.5
    assert score([10, 30], [30, 10], tolerance=0) == (1, 1, 1)


def test_nothing_found_has_no_precision_and_f1_zero():
    assert score([], [10], tolerance=3) == (None, 0, 0)


def test_as_many_boundaries_as_possible_are_met():
    # 12 may meet 10 or 14; only if 10 takes 8 are both met
    assert score([8, 12], [10, 14], tolerance=2).recall == 1
    assert score([12, 16], [10, 14], tolerance=2).recall == 1


@given(
    st.lists(st.integers(0, 25), max_size=5, unique=True),
    st.lists(st.integers(0, 25), min_size=1, max_size=4, unique=True),
    st.integers(0, 6),
)
def test_no_other_pairing_meets_more(found, true, tolerance):
    best = max(
        sum(abs(a - b) <= tolerance for a, b in zip(some, true, strict=False))
        for some in itertools.permutations([*found, *[10**6] * len(true)], len(true))
    )
    assert round(score(found, true, tolerance).recall * len(true)) == best


def test_chance_is_the_mean_over_all_places():
    # one boundary among 20 places, 7 of which are within 3 tokens of the only true one: F1 is 1 or 0
    assert chance_f1(1, range(20), [10], 3, draws=4000) == pytest.approx(7 / 20, abs=0.03)
    assert chance_f1(9, [5, 6], [5, 6], 0) == 1  # no more places than candidates
    assert chance_f1(0, range(20), [10], 3) == 0


# --- intervals ---


def test_the_interval_of_a_mean_is_students():
    # mean 2, standard deviation 1, t(.975, 2) = 4.3027: half 4.3027 / sqrt 3 = 2.4842
    assert mean_interval([1, 2, 3]) == pytest.approx((2, 2 - 2.4842, 2 + 2.4842), abs=1e-4)
    assert mean_interval([5]) == (5, None, None)
    assert mean_interval([]) is None
