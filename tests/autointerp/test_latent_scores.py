"""The scores that need no language model, by hand and on latents whose rule is known."""

import numpy as np
import pytest
from scipy import sparse

from temporal_saes.autointerp.scores import active_thresholds, keep_active, score_latents
from temporal_saes.latents.codes import CodesOfContexts, join, select
from temporal_saes.naming.windows import WINDOW, Halves, area_under_curve, split_contexts, window_of

N_CONTEXTS, LENGTH, N_WORDS = 80, 2 * WINDOW + 5, 40


def codes_of(tokens_CL: np.ndarray, f_TK: np.ndarray, usable_T: np.ndarray | None = None) -> CodesOfContexts:
    n = tokens_CL.size
    start_C = np.arange(len(tokens_CL) + 1) * tokens_CL.shape[1]
    usable_T = np.ones(n, dtype=bool) if usable_T is None else usable_T
    return CodesOfContexts(
        tokens_CL.ravel().astype(np.int32),
        usable_T,
        start_C,
        sparse.csr_array(f_TK.astype(np.float32)),
        np.arange(len(tokens_CL)),
    )


@pytest.fixture(scope="module")
def known() -> CodesOfContexts:
    """Latents that are: 0 the word 7; 1 any place of a context with the word 3 in it; 2 nothing; 3 dead.

    The word 3 is in half of the contexts, at every fourth place there.
    """
    generator = np.random.default_rng(0)
    tokens_CL = generator.integers(4, N_WORDS, (N_CONTEXTS, LENGTH))
    about = np.arange(N_CONTEXTS) % 2 == 0
    tokens_CL[about, ::4] = 3
    f_CLK = np.zeros((N_CONTEXTS, LENGTH, 4))
    f_CLK[..., 0] = np.where(tokens_CL == 7, 2.0, 0)
    f_CLK[..., 1] = (about[:, None] & (generator.random((N_CONTEXTS, LENGTH)) < 0.3)) * 1.0
    f_CLK[..., 2] = (generator.random((N_CONTEXTS, LENGTH)) < 0.02) * generator.random((N_CONTEXTS, LENGTH))
    return codes_of(tokens_CL, f_CLK.reshape(-1, 4))


@pytest.fixture(scope="module")
def scores(known):
    return score_latents(known, split_contexts(known, seed=0), seed=0)


def test_the_area_counts_pairs_in_the_right_order_and_half_of_the_ties():
    # active at 1, 2, 2, 3, 3 and silent at 0, 1, 1, 2, 3: of 25 pairs 15 are in order and 6 are ties
    score = np.array([0.0, 1.0, 2.0, 3.0])
    active, silent = np.array([0, 1, 2, 2]), np.array([1, 2, 1, 1])
    below = 1 * 1 + 2 * 3 + 2 * 4
    ties = 1 * 2 + 2 * 1 + 2 * 1
    assert area_under_curve(score, active, silent) == pytest.approx((below + ties / 2) / 25)
    assert area_under_curve(-score, active, silent) == pytest.approx(1 - (below + ties / 2) / 25)


def test_an_area_of_four_places_is_none():
    assert area_under_curve(np.arange(2.0), np.array([4, 0]), np.array([0, 9])) is None


def test_a_latent_that_is_a_word_is_told_by_the_token(scores):
    assert scores[0].token_share > 0.95
    assert scores[0].token_auc == 1
    assert scores[0].window_auc > 0.95


def test_a_latent_of_a_subject_is_told_by_the_words_around_and_not_by_the_token(scores):
    assert scores[1].window_auc > 0.99
    assert scores[1].token_share < 0.5
    assert abs(scores[1].token_auc - 0.5) < 0.1


def test_a_latent_that_follows_no_rule_is_told_by_nothing(scores):
    assert abs(scores[2].window_auc - 0.5) < 0.15
    assert abs(scores[2].token_auc - 0.5) < 0.15
    assert scores[2].token_share < 0.02


def test_what_is_learnt_from_activations_dealt_out_at_random_is_near_chance(scores):
    for one in scores[:3]:
        assert one.shuffled["token_share"] < 0.05
        assert abs(one.shuffled["token_auc"] - 0.5) < 0.15
        assert abs(one.shuffled["window_auc"] - 0.5) < 0.2


def test_a_latent_that_is_never_active_has_no_score(scores):
    assert scores[3][:3] == (None, None, None)
    assert set(scores[3].shuffled.values()) == {None}


def test_the_share_of_a_token_is_by_hand():
    """Learnt: word 0 always 3 (of 5 times), word 1 never (5 times); mean 1.5, of which one token is added."""
    tokens_CL = np.tile([0, 1], (2, 5))
    f_TK = np.where(tokens_CL.reshape(-1, 1) == 0, 3.0, 0.0)
    (one,) = score_latents(codes_of(tokens_CL, f_TK), Halves(np.array([True, False])), seed=0)
    predicted = [(5 * 3 + 1.5) / 6, 1.5 / 6]
    error = 5 * (3 - predicted[0]) ** 2 + 5 * predicted[1] ** 2
    assert one.token_share == pytest.approx(1 - error / (10 * 1.5**2))
    assert one.token_auc is None  # ten tokens are no window


def test_windows_are_full_stretches_of_usable_tokens_of_one_context():
    tokens_CL = np.zeros((2, WINDOW + 3))
    usable_T = np.ones(tokens_CL.size, dtype=bool)
    usable_T[:4] = False  # leaves one less than a window in the first context
    window_U = window_of(codes_of(tokens_CL, np.zeros((tokens_CL.size, 1)), usable_T))
    assert window_U.tolist() == [-1] * (WINDOW - 1) + [0] * WINDOW + [-1] * 3


def test_a_dense_latent_counts_as_active_in_half_of_the_windows():
    generator = np.random.default_rng(1)
    tokens_CL = np.zeros((40, WINDOW))
    dense_T = 1 + generator.random(tokens_CL.size)
    rare_T = np.where(np.arange(tokens_CL.size) % (8 * WINDOW) == 0, 1.0, 0.005)
    codes = codes_of(tokens_CL, np.stack([dense_T, rare_T], axis=1))
    learn_C = np.ones(40, dtype=bool)
    threshold_K = active_thresholds(codes, learn_C)
    assert threshold_K[1] == pytest.approx(0.01)  # a hundredth of its largest
    active_CLK = keep_active(codes, threshold_K).codes_TF.toarray().reshape(40, WINDOW, 2) > 0
    assert active_CLK.any(axis=1).sum(0).tolist() == [20, 5]


def test_halves_share_no_context_and_follow_the_seed(known):
    first, second = (split_contexts(known, seed) for seed in (0, 1))
    assert first.learn_C.sum() == N_CONTEXTS // 2
    assert (first.learn_C ^ first.test_C).all()
    assert (first.learn_C != second.learn_C).any()
    assert (split_contexts(known, 0).learn_C == first.learn_C).all()


def test_chunks_joined_are_the_whole(known):
    which = np.arange(N_CONTEXTS) < 30
    parts = [select(known, which), select(known, ~which)]
    joined = join(parts)
    assert joined.start_C.tolist() == known.start_C.tolist()
    assert (joined.tokens_T == known.tokens_T).all()
    assert (joined.codes_TF != known.codes_TF).nnz == 0
