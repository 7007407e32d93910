"""Tokens of a text: one BOS, whatever the text begins with."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import corpus_records, make_tokenizer
from model_families import tiny_model
from tokenizer_kinds import tokenizer_of
from transformers import AutoTokenizer

from dictionary_learning.activations.contexts import read_contexts
from dictionary_learning.language_model import LanguageModel
from dictionary_learning.language_model.source import read_tokenizer
from dictionary_learning.language_model.tokens import bos_id, token_ids, token_offsets
from dictionary_learning.texts.documents import DocumentStream

TEXT = "The lunar comet circles a moon."


def with_bos(bos: str) -> Any:
    """A tokenizer that puts `bos` in front of every text."""
    from tokenizers.processors import TemplateProcessing

    tokenizer = make_tokenizer([record["text"] for record in corpus_records()], bos_token=bos)
    number = tokenizer.convert_tokens_to_ids(bos)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{bos} $A", special_tokens=[(bos, number)]
    )
    assert bos_id(tokenizer) == number
    return tokenizer


@pytest.fixture(params=["<|endoftext|>", "<|im_start|>"], ids=["id 0", "id 2"])
def lm(request: pytest.FixtureRequest) -> LanguageModel:
    return LanguageModel.wrap(tiny_model("llama"), with_bos(request.param), name="llama")


def bare(lm: LanguageModel, text: str) -> list[int]:
    return lm.tokenizer(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("n_written", [0, 1, 3])
def test_a_text_that_begins_with_the_bos_has_one(lm: LanguageModel, n_written: int) -> None:
    bos = lm.tokenizer.decode([lm.bos_id])
    written = bos * n_written
    right = [lm.bos_id, *bare(lm, TEXT)]
    assert token_ids(lm.tokenizer, ["A judge.", written + TEXT])[1] == right
    tokens_BL, mask_BL, offsets = lm.tokenize([written + TEXT, TEXT + " " + TEXT], 64, offsets=True)
    assert tokens_BL[0][mask_BL[0]].tolist() == right
    assert offsets is not None
    assert offsets[0] == token_offsets(lm.tokenizer, [written + TEXT])[0]
    assert [(written + TEXT)[a:b] for a, b in offsets[0][1:]] == [
        lm.tokenizer.decode([token]) for token in right[1:]
    ]
    assert offsets[0][0] == (0, 0)


@pytest.mark.parametrize("max_length", [1, 2, 3, 5])
def test_a_text_that_is_cut_is_as_long_with_a_written_bos_as_without(
    lm: LanguageModel, max_length: int
) -> None:
    bos = lm.tokenizer.decode([lm.bos_id])
    written, plain = (lm.tokenize([text], max_length).tokens_BL for text in (bos + bos + TEXT, TEXT))
    assert written.tolist() == plain.tolist()


def test_a_bos_alone_and_one_inside_a_text_stay(lm: LanguageModel) -> None:
    bos = lm.tokenizer.decode([lm.bos_id])
    assert token_ids(lm.tokenizer, [bos, ""]) == [[lm.bos_id], [lm.bos_id]]
    assert token_ids(lm.tokenizer, [f"A{bos}{bos}B"]) == [[lm.bos_id, *bare(lm, f"A{bos}{bos}B")]]


@pytest.mark.parametrize("add_bos", [True, False])
def test_contexts_of_a_text_that_begins_with_the_bos_are_those_of_the_text(
    lm: LanguageModel, add_bos: bool
) -> None:
    bos = lm.tokenizer.decode([lm.bos_id])
    written, plain = (
        [
            context.tokens_L.tolist()
            for context in read_contexts(lm, DocumentStream(iter([{"text": text}])), 6, add_bos=add_bos)
        ]
        for text in (bos + TEXT, TEXT)
    )
    assert written == plain
    assert all((context.count(lm.bos_id), context[0] == lm.bos_id) == (add_bos, add_bos) for context in plain)


def test_a_tokenizer_that_adds_no_bos_keeps_a_repeated_first_token() -> None:
    tokenizer = make_tokenizer([record["text"] for record in corpus_records()])
    assert bos_id(tokenizer) is None
    assert token_ids(tokenizer, ["!!"]) == [[tokenizer("!")["input_ids"][0]] * 2]
    lm = LanguageModel.wrap(tiny_model("llama"), tokenizer, name="llama")
    assert torch.equal(*lm.tokenize(["!!"], 8).tokens_BL.T)


def numbers_in_threes() -> Any:
    """A tokenizer that cuts numbers into threes before it looks for tokens, as Llama 3's."""
    from tokenizers import Regex, pre_tokenizers

    tokenizer = make_tokenizer(["in 1914 and 2024 "] * 9)
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\p{N}{1,3}|\p{L}+"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return tokenizer


@pytest.mark.parametrize(
    ("model_type", "tokenizer_class"),
    [("qwen2", None), ("llama", "GPT2Tokenizer"), ("llama", "Qwen2TokenizerFast")],
)
def test_a_tokenizer_cuts_texts_as_its_file_says_whatever_its_class(
    tmp_path: Path, model_type: str, tokenizer_class: str | None
) -> None:
    saved = numbers_in_threes()
    saved.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    if tokenizer_class is not None:
        settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
        settings["tokenizer_class"] = tokenizer_class
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.warns(UserWarning, match="cuts texts otherwise than its tokenizer.json"):
        read = read_tokenizer(str(tmp_path))
    text = "in 1914 and 2024"
    assert read(text)["input_ids"] == saved(text)["input_ids"]
    assert read.convert_ids_to_tokens(read("2024")["input_ids"]) == ["202", "4"]
    given = AutoTokenizer.from_pretrained(tmp_path)
    with pytest.warns(UserWarning, match=r"cuts texts otherwise .* PreTrainedTokenizerFast.from_pretrained"):
        LanguageModel.wrap(tiny_model("llama"), given, name="llama")


@pytest.mark.parametrize("kind", ["byte_level", "dummy_prefix"])
def test_a_tokenizer_of_its_class_is_left_as_it_is(
    tmp_path: Path, kind: str, recwarn: pytest.WarningsRecorder
) -> None:
    saved = tokenizer_of(kind)
    saved.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    read = read_tokenizer(str(tmp_path))
    assert type(read) is type(saved)
    assert read(TEXT)["input_ids"] == saved(TEXT)["input_ids"]
    assert not [one for one in recwarn if "cuts texts" in str(one.message)]
