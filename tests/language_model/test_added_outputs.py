"""What attention and MLP add to the residual stream: found in many families, recorded, replaced, spliced.

Shapes: B texts, L positions, D model width.
"""

from typing import Any

import pytest
import torch
import transformers
from conftest import corpus_records, make_tokenizer
from model_families import COMMON, FAMILIES, MODERN, N_LAYERS, WIDTH, tiny_model
from torch import Tensor

from dictionary_learning.errors import UserError
from dictionary_learning.language_model import LanguageModel, Place, add, only, replace, zero
from dictionary_learning.language_model.cross_entropy import CrossEntropy

TEXTS = ["The lunar comet circles a moon.", "A judge.", "Every onion softens the butter, but no dough."]
OPT = {
    **COMMON,
    **{"hidden_size": WIDTH, "word_embed_proj_dim": WIDTH, "ffn_dim": 64, "num_hidden_layers": N_LAYERS},
    **{"num_attention_heads": 4, "max_position_embeddings": 128},
}
FALCON = {**COMMON, "hidden_size": WIDTH, "num_hidden_layers": N_LAYERS, "num_attention_heads": 4}
MIXTRAL = {**MODERN, "num_local_experts": 4}
# Beside the families of all tests: flat outputs, sums in place, norms on both sides, tuples, sums within.
MORE: dict[str, tuple[str, dict[str, Any]]] = {
    "opt": ("OPTConfig", OPT),
    "falcon": ("FalconConfig", FALCON),
    "gemma3": ("Gemma3TextConfig", {**MODERN, "head_dim": 8, "sliding_window": 8}),
    "olmo2": ("Olmo2Config", MODERN),
    "phi": ("PhiConfig", MODERN),
    "glm4": ("Glm4Config", {**MODERN, "head_dim": 8}),
    "gpt_neox in sequence": ("GPTNeoXConfig", {**MODERN, "use_parallel_residual": False}),
    "mixtral": ("MixtralConfig", MIXTRAL),
    "mpt": (
        "MptConfig",
        {**COMMON, "d_model": WIDTH, "n_layers": N_LAYERS, "n_heads": 4, "max_seq_len": 128},
    ),
}
WITHOUT: dict[str, tuple[str, dict[str, Any]]] = {
    "granite": ("GraniteConfig", {**MODERN, "residual_multiplier": 0.22}),
    "opt with norms behind the sums": ("OPTConfig", {**OPT, "do_layer_norm_before": False}),
    "mamba": ("MambaConfig", {**COMMON, "hidden_size": WIDTH, "num_hidden_layers": N_LAYERS}),
}
ATTN, MLP = Place(1, site="attn"), Place(1, site="mlp")


def model_of(config: str, arguments: dict[str, Any]) -> Any:
    torch.manual_seed(0)
    return transformers.AutoModelForCausalLM.from_config(getattr(transformers, config)(**arguments)).eval()


@pytest.fixture(scope="module")
def tokenizer():
    texts = [record["text"] for record in corpus_records()]
    return make_tokenizer(texts, eos_token="<|endoftext|>", pad_token="<|pad|>")


@pytest.fixture(scope="module", params=[*FAMILIES, *MORE])
def lm(request: pytest.FixtureRequest, tokenizer) -> LanguageModel:
    name = request.param
    model = tiny_model(name) if name in FAMILIES else model_of(*MORE[name])
    return LanguageModel.wrap(model, tokenizer, name=name)


def one(name: str, tokenizer: Any) -> LanguageModel:
    model = tiny_model(name) if name in FAMILIES else model_of(*MORE[name])
    return LanguageModel.wrap(model, tokenizer, name=name)


def stream(lm: LanguageModel, tokens_BL: Tensor, mask_BL: Tensor) -> list[Tensor]:
    """The residual stream in front of layer 0, behind layer 0, ..., as transformers gives it."""
    with torch.no_grad():
        out = lm.model(
            input_ids=tokens_BL, attention_mask=mask_BL.long(), use_cache=False, output_hidden_states=True
        )
    return list(out.hidden_states)


# ---------------------------------------------------------------- what it is


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_stream_before_a_layer_and_what_is_added_are_the_stream_after_it(
    lm: LanguageModel, tokenizer, dtype: torch.dtype
) -> None:
    lm = LanguageModel.wrap(lm.model.to(dtype), tokenizer, name=lm.name)
    tokens_BL, mask_BL, _ = lm.tokenize(TEXTS, 64)
    state = stream(lm, tokens_BL, mask_BL)
    for layer in range(N_LAYERS - 1):  # behind the last one transformers gives the normed stream
        places = [Place(layer, site="attn"), Place(layer, site="mlp")]
        attn_BLD, mlp_BLD = lm.record_several(tokens_BL, mask_BL, places)
        assert attn_BLD.shape == mlp_BLD.shape == (*tokens_BL.shape, WIDTH)
        before, after = state[layer][mask_BL], state[layer + 1][mask_BL]
        summed = before.float() + attn_BLD[mask_BL].float() + mlp_BLD[mask_BL].float()
        # two roundings to the model's dtype
        limit = 1e-5 if dtype == torch.float32 else 2 * torch.finfo(dtype).eps
        assert (summed - after.float()).norm() < limit * after.float().norm()
        assert attn_BLD[mask_BL].float().norm() > 0.001 * after.float().norm()
    lm.model.to(torch.float32)


def test_of_llama_they_are_what_its_two_modules_return(tokenizer) -> None:
    lm = one("llama", tokenizer)
    tokens_BL, mask_BL, _ = lm.tokenize(TEXTS, 64)
    seen: dict[str, Tensor] = {}
    layer = lm.model.model.layers[1]
    layer.self_attn.register_forward_hook(lambda m, a, out: seen.update(attn=out[0]))
    layer.mlp.register_forward_hook(lambda m, a, out: seen.update(mlp=out))
    stream(lm, tokens_BL, mask_BL)
    assert torch.equal(lm.record(tokens_BL, mask_BL, ATTN), seen["attn"])
    assert torch.equal(lm.record(tokens_BL, mask_BL, MLP), seen["mlp"])


def test_of_gemma_2_they_are_behind_the_norms_which_the_modules_are_not(tokenizer) -> None:
    lm = one("gemma2", tokenizer)
    tokens_BL, mask_BL, _ = lm.tokenize(TEXTS, 64)
    layer = lm.model.model.layers[1]
    raw = [lm.record(tokens_BL, mask_BL, module) for module in (layer.self_attn, layer.mlp)]
    norms = layer.post_attention_layernorm, layer.post_feedforward_layernorm
    for place, x_BLD, norm in zip((ATTN, MLP), raw, norms, strict=True):
        with torch.no_grad():
            assert torch.equal(lm.record(tokens_BL, mask_BL, place), norm(x_BLD))
        assert not torch.allclose(lm.record(tokens_BL, mask_BL, place), x_BLD)


@pytest.mark.parametrize("name", WITHOUT)
def test_where_no_module_gives_what_is_added_the_site_is_refused(name: str, tokenizer) -> None:
    lm = LanguageModel.wrap(model_of(*WITHOUT[name]), tokenizer, name="it")
    tokens_BL, mask_BL, _ = lm.tokenize(TEXTS, 16)
    assert lm.record(tokens_BL, mask_BL, Place(1)).shape == (*tokens_BL.shape, WIDTH)
    told = (
        r"\w+ has no module named self_attn, .* \(it has norm, mixer\)"
        if name == "mamba"
        else (r"what \w+ adds to the residual stream is not the sum of what its modules self_attn, .* return")
    )
    with pytest.raises(UserError, match=told + ".*: choose --site resid"):
        lm.check_place(MLP)


def test_a_layer_that_is_not_there_is_refused_at_every_site(tokenizer) -> None:
    with pytest.raises(UserError, match="llama has no layer 3"):
        one("llama", tokenizer).check_place(Place(3, site="mlp"))


def test_the_module_of_a_place_leads_back_to_it(lm: LanguageModel) -> None:
    assert lm.check_place(1) == Place(1)
    for place in (Place(1), ATTN, MLP):
        assert lm.check_place(place) == place == lm.place_of(lm._module(place))


def test_another_module_of_a_layer_is_refused_with_those_that_are_meant(tokenizer) -> None:
    lm = one("gemma2", tokenizer)
    told = (
        r"Gemma2MLP is not what layer 2 of gemma2 adds to the residual stream: give model.layers\[2\] or its"
    )
    with pytest.raises(
        UserError, match=rf"{told} post_attention_layernorm or its post_feedforward_layernorm"
    ):
        lm.place_of(lm.layers[2].mlp)


# ---------------------------------------------------------------- recording


def test_several_places_are_recorded_in_one_pass_with_the_bits_of_one_at_a_time(lm: LanguageModel) -> None:
    tokens_BL, mask_BL, _ = lm.tokenize(TEXTS, 64)
    places = [Place(2), MLP, Place(0), ATTN, Place(1), Place(0, site="mlp")]
    alone = [lm.record(tokens_BL, mask_BL, place) for place in places]
    calls: list[int] = []
    handle = lm.layers[0].register_forward_pre_hook(lambda module, args: calls.append(1))
    together = lm.record_several(tokens_BL, mask_BL, places)
    handle.remove()
    assert len(calls) == 1
    for x_BLD, expected_BLD in zip(together, alone, strict=True):
        assert torch.equal(x_BLD, expected_BLD)


def test_nothing_runs_behind_the_place(tokenizer) -> None:
    lm = one("llama", tokenizer)
    layer, called = lm.layers[1], []
    for module in (layer.self_attn, layer.mlp, lm.layers[2]):
        module.register_forward_pre_hook(lambda module, args: called.append(type(module).__name__))
    lm.check_place(ATTN)  # which runs the layer once
    called.clear()
    lm.record(*lm.tokenize(TEXTS, 16)[:2], ATTN)
    assert called == ["LlamaAttention"]
    lm.record(*lm.tokenize(TEXTS, 16)[:2], MLP)
    assert called == ["LlamaAttention", "LlamaAttention", "LlamaMLP"]


@pytest.mark.parametrize("name", ["llama", "gemma2", "bloom", "opt"])
def test_a_truncated_model_gives_the_same_numbers(name: str, tokenizer) -> None:
    lm = one(name, tokenizer)
    tokens_BL, mask_BL, _ = lm.tokenize(TEXTS, 64)
    places = [Place(0, site="mlp"), ATTN, MLP]
    whole = [lm.record(tokens_BL, mask_BL, place) for place in places]
    short = one(name, tokenizer)
    short.truncate(1)
    for x_BLD, expected_BLD in zip(short.record_several(tokens_BL, mask_BL, places), whole, strict=True):
        assert torch.equal(x_BLD, expected_BLD)


def test_recording_leaves_no_hook(lm: LanguageModel) -> None:
    def hooks() -> int:
        return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in lm.model.modules())

    lm._added.clear()
    before = hooks()  # transformers has some of its own once it gave hidden states
    lm.record_several(*lm.tokenize(TEXTS, 16)[:2], [ATTN, MLP, Place(1)])
    assert hooks() == before


# ---------------------------------------------------------------- replacing


@pytest.mark.parametrize("place", [ATTN, MLP], ids=str)
def test_an_output_in_its_own_place_changes_nothing(lm: LanguageModel, place: Place) -> None:
    tokens_BL, mask_BL, _ = lm.tokenize(TEXTS, 64)
    x_BLD = lm.record(tokens_BL, mask_BL, place)
    kept_BLD = x_BLD.clone()
    clean, spliced = lm.logits(tokens_BL, mask_BL), lm.logits(tokens_BL, mask_BL, place, replace(x_BLD))
    assert torch.equal(clean[mask_BL], spliced[mask_BL])
    assert torch.equal(x_BLD, kept_BLD)  # a model that sums in place does it to a copy


@pytest.mark.parametrize("place", [ATTN, MLP], ids=str)
def test_what_is_added_to_an_output_is_added_to_the_stream(lm: LanguageModel, place: Place) -> None:
    """Not so of what runs on: an attention's output is read by the MLP behind it."""
    tokens_BL, mask_BL, _ = lm.tokenize(TEXTS, 64)
    direction_D = torch.linspace(-1, 1, WIDTH)
    is_last = place == MLP
    before_BLD, mlp_BLD = lm.record_several(tokens_BL, mask_BL, [Place(1), MLP])
    with lm.intervene(place, add(direction_D, 0.5)):
        after_BLD, changed_BLD = lm.record_several(tokens_BL, mask_BL, [Place(1), MLP])
    moved_BLD = after_BLD - before_BLD - (0 if is_last else changed_BLD - mlp_BLD)
    torch.testing.assert_close(
        moved_BLD[mask_BL], (0.5 * direction_D).expand_as(moved_BLD[mask_BL]), rtol=1e-3, atol=1e-4
    )


def test_a_masked_edit_leaves_the_other_positions_their_own_output(lm: LanguageModel) -> None:
    tokens_BL, mask_BL, _ = lm.tokenize(TEXTS, 64)
    first_BL = torch.zeros_like(mask_BL)
    first_BL[:, 0] = True
    expected_BLD = lm.record(tokens_BL, mask_BL, MLP)
    with lm.intervene(MLP, only(~first_BL, zero())):
        after_BLD, attn_BLD = lm.record_several(tokens_BL, mask_BL, [Place(1), ATTN])
    before_BLD = stream(lm, tokens_BL, mask_BL)[1]
    left_BLD = after_BLD - before_BLD - attn_BLD
    torch.testing.assert_close(left_BLD[:, 0], expected_BLD[:, 0], rtol=1e-3, atol=1e-4)
    assert left_BLD[:, 1:][mask_BL[:, 1:]].abs().max() < 1e-4


@pytest.mark.parametrize("name", ["llama", "opt", "falcon"])
def test_generation_sees_the_edit_at_every_token(name: str, tokenizer) -> None:
    lm = one(name, tokenizer)
    shapes: list[tuple[int, ...]] = []

    def look(x_BLD: Tensor) -> Tensor:
        shapes.append(tuple(x_BLD.shape))
        return x_BLD

    prompts = ["The lunar comet", "A judge near the"]
    plain = lm.continuations(prompts, max_new_tokens=4)
    assert [one.ids for one in lm.continuations(prompts, MLP, look, max_new_tokens=4)] == [
        one.ids for one in plain
    ]
    length = max(len(one.prompt_ids) for one in plain)
    assert shapes[0] == (2, length, WIDTH)
    assert set(shapes[1:]) == {(2, 1, WIDTH)}
    pushed = lm.continuations(prompts, MLP, add(torch.linspace(-50, 50, WIDTH)), max_new_tokens=4)
    assert [one.ids for one in pushed] != [one.ids for one in plain]


def test_the_loss_is_that_of_the_model_with_the_output_replaced(lm: LanguageModel) -> None:
    tokens_BL, mask_BL, _ = lm.tokenize(TEXTS, 64)

    def loss(edit: Any) -> float:
        logits_BLV = lm.logits(tokens_BL, mask_BL, MLP, edit)[:, :-1]
        real_BL = mask_BL[:, 1:]
        return float(torch.nn.functional.cross_entropy(logits_BLV[real_BL], tokens_BL[:, 1:][real_BL]))

    x_BLD = lm.record(tokens_BL, mask_BL, MLP)
    half = CrossEntropy(lm, MLP)
    half.add(tokens_BL, mask_BL, {"": 0.5 * x_BLD[mask_BL]})
    found = half.means()
    assert found["loss_reconstructed"] == pytest.approx(loss(replace(0.5 * x_BLD)), abs=1e-4)
    assert found["loss_ablated"] == pytest.approx(loss(zero()), abs=1e-4)
    exact = CrossEntropy(lm, MLP)
    exact.add(tokens_BL, mask_BL, {"": x_BLD[mask_BL]})
    means = exact.means()
    assert means["loss_reconstructed"] == pytest.approx(means["loss_clean"], abs=1e-6)


class Identity(torch.nn.Module):
    """A dictionary whose codes are the activations."""

    activation_dim = dict_size = WIDTH
    reads_sequences = False

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def encode(self, x: Tensor) -> Tensor:
        return x


def test_the_codes_of_texts_are_made_of_the_place(tokenizer) -> None:
    lm = one("gemma2", tokenizer)
    tokens_BL, mask_BL, _ = lm.tokenize(TEXTS, 64)
    found = lm.encode(TEXTS, Identity(), MLP, max_norm_ratio=None)
    x_BLD = lm.record(tokens_BL, mask_BL, MLP)
    torch.testing.assert_close(found.codes_BLF[found.usable_BL], x_BLD[found.usable_BL], rtol=1e-4, atol=1e-5)
