"""The toy world: which features there are, how often and how long they are on."""

import dataclasses

import numpy as np
import pytest
import torch

from dictionary_learning.errors import UserError
from temporal_saes.persistence.measures import Persistence
from temporal_saes.toy.options import ToyOptions
from temporal_saes.toy.store import ToyStore
from temporal_saes.toy.world import World

OPTIONS = ToyOptions(texts=10, length=64)


@pytest.fixture(scope="module")
def on_BLN() -> np.ndarray:
    return World.of(OPTIONS, 0).draw(400, [0, 2]).on_BLN.numpy()


def test_a_world_is_drawn_from_its_seed_alone() -> None:
    one, again, other = World.of(OPTIONS, 0), World.of(OPTIONS, 0), World.of(OPTIONS, 1)
    assert torch.equal(one.directions_ND, again.directions_ND)
    assert not torch.equal(one.directions_ND, other.directions_ND)
    assert torch.equal(one.draw(3, [0, 2]).x_BLD, again.draw(3, [0, 2]).x_BLD)
    torch.testing.assert_close(one.directions_ND.norm(dim=1), torch.ones(len(one.directions_ND)))


def test_slow_features_last_and_fast_ones_do_not(on_BLN: np.ndarray) -> None:
    counts = Persistence([1, 8], on_BLN.shape[2])
    for on_LN in on_BLN:
        counts.add(on_LN)
    values_KN = counts.values()
    is_slow_N = World.of(OPTIONS, 0).is_slow_N
    assert is_slow_N.sum() == OPTIONS.n_slow == 24
    assert (~is_slow_N).sum() == OPTIONS.n_fast == 72
    # a topic ends with probability 1 / 24 at a token, and may come again at once
    assert values_KN[0, is_slow_N].min() > 0.9
    assert values_KN[1, is_slow_N].min() > 0.6
    assert np.nanmax(values_KN[1, ~is_slow_N]) < 0.25


def test_a_domain_is_on_with_each_of_its_topics_and_a_kind_with_each_of_its_words(on_BLN: np.ndarray) -> None:
    n_topics = OPTIONS.subjects * OPTIONS.domains * OPTIONS.topics
    topics, domains = on_BLN[..., :n_topics], on_BLN[..., n_topics : OPTIONS.n_slow]
    np.testing.assert_array_equal(topics.reshape(*topics.shape[:2], -1, OPTIONS.topics).any(-1), domains)
    fast = on_BLN[..., OPTIONS.n_slow :]
    words, kinds = fast[..., : OPTIONS.kinds * OPTIONS.words], fast[..., OPTIONS.kinds * OPTIONS.words :]
    np.testing.assert_array_equal(words.reshape(*words.shape[:2], -1, OPTIONS.words).any(-1), kinds)
    # a chain has one topic at most, and none for a share of the time
    of_chain = topics.reshape(*topics.shape[:2], OPTIONS.subjects, -1).sum(-1)
    assert of_chain.max() == 1
    # at the first token as at the last
    for at in (0, -1):
        assert (of_chain[:, at] == 0).mean() == pytest.approx(OPTIONS.idle, abs=0.05)


def test_frequencies_fall_by_zipf_and_sum_to_what_was_asked(on_BLN: np.ndarray) -> None:
    n_words = OPTIONS.kinds * OPTIONS.words
    rate_W = np.sort(on_BLN[..., OPTIONS.n_slow : OPTIONS.n_slow + n_words].mean((0, 1)))[::-1]
    assert rate_W.sum() == pytest.approx(OPTIONS.words_a_token, rel=0.1)
    assert rate_W[0] > 10 * rate_W[-1] > 0


def test_the_mean_has_the_share_of_the_energy_that_was_asked_for() -> None:
    for share in (0.0, 0.5, 0.8):
        world = World.of(dataclasses.replace(OPTIONS, mean_share=share), 0)
        x_TD = world.draw(300, [0, 2]).x_BLD.flatten(0, 1)
        found = float(x_TD.mean(0).square().sum() / x_TD.square().sum(1).mean())
        assert found == pytest.approx(share, abs=0.03)


def test_without_noise_and_jitter_an_activation_is_the_sum_of_its_features() -> None:
    world = World.of(dataclasses.replace(OPTIONS, noise=0.0, jitter=0.0), 0)
    drawn = world.draw(2, [0, 2])
    expected_BLD = drawn.on_BLN.float() @ world.directions_ND + world.mean_D
    torch.testing.assert_close(drawn.x_BLD, expected_BLD)


def test_the_store_gives_the_texts_as_pairs_tokens_and_contexts() -> None:
    x_BLD = torch.arange(24.0).reshape(2, 4, 3) + 1
    store = ToyStore(x_BLD, {})
    contexts = next(store.contexts(2))
    assert torch.equal(contexts.x_NLD, x_BLD)
    assert bool(contexts.mask_NL.all())
    pairs_P2D = torch.cat(list(store.pairs(3, epochs=1)))
    # six tokens have an earlier one, which is three numbers back
    assert len(pairs_P2D) == 6
    assert bool((pairs_P2D[:, 0] - pairs_P2D[:, 1] == 3).all())
    assert len(torch.cat(list(store.tokens(4, epochs=1)))) == 8


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"stretch": 0.5}, "--stretch is 0.5, and must be at least 1 token"),
        ({"words_a_token": 100.0}, "must lie between 0 and the 60 words"),
        ({"mean_share": 1.0}, "--mean_share is 1.0, and must be at least 0 and below 1"),
        ({"dict_size": 4, "high_share": 0.01}, "leaves one of the groups without a latent"),
        ({"k": 500}, "--k is 500, and must lie from 1 to --dict_size"),
        ({"batch_tokens": 8}, "--batch_tokens is 8, and must be a text at least"),
        ({"seeds": (0, 0)}, "--seeds is 0 0, and must differ from each other"),
    ],
)
def test_what_makes_no_world_is_refused(values: dict, told: str) -> None:
    with pytest.raises(UserError, match=told):
        ToyOptions(**values)
