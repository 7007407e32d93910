"""Paired statistics: numbers worked by hand, scipy, slow references, and what must hold for any pairs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from temporal_saes.alignment.statistics import (
    alike,
    benjamini_hochberg,
    correlations,
    paired_effects,
    separable,
    sign_flips,
)


def column(*values: float) -> np.ndarray:
    return np.array(values, dtype=float)[:, None]


def random_pairs(n: int = 40, columns: int = 6, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return generator.normal(size=(n, columns)) * generator.lognormal(size=columns) + 0.2


# --- the paired t test ---


def test_mean_effect_and_t_of_four_differences_by_hand():
    # 1, 2, 3, 6: mean 3; squared distances 4 + 1 + 0 + 9 = 14, variance 14/3; d_z = 3 / sqrt(14/3);
    # t = 3 / sqrt(14/3 / 4) = sqrt(9 * 12 / 14)
    found = paired_effects(column(1, 2, 3, 6))
    assert found.mean_F == pytest.approx([3])
    assert found.effect_F == pytest.approx([3 / (14 / 3) ** 0.5])
    assert found.t_F == pytest.approx([(108 / 14) ** 0.5])
    assert found.slope_KF.shape == (0, 1)
    assert found.n_pairs == 4


def test_without_confounds_it_is_scipys_paired_t_test():
    chosen_PF, rejected_PF = random_pairs(seed=1), random_pairs(seed=2)
    found = paired_effects(chosen_PF - rejected_PF)
    expected = stats.ttest_rel(chosen_PF, rejected_PF)
    np.testing.assert_allclose(found.t_F, expected.statistic, rtol=1e-10)
    np.testing.assert_allclose(found.p_F, expected.pvalue, rtol=1e-9)
    np.testing.assert_allclose(found.q_F, stats.false_discovery_control(expected.pvalue), rtol=1e-9)


def test_columns_without_scatter_have_defined_results():
    found = paired_effects(np.column_stack([column(0, 0, 0), column(0.1, 0.1, 0.1), column(1, -1, 0)]))
    assert found.t_F.tolist() == [0, np.inf, 0]
    assert found.effect_F.tolist() == [0, np.inf, 0]
    assert found.p_F.tolist() == [1, 0, 1]


# --- the same with confounds ---


def test_the_mean_at_no_difference_of_the_confound_by_hand():
    # x = -1, 0, 1, 2 (mean 1/2, squared distances 5), d = 0, 3, 3, 6 (mean 3):
    # slope = (-1.5 * -3 + -.5 * 0 + .5 * 0 + 1.5 * 3) / 5 = 1.8, intercept = 3 - 1.8 / 2 = 2.1
    # residuals: -.3, .9, -.9, .3; their squares .09, .81, .81, .09 sum to 1.8, over 2 degrees: .9
    # leverage 1/4 + (x - 1/2)² / 5: .7, .3, .3, .7; weight of a pair in the intercept
    # 1/4 - 1/2 (x - 1/2) / 5: .4, .3, .2, .1
    # HC2: .16 * .09 / .3 + .09 * .81 / .7 + .04 * .81 / .7 + .01 * .09 / .3
    found = paired_effects(column(0, 3, 3, 6), column(-1, 0, 1, 2))
    assert found.mean_F == pytest.approx([2.1])
    assert found.slope_KF == pytest.approx(np.array([[1.8]]))
    assert found.effect_F == pytest.approx([2.1 / 0.9**0.5])
    variance = 0.16 * 0.09 / 0.3 + 0.09 * 0.81 / 0.7 + 0.04 * 0.81 / 0.7 + 0.01 * 0.09 / 0.3
    assert found.t_F == pytest.approx([2.1 / variance**0.5])
    assert found.p_F == pytest.approx(2 * stats.t.sf(2.1 / variance**0.5, 2))


def test_slope_and_intercept_are_scipys():
    d_PF, x_P = random_pairs(), np.random.default_rng(5).normal(3, 20, size=40)
    found = paired_effects(d_PF, x_P[:, None])
    for f in range(d_PF.shape[1]):
        expected = stats.linregress(x_P, d_PF[:, f])
        assert found.mean_F[f] == pytest.approx(expected.intercept)
        assert found.slope_KF[0, f] == pytest.approx(expected.slope)


def test_standard_errors_are_those_of_a_slow_reference():
    d_PF = random_pairs(n=30)
    confound_PK = np.random.default_rng(6).normal(size=(30, 3)) * [1, 1e-4, 1e4] + [0, 1e-4, 0]
    found = paired_effects(d_PF, confound_PK)
    x = np.column_stack([np.ones(30), confound_PK])
    inverse = np.linalg.inv(x.T @ x)
    for f in range(d_PF.shape[1]):
        beta = inverse @ x.T @ d_PF[:, f]
        meat = np.zeros((4, 4))
        for row, difference in zip(x, d_PF[:, f], strict=True):
            leverage = row @ inverse @ row
            meat += np.outer(row, row) * (difference - row @ beta) ** 2 / (1 - leverage)
        error = (inverse @ meat @ inverse)[0, 0] ** 0.5
        assert found.t_F[f] == pytest.approx(beta[0] / error, rel=1e-6)


def test_what_length_alone_makes_is_gone_at_equal_length():
    # rejected texts are 10 tokens longer on average, and the latent rises by 1 a token: no preference
    generator = np.random.default_rng(0)
    length_P = generator.normal(-10, 5, size=200)
    d_PF = (length_P + generator.normal(0, 1, size=200))[:, None]
    assert paired_effects(d_PF).p_F[0] < 1e-50
    assert paired_effects(d_PF, length_P[:, None]).p_F[0] > 0.01
    exact = paired_effects(length_P[:, None], length_P[:, None])
    assert (exact.mean_F[0], exact.p_F[0]) == (0, 1)


def test_the_control_keeps_a_preference_that_length_does_not_make():
    generator = np.random.default_rng(1)
    length_P = generator.normal(-10, 20, size=200)
    d_PF = (1 + generator.normal(0, 1, size=200))[:, None]
    found = paired_effects(d_PF, length_P[:, None])
    assert found.mean_F[0] == pytest.approx(1, abs=0.25)
    assert found.p_F[0] < 1e-10


def test_under_the_null_p_is_uniform_also_where_long_texts_scatter_more():
    generator = np.random.default_rng(2)
    length_P = generator.normal(-10, 20, size=100)
    d_PF = generator.normal(size=(100, 4000)) * (1 + np.abs(length_P))[:, None] - length_P[:, None]
    p_F = paired_effects(d_PF, length_P[:, None]).p_F
    assert np.mean(p_F < 0.05) == pytest.approx(0.05, abs=0.02)


def test_a_pair_that_decides_a_coefficient_alone_adds_no_scatter():
    # only the last pair has the confound: the mean is that of the others
    found = paired_effects(column(1, 2, 3, 100), column(0, 0, 0, 1))
    assert found.mean_F == pytest.approx([2])
    # the residual is 1, 0, -1, 0; each of the three has weight 1/3 and leverage 1/3: 2 * (1/9) / (2/3)
    assert found.t_F == pytest.approx([2 / (1 / 3) ** 0.5])


def test_confounds_that_cannot_be_told_apart_are_found():
    x = np.random.default_rng(0).normal(size=50)
    y = np.random.default_rng(1).normal(size=50) * 1e6
    constant, zero = np.full(50, 3.0), np.zeros(50)
    assert separable(np.column_stack([constant, x, zero, 2 * x - 1, y, x + y, y * 1e-9])) == [1, 4]
    assert separable(np.zeros((50, 0))) == []


@given(st.lists(st.floats(-100, 100), min_size=3, max_size=20), st.integers(1, 1000))
def test_exchanging_chosen_and_rejected_changes_the_sign_only(values, seed):
    d_PF = column(*values)
    x_P = np.random.default_rng(seed).normal(size=len(values))
    there, back = paired_effects(d_PF, x_P[:, None]), paired_effects(-d_PF, -x_P[:, None])
    np.testing.assert_array_equal(there.mean_F, -back.mean_F)
    np.testing.assert_array_equal(there.p_F, back.p_F)


# --- correlation ---


def test_correlations_are_scipys():
    d_PF, x_P = random_pairs(), np.random.default_rng(3).normal(size=40)
    d_PF[:, 0] += 5 * x_P
    found = correlations(d_PF, x_P)
    for f in range(d_PF.shape[1]):
        expected = stats.pearsonr(d_PF[:, f], x_P)
        assert found.r_F[f] == pytest.approx(expected.statistic)
        assert found.p_F[f] == pytest.approx(expected.pvalue)
    np.testing.assert_allclose(found.q_F, stats.false_discovery_control(found.p_F))


def test_what_does_not_vary_is_not_correlated_and_what_is_proportional_is_fully():
    x_P = np.array([1.0, 2, 3, 7])
    found = correlations(np.column_stack([np.full(4, 0.1), -2 * x_P]), x_P)
    assert found.r_F == pytest.approx([0, -1])
    assert found.p_F == pytest.approx([1, 0], abs=1e-6)
    assert correlations(column(1, 2, 4, 5), np.full(4, 0.1)).p_F.tolist() == [1]


# --- many tests ---


def test_adjusted_p_of_five_tests_by_hand():
    # sorted .01 .02 .03 .04 .6: times 5 / rank .05 .05 .05 .05 .6
    # .001 of three: .003; .5 * 3 / 2 = .75 and .6 * 3 / 3 = .6, so .6 for both
    assert benjamini_hochberg(np.array([0.04, 0.6, 0.01, 0.03, 0.02])) == pytest.approx(
        [0.05, 0.6] + [0.05] * 3
    )
    assert benjamini_hochberg(np.array([0.6, 0.001, 0.5])) == pytest.approx([0.6, 0.003, 0.6])
    assert benjamini_hochberg(np.array([])).tolist() == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=50))
def test_adjusted_p_is_scipys(values):
    p_F = np.array(values)
    np.testing.assert_allclose(benjamini_hochberg(p_F), stats.false_discovery_control(p_F), atol=1e-12)


def test_sign_flips_of_three_pairs_are_the_eight_there_are():
    # 1, 2, 3: |t| is largest for equal signs; + + + and - - - are 2 of 8 flips, so p is about 1/4
    # 1, -2, 3 in another column: |sum| 2 or more in 6 of 8, |sum| 6 in 2: the larger of both columns' |t|
    # reaches the first column's in 4 of 8 flips (two for each column)
    assert sign_flips(column(1, 2, 3), 20_000, seed=0)[0] == pytest.approx(1 / 4, abs=0.02)
    both = sign_flips(np.column_stack([column(1, 2, 3), column(1, -2, 3)]), 20_000, seed=0)
    assert both[0] == pytest.approx(1 / 2, abs=0.02)


def test_sign_flips_agree_with_scipys_permutation_test_for_one_column():
    d_PF = column(*np.random.default_rng(0).normal(0.4, 1, size=12))
    expected = stats.permutation_test(
        (d_PF[:, 0],),
        lambda x: abs(x.mean()),
        permutation_type="samples",
        alternative="greater",
        n_resamples=np.inf,
    )
    assert sign_flips(d_PF, 20_000, seed=1)[0] == pytest.approx(expected.pvalue, abs=0.015)


def test_sign_flips_are_corrected_for_all_columns_and_repeatable():
    generator = np.random.default_rng(0)
    d_PF = generator.normal(size=(60, 300))
    d_PF[:, 7] += 1
    p_F = sign_flips(d_PF, 500, seed=0)
    assert p_F[7] == pytest.approx(1 / 501)
    assert (np.delete(p_F, 7) > 0.01).all()
    # one in twenty tests is below .05 by chance; of these, hardly one is
    assert (paired_effects(d_PF).p_F < 0.05).sum() > 8
    np.testing.assert_array_equal(p_F, sign_flips(d_PF, 500, seed=0))
    np.testing.assert_array_equal(p_F, sign_flips(d_PF * 1000, 500, seed=0))


def test_a_column_of_zeros_reaches_nothing():
    assert sign_flips(np.zeros((10, 2)), 99, seed=0).tolist() == [1, 1]


# --- matched pairs ---


def test_pairs_are_alike_within_a_share_of_the_longer():
    assert alike(np.array([10, 10, 10, 9]), np.array([10, 9, 8, 10]), 0.1).tolist() == [
        True,
        True,
        False,
        True,
    ]
