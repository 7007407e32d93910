import itertools

import numpy as np
import pytest

from temporal_saes.geometry.measures import (
    autocorrelation,
    bands,
    cosine,
    dimension,
    effective_rank,
    frequencies,
    participation_ratio,
    power_shares,
    slow_share,
    slow_share_of_noise,
    spectrum,
    spectrum_of_all,
    tortuosity,
)


def noise(n_positions: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n_positions, width))


STILL = np.full((8, 3), 0.1, np.float32)


# --- dimensions of one text ---


def test_the_spectrum_is_that_of_the_variances_along_the_axes():
    # differences from the mean (±2, 0), (0, ±1): variances 8 and 2 of 10, whatever the offset
    square = np.array([[2.0, 0], [-2, 0], [0, 1], [0, -1]]) + np.array([5, -3])
    np.testing.assert_allclose(spectrum(square), [0.8, 0.2])
    tall = np.linalg.svd(noise(30, 4) - noise(30, 4).mean(0), compute_uv=False) ** 2
    np.testing.assert_allclose(spectrum(noise(30, 4)), tall / tall.sum())
    wide = spectrum(noise(4, 30))
    assert len(wide) == 4
    assert wide[-1] == pytest.approx(0)  # four positions have three differences


def test_the_spectrum_of_many_texts_is_that_of_all_their_positions():
    texts = [noise(5, 4, seed) + 3 for seed in range(3)]
    np.testing.assert_allclose(spectrum_of_all(texts), spectrum(np.concatenate(texts)), atol=1e-12)
    assert spectrum_of_all([STILL, STILL]) is None


def test_equal_variances_count_as_so_many_dimensions():
    for d in (1, 3, 7):
        equal = np.array([1 / d] * d + [0.0, 0.0])
        assert effective_rank(equal) == pytest.approx(d)
        assert participation_ratio(equal) == pytest.approx(d)


def test_unequal_variances_count_as_fewer():
    # singular values 3 and 1 of 4: entropy .75 ln(4/3) + .25 ln 4 = .5623; variances .9 and .1
    unequal = np.array([0.9, 0.1])
    assert effective_rank(unequal) == pytest.approx(np.exp(0.75 * np.log(4 / 3) + 0.25 * np.log(4)))
    assert participation_ratio(unequal) == pytest.approx(1 / (0.81 + 0.01))


def test_a_part_that_does_not_move_has_no_numbers():
    assert spectrum(STILL) is None
    assert power_shares(STILL) is None
    assert slow_share(STILL) is None
    assert tortuosity(STILL) is None
    assert cosine(STILL, noise(8, 3)) is None
    assert autocorrelation(STILL, STILL.mean(0), 2) is None
    assert dimension(STILL) is None
    assert spectrum(np.zeros((8, 3))) is None


# --- bends ---


def test_a_straight_path_has_tortuosity_one_and_a_detour_more():
    line = np.outer(np.arange(5.0), [3, 4])
    assert tortuosity(line) == pytest.approx(1)
    # 3 to the right, 4 up: 7 steps for a distance of 5
    assert tortuosity(np.array([[0.0, 0], [3, 0], [3, 4]])) == pytest.approx(7 / 5)


def test_pieces_of_a_path_are_summed_and_the_rest_is_left_out():
    path = np.array([[0.0, 0], [1, 0], [1, 1], [2, 1], [2, 2], [9, 9]])
    # two pieces of two steps: lengths 2 + 2, distances sqrt 2 + sqrt 2
    assert tortuosity(path, steps=2) == pytest.approx(4 / (2 * np.sqrt(2)))
    assert tortuosity(path, steps=6) is None


def test_a_path_that_ends_where_it_began_has_no_tortuosity():
    assert tortuosity(np.array([[0.0, 0], [1, 1], [0, 0]])) is None


def test_independent_positions_have_about_as_much_tortuosity_as_steps():
    assert tortuosity(noise(640, 200), steps=32) == pytest.approx(32, rel=0.05)


# --- frequencies ---


def test_a_wave_has_its_power_at_its_frequency():
    t = np.arange(20)
    wave = np.stack([np.cos(2 * np.pi * t / 10), np.sin(2 * np.pi * t / 10)], axis=1) + 4
    # a period of 10 tokens is a fifth of Nyquist, whose period is 2
    shares = power_shares(wave)
    assert frequencies(20)[shares.argmax()] == pytest.approx(0.2)
    assert shares.max() == pytest.approx(1)
    assert slow_share(wave, cut=0.2) == pytest.approx(1)
    assert slow_share(wave, cut=0.19) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("n", [15, 16])
def test_shares_of_power_are_shares_of_the_variance(n):
    v = noise(n, 3)
    shares = power_shares(v)
    assert shares.sum() == pytest.approx(1)
    c = v - v.mean(0)
    for k, frequency in enumerate(frequencies(n)):
        only = bands(c, cut=frequency + 1e-9).slow_LD - bands(c, cut=frequency - 1e-9).slow_LD
        assert (only**2).sum() / (c**2).sum() == pytest.approx(shares[k])


def test_two_waves_are_shared_by_their_squares():
    t = np.arange(40)
    # amplitudes 3 (slow, .05 of Nyquist) and 1 (the sign changes at every token: power 1 and not 1/2)
    v = (3 * np.cos(2 * np.pi * t / 40) + (-1.0) ** t)[:, None]
    assert slow_share(v, cut=0.1) == pytest.approx(4.5 / 5.5)
    slow, fast = bands(v, cut=0.1)
    np.testing.assert_allclose(slow[:, 0], 3 * np.cos(2 * np.pi * t / 40), atol=1e-12)
    np.testing.assert_allclose(fast[:, 0], (-1.0) ** t, atol=1e-12)


def test_white_noise_is_as_slow_as_it_has_slow_frequencies():
    # 127 positions: the frequencies 1 to 6 of 63 are at most .1 of Nyquist, and each has two waves
    assert slow_share_of_noise(127) == pytest.approx(12 / 126)
    shares = [slow_share(noise(127, 50, seed)) for seed in range(20)]
    assert np.mean(shares) == pytest.approx(12 / 126, rel=0.05)


def test_the_cosine_of_paths_ignores_where_they_are():
    v = noise(10, 4)
    assert cosine(v, 2 * v + 5) == pytest.approx(1)
    assert cosine(v, -v) == pytest.approx(-1)
    slow, fast = bands(v, cut=0.5)
    assert cosine(slow, fast) == pytest.approx(0, abs=1e-12)
    assert cosine(v, slow) == pytest.approx(np.sqrt(slow_share(v, cut=0.5)))


# --- time ---


def test_autocorrelation_by_hand():
    # differences from 1: 1, -1, 2, 0, mean square 6/4; lag 1: (-1 - 2 + 0) / 3; lag 2: (2 + 0) / 2
    v = np.array([[2.0], [0], [3], [1]])
    got = autocorrelation(v, np.array([1.0]), max_lag=2)
    np.testing.assert_allclose(got, [1, -1 / 1.5, 1 / 1.5])


def test_what_all_positions_share_is_left_at_every_lag():
    v = noise(400, 30) + 2  # shared: length² 4 a dimension, own: 1
    got = autocorrelation(v, np.zeros(30), max_lag=40)
    np.testing.assert_allclose(got[1:], 0.8, atol=0.03)


# --- dimensions over texts ---


def brute_force(v: np.ndarray) -> float:
    """U-statistic of tr(C²) over all ordered quadruples, <a - b, c - d>² / 4; of tr(C) over pairs."""
    n = len(v)
    squares = [((v[a] - v[b]) @ (v[c] - v[d])) ** 2 / 4 for a, b, c, d in itertools.permutations(range(n), 4)]
    traces = [((v[a] - v[b]) ** 2).sum() / 2 for a, b in itertools.permutations(range(n), 2)]
    return np.mean(traces) ** 2 / np.mean(squares)


def test_the_dimension_is_that_of_the_u_statistics():
    v = noise(8, 3) * [3, 2, 1] + 10
    got = dimension(v)
    assert got.mean == pytest.approx(brute_force(v))
    without = np.array([brute_force(np.delete(v, i, axis=0)) for i in range(8)])
    error = np.sqrt(7 / 8 * ((without - without.mean()) ** 2).sum())
    assert got.high - got.mean == pytest.approx(2.364624 * error, rel=1e-5)  # t(.975, 7)


def test_few_texts_do_not_bound_the_dimension():
    # 200 equal dimensions, seen through 60 texts: the plain participation ratio cannot exceed 59
    plain = participation_ratio(spectrum(noise(60, 200)))
    assert plain < 50
    estimates = [dimension(noise(60, 200, seed)).mean for seed in range(20)]
    assert np.mean(estimates) == pytest.approx(200, rel=0.1)
