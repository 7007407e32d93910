import pytest

from temporal_saes.experiment.intervals import as_json, in_words, mean_interval


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
