"""Caches that do not look like Llama's: of layers with a window, and of recurrent layers.

Shapes: B texts, L positions of a pass, T positions from the beginning.
"""

from typing import Any

import pytest
import torch
import transformers
from model_families import COMMON, MODERN, N_LAYERS, WIDTH

from dictionary_learning.dictionaries.base import Dictionary
from dictionary_learning.dictionaries.temporal_sae import TemporalSAE
from dictionary_learning.language_model import attached
from dictionary_learning.language_model.attach.passes import _padding
from dictionary_learning.trainers.batch_top_k import BatchTopKSAE

LAYER, N_NEW = 1, 5
HIDES = -1e9
RECURRENT = {**COMMON, "hidden_size": WIDTH, "num_hidden_layers": N_LAYERS}
CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "Mamba": ("MambaConfig", {**RECURRENT, "state_size": 4}),
    "RWKV": ("RwkvConfig", {**RECURRENT, "attention_hidden_size": WIDTH, "context_length": 32}),
    "Gemma 2": ("Gemma2Config", {**MODERN, "head_dim": 8, "sliding_window": 6}),
    "Mistral": ("MistralConfig", {**MODERN, "sliding_window": 6}),
}


def model_of(family: str) -> Any:
    config, options = CONFIGS[family]
    torch.manual_seed(0)
    return transformers.AutoModelForCausalLM.from_config(getattr(transformers, config)(**options)).eval()


@pytest.fixture(params=["flat", "temporal"])
def dictionary(request: pytest.FixtureRequest) -> Dictionary:
    if request.param == "temporal":
        torch.manual_seed(0)
        return TemporalSAE(WIDTH, 24, n_heads=2, kval_topk=4).eval().requires_grad_(False)
    made = BatchTopKSAE(WIDTH, 64, k=8, seed=0)
    made.threshold.fill_(0.05)
    return made.eval().requires_grad_(False)


@pytest.mark.parametrize("family", ["Mamba", "RWKV"])
def test_what_a_recurrent_model_writes_has_the_codes_of_one_pass(family: str, dictionary: Dictionary) -> None:
    model = model_of(family)
    # one text: of several RWKV mixes states (findings/)
    prompt_BL = torch.randint(3, 500, (1, 7), generator=torch.Generator().manual_seed(1))
    with torch.no_grad(), attached(model, dictionary, LAYER) as run:
        written_BT = model.generate(
            prompt_BL, max_new_tokens=N_NEW, do_sample=False, eos_token_id=None, pad_token_id=1
        )
    with torch.no_grad(), attached(model, dictionary, LAYER) as whole:
        model(written_BT[:, :-1], use_cache=False)
    assert [seen.start for seen in run.passes] == [0, 7, 8, 9, 10]
    assert torch.equal(run.tokens_BT, written_BT[:, :-1])
    assert whole.codes_BTF.count_nonzero() > 0
    torch.testing.assert_close(run.codes_BTF, whole.codes_BTF, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("family", ["Gemma 2", "Mistral"])
def test_a_static_cache_of_layers_with_a_window_will_do(family: str) -> None:
    model = model_of(family)
    dictionary = BatchTopKSAE(WIDTH, 64, k=8, seed=0).eval()
    inputs = {"input_ids": torch.tensor([[1, 1, 9, 8, 7, 6, 5, 4], [3, 4, 5, 6, 7, 8, 9, 10]])}
    inputs["attention_mask"] = (inputs["input_ids"] != 1).long()
    runs = []
    for more in ({}, {"cache_implementation": "static", "disable_compile": True}):
        with torch.no_grad(), attached(model, dictionary, LAYER) as run:
            model.generate(
                **inputs, **more, max_new_tokens=N_NEW, do_sample=False, eos_token_id=None, pad_token_id=1
            )
        runs.append(run)
    assert runs[0].usable_BT.tolist()[0] == [False] * 2 + [True] * (6 + N_NEW - 1)
    assert torch.equal(runs[0].usable_BT, runs[1].usable_BT)
    torch.testing.assert_close(runs[0].codes_BTF, runs[1].codes_BTF, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("names", [("full", "sliding"), ("sliding", "full")])
def test_the_mask_that_tells_of_all_positions_is_read_whichever_stands_first(names: tuple[str, str]) -> None:
    # the seventh position of two texts, of which the second is padding there
    masks = {"full": torch.zeros(2, 1, 1, 9), "sliding": torch.zeros(2, 1, 1, 4)}
    masks["full"][1, ..., 6] = masks["sliding"][1, ..., 3] = HIDES
    is_real_BL = _padding({name: masks[name] for name in names}, 6, 1)
    assert is_real_BL.tolist() == [[True], [False]]
    assert _padding(masks["sliding"], 6, 1).tolist() == [[True], [False]]


def test_masks_that_are_left_out_hide_nothing() -> None:
    assert _padding({"full": None, "sliding": None}, 0, 4) is None
