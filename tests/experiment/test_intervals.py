import numpy as np
import pytest

from temporal_saes.experiment.intervals import as_json, in_words, mean_interval, shares_of_pairs
from temporal_saes.probing.probes import interval as interval_of_splits


def test_an_interval_in_words_is_the_mean_with_half_of_it():
    # mean 2, standard error 1 / sqrt(3), t(.975, 2) = 4.303
    interval = as_json(mean_interval([1.0, 2.0, 3.0]))
    assert interval is not None
    assert interval["high"] == pytest.approx(2 + 4.303 / 3**0.5, rel=1e-3)
    assert in_words(interval) == "2.000 ± 2.484"
    assert in_words(interval, 1, sign="+") == "+2.0 ± 2.5"


def test_a_single_value_has_no_interval_and_none_at_all_is_a_dash():
    assert in_words(as_json(mean_interval([-0.25]))) == "-0.250"
    assert in_words(as_json(mean_interval([]))) == "–"
    assert in_words({"mean": None, "low": None, "high": None}) == "–"


@pytest.mark.parametrize("values", [[0.75, 0.75], [0.1 + 0.2, 0.3, 0.3], [0.0] * 100])
def test_equal_values_are_no_certainty(values: list[float]) -> None:
    of_texts, of_splits = mean_interval(values), interval_of_splits(values, n_train=800, n_test=200)
    assert of_texts is not None
    assert (of_texts.low, of_texts.high) == (of_splits.low, of_splits.high) == (None, None)
    assert in_words(as_json(of_texts), 2) == f"{values[0]:.2f}"


def test_a_mean_over_pairs_of_three_has_the_interval_of_the_jackknife() -> None:
    # pairs .4, .5 and .6: the mean is .5, without one of the three .6, .5 or .4, so 3 * .5 - 2 * .6 = .3
    value_SS = np.array([[9, 0.4, 0.5], [0.4, 9, 0.6], [0.5, 0.6, 9]])
    shares = shares_of_pairs(value_SS)
    assert shares == pytest.approx([0.3, 0.5, 0.7])
    interval = mean_interval(shares)
    # t(.975, 2) sqrt(2/3 (.1² + 0 + .1²)) = 4.3027 * .11547
    assert interval is not None
    assert interval.high == pytest.approx(0.5 + 4.3027 * 0.11547, abs=1e-4)


def test_where_each_adds_its_own_to_a_pair_that_is_what_the_mean_over_pairs_has_of_it() -> None:
    own_S, as_second_S = np.array([0.1, 0.2, 0.6, 0.3]), np.array([1.0, 3.0, 2.0, 0.5])
    assert shares_of_pairs(own_S[:, None] + as_second_S) == pytest.approx(own_S + as_second_S)


def test_the_mean_over_one_pair_has_no_interval() -> None:
    assert shares_of_pairs(np.array([[0, 0.4], [0.6, 0]])) == [0.5]
