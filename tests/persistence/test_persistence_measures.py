"""Persistence of latents and cosines of matched ones, by hand."""

import numpy as np
import pytest

from temporal_saes.persistence.measures import Persistence, matched_cosines


def test_persistence_is_what_being_on_adds_to_being_on_later() -> None:
    counts = Persistence([1], 2)
    counts.add(np.array([[1, 1], [1, 0], [0, 1], [0, 0], [1, 1]], bool))
    # of the first latent, on before: on, off; off before: off, on, so 1/2 - 1/2
    # of the second, on before: off, off; off before: on, on, so 0 - 1
    np.testing.assert_allclose(counts.values(), [[0, -1]])
    assert counts.n == 5
    assert counts.n_on_F.tolist() == [3, 3]


def test_a_pair_never_crosses_from_one_text_to_the_next() -> None:
    together, apart = Persistence([1, 2], 1), Persistence([1, 2], 1)
    on_LF = np.array([[1], [0], [0], [1], [0], [1]], bool)
    together.add(on_LF)
    for part in (on_LF[:3], on_LF[3:]):
        apart.add(part)
    assert together._pairs_K.tolist() == [5, 4]
    assert apart._pairs_K.tolist() == [4, 2]


def test_a_latent_that_holds_through_its_text_has_one_and_noise_has_none() -> None:
    generator = np.random.default_rng(0)
    counts = Persistence([1, 8], 3)
    for _ in range(300):
        held = np.full(40, generator.random() < 0.3)
        noise = generator.random(40) < 0.3
        counts.add(np.stack([held, noise, np.ones(40, bool)], axis=1))
    values_KF = counts.values()
    np.testing.assert_allclose(values_KF[:, 0], 1)
    np.testing.assert_allclose(values_KF[:, 1], 0, atol=0.03)
    assert np.isnan(values_KF[:, 2]).all()  # never off


def test_a_markov_chain_has_its_second_eigenvalue_to_the_power_of_the_lag() -> None:
    generator = np.random.default_rng(1)
    counts = Persistence([1, 3], 1)
    for _ in range(200):
        on = [generator.random() < 0.5]
        for _ in range(99):
            on.append(on[-1] if generator.random() < 0.9 else not on[-1])
        counts.add(np.array(on)[:, None])
    np.testing.assert_allclose(counts.values()[:, 0], [0.8, 0.8**3], atol=0.02)


def test_a_text_shorter_than_a_lag_adds_no_pair() -> None:
    counts = Persistence([4], 1)
    counts.add(np.array([[1], [0]], bool))
    assert np.isnan(counts.values()).all()


def test_directions_are_matched_one_to_one_whatever_their_order_and_length() -> None:
    generator = np.random.default_rng(2)
    own_FD = generator.normal(size=(5, 7))
    np.testing.assert_allclose(matched_cosines(own_FD, 3 * own_FD[[3, 1, 0, 4, 2]]), 1)
    # two directions want the same partner, and one of them gets it
    found_F = matched_cosines(np.array([[1.0, 0], [1, 0.1]]), np.array([[1.0, 0], [0, 1]]))
    assert sorted(found_F.tolist()) == pytest.approx([0.1 / 1.01**0.5, 1.0])


def test_a_direction_without_a_partner_has_no_cosine() -> None:
    found_F = matched_cosines(np.eye(3), np.eye(3)[:2])
    np.testing.assert_allclose(found_F[:2], 1)
    assert np.isnan(found_F[2])
