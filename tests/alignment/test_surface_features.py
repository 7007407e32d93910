"""What can be counted in a text: hand-counted texts, and texts with nothing to count."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from temporal_saes.alignment.surface_features import (
    SURFACE_FEATURES,
    capital_share,
    digit_share,
    lines,
    punctuation_share,
    questions,
    sentences,
    surface,
    word_length,
)


def test_each_feature_of_a_short_text_by_hand():
    # letters: O H h o w m u c h = 9, two of them capitals; others . ! ? . are 4, digits 2
    text = "O. H! how much? 3.5"
    assert sentences(text) == 4
    assert questions(text) == 1
    assert lines(text) == 1
    assert word_length(text) == (1 + 1 + 3 + 4 + 1 + 1) / 6
    assert digit_share(text) == pytest.approx(2 / 15)
    assert punctuation_share(text) == pytest.approx(4 / 15)
    assert capital_share(text) == pytest.approx(2 / 9)


@pytest.mark.parametrize(
    ("text", "n"),
    [
        ('It cost 3.50. Really?! "Yes." (No.)', 4),
        ("No full stop", 1),
        ("A list:\n- one\n- two\n\n---\n", 3),
        ("Wait... what", 2),
        ("...", 0),
        ("月が出た。「星も？」雨！", 3),
        ("चाँद निकला। तारे?", 2),
        ("طلع القمر. نعم؟", 2),
        ("", 0),
    ],
)
def test_a_sentence_has_a_word_and_ends_with_a_mark_or_the_line(text, n):
    assert sentences(text) == n


@pytest.mark.parametrize(
    ("text", "n"),
    [('What?? "Who?" a?b', 2), ("Why?!", 1), ("No.", 0), ("星も？雨！「風？」", 2), ("نعم؟ لا.", 1)],
)
def test_a_question_ends_with_its_mark(text, n):
    assert questions(text) == n


def test_an_apostrophe_or_a_hyphen_joins_a_word():
    assert word_length("don't well-known") == (5 + 10) / 2


def test_marks_on_letters_are_of_their_words_and_no_punctuation():
    hindi = "यह है।"  # two words of two and of two signs (a letter, and one with its vowel), and a stop
    assert word_length(hindi) == 2
    assert punctuation_share(hindi) == pytest.approx(1 / 5)
    assert word_length("cafe\N{COMBINING ACUTE ACCENT}s") == 6


@given(st.text())
def test_any_text_has_finite_features_and_shares_are_shares(text):
    values = dict(zip((feature.name for feature in SURFACE_FEATURES), surface(text), strict=True))
    assert all(value >= 0 for value in values.values())
    assert all(values[name] <= 1 for name in ("digits", "punctuation", "capitals"))
    assert values["questions"] <= len(text)
