"""What single tokens say, also where they are no text."""

import numpy as np
import pytest
from conftest import corpus_records, make_tokenizer
from tokenizer_kinds import FOREIGN, KINDS, tokenizer_of

from dictionary_learning.language_model.token_text import Sentences, stretches, token_texts
from temporal_saes.naming.words import Words


def test_texts_of_tokens_join_to_the_text_and_bytes_are_written_out() -> None:
    tokenizer = make_tokenizer([record["text"] for record in corpus_records()], eos_token="<|endoftext|>")
    text = "The  comet\n<script> é"
    ids = tokenizer(text)["input_ids"]
    told = token_texts(tokenizer, ids)
    assert "".join(told) == text.replace("é", "⟨C3⟩⟨A9⟩")
    # a token that ends in the middle of a character keeps what is whole
    assert token_texts(tokenizer, [0]) == ["<|endoftext|>"]
    assert token_texts(tokenizer, [len(tokenizer), -1]) == [f"[{len(tokenizer)}]", "[-1]"]
    assert token_texts(tokenizer, []) == []


def test_bytes_and_blanks_of_every_kind_of_tokenizer_are_told() -> None:
    tokenizer = tokenizer_of("dummy_prefix")
    ids = tokenizer("The  judge 北", add_special_tokens=False)["input_ids"]
    assert token_texts(tokenizer, ids) == [" The", " ", " judge", " ", "⟨E5⟩", "⟨8C⟩", "⟨97⟩"]
    assert token_texts(tokenizer, tokenizer.convert_tokens_to_ids(["<0x41>", "<s>"])) == ["A", "<s>"]


def test_word_pieces_get_back_the_spaces_that_they_do_not_keep() -> None:
    tokenizer = tokenizer_of("word_pieces")
    ids = tokenizer("The comets circle. A judge overrules 北京. It is 9.", add_special_tokens=False)[
        "input_ids"
    ]
    assert len(ids) > 14  # words of several pieces are among them
    assert "".join(token_texts(tokenizer, ids)) == " the comets circle. a judge overrules北京. it is 9."
    assert Sentences(tokenizer)(ids)[-1] == 2
    words = Words(tokenizer)
    found = words.of(np.array(ids), np.ones(len(ids), bool))
    told = [words.texts[i] for i in found.word_O]
    assert told == ["the", "comets", "circle", "a", "judge", "overrules", "北", "京", "it", "is", "9"]


def test_the_sign_for_lost_bytes_is_told_by_its_own_bytes() -> None:
    tokenizer = tokenizer_of("byte_level")
    tokenizer.add_tokens(["\ufffd"])
    assert token_texts(tokenizer, [len(tokenizer) - 1]) == ["⟨EF⟩⟨BF⟩⟨BD⟩"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", FOREIGN)
def test_tokens_that_share_a_character_are_one_stretch(kind: str, text: str) -> None:
    tokenizer = tokenizer_of(kind)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    found = stretches(tokenizer, ids)
    assert "".join(one.text for one in found).removeprefix(" ") == text
    assert [one.start for one in found] == [0, *(one.stop for one in found[:-1])]
    assert found[-1].stop == len(ids)
    alone = token_texts(tokenizer, ids)
    for one in found:
        tokens = alone[one.start : one.stop]
        # alone where it is whole, and together no more than the rest of one character
        assert (len(tokens) == 1) == ("⟨" not in "".join(tokens))
        assert len(one.text) <= max(len(tokens[0]), 2) + 1


def test_bytes_of_a_torn_character_are_stretches_of_their_own() -> None:
    tokenizer = tokenizer_of("dummy_prefix")
    ids = tokenizer("北京", add_special_tokens=False)["input_ids"]
    told = [one.text for one in stretches(tokenizer, ids[2:-1])]
    assert told == ["⟨8C⟩", "⟨97⟩", "⟨E4⟩", "⟨BA⟩"]
    assert stretches(tokenizer, []) == []
