"""Fingerprints of language models."""

from pathlib import Path

import pytest
from tokenizers.normalizers import Lowercase

from dictionary_learning.language_model import LanguageModel
from dictionary_learning.language_model.fingerprint import tokenizer_fingerprint, weights_fingerprint

LAYER = 2


@pytest.fixture
def fresh_lm(tiny_lm_folder: Path) -> LanguageModel:
    return LanguageModel.load(str(tiny_lm_folder), device="cpu")


def test_a_fingerprint_of_weights_is_of_those_that_the_layer_depends_on(fresh_lm: LanguageModel) -> None:
    own = weights_fingerprint(fresh_lm, LAYER)
    model = fresh_lm.model
    for weight in (model.model.layers[3].mlp.up_proj.weight, model.lm_head.weight):
        weight.data[0, 0] += 1
        assert weights_fingerprint(fresh_lm, LAYER) == own
        assert weights_fingerprint(fresh_lm, 3) != own
    for weight in (model.model.layers[2].mlp.up_proj.weight, model.get_input_embeddings().weight):
        before = weights_fingerprint(fresh_lm, LAYER)
        weight.data[0, 0] += 1
        assert weights_fingerprint(fresh_lm, LAYER) != before
    changed = weights_fingerprint(fresh_lm, LAYER)
    fresh_lm.truncate(LAYER)
    assert weights_fingerprint(fresh_lm, LAYER) == changed


def test_a_fingerprint_of_a_tokenizer_is_of_what_it_does(fresh_lm: LanguageModel) -> None:
    own = tokenizer_fingerprint(fresh_lm)
    fresh_lm.tokenize(["a text", "another one"], max_length=3)  # which sets truncation
    assert tokenizer_fingerprint(fresh_lm) == own
    fresh_lm.tokenizer.backend_tokenizer.normalizer = Lowercase()
    assert tokenizer_fingerprint(fresh_lm) != own
