"""Dictionaries attached to models: codes of every pass, and latents steered in it.

Shapes: B texts, L positions of a pass, T positions from the beginning, D model width, F latents.
"""

import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from conftest import corpus_records, make_tokenizer
from model_families import COMMON, N_LAYERS, WIDTH, tiny_model
from torch import Tensor, nn
from toy_runs import make_run
from transformers.cache_utils import Cache

from dictionary_learning.dictionaries.base import Dictionary
from dictionary_learning.dictionaries.temporal_sae import TemporalSAE
from dictionary_learning.errors import UserError
from dictionary_learning.language_model import LanguageModel, Place, attached, steered
from dictionary_learning.language_model.attach.passes import unwatched
from dictionary_learning.language_model.tokens import pad, prompt_ids
from dictionary_learning.trainers.batch_top_k import BatchTopKSAE

PROMPTS = ["The lunar comet circles a moon.", "A judge", "Every onion softens the butter, but no dough"]
LAYER, STRONG = 1, {3: 6.0, 40: -4.0}
OPT = {
    **COMMON,
    **{"hidden_size": WIDTH, "word_embed_proj_dim": WIDTH, "ffn_dim": 64, "num_hidden_layers": N_LAYERS},
    **{"num_attention_heads": 4, "max_position_embeddings": 128},
}


def sae(width: int = WIDTH) -> BatchTopKSAE:
    made = BatchTopKSAE(width, 64, k=8, seed=0)
    made.threshold.fill_(0.05)
    return made.eval().requires_grad_(False)


def tfa() -> TemporalSAE:
    torch.manual_seed(0)
    return TemporalSAE(WIDTH, 24, n_heads=2, kval_topk=4, n_attn_layers=2).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def tokenizer():
    texts = [record["text"] for record in corpus_records()]
    return make_tokenizer(texts, eos_token="<|endoftext|>", pad_token="<|pad|>")


@pytest.fixture(scope="module", params=["llama", "gemma2", "gptj", "gpt2", "bloom", "opt"])
def lm(request: pytest.FixtureRequest, tokenizer) -> LanguageModel:
    if request.param == "opt":
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(transformers.OPTConfig(**OPT)).eval()
    else:
        model = tiny_model(request.param)
    return LanguageModel.wrap(model, tokenizer, name=request.param)


@pytest.fixture(scope="module")
def llama(tokenizer) -> LanguageModel:
    return LanguageModel.wrap(tiny_model("llama"), tokenizer, name="llama")


@pytest.fixture(params=["sae", "tfa"])
def dictionary(request: pytest.FixtureRequest) -> Dictionary:
    return sae() if request.param == "sae" else tfa()


def prompts(lm: LanguageModel, side: str = "left") -> dict[str, Tensor]:
    tokens_BL, mask_BL = pad(prompt_ids(lm.tokenizer, PROMPTS), side=side)
    return {"input_ids": tokens_BL, "attention_mask": mask_BL.long()}


@torch.no_grad()
def written(model: Any, inputs: dict[str, Tensor], use_cache: bool = True, n: int = 6, **more: Any) -> Tensor:
    """The tokens of a greedy generation that ends nowhere early."""
    return model.generate(
        **inputs,
        max_new_tokens=n,
        do_sample=False,
        use_cache=use_cache,
        eos_token_id=None,
        pad_token_id=0,
        **more,
    )


def n_hooks(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


# --- by hand ---


class ByHand(Dictionary):
    """Two latents of three coordinates: f = relu(x_0, x_1 - 1), x_hat = (2 f_0, 0, f_1) + (0, 0, 10)."""

    activation_dim, dict_size = 3, 2

    def __init__(self) -> None:
        super().__init__()
        self.W_dec_FD = nn.Parameter(torch.tensor([[2.0, 0, 0], [0, 0, 1]]))

    def encode(self, x: Tensor) -> Tensor:
        return torch.stack([x[..., 0], x[..., 1] - 1], -1).relu()

    def decode(self, f: Tensor) -> Tensor:
        return f @ self.W_dec_FD + torch.tensor([0.0, 0, 10])

    def decoder_directions(self) -> Tensor:
        return self.W_dec_FD

    @classmethod
    def from_state_dict(cls, state: dict[str, Tensor], config: dict[str, Any]) -> "ByHand":
        raise NotImplementedError


class Plain(nn.Module):
    """No transformer: a module that returns a tuple, and one behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = Pair()

    def forward(self, x: Tensor) -> Tensor:
        return 10 * self.layer(x)[0]


class Pair(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, str]:
        return x + 1, "something else"


X_LD = torch.tensor(
    [[0.0, 4, 1], [2, -3, 0]]
)  # the layer gives [1, 5, 2] and [3, -2, 1]: codes [1, 4], [3, 0]


def test_codes_are_those_of_the_module_s_output() -> None:
    with attached(Plain(), ByHand(), "layer") as run:
        pass
    model = Plain()
    with attached(model, ByHand(), "layer") as run:
        out = model(X_LD[None])
    assert torch.equal(out, 10 * (X_LD[None] + 1))
    assert run.codes_BTF.tolist() == [[[1, 4], [3, 0]]]
    assert run.usable_BT.all()
    assert run.tokens_BT is None


@pytest.mark.parametrize(
    ("mode", "keep_error", "expected"),
    [
        # x + 5 d_1
        ("add", True, [[1, 5, 7], [3, -2, 6]]),
        # (2 f_0, 0, f_1 + 5 + 10)
        ("add", False, [[2, 0, 19], [6, 0, 15]]),
        # x + (5 - f_1) d_1, f_1 being 4 and 0
        ("clamp", True, [[1, 5, 3], [3, -2, 6]]),
        ("clamp", False, [[2, 0, 15], [6, 0, 15]]),
    ],
)
def test_a_latent_is_steered_by_hand(mode: str, keep_error: bool, expected: list[list[float]]) -> None:
    model = Plain()
    with torch.no_grad(), steered(model, ByHand(), {1: 5.0}, model.layer, mode=mode, keep_error=keep_error):
        out = model(X_LD[None])
    assert (out / 10).tolist() == [expected]


def test_several_latents_and_a_direction_are_steered_at_once() -> None:
    model = Plain()
    direction_D = torch.tensor([0.0, 1, 0])
    with torch.no_grad(), steered(model, ByHand(), {0: 0.0, direction_D: 3.0}, "layer", mode="clamp"):
        out = model(X_LD[None])
    # x - f_0 d_0 + 3 e_1: [1 - 2, 5 + 3, 2] and [3 - 6, -2 + 3, 1]
    assert (out / 10).tolist() == [[[-1, 8, 2], [-3, 1, 1]]]


def test_each_text_of_a_batch_has_strengths_of_its_own() -> None:
    model = Plain()
    with torch.no_grad(), steered(model, ByHand(), [{}, {0: 2.0}], "layer", mode="clamp"):
        out = model(torch.stack([X_LD, X_LD]))
    assert (out / 10).tolist() == [
        [[1, 5, 2], [3, -2, 1]],
        [[1 + 2 * (2 - 1), 5, 2], [3 + 2 * (2 - 3), -2, 1]],
    ]
    with steered(model, ByHand(), [{}, {0: 2.0}], "layer"), pytest.raises(UserError, match="for 2 texts"):
        model(X_LD[None])


def test_positions_can_be_left_out_and_those_behind_the_mask_are_steered() -> None:
    model = Plain()
    where_BT = torch.tensor([[False]])
    with torch.no_grad(), steered(model, ByHand(), {1: 5.0}, "layer", where_BT=where_BT):
        out = model(X_LD[None])
    assert (out / 10).tolist() == [[[1, 5, 2], [3, -2, 6]]]


def test_the_inner_block_sees_what_the_outer_one_made() -> None:
    model = Plain()
    with (
        torch.no_grad(),
        attached(model, ByHand(), "layer") as before,
        steered(model, ByHand(), {0: 7.0}, "layer", mode="clamp"),
        attached(model, ByHand(), "layer") as after,
        steered(model, ByHand(), {1: 1.0}, "layer"),
    ):
        out = model(X_LD[None])
    assert before.codes_BTF.tolist() == [[[1, 4], [3, 0]]]
    # x_0 + 2 (7 - f_0): the first coordinate is 13 and 11
    assert after.codes_BTF.tolist() == [[[13, 4], [11, 0]]]
    assert (out / 10).tolist() == [[[13, 5, 3], [11, -2, 2]]]


def test_a_module_that_is_called_by_itself_is_seen_too() -> None:
    model = Plain()
    with attached(model, ByHand(), "layer") as run:
        model.layer(X_LD[None])
    assert run.codes_BTF.tolist() == [[[1, 4], [3, 0]]]


def test_a_sink_has_no_codes_and_is_not_steered() -> None:
    model, x_BLD = Plain(), X_LD[None].clone()
    x_BLD[0, 0, 2] = 1000
    limits = {"norm_limit": 100.0}
    with (
        torch.no_grad(),
        attached(model, ByHand(), "layer", **limits) as run,
        steered(model, ByHand(), {1: 5.0}, "layer", keep_error=False, **limits),
    ):
        out = model(x_BLD)
    assert run.usable_BT.tolist() == [[False, True]]
    assert run.codes_BTF.tolist() == [[[0, 0], [3, 0]]]
    assert (out / 10).tolist() == [[[1, 5, 1001], [6, 0, 15]]]


# --- passes of a language model ---


def test_codes_are_those_of_encode(lm: LanguageModel, dictionary: Dictionary) -> None:
    texts = ["The lunar comet circles a moon.<|endoftext|> A judge.", *PROMPTS[1:]]
    found = lm.encode(texts, dictionary, LAYER)
    assert not found.usable_BL[found.mask_BL].all()  # the special token in the middle
    with lm.attached(dictionary, LAYER) as run:
        lm.logits(found.tokens_BL, found.mask_BL)
    assert torch.equal(run.usable_BT, found.usable_BL)
    assert torch.equal(run.tokens_BT, found.tokens_BL)
    torch.testing.assert_close(run.codes_BTF, found.codes_BLF)
    assert run.codes_BTF.any()


def test_cached_passes_give_the_codes_of_uncached_ones(lm: LanguageModel, dictionary: Dictionary) -> None:
    inputs = prompts(lm)
    runs = {}
    for use_cache in (True, False):
        with lm.attached(dictionary, LAYER) as run:
            tokens_BT = written(lm.model, inputs, use_cache)
        runs[use_cache] = run
        assert torch.equal(run.tokens_BT, tokens_BT[:, :-1])  # the last is not read
    length = inputs["input_ids"].shape[1]
    assert [seen.codes_BLF.shape[1] for seen in runs[True].passes] == [length, 1, 1, 1, 1, 1]
    assert [seen.start for seen in runs[True].passes] == [0, *range(length, length + 5)]
    assert [seen.codes_BLF.shape[1] for seen in runs[False].passes] == [length + i for i in range(6)]
    assert torch.equal(runs[True].usable_BT, runs[False].usable_BT)
    torch.testing.assert_close(runs[True].codes_BTF, runs[False].codes_BTF, atol=1e-5, rtol=1e-4)


def test_a_text_padded_on_the_left_has_the_codes_that_it_has_alone(
    lm: LanguageModel, dictionary: Dictionary
) -> None:
    inputs = prompts(lm)
    with lm.attached(dictionary, LAYER) as together:
        written(lm.model, inputs)
    for row, mask_L in enumerate(inputs["attention_mask"].bool()):
        with lm.attached(dictionary, LAYER) as alone:
            written(lm.model, {name: x[row : row + 1, mask_L] for name, x in inputs.items()})
        padded = int((~mask_L).sum())
        assert not together.usable_BT[row, :padded].any()
        assert not together.codes_BTF[row, :padded].any()
        assert torch.equal(together.tokens_BT[row, padded:], alone.tokens_BT[0])
        torch.testing.assert_close(together.codes_BTF[row, padded:], alone.codes_BTF[0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("mode", ["add", "clamp"])
@pytest.mark.parametrize("keep_error", [True, False])
def test_what_is_written_is_the_same_cached_uncached_and_alone(
    lm: LanguageModel, dictionary: Dictionary, mode: str, keep_error: bool
) -> None:
    inputs = prompts(lm)
    plain_BT = written(lm.model, inputs)
    with lm.steered(dictionary, STRONG, LAYER, mode=mode, keep_error=keep_error):
        cached_BT, uncached_BT = (written(lm.model, inputs, use_cache) for use_cache in (True, False))
        for row, mask_L in enumerate(inputs["attention_mask"].bool()):
            one = {name: x[row : row + 1, mask_L] for name, x in inputs.items()}
            assert torch.equal(written(lm.model, one)[0], cached_BT[row, int((~mask_L).sum()) :])
    assert torch.equal(cached_BT, uncached_BT)
    assert not torch.equal(cached_BT, plain_BT)
    assert torch.equal(written(lm.model, inputs), plain_BT)


def test_a_clamped_latent_of_a_temporal_sae_is_read_in_its_context(llama: LanguageModel) -> None:
    """Against the whole text at once: x + (a - f(x)) d at every position, f over all earlier ones."""
    dictionary, (tokens_BT, mask_BT, _) = tfa(), llama.tokenize(PROMPTS[:1], 64)
    x_BTD = llama.record(tokens_BT, mask_BT, LAYER)
    f_BTF = dictionary.encode(x_BTD)
    expected_BTD = x_BTD + (2.0 - f_BTF[..., [5]]) * dictionary.decoder_directions()[5]
    made = []
    with torch.no_grad(), llama.steered(dictionary, {5: 2.0}, LAYER, mode="clamp"):
        handle = llama.layers[LAYER].register_forward_hook(lambda m, args, out: made.append(out))
        cache = transformers.DynamicCache()
        for piece_BL in (tokens_BT[:, :4], tokens_BT[:, 4:5], tokens_BT[:, 5:]):
            llama.model(piece_BL, past_key_values=cache)
        handle.remove()
    torch.testing.assert_close(torch.cat(made, 1), expected_BTD, atol=1e-5, rtol=1e-4)


def test_several_dictionaries_see_their_own_layers(lm: LanguageModel) -> None:
    tokens_BL, mask_BL, _ = lm.tokenize(PROMPTS, 64)
    first, second = sae(), tfa()
    with (
        lm.attached(first, 0) as low,
        lm.attached(second, 2) as high,
        lm.steered(first, STRONG, 1),
        lm.attached(first, 0, latents=[3, 40]) as some,
    ):
        lm.logits(tokens_BL, mask_BL)
    torch.testing.assert_close(low.codes_BTF, lm.encode(PROMPTS, first, 0).codes_BLF)
    assert torch.equal(some.codes_BTF, low.codes_BTF[..., [3, 40]])
    # layer 2 reads what became of layer 1
    assert not torch.allclose(high.codes_BTF, lm.encode(PROMPTS, second, 2).codes_BLF)


def test_what_attention_and_mlp_add_is_read_and_steered(llama: LanguageModel) -> None:
    dictionary, place = sae(), Place(1, site="mlp")
    tokens_BL, mask_BL, _ = llama.tokenize(PROMPTS, 64)
    inputs = {"input_ids": tokens_BL, "attention_mask": mask_BL.long()}
    expected = llama.encode(PROMPTS, dictionary, place, max_norm_ratio=None).codes_BLF
    for where in (place, "model.layers.1.mlp", llama.layers[1].mlp):
        with torch.no_grad(), attached(llama.model, dictionary, where) as run:
            llama.model(**inputs)
        torch.testing.assert_close(run.codes_BTF, expected)
    with llama.steered(dictionary, STRONG, place):
        steered_BLV = llama.logits(tokens_BL, mask_BL)
    assert not torch.allclose(steered_BLV, llama.logits(tokens_BL, mask_BL))


def test_passes_over_a_cache_are_put_together_and_caches_may_take_turns(
    llama: LanguageModel, dictionary: Dictionary
) -> None:
    tokens_BL, mask_BL, _ = llama.tokenize([PROMPTS[0], PROMPTS[2]], 64)
    rows = [row[mask][None] for row, mask in zip(tokens_BL, mask_BL, strict=True)]
    caches: list[Any] = [None, None]
    with torch.no_grad(), llama.attached(dictionary, LAYER) as run:
        for piece in (slice(0, 3), slice(3, 4), slice(4, None)):
            for i, row_BL in enumerate(rows):
                caches[i] = llama.model(row_BL[:, piece], past_key_values=caches[i]).past_key_values
    expected = llama.encode([PROMPTS[2]], dictionary, LAYER, max_norm_ratio=None)
    assert len(run.passes) == 6
    assert torch.equal(run.tokens_BT, expected.tokens_BL)
    torch.testing.assert_close(run.codes_BTF, expected.codes_BLF, atol=1e-5, rtol=1e-4)


def test_what_a_cache_forgets_is_no_context(llama: LanguageModel, dictionary: Dictionary) -> None:
    tokens_BL, _, _ = llama.tokenize(PROMPTS[:1], 64)
    cache = transformers.DynamicCache()
    with torch.no_grad(), llama.attached(dictionary, LAYER) as run:
        llama.model(torch.cat([tokens_BL[:, :4], tokens_BL[:, :3]], 1), past_key_values=cache)
        cache.crop(-3)
        assert cache.get_seq_length() == 4
        llama.model(tokens_BL[:, 4:], past_key_values=cache)
    expected = llama.encode(PROMPTS[:1], dictionary, LAYER, max_norm_ratio=None)
    assert torch.equal(run.tokens_BT, expected.tokens_BL)
    torch.testing.assert_close(run.codes_BTF, expected.codes_BLF, atol=1e-5, rtol=1e-4)


def test_a_beam_search_that_exchanges_texts_is_followed(llama: LanguageModel, dictionary: Dictionary) -> None:
    own = Cache.reorder_cache
    with llama.attached(dictionary, LAYER) as run:
        written(llama.model, prompts(llama), n=8, num_beams=3)
    assert Cache.reorder_cache is own
    assert len({tuple(row) for row in run.tokens_BT.tolist()}) > 3
    usable_BT = run.usable_BT
    for tokens_T, usable_T, codes_TF in zip(run.tokens_BT, usable_BT, run.codes_BTF, strict=True):
        begin = int(usable_T.nonzero()[0])
        with torch.no_grad(), llama.attached(dictionary, LAYER) as alone:
            llama.model(tokens_T[None, begin:])
        torch.testing.assert_close(alone.codes_BTF[0], codes_TF[begin:], atol=1e-5, rtol=1e-4)


def test_a_static_cache_whose_mask_says_who_attends_to_whom_will_do(
    llama: LanguageModel, dictionary: Dictionary
) -> None:
    inputs = prompts(llama)
    runs = []
    for more in ({}, {"cache_implementation": "static", "disable_compile": True}):
        with llama.attached(dictionary, LAYER) as run:
            written(llama.model, inputs, **more)
        runs.append(run)
    assert torch.equal(runs[0].usable_BT, runs[1].usable_BT)
    torch.testing.assert_close(runs[0].codes_BTF, runs[1].codes_BTF, atol=1e-5, rtol=1e-4)


def test_tokens_that_went_through_before_are_missing_to_a_temporal_sae_only(llama: LanguageModel) -> None:
    tokens_BL, _, _ = llama.tokenize(PROMPTS[:1], 64)
    with torch.no_grad():
        cache = llama.model(tokens_BL[:, :4]).past_key_values
        with llama.attached(sae(), LAYER) as run:
            llama.model(tokens_BL[:, 4:6], past_key_values=cache)
        assert (run.passes[0].start, list(run.codes_BTF.shape)) == (4, [1, 2, 64])
        with (
            llama.attached(tfa(), LAYER),
            pytest.raises(UserError, match="6 tokens of this text went through"),
        ):
            llama.model(tokens_BL[:, 6:], past_key_values=cache)
    assert n_hooks(llama.model) == 0


def test_the_median_norm_is_read_without_those_who_watch(tokenizer) -> None:
    lm = LanguageModel.wrap(tiny_model("llama"), tokenizer, name="llama")
    with (
        lm.attached(sae(), 0, norm_limit=math.inf) as outer,
        lm.steered(sae(), {3: 1e6}, 0, norm_limit=math.inf),
    ):
        limit = lm.sink_norm(1)
    assert outer.passes == []
    assert 0 < limit < 1e5
    assert limit == LanguageModel.wrap(lm.model, tokenizer, name="llama").sink_norm(1)


def test_a_pass_that_is_nobody_s_is_neither_read_nor_steered(llama: LanguageModel) -> None:
    """Also one that comes between two pieces of a watched text, as of another user of the same model."""
    dictionary, (tokens_BL, mask_BL, _) = tfa(), llama.tokenize(PROMPTS[:1], 64)
    plain_BLV = llama.logits(tokens_BL, mask_BL)
    cache = transformers.DynamicCache()
    with torch.no_grad(), llama.attached(dictionary, LAYER) as run, llama.steered(dictionary, STRONG, LAYER):
        for piece in (slice(0, 4), slice(4, None)):
            llama.model(tokens_BL[:, piece], past_key_values=cache)
            with unwatched():
                assert torch.equal(llama.logits(tokens_BL, mask_BL), plain_BLV)
                llama.record(tokens_BL, mask_BL, LAYER)
    assert torch.equal(run.tokens_BT, tokens_BL)
    expected_BTF = llama.encode(PROMPTS[:1], dictionary, LAYER).codes_BLF
    torch.testing.assert_close(run.codes_BTF, expected_BTF, atol=1e-5, rtol=1e-4)


def test_a_model_in_bfloat16_is_read_by_a_dictionary_in_float32(tokenizer, dictionary: Dictionary) -> None:
    lm = LanguageModel.wrap(tiny_model("llama").to(torch.bfloat16), tokenizer, name="llama")
    tokens_BL, mask_BL, _ = lm.tokenize(PROMPTS, 64)
    with lm.attached(dictionary, LAYER) as run, lm.steered(dictionary, STRONG, LAYER, mode="clamp"):
        assert lm.logits(tokens_BL, mask_BL).dtype == torch.bfloat16
    assert run.codes_BTF.dtype == torch.float32
    torch.testing.assert_close(run.codes_BTF, lm.encode(PROMPTS, dictionary, LAYER).codes_BLF)


def test_under_autocast_the_codes_are_those_of_the_dictionary_without(
    llama: LanguageModel, dictionary: Dictionary
) -> None:
    tokens_BL, _, _ = llama.tokenize(PROMPTS[:1], 64)
    recorded: list[Tensor] = []
    module = llama.model.model.layers[LAYER]
    hook = module.register_forward_hook(lambda module, args, x_BLD: recorded.append(x_BLD))
    try:
        with (
            torch.no_grad(),
            torch.autocast("cpu", torch.bfloat16),
            attached(llama.model, dictionary, LAYER) as run,
        ):
            llama.model(tokens_BL)
            encoded = llama.encode(PROMPTS[:1], dictionary, LAYER, max_norm_ratio=None)
    finally:
        hook.remove()
    expected_BTF = dictionary.encode(recorded[0].float())
    assert expected_BTF.count_nonzero() > 0
    torch.testing.assert_close(run.codes_BTF, expected_BTF, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(encoded.codes_BLF, expected_BTF, atol=1e-6, rtol=1e-5)


def test_passes_that_return_tuples_are_put_together_too(llama: LanguageModel, dictionary: Dictionary) -> None:
    tokens_BL, _, _ = llama.tokenize(PROMPTS[:1], 64)
    with torch.no_grad(), attached(llama.model, dictionary, LAYER) as whole:
        llama.model(tokens_BL)
    with torch.no_grad(), attached(llama.model, dictionary, LAYER) as run:
        _, cache = llama.model(tokens_BL[:, :4], return_dict=False, use_cache=True)
        llama.model(tokens_BL[:, 4:], past_key_values=cache, return_dict=False)
    torch.testing.assert_close(run.codes_BTF, whole.codes_BTF, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("latents", [[3, 40], (3, 40), range(3, 41, 37), torch.tensor([3, 40])])
def test_some_latents_are_kept_in_whatever_they_are_listed(llama: LanguageModel, latents: Any) -> None:
    tokens_BL, _, _ = llama.tokenize(PROMPTS[:1], 64)
    with (
        attached(llama.model, sae(), LAYER) as all_of_them,
        attached(llama.model, sae(), LAYER, latents=latents) as run,
    ):
        llama.model(tokens_BL)
    assert torch.equal(run.codes_BTF, all_of_them.codes_BTF[..., [3, 40]])


@pytest.mark.parametrize("latents", [[64], [-1], 64, ["3"], [3.5]])
def test_a_latent_that_cannot_be_kept_is_told_before_anything_runs(
    llama: LanguageModel, latents: Any
) -> None:
    with (
        pytest.raises(UserError, match="there is no latent"),
        attached(llama.model, sae(), LAYER, latents=latents),
    ):
        pass


def test_gradients_go_through_what_is_steered(llama: LanguageModel) -> None:
    direction_D = torch.randn(WIDTH)
    tokens_BL, _, _ = llama.tokenize(PROMPTS[:1], 64)
    embedded_BLD = llama.model.get_input_embeddings()(tokens_BL).detach().requires_grad_()
    with steered(llama.model, sae(), {3: 2.0, direction_D: 1.0}, LAYER, mode="clamp"):
        llama.model(inputs_embeds=embedded_BLD).logits.sum().backward()
    assert embedded_BLD.grad is not None
    assert embedded_BLD.grad.abs().sum() > 0


def test_hooks_are_gone_after_an_exception(llama: LanguageModel, dictionary: Dictionary) -> None:
    own = {name: getattr(Cache, name) for name in ("reorder_cache", "batch_select_indices")}
    tokens_BL, mask_BL, _ = llama.tokenize(PROMPTS, 64)
    before_BLV = llama.logits(tokens_BL, mask_BL)

    def fail() -> None:
        with llama.attached(dictionary, LAYER), llama.steered(dictionary, STRONG, LAYER, mode="clamp"):
            llama.logits(tokens_BL, mask_BL)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert n_hooks(llama.model) == 0
    assert {name: getattr(Cache, name) for name in own} == own
    assert torch.equal(llama.logits(tokens_BL, mask_BL), before_BLV)


def test_a_loaded_dictionary_knows_its_place(llama: LanguageModel, tmp_path, tiny_lm_folder) -> None:
    from run_folders import save_run

    from dictionary_learning.utils import load_dictionary

    save_run(tmp_path / "run", sae(), tiny_lm_folder, LAYER)
    dictionary, _ = load_dictionary(tmp_path / "run", "cpu")
    assert dictionary.place == Place(LAYER)
    tokens_BL, mask_BL, _ = llama.tokenize(PROMPTS, 64)
    with llama.attached(dictionary) as run, llama.steered(dictionary, {3: 1.0}):
        llama.logits(tokens_BL, mask_BL)
    torch.testing.assert_close(run.codes_BTF, llama.encode(PROMPTS, dictionary, LAYER).codes_BLF)


def test_the_page_of_the_documents_runs(tmp_path, tiny_lm_folder, monkeypatch) -> None:
    page = (Path(__file__).parents[2] / "docs" / "attach.md").read_text(encoding="utf-8")
    make_run(tmp_path / "runs" / "demo" / "tsae", tiny_lm_folder)
    monkeypatch.chdir(tmp_path)
    tiny = LanguageModel.load(str(tiny_lm_folder), device="cpu")
    monkeypatch.setattr(LanguageModel, "load", lambda name: tiny)
    names: dict[str, Any] = {}
    blocks = re.findall(r"^```python\n(.+?)^```", page, re.DOTALL | re.MULTILINE)
    assert len(blocks) == 5
    for block in blocks:
        exec(block, names)
    assert names["run"].codes_BTF.shape[2] == 96
    assert names["gained_BTF"][..., 5].max() > 10
    assert names["unsteered"] != names["steered_text"]
    assert n_hooks(tiny.model) == 0


# --- mistakes ---


@pytest.mark.parametrize(
    ("strengths", "options", "sentence"),
    [
        ({64: 1.0}, {}, "no latent 64: the dictionary has 0 to 63"),
        ({-1: 1.0}, {}, "no latent -1"),
        ({"3": 1.0}, {}, "'3' is no latent: give its number, or a direction"),
        ({3.0: 1.0}, {}, "3.0 is no latent"),
        ({3: math.nan}, {}, "strength nan"),
        ({3: 1.0}, {"mode": "set"}, "mode 'set' does not exist: choose add or clamp"),
        ({torch.zeros(5): 1.0}, {}, r"shape \[5\] cannot be added: give \[32\]"),
        ({3: 1.0}, {"layer": 9}, "has no layer 9"),
        ({3: 1.0}, {"layer": None}, "does not say where it was trained"),
    ],
)
def test_a_mistake_is_told_before_anything_runs(llama: LanguageModel, strengths, options, sentence) -> None:
    with (
        pytest.raises(UserError, match=sentence),
        llama.steered(sae(), strengths, **{"layer": LAYER, **options}),
    ):
        pass
    assert n_hooks(llama.model) == 0


@pytest.mark.parametrize(
    ("where", "sentence"),
    [
        ("model.layer.1", "no module 'model.layer.1': give a path .* such as 'model.layers.0'"),
        (nn.Linear(2, 2), "this Linear is no module of the Llama"),
        (9, "has no layer 9: its layers are 0 to 2"),
        (Place(None, site="embed"), "has no"),
        (None, "None is no place in a model"),
        (1.5, "1.5 is no place in a model"),
    ],
)
def test_a_module_that_is_not_there_is_told(llama: LanguageModel, where, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence), attached(llama.model, sae(), where):
        pass
    with pytest.raises(UserError, match="no transformers model"), attached(Plain(), ByHand(), 1):
        pass


def test_a_dictionary_of_another_width_is_told(llama: LanguageModel) -> None:
    tokens_BL, _, _ = llama.tokenize(PROMPTS[:1], 64)
    with pytest.raises(UserError, match="width 40"), llama.attached(sae(40), LAYER):
        pass
    with attached(llama.model, sae(40), LAYER), pytest.raises(UserError, match="this module gives width 32"):
        llama.model(tokens_BL)
    with llama.attached(sae(), LAYER) as run, pytest.raises(UserError, match="nothing has gone through"):
        print(run.codes_BTF)
