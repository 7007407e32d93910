"""The words of a context, by rule, in several scripts and tokenizers."""

import numpy as np
import pytest
from tokenizer_kinds import KINDS, tokenizer_of

from temporal_saes.naming.words import Words


def words_of(pieces: list[bytes], usable: list[bool] | None = None) -> list[tuple[str, int, int]]:
    """Each word with its first and last token."""
    words = Words(None)
    words._bytes = dict(enumerate(pieces))
    usable_L = np.array(usable if usable is not None else [True] * len(pieces))
    found = words.of(np.arange(len(pieces)), usable_L)
    return [
        (words.texts[word], int(first), int(last))
        for word, first, last in zip(found.word_O, found.first_O, found.last_O, strict=True)
    ]


def cut(text: str, *ends: int) -> list[bytes]:
    """The bytes of a text, cut at these places."""
    data = text.encode()
    return [data[start:end] for start, end in zip([0, *ends], [*ends, len(data)], strict=True)]


def test_a_word_is_put_together_from_its_tokens_and_one_token_may_hold_several() -> None:
    pieces = [b"The", b" sen", b"ATE", b" met", b", in the", b" morn", b"ing", b"."]
    assert words_of(pieces) == [
        ("the", 0, 0),
        ("senate", 1, 2),
        ("met", 3, 3),
        ("in", 4, 4),
        ("the", 4, 4),
        ("morning", 5, 6),
    ]


def test_an_apostrophe_is_in_a_word_only_between_letters_whichever_it_is() -> None:
    assert words_of([b"'don", b"'t' 1990's"]) == [("don't", 0, 1), ("1990's", 1, 1)]
    assert words_of(["don’t".encode()]) == [("don't", 0, 0)]


def test_what_is_not_read_ends_a_word() -> None:
    assert words_of([b"un", b"<s>", b"read"], [True, False, True]) == [("un", 0, 0), ("read", 2, 2)]
    assert words_of([b"<s>"], [False]) == []
    assert words_of([]) == []


def test_marks_belong_to_their_letters() -> None:
    # the vowel signs of Devanagari are marks, and the letters are apart from each other without them
    assert words_of(cut("हिन्दी भाषा", 6)) == [("हिन्दी", 0, 1), ("भाषा", 1, 1)]
    assert words_of(cut("cafe\u0301 noir", 4)) == [("cafe\u0301", 0, 1), ("noir", 1, 1)]


def test_without_spaces_a_token_is_a_word() -> None:
    # 国会 is one token, 議 another, 員 is cut within its bytes
    pieces = cut("国会議員は", 6, 9, 10, 12)
    assert [len(piece) for piece in pieces] == [6, 3, 1, 2, 3]
    assert words_of(pieces) == [("国会", 0, 0), ("議", 1, 1), ("員", 2, 3), ("は", 4, 4)]
    assert [word for word, _, _ in words_of(cut("สภาไทย", 9))] == ["สภา", "ไทย"]
    # letters of both kinds side by side; Korean has spaces
    assert [word for word, _, _ in words_of(cut("AI技術 국회의사당", 2, 8, 12))] == [
        "ai",
        "技術",
        "국회의사당",
    ]


def test_bytes_that_are_no_text_are_in_no_word() -> None:
    assert words_of([b"ab\xe6", b"\x97", b" cd"]) == [("ab", 0, 0), ("cd", 2, 2)]


@pytest.mark.parametrize("kind", KINDS)
def test_real_tokenizers_give_the_words_of_their_text(kind: str) -> None:
    tokenizer = tokenizer_of(kind)
    text = "The old bridge, it's by the river."
    ids = np.array(tokenizer(text, add_special_tokens=False)["input_ids"])
    words = Words(tokenizer)
    found = words.of(ids, np.ones(len(ids), dtype=bool))
    assert [words.texts[i] for i in found.word_O] == ["the", "old", "bridge", "it's", "by", "the", "river"]
    assert (found.first_O <= found.last_O).all()
    assert (np.diff(found.first_O) >= 0).all()
