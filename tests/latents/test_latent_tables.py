"""What latents do on a corpus, which of them are chosen, and the tokens that a direction pushes for."""

import numpy as np
import pytest
import torch
from conftest import corpus_records, make_tokenizer
from model_families import COMMON, FAMILIES, MODERN, tiny_model

from dictionary_learning.dictionaries.base import Dictionary
from dictionary_learning.language_model import LanguageModel, replace
from temporal_saes.features import TextActivations, Tokens
from temporal_saes.labelled.data import LabelledText
from temporal_saes.latents import tables
from temporal_saes.latents.tables import (
    choose_latents,
    direct_logits,
    final_norm,
    logit_scale,
    tabulate,
    top_tokens,
)


class Itself(Dictionary):
    """Latents that are the positive parts of the activations."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.activation_dim = self.dict_size = width
        self.one = torch.nn.Parameter(torch.ones(1))

    def encode(self, x):
        return torch.relu(x * self.one)

    def decode(self, f):
        return f

    @classmethod
    def from_state_dict(cls, state, config):
        raise NotImplementedError


def text(label: str, rows: list[list[float]], unusable: tuple[int, ...] = ()):
    """A text of one-letter tokens with these activations."""
    letters = "abcdefghijklmnopqrstuvwxyz"[: len(rows)]
    usable_L = np.array([i not in unusable for i in range(len(rows))])
    tokens = Tokens(np.arange(len(rows), dtype=np.int32), [(i, i + 1) for i in range(len(rows))], usable_L)
    labelled = LabelledText(letters, label, "", "", id=0)
    return labelled, TextActivations(tokens, torch.tensor(rows, dtype=torch.float32))


def table_of(pairs, columns=None):
    dictionary = Itself(pairs[0][1].x_LD.shape[1])
    texts = [labelled for labelled, _ in pairs]
    activations = [one for _, one in pairs]
    made = tabulate(texts, activations, dictionary, columns or slice(0, dictionary.dict_size))
    return made, texts


def test_the_numbers_of_a_corpus_worked_by_hand():
    pairs = [
        text("A", [[1, -1], [3, 0], [100, 100]], unusable=(2,)),
        text("B", [[0, 2], [0, 4]]),
        text("A", [[2, 0]]),
    ]
    table, texts = table_of(pairs)
    assert table.n_tokens == 5
    assert table.maximum_F.tolist() == [3, 4]
    assert table.count_F.tolist() == [3, 2]
    assert table.classes == ["A", "B"]
    # latent 0: A (1 + 3 + 2) / 3 = 2, B 0; latent 1: A 0, B (2 + 4) / 2 = 3
    np.testing.assert_allclose(table.difference_CF, [[2, -3], [-2, 3]])
    np.testing.assert_allclose(table.selectivity_CF(), [[2 / 3, -3 / 4], [-2 / 3, 3 / 4]])
    assert [table.target(0), table.target(1)] == ["A", "B"]
    # norms of the usable activations: sqrt 2, 3, 2, 4, 2
    assert table.median_norm == 2
    assert [(one.token, one.value) for one in table.strongest(0, texts)] == [("b", 3), ("a", 2)]
    assert [(one.before, one.token, one.after) for one in table.strongest(1, texts)] == [("a", "b", "")]


def test_a_chunk_is_numbered_from_its_first_latent():
    table, _ = table_of([text("A", [[1, 5, 7]]), text("B", [[1, 6, 0]])], slice(1, 3))
    assert (table.first, table.n_latents) == (1, 2)
    assert table.maximum_F.tolist() == [6, 7]


def test_a_latent_that_never_fires_has_no_selectivity_and_no_place():
    table, texts = table_of([text("A", [[1, -1]]), text("B", [[1, -2]])])
    assert table.maximum_F.tolist() == [1, 0]
    assert table.selectivity_CF()[:, 1].tolist() == [0, 0]
    assert table.strongest(1, texts) == []


def test_the_strongest_places_are_those_of_a_search_through_all_texts(monkeypatch):
    monkeypatch.setattr(tables, "N_STRONGEST", 3)
    generator = np.random.default_rng(0)
    pairs = [
        text("AB"[i % 2], generator.normal(size=(generator.integers(1, 9), 4)).tolist(), unusable=(1,))
        for i in range(30)
    ]
    table, _ = table_of(pairs)
    for latent in range(4):
        best = []
        for index, (_, one) in enumerate(pairs):
            values = one.x_LD[:, latent].numpy().copy()
            values[~one.tokens.usable_L] = -1
            best.append((float(values.max()), index, int(values.argmax())))
        expected = sorted((value, index, place) for value, index, place in best if value > 0)[::-1][:3]
        got = zip(table.strongest_FS[latent], table.text_FS[latent], table.position_FS[latent], strict=True)
        assert [(pytest.approx(value), index, place) for value, index, place in expected] == list(got)


# --- rules ---


@pytest.fixture
def many(monkeypatch):
    """Five latents: 0 and 3 prefer A (3 more), 1 prefers B, 2 fires everywhere, 4 fires once."""
    monkeypatch.setattr(tables, "MIN_TOKENS", 2)
    rows_a = [[1, 0, 1, 9, 5], [1, 0, 1, 9, 0], [2, 1, 1, 10, 0]]
    rows_b = [[0, 2, 1, 0, 0], [0, 2, 1, 0, 0], [1, 0, 1, 0, 0]]
    table, _ = table_of([text("A", rows_a), text("B", rows_b)])
    return table


def test_by_domain_the_classes_take_turns_with_their_most_selective_latents(many):
    # of A, in units of the maximum: 3 (28 / 3 / 10 = .93), 0 (1 / 2 = .5); of B: 1 (1 / 2 = .5)
    assert choose_latents(many, "domain", 2, seed=0) == [3, 1]
    assert choose_latents(many, "domain", 3, seed=0) == [3, 1, 0]
    assert choose_latents(many, "domain", 9, seed=0) == [3, 1, 0]  # 2 prefers neither, 4 is too rare


def test_the_most_active_latents_are_those_that_fire_most_often(many):
    assert choose_latents(many, "active", 2, seed=0) == [2, 0]


def test_random_latents_are_alive_and_follow_the_seed(many):
    drawn = {tuple(choose_latents(many, "random", 2, seed=seed)) for seed in range(20)}
    assert len(drawn) > 3
    assert {latent for pair in drawn for latent in pair} == {0, 1, 2, 3}
    assert choose_latents(many, "random", 2, seed=1) == choose_latents(many, "random", 2, seed=1)
    assert len(choose_latents(many, "random", 9, seed=0)) == 4


# --- tokens ---


@pytest.fixture(scope="module")
def tokenizer():
    texts = [record["text"] for record in corpus_records()]
    return make_tokenizer(texts, eos_token="<|endoftext|>", pad_token="<|pad|>")


@pytest.mark.parametrize("family", FAMILIES)
def test_the_final_norm_of_every_family_is_found(family, tokenizer):
    lm = LanguageModel.wrap(tiny_model(family), tokenizer, name=family)
    assert final_norm(lm) is lm.model.get_submodule(FAMILIES[family][3])


def test_top_tokens_are_the_largest_entries_of_the_direct_path(tokenizer):
    lm = LanguageModel.wrap(tiny_model("llama"), tokenizer, name="llama")
    gain_D = lm.model.model.norm.weight
    torch.nn.init.normal_(gain_D)
    direction_D = torch.randn(32)
    logits_V = lm.model.lm_head.weight @ (gain_D * direction_D)
    logits_V[sorted(lm.special_ids)] = -torch.inf
    expected = logits_V[: len(tokenizer)].topk(5).indices
    assert torch.equal(top_tokens(lm, direction_D[None] * 7, 5)[0], expected)


def test_the_bias_of_a_layer_norm_does_not_make_tokens_likely(tokenizer):
    lm = LanguageModel.wrap(tiny_model("gpt2"), tokenizer, name="gpt2")
    norm = lm.model.transformer.ln_f
    torch.nn.init.normal_(norm.bias, std=100)
    direction_D = torch.randn(32)
    logits_V = lm.model.lm_head.weight @ (norm.weight * (direction_D - direction_D.mean()))
    logits_V[sorted(lm.special_ids)] = -torch.inf
    expected = logits_V[: len(tokenizer)].topk(5).indices
    assert torch.equal(top_tokens(lm, direction_D[None], 5)[0], expected)


OPT = {
    **{"hidden_size": 32, "word_embed_proj_dim": 16, "ffn_dim": 64, "num_hidden_layers": 2},
    **{"num_attention_heads": 4, "max_position_embeddings": 128, "init_std": 0.2},
}
SCALED = {
    "opt-350m": ("OPTConfig", {**COMMON, **OPT, "do_layer_norm_before": False}, 1),
    "opt": ("OPTConfig", {**COMMON, **OPT, "word_embed_proj_dim": 32}, 1),
    "cohere": ("CohereConfig", MODERN, 1 / 16),
    "granite": ("GraniteConfig", {**MODERN, "logits_scaling": 8.0}, 1 / 8),
    # the same name as Granite's, and the other way round
    "hyperclovax": ("HyperCLOVAXConfig", {**MODERN, "logits_scaling": 8.0}, 8),
}


@torch.no_grad()
@pytest.mark.parametrize("family", [*FAMILIES, *SCALED])
def test_direct_logits_are_those_of_the_model_that_reads_the_direction_alone(family, tokenizer):
    import transformers

    if family in SCALED:
        name, arguments, scale = SCALED[family]
        torch.manual_seed(0)
        config = getattr(transformers, name)(**arguments)
        lm = LanguageModel.wrap(transformers.AutoModelForCausalLM.from_config(config), tokenizer, name=family)
        assert logit_scale(lm) == pytest.approx(scale, rel=1e-5)
    else:
        lm = LanguageModel.wrap(tiny_model(family), tokenizer, name=family)
    torch.nn.init.normal_(lm.model.get_output_embeddings().weight, std=0.01)  # far below a soft cap
    direction_KD = torch.randn(3, lm.d_model, generator=torch.Generator().manual_seed(0))
    token_K1 = torch.zeros(3, 1, dtype=torch.long)

    def read(x_KD):
        return lm.logits(token_K1, token_K1 == 0, lm.n_layers - 1, replace(x_KD[:, None]))[:, 0]

    logits_KV, counts_V = direct_logits(lm, direction_KD)
    expected_KV = read(direction_KD) - read(torch.zeros_like(direction_KD))
    torch.testing.assert_close(logits_KV[:, counts_V], expected_KV[:, counts_V], rtol=1e-3, atol=1e-5)


def test_a_soft_cap_is_no_scale(tokenizer):
    lm = LanguageModel.wrap(tiny_model("gemma2"), tokenizer, name="gemma2")
    torch.nn.init.normal_(lm.model.get_output_embeddings().weight, std=5)
    assert logit_scale(lm) == 1
