"""Numbers of written texts, against one text and one token at a time."""

import math

import numpy as np
import pytest
import torch

from dictionary_learning.language_model import LanguageModel
from dictionary_learning.trainers.batch_top_k import BatchTopKSAE
from temporal_saes.steering.text_scores import Continuation, read_continuations, repetition, score_texts

LAYER = 2
TEXTS = [
    Continuation("The judge", " overrules the statute, and the verdict is binding."),
    Continuation("Onion", ""),
    Continuation("A distant comet near the moon often", " eclipses it."),
    Continuation("The", " oven<|endoftext|> covers"),
]


@pytest.fixture(scope="module")
def lm(tiny_lm_folder):
    return LanguageModel.load(str(tiny_lm_folder), device="cpu")


@pytest.fixture(scope="module")
def dictionary():
    made = BatchTopKSAE(32, 64, k=8, seed=0)
    made.threshold.fill_(0.3)
    return made


def score(lm, dictionary, texts=TEXTS, norm_limit=math.inf, batch_size=3):
    return score_texts(lm, LAYER, dictionary, [3, 40], texts, norm_limit=norm_limit, batch_size=batch_size)


def slow(lm, dictionary, one: Continuation):
    """Token by token, without a batch."""
    encoded = lm.tokenizer(one.prompt + one.text, return_offsets_mapping=True)
    ids = encoded["input_ids"]
    first = next(i for i, (_, end) in enumerate(encoded["offset_mapping"]) if end > len(one.prompt))
    output = lm.model(torch.tensor([ids]), output_hidden_states=True)
    log_p_LV = output.logits[0].log_softmax(-1)
    nll = -np.mean([float(log_p_LV[i - 1, ids[i]]) for i in range(first, len(ids))])
    x_LD = output.hidden_states[LAYER + 1][0]
    text = [i for i in range(first, len(ids)) if ids[i] not in lm.special_ids]
    return len(ids) - first, nll, x_LD[text].mean(0), dictionary.encode(x_LD[text])[:, [3, 40]].mean(0)


@torch.no_grad()
@pytest.mark.parametrize("batch_size", [1, 3])
def test_readings_are_those_of_one_text_at_a_time(lm, dictionary, batch_size):
    readings = score(lm, dictionary, batch_size=batch_size)
    for i in (0, 2, 3):
        n_tokens, nll, pooled_D, latents_K = slow(lm, dictionary, TEXTS[i])
        assert readings[i].n_tokens == n_tokens
        assert readings[i].nll == pytest.approx(nll, rel=1e-4)
        np.testing.assert_allclose(readings[i].pooled_D, pooled_D, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(readings[i].latents_K, latents_K, rtol=1e-3, atol=1e-4)


def test_a_text_without_a_token_has_no_numbers(lm, dictionary):
    assert score(lm, dictionary)[1] == (0, None, None, None, None)
    assert score(lm, dictionary, []) == []


def test_activations_of_outlying_norm_are_not_read(lm, dictionary):
    reading = score(lm, dictionary, norm_limit=0.0)[0]
    assert reading.latents_K is None
    assert reading.pooled_D is None
    assert reading.nll is not None


def test_a_first_token_has_nothing_that_predicts_it(lm, dictionary):
    (reading,) = score(lm, dictionary, [Continuation("", "a")])
    assert (reading.n_tokens, reading.nll) == (1, None)


def test_batches_say_which_tokens_continue_and_what_predicts_them(lm):
    (batch,) = read_continuations(
        lm, [Continuation("The judge", " near"), Continuation("The", " comet near")], 2, "x"
    )
    for row, i in enumerate(batch.rows):
        prompt = ("The judge", "The")[i]
        n_prompt = len(lm.tokenizer(prompt)["input_ids"])
        n = int(batch.mask_BL[row].sum())
        assert batch.continues_BL[row].nonzero()[:, 0].tolist() == list(range(n_prompt, n))
        assert batch.predicting(row).tolist() == list(range(n_prompt - 1, n - 1))


@pytest.mark.parametrize(
    ("tokens", "share"),
    [
        ([], None),
        ([1, 2], None),
        ([1, 2, 3], 0),
        ([1, 2, 3, 1, 2, 3], 1 / 4),  # 123 231 312 123
        ([5] * 8, 5 / 6),
    ],
)
def test_repetition_is_the_share_of_runs_of_three_seen_before(tokens, share):
    assert repetition(tokens) == (None if share is None else pytest.approx(share))
