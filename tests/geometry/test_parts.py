"""How large a part is and what it misses, with numbers worked by hand."""

import numpy as np
import pytest

from temporal_saes.geometry import measures
from temporal_saes.geometry.parts import Parts, errors, sizes

MEAN_D = np.array([2.0, 0.0])
BIAS_D = np.array([1.0, 0.0])
# two tokens: x = b + v + rest
V_UD = np.array([[2.0, 0], [0, 0]])
REST_UD = np.array([[0.0, 4], [0, 3]])
FIRST = Parts(V_UD, REST_UD, BIAS_D, V_UD + REST_UD + BIAS_D, True)
SECOND = Parts(REST_UD, V_UD, BIAS_D, V_UD + REST_UD + BIAS_D, False)


def test_the_share_of_a_part_depends_on_where_the_bias_is_counted() -> None:
    found = sizes(FIRST, MEAN_D)
    # norms 2 and 0 of the part, 4 and 3 of the rest
    assert found["norm_share_as_coded"] == pytest.approx(2 / 9)
    # with the bias 3 and 1; around the mean, with 1 - 2 = -1 for the bias, 1 and 1
    assert found["norm_share_with_bias"] == pytest.approx(4 / 11)
    assert found["norm_share_less_mean"] == pytest.approx(2 / 9)
    assert found["energy_share_with_bias"] == pytest.approx(10 / 35)
    # x is (3, 4) and (1, 3), of norms 5 and √10; around the mean (1, 4) and (-1, 3)
    assert found["norm_of_x_with_bias"] == pytest.approx(4 / (5 + 10**0.5))
    assert found["norm_of_x_less_mean"] == pytest.approx(2 / (17**0.5 + 10**0.5))


def test_the_shares_of_both_parts_sum_to_one_in_every_view() -> None:
    first, second = sizes(FIRST, MEAN_D), sizes(SECOND, MEAN_D)
    for name in first:
        if "share" in name:
            assert first[name] + second[name] == pytest.approx(1)  # type: ignore[operator]


def test_what_a_part_misses_is_told_against_zero_and_against_the_mean() -> None:
    found = errors(FIRST, MEAN_D)
    # misses (0, 4) and (0, 3): 25 of 25 + 10, and of 17 + 10
    assert found["nmse"] == pytest.approx(25 / 35)
    assert found["nmse_less_mean"] == pytest.approx(25 / 27)


def test_activations_alone_have_no_share_and_miss_nothing() -> None:
    alone = Parts(FIRST.x_uD, None, np.zeros(2), FIRST.x_uD, True)
    found = sizes(alone, MEAN_D)
    assert found["norm_of_x_with_bias"] == 1
    assert not any("share" in name for name in found)
    assert errors(alone, MEAN_D) == {"nmse": 0, "nmse_less_mean": 0}


def test_a_direction_that_all_positions_share_hides_the_others_from_a_rank_around_zero() -> None:
    generator = np.random.default_rng(0)
    v_LD = generator.normal(size=(40, 8))
    shared_D = np.full(8, 30.0)
    ranks = [
        measures.effective_rank(measures.spectrum(v_LD + shared_D, point_D))  # type: ignore[arg-type]
        for point_D in (np.zeros(8), shared_D)
    ]
    assert ranks[0] < 3 < 7 < ranks[1]
    assert ranks[1] == pytest.approx(measures.effective_rank(measures.spectrum(v_LD, np.zeros(8))))  # type: ignore[arg-type]
    assert measures.spectrum(np.tile(shared_D, (5, 1)), shared_D) is None
