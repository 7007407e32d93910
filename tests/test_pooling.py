"""Means over sentences, turns and documents, worked by hand."""

import numpy as np
import pytest
import torch
from scipy import sparse
from tokenizer_kinds import KINDS, tiny_lm

from dictionary_learning.language_model import LanguageModel
from dictionary_learning.trainers.batch_top_k import BatchTopKSAE
from temporal_saes.features import extract_features
from temporal_saes.pooling import span_means, span_numbers
from temporal_saes.reading import Reading

# three sentences of 2, 4 and 1 tokens
TEXT = "A b. C d e f! G"
OFFSETS = [(0, 0), (0, 1), (1, 4), (4, 6), (6, 8), (8, 10), (10, 13), (13, 15)]  # in front a BOS
USABLE = np.array([False] + 7 * [True])


def means(number_L: np.ndarray, x_L: list[float]) -> list[float]:
    order = [np.flatnonzero(number_L == n) for n in range(number_L.max() + 1)]
    rows = np.array(x_L)[np.concatenate(order)][:, None]
    return span_means(rows, [len(span) for span in order])[:, 0].tolist()


def test_the_means_of_three_sentences_are_those_worked_by_hand() -> None:
    number_L = span_numbers("sentence", TEXT, OFFSETS, USABLE)
    assert number_L.tolist() == [-1, 0, 0, 1, 1, 1, 1, 2]
    # (1 + 3) / 2, (2 + 4 + 6 + 8) / 4, 5; the 99 of the BOS is in none
    assert means(number_L, [99, 1, 3, 2, 4, 6, 8, 5]) == [2, 5, 5]
    document_L = span_numbers("document", TEXT, OFFSETS, USABLE)
    assert document_L.tolist() == [-1] + 7 * [0]
    assert means(document_L, [99, 1, 3, 2, 4, 6, 8, 6]) == pytest.approx([30 / 7])


def test_a_sink_within_a_sentence_and_a_context_that_ends_in_one_are_left_out() -> None:
    usable_L = USABLE[:6].copy()  # of the second sentence the last two tokens were not read
    usable_L[3] = False  # and its first is a sink
    number_L = span_numbers("sentence", TEXT, OFFSETS[:6], usable_L)
    assert number_L.tolist() == [-1, 0, 0, -1, 1, 1]
    assert means(number_L, [99, 1, 3, 1e6, 4, 6]) == [2, 5]


def test_the_turns_of_a_chat_are_what_their_roles_said() -> None:
    text = "<s>Be kind.<u>Late?<a>No"
    turns = ((3, 11), (14, 19), (22, 24))
    offsets = [(0, 3), (3, 6), (6, 11), (11, 14), (14, 18), (18, 19), (19, 22), (22, 24)]
    usable_L = np.array([False, True, True, False, True, True, False, True])
    turn_L = span_numbers("turn", text, offsets, usable_L, turns)
    assert turn_L.tolist() == [-1, 0, 0, -1, 1, 1, -1, 2]
    assert means(turn_L, [9, 1, 3, 9, 2, 6, 9, 7]) == [2, 4, 7]
    usable_L[7] = False  # a turn without a usable token has no mean
    assert span_numbers("turn", text, offsets, usable_L, turns).tolist() == [-1, 0, 0, -1, 1, 1, -1, -1]


def test_means_of_sparse_codes_stay_sparse_and_are_those_of_dense_ones() -> None:
    x = np.random.default_rng(0).random((6, 5)) * (np.random.default_rng(1).random((6, 5)) < 0.4)
    found = span_means(sparse.csr_array(x), [1, 3, 2])
    assert isinstance(found, sparse.csr_array)
    expected = [x[0], x[1:4].mean(0), x[4:].mean(0)]
    np.testing.assert_allclose(found.toarray(), expected, rtol=1e-6)
    np.testing.assert_allclose(span_means(x, [1, 3, 2]), expected, rtol=1e-6)
    assert span_means(np.zeros((0, 5)), []).shape == (0, 5)


def all_sentences(texts):
    def spans(index, tokens):
        number_L = span_numbers("sentence", texts[index], tokens.offsets, tokens.usable_L)
        return [np.flatnonzero(number_L == n) for n in range(number_L.max() + 1)]

    return spans


@pytest.fixture
def no_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TEMPORAL_SAES_CACHE", str(tmp_path))


@pytest.mark.parametrize("kind", KINDS)
def test_codes_and_activations_are_averaged_whatever_the_tokenizer(kind, no_cache) -> None:
    lm = tiny_lm(kind)
    texts = ["The comet orbits. A judge? It is cold", "今日は雨です。傘はある？"]
    ae = BatchTopKSAE(lm.d_model, 64, k=4)
    ae.threshold.fill_(0.05)
    reading = Reading(96, max_norm_ratio=None, cache=False)
    tokens = extract_features(texts, lm, 2, reading, ae)
    dense = extract_features(texts, lm, 2, reading, None)
    pooled = extract_features(texts, lm, 2, reading, ae, spans=all_sentences(texts))
    of_mean = extract_features(texts, lm, 2, reading, ae, spans=all_sentences(texts), averages_first=True)
    assert pooled.text_N.tolist() == of_mean.text_N.tolist() == [0, 0, 0, 1, 1]
    row = 0
    for index, text in enumerate(texts):
        (of_text,) = np.nonzero(tokens.text_N == index)
        number_L = span_numbers("sentence", text, tokens.tokens[index].offsets, tokens.tokens[index].usable_L)
        number_u = number_L[tokens.position_N[of_text]]
        for n in range(number_u.max() + 1):
            rows = of_text[number_u == n]
            np.testing.assert_allclose(
                pooled.x[[row]].toarray()[0], tokens.x[rows].toarray().mean(0), rtol=1e-5, atol=1e-6
            )
            mean_D = torch.from_numpy(dense.x[rows].mean(0))
            expected = ae.encode(mean_D[None])[0].detach().numpy()
            np.testing.assert_allclose(of_mean.x[[row]].toarray()[0], expected, rtol=1e-4, atol=1e-5)
            row += 1
    assert row == len(pooled.text_N)
    assert abs(pooled.x - of_mean.x).max() > 1e-3  # the code of a mean is not the mean of codes


def test_of_a_chat_only_what_was_said_is_usable(tiny_lm_folder, no_cache) -> None:
    lm = LanguageModel.load(str(tiny_lm_folder), device="cpu")
    text = "SYSTEM The comet.USER The judge."
    turns = ((7, 17), (22, 32))
    reading = Reading(64, max_norm_ratio=None, cache=False)
    found = extract_features([text, text], lm, 2, reading, None, turns=[turns, None])
    said = ["".join(text[slice(*t.offsets[i])] for i in np.flatnonzero(t.usable_L)) for t in found.tokens]
    # a token that reaches into a turn is of it, with the blank in front
    assert said == [" The comet. The judge.", text]
    whole = extract_features([text], lm, 2, reading, None)  # the model reads all of it all the same
    np.testing.assert_array_equal(found.x[found.text_N == 1], whole.x)
