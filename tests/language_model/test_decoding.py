"""Prompts, continuations and single tokens of every kind of tokenizer, against bytes put together by hand."""

import re

import pytest
import torch
from conftest import corpus_records
from tokenizer_kinds import FOREIGN, KINDS, tiny_lm, tokenizer_of
from transformers.convert_slow_tokenizer import bytes_to_unicode

from dictionary_learning.language_model.decoding import continuation_text, token_bytes
from dictionary_learning.language_model.tokens import prompt_ids

TEXTS = (*FOREIGN, corpus_records()[0]["text"][:120], "Two  blanks, a <0x41> and ▁")
PROMPTS = ["The judge near the oven", "A", "北京 met a comet"]
LETTERS = {letter: byte for byte, letter in bytes_to_unicode().items()}


@pytest.fixture(scope="module", params=KINDS)
def kind(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def tokenizer(kind):
    return tokenizer_of(kind)


def bytes_by_hand(kind: str, pieces: list[str]) -> bytes:
    """What pieces stand for, without any decoder."""
    parts = []
    for piece in pieces:
        byte = re.fullmatch("<0x(..)>", piece)
        if kind in ("byte_level", "bos_zero"):
            parts.append(bytes(LETTERS[letter] for letter in piece))
        else:
            parts.append(bytes([int(byte[1], 16)]) if byte else piece.replace("▁", " ").encode())
    return b"".join(parts)


def pieces_of(tokenizer, ids) -> list[str]:
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    return [tokenizer.convert_ids_to_tokens(i) for i in ids if i not in special]


@pytest.mark.parametrize("text", TEXTS)
def test_the_bytes_of_tokens_join_to_the_text_with_every_blank(kind, tokenizer, text):
    (ids,) = prompt_ids(tokenizer, [text])
    ids = [i for i in ids if i not in tokenizer.all_special_ids]
    parts = token_bytes(tokenizer, ids)
    assert parts == [bytes_by_hand(kind, [piece]) for piece in pieces_of(tokenizer, ids)]
    # ▁ in the text is no blank to a tokenizer that writes blanks so
    blank = text if kind in ("byte_level", "bos_zero") else f" {text.replace('▁', ' ')}"
    assert b"".join(parts).decode() == blank
    assert token_bytes(tokenizer, [len(tokenizer), -1]) == [None, None]


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_that_is_cut_between_two_tokens_is_whole_again(kind, tokenizer, text):
    (ids,) = prompt_ids(tokenizer, [text])
    whole = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    for cut in range(1, len(ids)):
        before = bytes_by_hand(kind, pieces_of(tokenizer, ids[:cut])).decode(errors="replace")
        if "\ufffd" in before:
            continue  # the cut is within a character, which no prompt is
        rest = continuation_text(tokenizer, ids[:cut], ids[cut:])
        assert tokenizer.decode(ids[:cut], skip_special_tokens=True) + rest == whole


def test_the_blank_behind_a_prompt_is_kept():
    tokenizer = tokenizer_of("dummy_prefix")
    (prompt,), (whole,) = prompt_ids(tokenizer, ["The judge"]), prompt_ids(tokenizer, ["The judge near it"])
    assert tokenizer.decode(whole[len(prompt) :]) == "near it"
    assert continuation_text(tokenizer, prompt, whole[len(prompt) :]) == " near it"


def test_an_unfinished_character_takes_no_other_with_it():
    tokenizer = tokenizer_of("dummy_prefix")
    (prompt,), (whole,) = prompt_ids(tokenizer, ["北"]), prompt_ids(tokenizer, ["北京東"])
    assert tokenizer.decode(whole[:-1], skip_special_tokens=True).count("\ufffd") == 8
    assert continuation_text(tokenizer, prompt, whole[len(prompt) : -1]) == "京\ufffd"


def test_special_tokens_are_left_out_of_what_was_written():
    for kind in ("byte_level", "dummy_prefix"):
        tokenizer = tokenizer_of(kind)
        (prompt,), (whole,) = prompt_ids(tokenizer, ["The"]), prompt_ids(tokenizer, ["The judge é"])
        for torn in (0, 1):  # whole text, and an unfinished character at its end
            ids = whole[len(prompt) : len(whole) - torn]
            told = continuation_text(tokenizer, prompt, [tokenizer.eos_token_id, *ids])
            assert told == (" judge \ufffd" if torn else " judge é")


def test_nothing_stands_behind_a_prompt_and_a_bos_in_front(kind):
    lm = tiny_lm(kind)
    rows = prompt_ids(lm.tokenizer, PROMPTS)
    for prompt, row in zip(PROMPTS, rows, strict=True):
        bare = lm.tokenizer(prompt, add_special_tokens=False)["input_ids"]
        assert row == ([] if lm.bos_id is None else [lm.bos_id]) + bare
    has_bos = {"bos_zero": 0, "dummy_prefix": 1, "prepend": 1, "appends_eos": 1}
    assert lm.bos_id == has_bos.get(kind)
    assert (lm.tokenizer("A")["input_ids"][-1] == lm.tokenizer.eos_token_id) == (kind == "appends_eos")
    assert prompt_ids(lm.tokenizer, []) == []


def test_a_literal_eos_at_the_end_of_a_prompt_stays():
    tokenizer = tokenizer_of("appends_eos")
    (row,) = prompt_ids(tokenizer, ["A judge.</s>"])
    assert row[-1] == tokenizer.eos_token_id


@torch.no_grad()
def test_the_ids_are_what_a_greedy_search_by_hand_finds_and_the_text_is_what_they_say(kind):
    lm = tiny_lm(kind)
    written = lm.continuations(PROMPTS, max_new_tokens=7)  # of unequal lengths: padded on the left
    assert lm.generate(PROMPTS, max_new_tokens=7) == [one.text for one in written]
    for prompt, one in zip(PROMPTS, written, strict=True):
        ids = prompt_ids(lm.tokenizer, [prompt])[0]
        assert one.prompt_ids == ids
        for _ in range(7):
            best = int(lm.model(torch.tensor([ids])).logits[0, -1].argmax())
            if best == lm.tokenizer.eos_token_id:
                break
            ids = [*ids, best]
        assert one.ids == ids[len(one.prompt_ids) :]
        by_hand = bytes_by_hand(kind, pieces_of(lm.tokenizer, one.ids))
        assert one.text == by_hand.decode(errors="replace")
