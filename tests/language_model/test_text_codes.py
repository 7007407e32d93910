"""Texts to codes in one call, against the way the experiments go and against one text at a time."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import corpus_records
from every_dictionary import KINDS as DICTIONARIES
from every_dictionary import make
from tokenizer_kinds import KINDS, tiny_lm
from toy_runs import make_run

from dictionary_learning.errors import UserError
from dictionary_learning.language_model import LanguageModel
from dictionary_learning.utils import load_dictionary
from temporal_saes.features import extract_features
from temporal_saes.reading import Reading

LAYER, LENGTH = 2, 20
TEXTS = [
    "The distant comet circles the oven.",
    "A judge near the tribunal often overrules it. The binding contract forbids the appeal, every clause.",
    "北京 and é",
    "Onion",
    "",
]


def with_a_sink(kind: str) -> LanguageModel:
    """A model that makes much of one word, as trained ones do of the first token of a text."""
    lm = tiny_lm(kind)
    with torch.no_grad():
        for word in (" near", "▁near"):
            if (token := lm.tokenizer.convert_tokens_to_ids(word.replace(" ", "Ġ"))) not in (None, 0):
                lm.model.get_input_embeddings().weight[token] *= 500
    return lm


def as_the_experiments_do(lm, dictionary, texts, length=LENGTH, **options):
    reading = Reading(length, cache=False, **options)
    return extract_features(texts, lm, LAYER, reading, dictionary, log=lambda line: None)


def assert_same(found, expected) -> None:
    assert found.usable_BL.nonzero().tolist() == [
        list(place) for place in zip(expected.text_N, expected.position_N, strict=True)
    ]
    codes_NF = found.codes_BLF[found.usable_BL].numpy()
    np.testing.assert_allclose(codes_NF, expected.x.toarray(), rtol=1e-4, atol=1e-4)
    assert not found.codes_BLF[~found.usable_BL].any()
    for row, tokens in enumerate(expected.tokens):
        assert found.tokens_BL[row][found.mask_BL[row]].tolist() == tokens.ids_L.tolist()
        assert found.offsets[row] == tokens.offsets
        assert found.usable_BL[row, : len(tokens.ids_L)].tolist() == tokens.usable_L.tolist()


@pytest.mark.parametrize("kind", DICTIONARIES)
def test_codes_are_those_of_the_experiments_for_every_dictionary(kind):
    lm = with_a_sink("dummy_prefix")
    dictionary = make(kind, D=32, F=24).requires_grad_(False)
    found = lm.encode(TEXTS, dictionary, LAYER, context_length=LENGTH, batch_size=2)
    expected = as_the_experiments_do(lm, dictionary, TEXTS)
    assert_same(found, expected)
    assert found.texts == TEXTS
    assert 0 < expected.outlier_share < 0.5  # the sink is left out
    assert (found.codes_BLF != 0).any()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("add_bos", "max_norm_ratio"), [(True, 10.0), (False, 10.0), (True, None)])
def test_texts_are_read_as_in_training_whatever_the_tokenizer_adds(kind, add_bos, max_norm_ratio):
    lm, dictionary = with_a_sink(kind), make("temporal", D=32, F=24)
    options = {"add_bos": add_bos, "max_norm_ratio": max_norm_ratio}
    found = lm.encode(TEXTS, dictionary, LAYER, context_length=LENGTH, **options)
    assert_same(found, as_the_experiments_do(lm, dictionary, TEXTS, **options))
    special = torch.tensor(sorted(lm.special_ids))
    assert not found.usable_BL[torch.isin(found.tokens_BL, special)].any()
    if lm.bos_id is not None:
        assert (found.tokens_BL[0, 0] == lm.bos_id) == add_bos


def test_the_median_is_that_of_the_first_texts_however_many_there_are():
    lm, dictionary = with_a_sink("byte_level"), make("batchtopk", D=32, F=24)
    texts = [record["text"][:30] for record in corpus_records(130)]
    found = lm.encode(texts, dictionary, LAYER, context_length=8)
    assert_same(found, as_the_experiments_do(lm, dictionary, texts, 8))


@torch.no_grad()
def test_a_dictionary_of_whole_texts_sees_usable_tokens_one_behind_another():
    lm, dictionary = with_a_sink("dummy_prefix"), make("temporal", D=32, F=24)
    found = lm.encode(TEXTS[:2], dictionary, LAYER, context_length=64)
    for row, text in enumerate(TEXTS[:2]):
        ids = lm.tokenizer(text)["input_ids"]
        x_LD = lm.model(torch.tensor([ids]), output_hidden_states=True).hidden_states[LAYER + 1][0]
        usable_L = found.usable_BL[row, : len(ids)]
        assert not usable_L.all()
        f_uF = dictionary.encode(x_LD[usable_L][None])[0]
        torch.testing.assert_close(found.codes_BLF[row, : len(ids)][usable_L], f_uF, rtol=1e-3, atol=1e-4)


def test_a_bfloat16_model_gives_numbers_that_numpy_has(tiny_lm_folder):
    lm = LanguageModel.load(str(tiny_lm_folder), device="cpu", dtype="bfloat16")
    found = lm.encode(TEXTS, make("topk", D=32, F=24), LAYER)  # with gradients: it is not for use only
    assert found.codes_BLF.numpy().dtype == np.float32
    assert lm.encode([], make("topk", D=32, F=24), LAYER).codes_BLF.shape[0] == 0


def test_users_mistakes_are_told():
    lm = tiny_lm("byte_level")
    with pytest.raises(UserError, match="put 'a text' into a list"):
        lm.encode("a text", make("topk", D=32), LAYER)
    with pytest.raises(UserError, match="takes activations of width 6, and byte_level has width 32"):
        lm.encode(TEXTS, make("topk"), LAYER)
    with pytest.raises(UserError, match="has no layer 9"):
        lm.encode(TEXTS, make("topk", D=32), 9)
    with torch.no_grad():
        lm.model.model.layers[0].mlp.down_proj.weight[0, 0] = torch.nan
    with pytest.raises(UserError, match="not finite in texts 0 to 4"):
        lm.encode(TEXTS, make("topk", D=32), LAYER)


@pytest.mark.parametrize("kind", ["grouped", "plain", "attention"])
def test_a_loaded_dictionary_is_for_use_unless_it_is_to_be_trained(kind, tmp_path, tiny_lm_folder):
    run = make_run(tmp_path / "run", tiny_lm_folder, kind=kind)
    dictionary, _ = load_dictionary(run, device="cpu")
    assert dictionary.encode(torch.randn(1, 3, 32)).numpy().shape == (1, 3, 96)
    assert not any(weight.requires_grad for weight in dictionary.parameters())
    trained, _ = load_dictionary(run, device="cpu", trainable=True)
    assert all(weight.requires_grad for weight in trained.parameters())
    cls, folder = type(dictionary), run / "trainer_0"
    for trainable in (False, True):
        again = cls.from_pretrained(folder, trainable=trainable)
        assert {weight.requires_grad for weight in again.parameters()} == {trainable}


def test_the_example_of_the_readme_runs(tmp_path, tiny_lm_folder, monkeypatch, capsys):
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"In Python:\n\n```python\n(.+?)```", readme, re.DOTALL)
    make_run(tmp_path / "runs" / "demo" / "tsae", tiny_lm_folder)
    monkeypatch.chdir(tmp_path)
    tiny = LanguageModel.load(str(tiny_lm_folder), device="cpu")
    monkeypatch.setattr(LanguageModel, "load", lambda name: tiny)
    names: dict = {}
    exec(example, names)
    assert names["high_BLF"].shape == (*names["found"].tokens_BL.shape, 32)
    told = capsys.readouterr().out.splitlines()
    assert len(told) == int(names["found"].usable_BL.sum()) > 5
    assert re.fullmatch(r".*Th?e? latent \d+ at [\d.]+", told[0])
