"""Scores against the truth, with numbers worked by hand and dictionaries that are the truth itself."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from temporal_saes.toy import recovery, separation

TRUTHS_ND = np.eye(3)
ON_TN = np.array([[1, 0, 0], [1, 0, 1], [0, 1, 1], [0, 1, 0]], bool)


def test_the_truth_itself_is_found_in_any_order() -> None:
    order = [2, 0, 1]
    f_TF = ON_TN[:, order].astype(float)
    match = recovery.match(5 * TRUTHS_ND[order], TRUTHS_ND, f_TF, ON_TN)
    assert match.latent_N.tolist() == [1, 2, 0]
    np.testing.assert_allclose(match.cosine_N, 1)
    firing = recovery.firing(f_TF, match.latent_N, ON_TN)
    for score_N in firing:
        np.testing.assert_allclose(score_N, 1)


def test_of_two_latents_with_one_direction_the_one_that_fires_like_the_truth_stands_for_it() -> None:
    directions_FD = np.concatenate([TRUTHS_ND, TRUTHS_ND])
    f_TF = np.concatenate([np.ones((4, 3)), ON_TN], axis=1)
    assert recovery.match(directions_FD, TRUTHS_ND, f_TF, ON_TN).latent_N.tolist() == [3, 4, 5]


def test_firing_by_hand() -> None:
    f_TF = np.array([[2.0], [0.0], [1.0], [0.0]])
    found = recovery.firing(f_TF, np.array([0]), ON_TN[:, :1])
    # on at the tokens 0 and 1, fires at 0 and 2: one of two is right either way
    assert found.precision_N[0] == found.recall_N[0] == found.f1_N[0] == 0.5
    # of the pairs (0, 2), (0, 3), (1, 2), (1, 3) it is right about two and even in one
    assert found.auc_N[0] == 0.625


def test_a_truth_without_a_latent_scores_nothing_and_one_that_is_never_off_is_left_out() -> None:
    found = recovery.firing(np.zeros((4, 1)), np.array([-1, 0]), np.stack([ON_TN[:, 0], np.ones(4, bool)], 1))
    assert (found.precision_N[0], found.recall_N[0], found.f1_N[0], found.auc_N[0]) == (0, 0, 0, 0.5)
    assert np.isnan(found.f1_N[1])


def test_the_auc_is_that_of_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    score_T, on_T = generator.integers(0, 6, 200).astype(float), generator.random(200) < 0.3
    assert recovery.auc(score_T, on_T) == pytest.approx(roc_auc_score(on_T, score_T))


def test_random_directions_are_far_from_the_truths_in_a_wide_space() -> None:
    truths_ND = np.random.default_rng(0).normal(size=(20, 400))
    assert 0 < recovery.chance_mcc(20, truths_ND, 0) < 0.15
    assert recovery.chance_mcc(10, truths_ND, 0) < recovery.chance_mcc(20, truths_ND, 0)


def test_placement_is_even_for_a_dictionary_that_knows_nothing_and_one_for_one_that_keeps_apart() -> None:
    is_slow_N = np.array([True, True, False, False])
    apart = separation.placement(np.array([0, 1, 4, 5]), is_slow_N, slice(0, 2))
    assert apart == {"slow_in_first": 1, "fast_in_first": 0, "balanced_accuracy": 1}
    for first in (slice(0, 0), slice(0, 6)):
        assert separation.placement(np.array([0, 1, 4, 5]), is_slow_N, first)["balanced_accuracy"] == 0.5
    # a truth without a latent does not count
    assert separation.placement(np.array([0, -1, 4, 0]), is_slow_N, slice(0, 2)) == {
        "slow_in_first": 1,
        "fast_in_first": 0.5,
        "balanced_accuracy": 0.75,
    }


def test_what_a_part_says_is_read_off_it_and_what_it_does_not_is_not() -> None:
    generator = np.random.default_rng(1)
    on_TN = generator.random((2000, 2)) < 0.3
    v_TD = np.stack([on_TN[:, 0] + 0.1 * generator.normal(size=2000), generator.normal(size=2000)], axis=1)
    is_chosen_T = np.arange(2000) < 1000
    first, second = separation.read_off(v_TD, on_TN, is_chosen_T)
    assert first > 0.99
    assert second == pytest.approx(0.5, abs=0.05)
    np.testing.assert_allclose(separation.read_off(0 * v_TD, on_TN, is_chosen_T), 0.5)


def test_persistence_tells_slow_latents_from_fast_ones() -> None:
    generator = np.random.default_rng(2)
    held = np.repeat(generator.random((100, 1, 2)) < 0.4, 20, axis=1)
    noise = generator.random((100, 20, 2)) < 0.4
    values_F = separation.persistence(np.concatenate([held, noise], axis=2).astype(float), lag=4)
    is_slow_N = np.array([True, True, False, False])
    assert separation.told_by_persistence(values_F, np.arange(4), is_slow_N) == 1
    assert separation.told_by_persistence(values_F, np.array([2, 3, 0, 1]), is_slow_N) == 0
    assert separation.told_by_persistence(values_F, np.array([0, 1, -1, -1]), is_slow_N) is None
