"""Answers as the language model reads them: which tokens count, what fits, and their means."""

import numpy as np
import pytest
from scipy import sparse

from dictionary_learning.errors import UserError
from dictionary_learning.language_model import LanguageModel
from temporal_saes.alignment.pairs import PreferencePair
from temporal_saes.alignment.responses import ChooseResponses, ResponseText, fit, is_response, response_means
from temporal_saes.features import Features, Tokens, extract_features
from temporal_saes.reading import Reading

ASK = "\n\nHuman: Which planet is distant?\n\nAssistant:"


@pytest.fixture(scope="module")
def lm(tiny_lm_folder):
    return LanguageModel.load(str(tiny_lm_folder), device="cpu")


def pair(chosen: str, rejected: str, prompt: str = ASK) -> PreferencePair:
    return PreferencePair(prompt, chosen, rejected, 0)


def n_tokens(lm: LanguageModel, text: str) -> int:
    return len(lm.tokenizer(text)["input_ids"])


def read(lm: LanguageModel, texts: list[ResponseText], context_length: int) -> list[str]:
    """The characters of every text's chosen tokens, joined."""
    encoding = lm.tokenize([text.text for text in texts], context_length, offsets=True)
    found = []
    for index, (text, offsets) in enumerate(zip(texts, encoding.offsets, strict=True)):
        tokens = Tokens(np.zeros(len(offsets), dtype=np.int32), offsets, np.ones(len(offsets), dtype=bool))
        chosen = ChooseResponses(texts)(index, tokens)
        found.append("".join(text.text[slice(*offsets[i])] for i in chosen))
    return found


# --- which tokens ---


@pytest.mark.parametrize(
    ("offset", "expected"),
    [
        ((0, 2), False),  # of the prompt
        ((1, 3), False),  # begins with the prompt's last letter
        ((2, 4), True),  # begins with the white space between them
        ((3, 4), True),
        ((4, 4), False),  # no characters
        ((0, 0), False),  # an added special token
    ],
)
def test_a_token_of_the_answer_has_no_word_of_the_prompt(offset, expected):
    assert is_response("ab cd", 3, offset) is expected


def test_the_answers_tokens_are_chosen_and_no_other(lm):
    pairs = [pair(" The comet is faint.", " No planet, I think.\nOr is it?")]
    texts = fit(pairs, lm, Reading(200))
    assert read(lm, texts, 200) == [pairs[0].chosen, pairs[0].rejected]
    assert [text.text for text in texts] == [ASK + pairs[0].chosen, ASK + pairs[0].rejected]
    assert [text.n_tokens for text in texts] == [
        n_tokens(lm, " The comet is faint."),
        n_tokens(lm, pairs[0].rejected),
    ]


def test_an_answer_without_a_prompt_counts_whole(lm):
    texts = fit([pair("The comet.", "A moon.", prompt="")], lm, Reading(50))
    assert read(lm, texts, 50) == ["The comet.", "A moon."]


# --- what fits ---


def test_a_long_prompt_loses_its_beginning_for_both_alike(lm):
    prompt = "The galaxy illuminates the moon." * 50
    answers = [" A comet.", " The faint stellar orbit of a moon."]
    (first, second) = fit([pair(*answers, prompt)], lm, Reading(60))
    longest = n_tokens(lm, answers[1])
    assert first.text[: first.start] == second.text[: second.start]
    assert prompt.endswith(first.text[: first.start])
    assert n_tokens(lm, second.text[: second.start]) == pytest.approx(60 - longest, abs=1)
    assert read(lm, [first, second], 60) == answers


def test_a_long_answer_leaves_the_prompt_a_quarter_and_is_cut_but_counted_whole(lm):
    answer = " The galaxy illuminates the moon." * 50
    (first, second) = fit([pair(" A comet.", answer, "A distant nebula." * 30)], lm, Reading(60))
    assert n_tokens(lm, second.text[: second.start]) == pytest.approx(15, abs=1)
    assert second.n_tokens == n_tokens(lm, answer)
    (_, of_second) = read(lm, [first, second], 60)
    assert answer.startswith(of_second)
    assert n_tokens(lm, of_second) == pytest.approx(45, abs=1)


def test_a_tokenizer_without_offsets_is_refused(lm, monkeypatch):
    class Slow:
        is_fast = False

    monkeypatch.setattr(lm, "tokenizer", Slow())
    with pytest.raises(UserError, match="does not tell which characters"):
        fit([pair("a", "b")], lm, Reading(20))


# --- means ---


def features(rows: list[list[float]], texts: list[int], n_texts: int, *, dense: bool = False) -> Features:
    x = np.array(rows, dtype=np.float32)
    tokens = [Tokens(np.zeros(1, dtype=np.int32), [(0, 5)], np.ones(1, dtype=bool)) for _ in range(n_texts)]
    position_N = np.zeros(len(texts), dtype=np.int64)
    return Features(x if dense else sparse.csr_array(x), np.array(texts), position_N, tokens, 0.0)


@pytest.mark.parametrize("dense", [False, True])
def test_means_are_over_the_tokens_of_an_answer(dense):
    # answer 0: (1, 0), (3, 0); answer 1: (0, 4); answer 2 has no token; answer 3: (5, 5)
    texts = [ResponseText("a b c", 2, 1)] * 3 + [ResponseText("a b c d", 2, 9)]
    found = response_means(texts, features([[1, 0], [3, 0], [0, 4], [5, 5]], [0, 0, 1, 3], 4, dense=dense))
    chosen_PF, rejected_PF = (x if dense else x.toarray() for x in (found.chosen_PF, found.rejected_PF))
    assert found.pair_P.tolist() == [0]
    assert chosen_PF.tolist() == [[2, 0]]
    assert rejected_PF.tolist() == [[0, 4]]
    assert found.n_cut == 0  # the cut answer is of the pair that is left out


def test_an_answer_whose_end_was_not_read_is_counted():
    texts = [ResponseText("a b c", 2, 1), ResponseText("a b c d", 2, 9)]
    assert response_means(texts, features([[1.0], [1.0]], [0, 1], 2)).n_cut == 1


def test_means_are_those_of_a_slow_reference(lm):
    pairs = [pair(f" The comet {'is faint and ' * n}cold.", " A moon is a moon.") for n in range(1, 6)]
    texts = fit(pairs, lm, Reading(60))
    of_answers = extract_features(
        [text.text for text in texts],
        lm,
        2,
        Reading(60, cache=False),
        None,
        choose=ChooseResponses(texts),
    )
    found = response_means(texts, of_answers)
    for p in range(len(pairs)):
        for side, mean_PD in enumerate((found.chosen_PF, found.rejected_PF)):
            encoding = lm.tokenize([texts[2 * p + side].text], 60)
            x_LD = lm.record(encoding.tokens_BL, encoding.mask_BL, 2)[0].numpy()
            expected = x_LD[-texts[2 * p + side].n_tokens :].mean(0)
            np.testing.assert_allclose(mean_PD[p], expected, rtol=2e-4, atol=2e-5)
