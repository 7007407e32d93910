"""Where sentences end in several scripts, and which span a token is of."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizer_kinds import FOREIGN, KINDS, tiny_lm

from dictionary_learning.language_model.tokens import encode
from dictionary_learning.texts.spans import CLOSING, STOPS, is_inside, number_of, spans_of
from temporal_saes import explorer

ENGLISH = 'It is late. "Is it?" she asked… Pi is 3.14, not 3!\nYes'
JAPANESE = "今日は雨です。傘はある？「ない。」と言った！東京は３．１４度"
HINDI = "वह घर गया। क्या वह आएगा? हाँ॥ ठीक है"
ARABIC = "هل جاء؟ نعم. شكرا"


def pieces(pool: str, text: str, turns=None) -> list[str]:
    return [text[start:end] for start, end in spans_of(pool, text, turns)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (ENGLISH, ["It is late. ", '"Is it?" ', "she asked… ", "Pi is 3.14, not 3!\n", "Yes"]),
        (JAPANESE, ["今日は雨です。", "傘はある？", "「ない。」", "と言った！", "東京は３．１４度"]),
        (HINDI, ["वह घर गया। ", "क्या वह आएगा? ", "हाँ॥ ", "ठीक है"]),
        (ARABIC, ["هل جاء؟ ", "نعم. ", "شكرا"]),
        ("no end anywhere", ["no end anywhere"]),
        ("see www.site.org/a?b=1 now", ["see www.site.org/a?b=1 now"]),
        ("1. First\n2. Second", ["1. First\n", "2. Second"]),  # a number is of its item
        ("\n\nWhat?!?! (No.) ***", ["\n\nWhat?!?! ", "(No.) ***"]),
        ("one\r\ntwo\u2028three", ["one\r\n", "two\u2028", "three"]),
        ("42. 43.", ["42. 43."]),  # no letter in all of it
        ("", []),
    ],
)
def test_sentences_end_by_one_rule_in_every_script(text: str, expected: list[str]) -> None:
    assert pieces("sentence", text) == expected


def test_of_a_chat_sentences_end_with_turns_and_frames_are_of_none() -> None:
    text = "<system>Be kind.<user>Is it late? Well<assistant>No"
    turns = ((8, 16), (22, 38), (49, 51))
    assert pieces("turn", text, turns) == ["Be kind.", "Is it late? Well", "No"]
    assert pieces("sentence", text, turns) == ["Be kind.", "Is it late? ", "Well", "No"]
    assert pieces("document", text, turns) == [text[8:]]
    assert pieces("turn", text) == pieces("document", text) == [text]


@given(st.text(alphabet="aé京 .!?。\n\"'1"))
def test_sentences_fill_the_text_and_none_is_empty(text: str) -> None:
    spans = spans_of("sentence", text)
    assert "".join(text[start:end] for start, end in spans) == text
    assert all(start < end for start, end in spans)


def test_a_token_is_of_the_span_of_its_first_visible_character() -> None:
    text = "It is late.  Is it?\n"
    spans = spans_of("sentence", text)  # 0 to 13, 13 to 20
    tokens = [(0, 2), (2, 5), (5, 11), (11, 12), (12, 15), (15, 18), (18, 20), (19, 20)]
    assert [number_of(token, spans, text) for token in tokens] == [0, 0, 0, 0, 1, 1, 1, 1]


def test_a_token_that_begins_beside_the_turns_is_of_the_first_that_it_reaches() -> None:
    text, turns = "A:hi  B:yo", ((2, 4), (8, 10))
    assert [number_of(token, turns, text) for token in ((1, 3), (0, 2), (4, 6), (7, 10), (3, 5))] == [
        *(0, None, None, 1, 0)
    ]
    assert [is_inside(token, turns) for token in ((1, 3), (0, 2), (4, 6), (7, 10), (3, 5))] == [
        *(True, False, False, True, True)
    ]


@given(
    st.lists(st.integers(0, 12), min_size=2, max_size=8, unique=True).map(sorted),
    st.tuples(st.integers(0, 12), st.integers(0, 12)).map(sorted),
    st.text(alphabet="a ", min_size=12, max_size=12),
)
def test_a_token_is_of_a_span_exactly_where_it_is_inside_of_one(bounds, token, text) -> None:
    spans = tuple(zip(bounds[::2], bounds[1::2], strict=False))
    if token[0] < token[1]:
        assert (number_of(tuple(token), spans, text) is not None) == is_inside(tuple(token), spans)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", ["A comet. The judge? No", JAPANESE, HINDI, *FOREIGN])
def test_tokens_of_every_kind_of_tokenizer_are_of_sentences_in_order(kind: str, text: str) -> None:
    lm = tiny_lm(kind)
    rows, offsets = encode(lm.tokenizer, [text], offsets=True)
    spans = spans_of("sentence", text)
    numbers = [
        number_of(token, spans, text)
        for token, id_ in zip(offsets[0], rows[0], strict=True)
        if id_ not in lm.special_ids
    ]
    assert None not in numbers
    assert numbers == sorted(numbers)
    assert set(numbers) == set(range(len(spans)))


def test_the_explorer_knows_the_same_stops_and_closing_marks():
    script = (Path(explorer.__file__).parent / "text.js").read_text(encoding="utf-8")
    assert f'const STOPS = "{STOPS}"' in script
    closing = CLOSING.removesuffix("*").replace('\\"', '"')  # as a string of JavaScript has it
    assert json.dumps(closing, ensure_ascii=False) in script
