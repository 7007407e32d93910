"""Loading, recording, intervening and generating, on tiny random models of nine families.

Shapes: B texts, L positions, D model width, V vocabulary.
"""

import json
import shutil
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import corpus_records, make_tokenizer
from model_families import FAMILIES, N_LAYERS, WIDTH, tiny_model
from torch import nn

from dictionary_learning.errors import UserError
from dictionary_learning.language_model import Continuation, LanguageModel, Place, add, only, replace, zero

TEXTS = [
    "The lunar comet circles a moon.",
    "A judge.",
    "Every onion softens the butter, but no dough is sweet.",
]


@pytest.fixture(scope="module")
def tokenizer():
    texts = [record["text"] for record in corpus_records()]
    return make_tokenizer(texts, eos_token="<|endoftext|>", pad_token="<|pad|>")


@pytest.fixture(scope="module", params=FAMILIES)
def lm(request: pytest.FixtureRequest, tokenizer) -> LanguageModel:
    return LanguageModel.wrap(tiny_model(request.param), tokenizer, name=request.param)


@pytest.fixture(scope="module")
def llama(tokenizer) -> LanguageModel:
    return LanguageModel.wrap(tiny_model("llama"), tokenizer, name="llama")


def whole_pass(lm: LanguageModel, tokens_BL: torch.Tensor, mask_BL: torch.Tensor) -> Any:
    """The library's own forward pass, with everything it can return."""
    with torch.no_grad():
        return lm.model(
            input_ids=tokens_BL, attention_mask=mask_BL.long(), use_cache=False, output_hidden_states=True
        )


def count_calls(modules: list[nn.Module]) -> tuple[list[nn.Module], list[Any]]:
    called: list[nn.Module] = []
    handles = [
        module.register_forward_pre_hook(lambda module, args: called.append(module)) for module in modules
    ]
    return called, handles


# ---------------------------------------------------------------- the layers


def test_the_decoder_layers_of_every_family_are_found(lm: LanguageModel) -> None:
    assert lm.layers_path == FAMILIES[lm.name][2]
    assert lm.layers is lm.model.get_submodule(lm.layers_path)
    assert (lm.n_layers, lm.d_model, lm.vocab_size) == (N_LAYERS, WIDTH, 512)
    assert lm.max_positions == (None if lm.name == "bloom" else 128)


def test_the_families_cover_layers_that_return_a_tensor_and_layers_that_return_a_tuple(tokenizer) -> None:
    kinds = {}
    for family in ("llama", "gptj", "bloom"):
        model = tiny_model(family)
        lm = LanguageModel.wrap(model, tokenizer)
        lm.layers[0].register_forward_hook(lambda m, a, out, family=family: kinds.update({family: type(out)}))
        lm.logits(*lm.tokenize(TEXTS, 16)[:2])
    assert kinds["llama"] is torch.Tensor
    assert tuple in (kinds["gptj"], kinds["bloom"])


def test_a_layer_is_known_again_as_a_module(llama: LanguageModel) -> None:
    assert [llama.place_of(layer) for layer in llama.layers] == [Place(0), Place(1), Place(2)]
    with pytest.raises(
        UserError, match=r"LlamaRMSNorm is no decoder layer of llama: give model.layers\[layer\]"
    ):
        llama.place_of(llama.model.model.norm)


@pytest.mark.parametrize("layer", [-1, 3, 99])
def test_a_layer_that_does_not_exist_is_the_users_mistake(llama: LanguageModel, layer: int) -> None:
    with pytest.raises(UserError, match=f"llama has no layer {layer}: choose one of its layers 0 to 2"):
        llama.check_layer(layer)


# ---------------------------------------------------------------- recording


def test_a_layer_may_be_a_number_of_numpys_and_what_is_none_is_told(
    llama: LanguageModel,
) -> None:
    tokens_BL, mask_BL, _ = llama.tokenize(["some words"], 16)
    x_BLD = llama.record(tokens_BL, mask_BL, 1)
    assert torch.equal(llama.record(tokens_BL, mask_BL, np.int64(1)), x_BLD)  # type: ignore[arg-type]
    assert llama.check_place(np.int64(1)) == Place(1)  # type: ignore[arg-type]
    for wrong in ("1", 1.0, None):
        with pytest.raises(UserError, match=f"{wrong!r} is no layer of llama: give the number"):
            llama.record(tokens_BL, mask_BL, wrong)  # type: ignore[arg-type]


def test_recorded_activations_are_the_residual_stream_after_the_layer(lm: LanguageModel) -> None:
    tokens_BL, mask_BL, _ = lm.tokenize(TEXTS, 64)
    states = whole_pass(lm, tokens_BL, mask_BL).hidden_states  # embeddings, layer 0, ..., last layer normed
    for layer in range(N_LAYERS - 1):
        x_BLD = lm.record(tokens_BL, mask_BL, layer)
        assert x_BLD.shape == (*tokens_BL.shape, WIDTH)
        assert torch.equal(x_BLD[mask_BL], states[layer + 1][mask_BL])


def test_the_last_layer_is_recorded_before_the_final_norm(lm: LanguageModel) -> None:
    tokens_BL, mask_BL, _ = lm.tokenize(TEXTS, 64)
    normed = whole_pass(lm, tokens_BL, mask_BL).hidden_states[-1]
    x_BLD = lm.record(tokens_BL, mask_BL, N_LAYERS - 1)
    final_norm = lm.model.get_submodule(FAMILIES[lm.name][3])
    assert not torch.allclose(x_BLD[mask_BL], normed[mask_BL])
    with torch.no_grad():
        assert torch.equal(final_norm(x_BLD)[mask_BL], normed[mask_BL])


@pytest.mark.parametrize("layer", range(N_LAYERS))
def test_nothing_runs_after_the_recorded_layer(lm: LanguageModel, layer: int) -> None:
    head, norm = lm.model.get_output_embeddings(), lm.model.get_submodule(FAMILIES[lm.name][3])
    called, handles = count_calls([*lm.layers, norm, head])
    try:
        lm.record(*lm.tokenize(TEXTS, 16)[:2], layer)
    finally:
        for handle in handles:
            handle.remove()
    assert [id(module) for module in called] == [id(module) for module in lm.layers[: layer + 1]]


def test_padding_does_not_change_what_is_recorded(lm: LanguageModel) -> None:
    tokens_BL, mask_BL, _ = lm.tokenize(TEXTS, 64)
    batch_BLD = lm.record(tokens_BL, mask_BL, 1)
    for i, text in enumerate(TEXTS):
        alone_BLD = lm.record(*lm.tokenize([text], 64)[:2], 1)
        torch.testing.assert_close(batch_BLD[i, mask_BL[i]], alone_BLD[0], rtol=1e-4, atol=1e-5)


def test_recording_leaves_no_hook_and_no_gradient(llama: LanguageModel) -> None:
    x_BLD = llama.record(*llama.tokenize(TEXTS, 16)[:2], 1)
    assert not x_BLD.requires_grad
    assert not x_BLD.is_inference()  # a trainer must be able to save it for its backward pass
    assert not any(module._forward_hooks for module in llama.model.modules())


def test_tokens_may_come_as_the_store_keeps_them(llama: LanguageModel) -> None:
    tokens_BL, mask_BL, _ = llama.tokenize(TEXTS, 16)
    assert torch.equal(llama.record(tokens_BL.int(), mask_BL, 1), llama.record(tokens_BL, mask_BL, 1))


def test_another_module_than_a_decoder_layer_is_recorded(llama: LanguageModel) -> None:
    tokens_BL, mask_BL, _ = llama.tokenize(TEXTS, 16)
    embeddings = llama.model.get_input_embeddings()
    assert torch.equal(llama.record(tokens_BL, mask_BL, embeddings), embeddings(tokens_BL))


def test_a_truncated_model_records_the_same_with_fewer_weights(lm: LanguageModel, tokenizer) -> None:
    tokens_BL, mask_BL, _ = lm.tokenize(TEXTS, 64)
    short = LanguageModel.wrap(tiny_model(lm.name), tokenizer, name=lm.name)
    sizes = [sum(weight.numel() for weight in short.model.parameters())]
    short.truncate(1)
    sizes.append(sum(weight.numel() for weight in short.model.parameters()))
    one_layer = sum(weight.numel() for weight in lm.layers[2].parameters())
    tied = lm.model.get_output_embeddings().weight is lm.model.get_input_embeddings().weight
    head = 0 if tied else sum(weight.numel() for weight in lm.model.get_output_embeddings().parameters())
    assert sizes[0] - sizes[1] == one_layer + head
    assert torch.equal(short.record(tokens_BL, mask_BL, 1), lm.record(tokens_BL, mask_BL, 1))
    with pytest.raises(AssertionError, match="no logits"):
        short.logits(tokens_BL, mask_BL)
    with pytest.raises(AssertionError, match="layer 2 was truncated away"):
        short.record(tokens_BL, mask_BL, 2)
    with pytest.raises(UserError, match="no layer 3"):
        short.truncate(3)


# ---------------------------------------------------------------- interventions


def test_logits_are_those_of_the_model(lm: LanguageModel) -> None:
    tokens_BL, mask_BL, _ = lm.tokenize(TEXTS, 64)
    assert torch.equal(lm.logits(tokens_BL, mask_BL), whole_pass(lm, tokens_BL, mask_BL).logits)


def test_putting_a_layers_own_output_back_changes_nothing(lm: LanguageModel) -> None:
    tokens_BL, mask_BL, _ = lm.tokenize(TEXTS, 64)
    for layer in range(N_LAYERS):
        x_BLD = lm.record(tokens_BL, mask_BL, layer)
        edited = lm.logits(tokens_BL, mask_BL, layer, replace(x_BLD))
        assert torch.equal(edited, lm.logits(tokens_BL, mask_BL))


@pytest.mark.parametrize("edit", ["replace", "add", "zero"])
def test_the_rest_of_the_model_sees_the_edited_activations(lm: LanguageModel, edit: str) -> None:
    """At the last layer the rest of the model is final norm and head, which can be run by hand."""
    tokens_BL, mask_BL, _ = lm.tokenize(TEXTS, 64)
    x_BLD = lm.record(tokens_BL, mask_BL, N_LAYERS - 1)
    direction_D, other_D = torch.randn(2, WIDTH, generator=torch.Generator().manual_seed(0))
    choices = {
        "replace": (replace(other_D), other_D.expand_as(x_BLD)),
        "add": (add(direction_D, 2.5), x_BLD + 2.5 * direction_D),
        "zero": (zero(), torch.zeros_like(x_BLD)),
    }
    function, expected_BLD = choices[edit]
    final_norm = lm.model.get_submodule(FAMILIES[lm.name][3])
    with torch.no_grad():
        expected = lm.model.get_output_embeddings()(final_norm(expected_BLD))
    if lm.name == "gemma2":  # squeezes its logits between -30 and 30
        expected = 30 * torch.tanh(expected / 30)
    edited = lm.logits(tokens_BL, mask_BL, N_LAYERS - 1, function)
    torch.testing.assert_close(edited, expected, rtol=1e-5, atol=1e-5)


def test_an_intervention_in_the_middle_changes_all_later_layers(llama: LanguageModel) -> None:
    tokens_BL, mask_BL, _ = llama.tokenize(TEXTS, 64)
    clean = [llama.record(tokens_BL, mask_BL, layer) for layer in range(N_LAYERS)]
    with llama.intervene(1, zero()):
        edited = [llama.record(tokens_BL, mask_BL, layer) for layer in range(N_LAYERS)]
    assert torch.equal(edited[0], clean[0])
    assert edited[1].abs().max() == 0
    assert not torch.allclose(edited[2], clean[2])


def test_an_edit_can_be_limited_to_some_positions(llama: LanguageModel) -> None:
    tokens_BL, mask_BL, _ = llama.tokenize(TEXTS, 64)
    first_BL = torch.zeros_like(mask_BL)
    first_BL[:, 0] = True
    with llama.intervene(0, only(~first_BL, zero())):
        x_BLD = llama.record(tokens_BL, mask_BL, 0)
    assert torch.equal(x_BLD[:, 0], llama.record(tokens_BL, mask_BL, 0)[:, 0])
    assert x_BLD[:, 1:].abs().max() == 0


def test_an_intervention_ends_with_its_block_also_when_an_edit_fails(llama: LanguageModel) -> None:
    tokens_BL, mask_BL, _ = llama.tokenize(TEXTS, 64)
    clean = llama.logits(tokens_BL, mask_BL)

    def fail(x_BLD: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("in the edit")

    with pytest.raises(RuntimeError, match="in the edit"), llama.intervene(1, fail):
        llama.logits(tokens_BL, mask_BL)
    assert torch.equal(llama.logits(tokens_BL, mask_BL), clean)


def test_an_edit_may_work_in_float32_inside_a_bfloat16_model(tokenizer) -> None:
    lm = LanguageModel.wrap(tiny_model("llama").to(torch.bfloat16), tokenizer)
    tokens_BL, mask_BL, _ = lm.tokenize(TEXTS, 64)
    logits = lm.logits(tokens_BL, mask_BL, 1, lambda x_BLD: x_BLD.float() * 0.5)
    assert logits.dtype == lm.dtype == torch.bfloat16


# ---------------------------------------------------------------- generation


def slow_continuation(
    lm: LanguageModel, prompt: str, n_tokens: int, edit: Any = None, generated_only: bool = False
) -> str:
    """The whole prefix through the whole model for every token: no padding, no cache."""
    tokens_BL, mask_BL, _ = lm.tokenize([prompt], 64)
    n_prompt = tokens_BL.shape[1]
    for _ in range(n_tokens):
        mask_BL = torch.ones_like(tokens_BL, dtype=torch.bool)
        changed_BL = torch.arange(tokens_BL.shape[1])[None] >= (n_prompt if generated_only else 0)
        intervention = (None, None) if edit is None else (1, only(changed_BL, edit))
        best = lm.logits(tokens_BL, mask_BL, *intervention)[:, -1:].argmax(-1)
        if best.item() == lm.tokenizer.eos_token_id:
            break
        tokens_BL = torch.cat([tokens_BL, best], dim=1)
    return lm.tokenizer.decode(tokens_BL[0, n_prompt:], skip_special_tokens=True)


@pytest.mark.parametrize("steered", ["not", "everywhere", "generated only"])
def test_prompts_of_different_lengths_are_continued_as_if_each_were_alone(
    lm: LanguageModel, steered: str
) -> None:
    direction_D = torch.randn(WIDTH, generator=torch.Generator().manual_seed(1))
    edit = None if steered == "not" else add(direction_D, 3.0)
    only_new = steered == "generated only"
    texts = lm.generate(TEXTS, None if edit is None else 1, edit, max_new_tokens=6, generated_only=only_new)
    assert texts == [slow_continuation(lm, prompt, 6, edit, only_new) for prompt in TEXTS]


def test_steering_changes_what_is_generated(llama: LanguageModel) -> None:
    direction_D = torch.randn(WIDTH, generator=torch.Generator().manual_seed(1))
    texts = {
        tuple(llama.generate(TEXTS, *intervention, max_new_tokens=8, generated_only=only_new))
        for intervention, only_new in (
            ((), False),
            ((1, add(direction_D, 20.0)), False),
            ((1, add(direction_D, 20.0)), True),
        )
    }
    assert len(texts) == 3


def test_sampling_repeats_with_its_seed_and_leaves_other_random_numbers_alone(llama: LanguageModel) -> None:
    def sample(seed: int, temperature: float = 1.0) -> list[str]:
        return llama.generate(TEXTS, max_new_tokens=8, temperature=temperature, seed=seed)

    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = sample(0)
    assert torch.equal(torch.rand(3), expected)
    assert sample(0) == first
    assert sample(1) != first
    assert sample(0, temperature=1e-6) == llama.generate(TEXTS, max_new_tokens=8)


def test_sampling_settings_that_come_with_the_model_are_not_used(tokenizer) -> None:
    from transformers import GenerationConfig

    lm = LanguageModel.wrap(tiny_model("llama"), tokenizer)
    greedy = lm.generate(TEXTS, max_new_tokens=6)
    own = GenerationConfig(
        do_sample=True, temperature=5.0, repetition_penalty=9.0, eos_token_id=0, max_length=3
    )
    lm.model.generation_config = own
    assert lm.generate(TEXTS, max_new_tokens=6) == greedy
    assert lm.model.generation_config is own


def test_a_continuation_ends_before_eos_while_the_others_go_on(tokenizer) -> None:
    lm = LanguageModel.wrap(tiny_model("llama"), tokenizer)
    before = lm.generate(TEXTS, max_new_tokens=6, temperature=2.0)
    rows = [tokenizer(text)["input_ids"] for text in before]
    # a token of the first continuation that the second one does not have
    stop = next(token for token in rows[0][1:] if token not in rows[1])
    lm.model.generation_config.eos_token_id = [0, stop]
    after = lm.generate(TEXTS, max_new_tokens=6, temperature=2.0)
    assert after[0] == before[0].split(tokenizer.decode(stop))[0]
    assert after[1] == before[1]


def test_a_prompt_that_is_empty_or_too_long_is_the_users_mistake(llama: LanguageModel) -> None:
    with pytest.raises(UserError, match="a prompt is empty"):
        llama.generate(["The moon", ""], max_new_tokens=2)
    with pytest.raises(UserError, match="and 500 new ones are more than the 128 positions"):
        llama.generate(["The moon"], max_new_tokens=500)


# ---------------------------------------------------------------- tokens


def test_texts_are_padded_on_the_right_and_cut_to_the_length(llama: LanguageModel) -> None:
    tokens_BL, mask_BL, offsets = llama.tokenize(TEXTS, 8)
    assert tokens_BL.dtype == torch.int64
    assert mask_BL.dtype == torch.bool
    assert offsets is None
    for row, mask, text in zip(tokens_BL, mask_BL, TEXTS, strict=True):
        expected = llama.tokenizer(text)["input_ids"][:8]
        assert row[mask].tolist() == expected
        assert mask.tolist() == [True] * len(expected) + [False] * (8 - len(expected))
        assert not row[~mask].any()
    assert mask_BL.sum() < mask_BL.numel()
    assert mask_BL[2].all()
    assert len(llama.tokenizer(TEXTS[2])["input_ids"]) > 8


@pytest.mark.parametrize("padding_side", ["left", "right"])
@pytest.mark.parametrize("truncation_side", ["left", "right"])
@pytest.mark.parametrize("pad_token", [None, "<|pad|>"])
def test_the_sides_and_the_padding_token_of_the_tokenizer_do_not_matter(
    llama: LanguageModel, padding_side: str, truncation_side: str, pad_token: str | None
) -> None:
    texts = [record["text"] for record in corpus_records()]
    given = make_tokenizer(texts, eos_token="<|endoftext|>", pad_token=pad_token)
    given.padding_side, given.truncation_side = padding_side, truncation_side
    lm = LanguageModel.wrap(llama.model, given)
    ours, theirs = lm.tokenize(TEXTS, 8, offsets=True), llama.tokenize(TEXTS, 8, offsets=True)
    assert torch.equal(ours.tokens_BL, theirs.tokens_BL)
    assert torch.equal(ours.mask_BL, theirs.mask_BL)
    assert ours.offsets == theirs.offsets
    assert lm.generate(TEXTS, max_new_tokens=4) == llama.generate(TEXTS, max_new_tokens=4)
    assert (given.padding_side, given.truncation_side) == (padding_side, truncation_side)


def test_offsets_are_the_characters_of_each_token(llama: LanguageModel) -> None:
    texts = ["A café, été!  two spaces 🌍.", "A judge."]
    tokens_BL, mask_BL, offsets = llama.tokenize(texts, 64, offsets=True)
    assert offsets is not None
    assert [len(row) for row in offsets] == mask_BL.sum(1).tolist()
    assert [texts[1][start:end] for start, end in offsets[1]][:2] == ["A", " judge"]
    pieces = [texts[0][start:end] for start, end in offsets[0]]
    assert pieces[0] == "A"
    assert offsets[0][-1][1] == len(texts[0])
    assert {start for start, _ in offsets[0]} <= set(range(len(texts[0])))
    assert pieces.count("🌍") + pieces.count(" 🌍") >= 1  # the bytes of one character share its span
    assert not tokens_BL[~mask_BL].any()


def with_bos(tokenizer: Any) -> Any:
    """The tokenizer, made to put <|im_start|> (id 2) in front."""
    import copy

    from tokenizers import processors

    changed = copy.deepcopy(tokenizer)
    changed.bos_token = "<|im_start|>"
    changed.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<|im_start|> $A", special_tokens=[("<|im_start|>", 2)]
    )
    return changed


def test_a_bos_is_there_only_if_the_tokenizer_adds_one(llama: LanguageModel, tokenizer) -> None:
    plain, marked = llama, LanguageModel.wrap(llama.model, with_bos(tokenizer))
    assert (plain.bos_id, marked.bos_id) == (None, 2)
    without, having = plain.tokenize(TEXTS, 64), marked.tokenize(TEXTS, 64, offsets=True)
    assert having.tokens_BL[:, 0].tolist() == [2, 2, 2]
    assert torch.equal(having.tokens_BL[:, 1:], without.tokens_BL)
    assert having.mask_BL[:, 0].all()
    assert having.offsets is not None
    assert [row[0] for row in having.offsets] == [(0, 0)] * 3
    # cut to 4 tokens, BOS included
    assert torch.equal(marked.tokenize(TEXTS, 4).tokens_BL[:, 1:], without.tokens_BL[:, :3])


def test_a_bos_that_is_named_but_not_added_does_not_count(llama: LanguageModel) -> None:
    named = make_tokenizer(["a text"], eos_token="<|endoftext|>", bos_token="<|endoftext|>")
    assert LanguageModel.wrap(llama.model, named).bos_id is None


@pytest.mark.parametrize("bos", [False, True])
def test_the_text_mask_leaves_out_padding_and_special_tokens_by_id(
    llama: LanguageModel, tokenizer, bos: bool
) -> None:
    lm = LanguageModel.wrap(llama.model, with_bos(tokenizer)) if bos else llama
    tokens_BL, mask_BL, _ = lm.tokenize(["The moon<|im_end|> and<|endoftext|> a judge", "A"], 64)
    kept = [
        lm.tokenizer.decode(row[mask])
        for row, mask in zip(tokens_BL, lm.text_mask(tokens_BL, mask_BL), strict=True)
    ]
    assert kept == ["The moon and a judge", "A"]
    assert mask_BL[0].all()
    assert mask_BL[1].sum() == 1 + bos


def test_marks_of_a_chat_are_special_even_if_the_tokenizer_does_not_say_so(
    llama: LanguageModel, tokenizer
) -> None:
    import copy

    assert llama.special_ids == {0, 1, 2, 3}
    chatty = copy.deepcopy(tokenizer)
    chatty.add_tokens(["<start_of_turn>", "[/INST]", "<|user|>", "  ", "<table>"])
    chatty.add_tokens(["[file]"], special_tokens=True)
    assert LanguageModel.wrap(llama.model, chatty).special_ids == {0, 1, 2, 3, 512, 513, 514, 517}


def test_no_text_and_an_empty_text_are_still_batches(llama: LanguageModel) -> None:
    assert llama.tokenize([], 8).tokens_BL.shape == (0, 1)
    tokens_BL, mask_BL, offsets = llama.tokenize(["", "A judge."], 8, offsets=True)
    assert mask_BL.sum(1).tolist() == [0, 3]
    assert offsets is not None
    assert offsets[0] == []
    assert llama.record(*llama.tokenize([""], 8)[:2], 1).shape == (1, 1, WIDTH)
    assert torch.isfinite(llama.record(tokens_BL, mask_BL, 1)[1]).all()


@pytest.mark.parametrize("length", [0, 129])
def test_a_context_longer_than_the_model_reads_is_the_users_mistake(
    llama: LanguageModel, length: int
) -> None:
    with pytest.raises(UserError, match=f"llama cannot read contexts of {length} tokens: choose 1 to 128"):
        llama.tokenize(TEXTS, length)


def test_a_tokenizer_without_offsets_works_where_none_are_needed(llama: LanguageModel) -> None:
    from transformers import ByT5Tokenizer

    lm = LanguageModel.wrap(llama.model, ByT5Tokenizer(), name="bytes")
    tokens_BL, mask_BL, _ = lm.tokenize(["moon", "a"], 8)
    assert mask_BL.sum(1).tolist() == [5, 2]  # a byte a token, and the EOS that it adds
    assert lm.text_mask(tokens_BL, mask_BL).sum(1).tolist() == [4, 1]
    assert lm.bos_id is None
    with pytest.raises(UserError, match="the tokenizer of bytes does not tell which characters"):
        lm.tokenize(["moon"], 8, offsets=True)


# ---------------------------------------------------------------- loading


def test_a_folder_is_loaded(tiny_lm_folder: Path) -> None:
    lm = LanguageModel.load(str(tiny_lm_folder), device="cpu", layer=3)
    assert (lm.n_layers, lm.d_model, lm.vocab_size, lm.max_positions) == (4, 32, 512, 512)
    assert (lm.name, lm.device.type, lm.dtype, lm.bos_id) == (str(tiny_lm_folder), "cpu", torch.float32, None)
    assert not lm.model.training
    assert not any(weight.requires_grad for weight in lm.model.parameters())
    x_BLD = lm.record(*lm.tokenize(TEXTS, 16)[:2], 3)
    assert torch.isfinite(x_BLD).all()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_weights_and_activations_have_the_dtype_asked_for(tiny_lm_folder: Path, dtype: str) -> None:
    lm = LanguageModel.load(str(tiny_lm_folder), device="cpu", dtype=dtype)
    assert {weight.dtype for weight in lm.model.parameters()} == {getattr(torch, dtype)}
    assert lm.record(*lm.tokenize(TEXTS, 16)[:2], 1).dtype == getattr(torch, dtype)


def test_demo_is_the_name_of_the_demos_model(tiny_lm_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where = "dictionary_learning.language_model.source.language_model_folder"
    monkeypatch.setattr(where, lambda name: tiny_lm_folder)
    lm = LanguageModel.load("demo", device="cpu")
    assert (lm.name, lm.n_layers) == ("demo", 4)


def test_a_model_of_the_hub_is_loaded_from_the_cache_when_the_hub_is_away(
    tiny_lm_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--someone--tiny"
    shutil.copytree(tiny_lm_folder, repository / "snapshots" / ("a" * 40))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("a" * 40)
    lm = LanguageModel.load("someone/tiny", device="cpu")
    assert (lm.n_layers, lm.revision) == (4, "a" * 40)


def test_a_model_that_the_hub_does_not_have_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub
    from huggingface_hub.errors import RepositoryNotFoundError

    def not_there(self: Any, name: str, **options: Any) -> None:
        raise RepositoryNotFoundError.__new__(RepositoryNotFoundError)

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", not_there)
    with pytest.raises(UserError, match=r"hub has no model 'someone/nothing'.*or --model demo"):
        LanguageModel.load("someone/nothing", device="cpu")


@pytest.mark.parametrize("name", ["someone/nothing", "nothing"])
def test_an_unknown_name_without_a_hub_gets_a_sentence(name: str) -> None:
    with pytest.raises(UserError) as caught:
        LanguageModel.load(name, device="cpu")
    assert str(caught.value) == (
        f"the model '{name}' is neither a folder nor in the local cache, and the Hugging Face hub cannot be "
        "reached: give a hub id, a folder saved by transformers, or --model demo."
    )


@pytest.mark.parametrize("name", ["/nowhere/model", "./model", "~/no such model", "a/b/c", ""])
def test_a_path_that_is_not_there_gets_a_sentence(name: str) -> None:
    with pytest.raises(UserError, match=r"there is no model folder '.*': give a hub id, a folder saved"):
        LanguageModel.load(name, device="cpu")


def broken_copy(folder: Path, target: Path) -> Path:
    shutil.copytree(folder, target / "model")
    return target / "model"


def test_a_folder_without_a_config_gets_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no model \(no config.json\)"):
        LanguageModel.load(str(tmp_path), device="cpu")


@pytest.mark.parametrize(
    ("file", "content", "part"),
    [
        ("config.json", b"{", "its config cannot be read"),
        ("config.json", b'{"model_type": "nonsense"}', "its config cannot be read"),
        ("tokenizer.json", b"{", "its tokenizer cannot be read"),
        ("model.safetensors", b"123", "its weights cannot be read"),
    ],
)
def test_a_damaged_folder_gets_a_sentence(
    tiny_lm_folder: Path, tmp_path: Path, file: str, content: bytes, part: str
) -> None:
    folder = broken_copy(tiny_lm_folder, tmp_path)
    (folder / file).write_bytes(content)
    with pytest.raises(UserError, match=part) as caught:
        LanguageModel.load(str(folder), device="cpu")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "config", [{"model_type": "t5"}, {"model_type": "bert", "architectures": ["BertForMaskedLM"]}]
)
def test_a_model_that_is_no_causal_one_gets_a_sentence(
    tiny_lm_folder: Path, tmp_path: Path, config: dict[str, Any]
) -> None:
    folder = broken_copy(tiny_lm_folder, tmp_path)
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=f"is no causal language model but a {config['model_type']} model"):
        LanguageModel.load(str(folder), device="cpu")


def test_missing_weights_are_not_filled_with_random_numbers(tiny_lm_folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = broken_copy(tiny_lm_folder, tmp_path)
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.2.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        UserError, match=r"not complete \(1 missing, model.layers.2.mlp.up_proj.weight the first\)"
    ):
        LanguageModel.load(str(folder), device="cpu")


def test_a_wrong_layer_dtype_or_device_is_told_before_the_weights_are_read(
    tiny_lm_folder: Path, tmp_path: Path
) -> None:
    folder = broken_copy(tiny_lm_folder, tmp_path)
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match="has no layer 4: choose one of its layers 0 to 3"):
        LanguageModel.load(str(folder), device="cpu", layer=4)
    with pytest.raises(
        UserError, match="dtype 'float8' is not known: choose one of auto, float32, bfloat16, float16"
    ):
        LanguageModel.load(str(folder), device="cpu", dtype="float8")
    with pytest.raises(UserError, match="device"):
        LanguageModel.load(str(folder), device="abacus")


def test_a_model_that_comes_in_training_mode_is_used_without_dropout(tokenizer) -> None:
    model = tiny_model("gpt2").train()  # its dropout is .1
    lm = LanguageModel.wrap(model, tokenizer)
    tokens_BL, mask_BL, _ = lm.tokenize(TEXTS, 64)
    assert torch.equal(lm.logits(tokens_BL, mask_BL), lm.logits(tokens_BL, mask_BL))


@pytest.mark.parametrize("kind", ["PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING", "LORA"])
def test_an_adapter_that_puts_virtual_tokens_in_front_of_texts_is_refused(
    kind: str, tiny_lm_folder: Path
) -> None:
    lm = LanguageModel.load(str(tiny_lm_folder), device="cpu")
    lm.model.active_peft_config = SimpleNamespace(peft_type=kind)  # as PEFT's models have it
    is_refused = kind in ("PROMPT_TUNING", "P_TUNING")
    with pytest.raises(UserError, match="virtual tokens") if is_refused else nullcontext():
        LanguageModel.wrap(lm.model, lm.tokenizer)


def test_a_wrapped_model_without_a_tokenizer_brings_its_own(tiny_lm_folder: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_lm_folder)
    lm = LanguageModel.wrap(model)
    assert lm.model is model
    assert lm.tokenize(["A judge."], 8).mask_BL.sum() == 3
    with pytest.raises(UserError, match="pass one as tokenizer="):
        LanguageModel.wrap(tiny_model("llama"))


# ---------------------------------------------------------------- nnsight


def test_nnsight_records_the_same_bits(lm: LanguageModel) -> None:
    tokens_BL, mask_BL, _ = lm.tokenize(TEXTS, 64)
    encoding = {"input_ids": tokens_BL, "attention_mask": mask_BL.long()}
    for layer in range(N_LAYERS):
        module = lm.nnsight.get(f"{lm.layers_path}.{layer}")
        with torch.no_grad(), lm.nnsight.trace(encoding, use_cache=False) as tracer:
            output = module.output.save()
            tracer.stop()
        x_BLD = output if torch.is_tensor(output) else output[0]
        assert torch.equal(x_BLD, lm.record(tokens_BL, mask_BL, layer))
        assert lm.place_of(module) == Place(layer)


def test_nnsight_gives_the_same_logits_under_an_intervention(lm: LanguageModel) -> None:
    tokens_BL, mask_BL, _ = lm.tokenize(TEXTS, 64)
    encoding = {"input_ids": tokens_BL, "attention_mask": mask_BL.long()}
    direction_D = torch.randn(WIDTH, generator=torch.Generator().manual_seed(1))
    module = lm.nnsight.get(f"{lm.layers_path}.1")
    with torch.no_grad(), lm.nnsight.trace(encoding, use_cache=False):
        output = module.output
        if torch.is_tensor(output):
            module.output = output + 3.0 * direction_D
        else:
            module.output = (output[0] + 3.0 * direction_D, *output[1:])
        logits = lm.nnsight.output.logits.save()
    assert torch.equal(logits, lm.logits(tokens_BL, mask_BL, 1, add(direction_D, 3.0)))


def test_nnsight_generates_the_same_text_under_an_intervention(lm: LanguageModel) -> None:
    from dictionary_learning.language_model.tokens import pad

    rows = [lm.tokenizer(text)["input_ids"] for text in TEXTS]
    tokens_BL, mask_BL = pad(rows, side="left")
    encoding = {"input_ids": tokens_BL, "attention_mask": mask_BL.long()}
    direction_D = torch.randn(WIDTH, generator=torch.Generator().manual_seed(1))
    module = lm.nnsight.get(f"{lm.layers_path}.1")
    settings = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": 0, "pad_token_id": 0}
    with torch.no_grad(), lm.nnsight.generate(**settings) as tracer:
        with tracer.invoke(encoding):
            for _ in tracer.iter[:6]:
                output = module.output
                if torch.is_tensor(output):
                    module.output = output + 3.0 * direction_D
                else:
                    module.output = (output[0] + 3.0 * direction_D, *output[1:])
        with tracer.invoke():
            ids_BL = tracer.result.save()
    texts = [lm.tokenizer.decode(row, skip_special_tokens=True) for row in ids_BL[:, tokens_BL.shape[1] :]]
    assert texts == lm.generate(TEXTS, 1, add(direction_D, 3.0), max_new_tokens=6)


def test_hooks_still_work_on_a_model_that_nnsight_has_wrapped(tokenizer) -> None:
    lm = LanguageModel.wrap(tiny_model("llama"), tokenizer)
    tokens_BL, mask_BL, _ = lm.tokenize(TEXTS, 64)
    before = lm.record(tokens_BL, mask_BL, 1), lm.logits(tokens_BL, mask_BL, 1, zero())
    assert lm.nnsight is lm.nnsight
    assert torch.equal(lm.record(tokens_BL, mask_BL, 1), before[0])
    assert torch.equal(lm.logits(tokens_BL, mask_BL, 1, zero()), before[1])
    assert (lm.tokenizer.padding_side, lm.nnsight.tokenizer.padding_side) == ("right", "left")


@pytest.mark.parametrize("dispatch", [False, True])
def test_a_model_in_nnsight_is_wrapped_without_loading_it_twice(tiny_lm_folder: Path, dispatch: bool) -> None:
    from nnsight import TransformersModel
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_lm_folder)
    theirs = TransformersModel(
        str(tiny_lm_folder), task="text-generation", tokenizer=tokenizer, dispatch=dispatch
    )
    lm = LanguageModel.wrap(theirs)
    assert lm.nnsight is theirs
    assert lm.model is theirs._module
    assert lm.place_of(theirs.model.layers[2]) == Place(2)
    tokens_BL, mask_BL, _ = lm.tokenize(TEXTS, 64)
    assert mask_BL[:, 0].all()  # nnsight's tokenizer pads on the left; ours does not care
    loaded = LanguageModel.load(str(tiny_lm_folder), device="cpu")
    assert torch.equal(lm.record(tokens_BL, mask_BL, 2), loaded.record(tokens_BL, mask_BL, 2))
    assert torch.equal(
        lm.record(tokens_BL, mask_BL, theirs.model.layers[2]), lm.record(tokens_BL, mask_BL, 2)
    )


def test_what_is_written_is_told_as_it_comes(llama: LanguageModel) -> None:
    told: list[list[Continuation]] = []
    written = llama.continuations(TEXTS, max_new_tokens=6, temperature=1.0, seed=3, watch=told.append)
    assert written == llama.continuations(TEXTS, max_new_tokens=6, temperature=1.0, seed=3)
    assert [max(len(one.ids) for one in some) for some in told] == [1, 2, 3, 4, 5, 6]
    assert told[-1] == written
    for some in told:
        assert [one.ids for one in some] == [
            whole.ids[: len(one.ids)] for one, whole in zip(some, written, strict=True)
        ]


def test_what_watches_can_end_the_writing(llama: LanguageModel) -> None:
    seen: list[int] = []

    def stop(some: list[Continuation]) -> None:
        seen.append(len(some[0].ids))
        if len(seen) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        llama.continuations(TEXTS, max_new_tokens=6, watch=stop)
    assert seen == [1, 2]
    assert len(llama.generate(TEXTS, max_new_tokens=6)) == len(TEXTS)


def test_texts_that_draw_the_same_random_numbers_differ_by_their_prompt_and_intervention_alone(
    llama: LanguageModel,
) -> None:
    settings = {"max_new_tokens": 8, "temperature": 1.5, "alike": True}
    first, second, other = llama.continuations([TEXTS[0], TEXTS[0], TEXTS[1]], seed=1, **settings)
    assert first == second
    assert other.ids != first.ids
    assert llama.continuations([TEXTS[0]], seed=1, **settings) == [first]
    assert llama.continuations([TEXTS[0]], seed=2, **settings) != [first]
    # a sample, and not the likeliest token
    drawn = {llama.continuations([TEXTS[0]], seed=seed, **settings)[0].ids[0] for seed in range(40)}
    assert len(drawn) > 5


def test_the_same_random_numbers_give_the_softmax(llama: LanguageModel) -> None:
    """Of 2,000 first tokens of a prompt, against the probabilities of the model at the temperature."""
    from dictionary_learning.language_model.generation import _SharedNoise

    torch.manual_seed(0)
    logits_V = torch.tensor([2.0, 1.0, 0.0, -1.0])
    drawn = torch.stack([_SharedNoise(2.0)(None, logits_V[None])[0].argmax() for _ in range(2000)])
    share_V = drawn.bincount(minlength=4) / 2000
    torch.testing.assert_close(share_V, (logits_V / 2).softmax(-1), atol=0.035, rtol=0)
