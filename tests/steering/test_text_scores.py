"""Numbers of written texts, against one text and one token at a time."""

import math

import numpy as np
import pytest
import torch
from tokenizer_kinds import tiny_lm

from dictionary_learning.language_model import Continuation, LanguageModel
from dictionary_learning.trainers.batch_top_k import BatchTopKSAE
from temporal_saes.steering.pushes import ShareRow, Steering, token_shares
from temporal_saes.steering.text_scores import read_continuations, repetition, score_texts

LAYER = 2
TEXTS = [
    ("The judge", " overrules the statute, and the verdict is binding."),
    ("Onion", ""),
    ("A distant comet near the moon often", " eclipses it."),
    ("The", " oven<|endoftext|> covers"),
]


@pytest.fixture(scope="module")
def lm(tiny_lm_folder):
    return LanguageModel.load(str(tiny_lm_folder), device="cpu")


@pytest.fixture(scope="module")
def dictionary():
    made = BatchTopKSAE(32, 64, k=8, seed=0)
    made.threshold.fill_(0.3)
    return made


def written(lm, prompt: str, text: str) -> Continuation:
    """As if the model had written the text, in the tokens in which it is read."""
    rows = [lm.tokenizer(some)["input_ids"] if some else [] for some in (prompt, text)]
    return Continuation(*rows, text)


def score(lm, dictionary, texts=TEXTS, norm_limit=math.inf, batch_size=3):
    made = [written(lm, *one) for one in texts]
    return score_texts(lm, LAYER, dictionary, [3, 40], made, norm_limit=norm_limit, batch_size=batch_size)


def slow(lm, dictionary, one: Continuation):
    """Token by token, without a batch."""
    ids, first = [*one.prompt_ids, *one.ids], len(one.prompt_ids)
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
        n_tokens, nll, pooled_D, latents_K = slow(lm, dictionary, written(lm, *TEXTS[i]))
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
    (reading,) = score(lm, dictionary, [("", "a")])
    assert (reading.n_tokens, reading.nll) == (1, None)


def test_batches_say_which_tokens_continue_and_what_predicts_them(lm):
    texts = [written(lm, "The judge", " near"), written(lm, "The", " comet near")]
    (batch,) = read_continuations(texts, 2, "x")
    for row, i in enumerate(batch.rows):
        prompt = ("The judge", "The")[i]
        n_prompt = len(lm.tokenizer(prompt)["input_ids"])
        n = int(batch.mask_BL[row].sum())
        assert batch.continues_BL[row].nonzero()[:, 0].tolist() == list(range(n_prompt, n))
        assert batch.predicting(row).tolist() == list(range(n_prompt - 1, n - 1))


@torch.no_grad()
@pytest.mark.parametrize("kind", ["byte_level", "bos_zero", "dummy_prefix", "appends_eos"])
def test_the_surprise_of_what_the_model_wrote_is_that_of_the_very_tokens(kind):
    lm = tiny_lm(kind)
    dictionary = BatchTopKSAE(32, 64, k=8, seed=0)
    dictionary.threshold.fill_(0.3)
    # padded on the left; texts that end within a character, and begin with a blank
    made = lm.continuations(["The judge near the oven", "A", "北京", "Every onion"], max_new_tokens=9)
    assert any("\ufffd" in one.text for one in made)
    readings = score_texts(lm, LAYER, dictionary, [3, 40], made, norm_limit=math.inf, batch_size=3)
    own_Kn = torch.tensor([[70, 80, 90], [100, 110, 120]])
    rows = [ShareRow(one, None, own_Kn) for one in made]
    shares = token_shares(Steering(lm, LAYER, dictionary, "add", math.inf, False), rows, batch_size=3)
    again = [lm.tokenizer(one.text, add_special_tokens=False)["input_ids"] for one in made]
    assert again != [one.ids for one in made]  # read again, the texts would have other tokens
    for one, reading, share_K in zip(made, readings, shares, strict=True):
        ids, nll, p_KT = list(one.prompt_ids), [], []
        for token in one.ids:
            log_p_V = lm.model(torch.tensor([ids])).logits[0, -1].log_softmax(-1)
            assert token == int(log_p_V.argmax())  # a greedy text: each token the likeliest
            nll.append(-float(log_p_V[token]))
            p_KT.append(log_p_V.exp()[own_Kn].sum(-1).numpy())
            ids.append(token)
        assert reading.n_tokens == len(one.ids) == 9
        assert reading.nll == pytest.approx(np.mean(nll), rel=1e-4)
        assert reading.repetition == repetition(one.ids)
        np.testing.assert_allclose(share_K, np.mean(p_KT, axis=0), rtol=1e-4)
        _, _, pooled_D, latents_K = slow(lm, dictionary, one)
        np.testing.assert_allclose(reading.pooled_D, pooled_D, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(reading.latents_K, latents_K, rtol=1e-3, atol=1e-4)


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
