"""Windows without a latent in which its neighbours are active."""

import numpy as np
import pytest
import torch
from scipy import sparse
from test_latent_scores import codes_of

from dictionary_learning.trainers.batch_top_k import BatchTopKSAE
from temporal_saes.autointerp import negatives
from temporal_saes.autointerp.negatives import Neighbours, Place, places
from temporal_saes.autointerp.scores import score_latents
from temporal_saes.naming.windows import WINDOW, Halves


def dictionary_of(directions_FD: list[list[float]]) -> BatchTopKSAE:
    made = BatchTopKSAE(2, len(directions_FD), k=1)
    made.decoder.weight.data = torch.tensor(directions_FD).T
    return made


def test_neighbours_are_those_of_the_decoder_and_active_above_their_own_threshold(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(negatives, "N_NEIGHBOURS", 1)
    # 0 and 2 point alike, 1 and 3 do
    dictionary = dictionary_of([[1.0, 0.0], [0.0, 1.0], [0.9, 0.1], [0.1, 0.9]])
    found = Neighbours(dictionary, np.array([0, 3]), slice(0, 4))
    assert found.local_U.tolist() == [1, 2]
    f_TF = np.zeros((3 * WINDOW, 4))
    f_TF[0, 2], f_TF[5, 2], f_TF[7, 1], f_TF[9, 0] = 1.0, 0.005, 3.0, 1.0
    codes = codes_of(np.zeros((3, WINDOW)), f_TF)
    beside = found.beside(found.of(codes), np.ones(3, dtype=bool))
    assert np.argwhere(beside.codes_TF.toarray()).tolist() == [[0, 0], [7, 1]]  # .005 is below a hundredth


def test_places_are_near_a_neighbour_and_far_from_the_latent_one_a_context() -> None:
    f_T1, near_T1 = np.zeros((40, 1)), np.zeros((40, 1))
    near_T1[[2, 6, 8, 13, 25, 27]] = 1
    f_T1[[4, 11, 29]] = 2
    contexts = np.zeros((4, 10))  # 0-9: only 8 is far enough from 4; 10-19: 13 is 2 from 11; 20-29: 25 is
    codes, beside = codes_of(contexts, f_T1), codes_of(contexts, near_T1)
    drawn = places(codes, beside, 0, 9, window=3, seed=[0, 1])
    assert set(drawn) == {Place(0, 8), Place(2, 5)}
    assert places(codes, beside, 0, 1, window=3, seed=[0, 1]) == drawn[:1]
    assert places(codes, beside, 0, 9, window=3, seed=[0, 1]) == drawn


def test_words_that_a_neighbour_shares_tell_a_latent_from_any_text_but_not_from_the_neighbour() -> None:
    """The word 1 is in two of eight kinds of contexts: the latent is active in one, its neighbour in both."""
    generator = np.random.default_rng(0)
    kind_C = np.arange(400) % 8
    tokens_CL = generator.integers(5, 40, (400, WINDOW))
    tokens_CL[kind_C < 2, ::3] = 1
    f_CL1, near_CL1 = np.zeros((400, WINDOW, 1)), np.zeros((400, WINDOW, 1))
    f_CL1[kind_C == 0, 4] = 1
    near_CL1[kind_C < 2, 6] = 1
    codes, beside = (codes_of(tokens_CL, f.reshape(-1, 1)) for f in (f_CL1, near_CL1))
    halves = Halves(np.arange(400) % 16 < 8)
    (any_text,), (hard,) = (score_latents(codes, halves, 0, near) for near in (None, beside))
    assert any_text.window_auc is not None
    assert hard.window_auc is not None
    assert any_text.window_auc > 0.9  # a seventh of the windows without it cannot be told
    assert abs(hard.window_auc - 0.5) < 0.15
    assert (any_text.token_auc, any_text.token_share) == (hard.token_auc, hard.token_share)
    nowhere = beside._replace(codes_TF=sparse.csr_array(beside.codes_TF.shape, dtype=np.float32))
    assert score_latents(codes, halves, 0, nowhere)[0].window_auc is None
