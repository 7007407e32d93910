"""A language model whose layers may lie on several devices, dealt out by accelerate; all are the CPU here."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from dictionary_learning.errors import UserError
from dictionary_learning.language_model import LanguageModel, Place, replace, zero
from dictionary_learning.language_model.cross_entropy import CrossEntropy
from dictionary_learning.language_model.fingerprint import fingerprints

TEXTS = ["The lunar comet circles a moon.", "A judge.", "Every onion softens the butter."]
PLACES = [0, Place(1, site="attn"), Place(2, site="mlp"), Place(3)]


@pytest.fixture(scope="module")
def plain(tiny_lm_folder: Path) -> LanguageModel:
    return LanguageModel.load(str(tiny_lm_folder), device="cpu")


@pytest.fixture
def device_maps(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What transformers was told of devices."""
    seen: list[Any] = []
    from_pretrained = transformers.AutoModelForCausalLM.from_pretrained

    def seeing(*arguments: Any, **options: Any) -> Any:
        seen.append(options["device_map"])
        return from_pretrained(*arguments, **options)

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", seeing)
    return seen


@pytest.fixture
def spread(plain: LanguageModel, tiny_lm_folder: Path) -> LanguageModel:
    """The same model with accelerate's hooks around every module, which move what goes in to its device."""
    from accelerate import dispatch_model

    lm = LanguageModel.load(str(tiny_lm_folder), device="cpu")
    parts = ["model.embed_tokens", "model.norm", "model.rotary_emb", "lm_head"]
    parts += [f"model.layers.{layer}" for layer in range(4)]
    dispatch_model(lm.model, dict.fromkeys(parts, "cpu"), force_hooks=True)
    assert all(hasattr(layer, "_hf_hook") for layer in lm.layers)
    return lm


def test_auto_reaches_transformers_and_gives_the_same_bits(
    plain: LanguageModel, tiny_lm_folder: Path, device_maps: list[Any]
) -> None:
    lm = LanguageModel.load(str(tiny_lm_folder), device="auto")
    assert device_maps == ["auto"]
    tokens_BL, mask_BL, _ = lm.tokenize(TEXTS, 32)
    for ours, expected in zip(
        lm.record_several(tokens_BL, mask_BL, PLACES),
        plain.record_several(tokens_BL, mask_BL, PLACES),
        strict=True,
    ):
        assert torch.equal(ours.cpu(), expected)
    LanguageModel.load(str(tiny_lm_folder), device="cpu")
    assert device_maps[1:] == [{"": torch.device("cpu")}]


def test_recording_replacing_and_writing_work_through_accelerates_hooks(
    plain: LanguageModel, spread: LanguageModel
) -> None:
    tokens_BL, mask_BL, _ = plain.tokenize(TEXTS, 32)
    recorded = spread.record_several(tokens_BL, mask_BL, PLACES)
    for ours, expected in zip(recorded, plain.record_several(tokens_BL, mask_BL, PLACES), strict=True):
        assert torch.equal(ours, expected)
    assert torch.equal(spread.logits(tokens_BL, mask_BL), plain.logits(tokens_BL, mask_BL))
    for place, x_BLD in zip(PLACES, recorded, strict=True):
        for edit in (zero(), replace(0.5 * x_BLD)):
            ours, expected = (lm.logits(tokens_BL, mask_BL, place, edit) for lm in (spread, plain))
            assert torch.equal(ours, expected)
    written = [lm.generate(["A judge"], 1, zero(), max_new_tokens=4) for lm in (spread, plain)]
    assert written[0] == written[1]
    losses = []
    for lm in (spread, plain):
        losses.append(CrossEntropy(lm, PLACES[2]))
        losses[-1].add(tokens_BL, mask_BL, {"": 0.5 * recorded[2][mask_BL]})
    assert losses[0].means() == losses[1].means()


def test_a_spread_model_is_cut_behind_a_layer_and_has_the_same_fingerprint(
    plain: LanguageModel, spread: LanguageModel
) -> None:
    tokens_BL, mask_BL, _ = plain.tokenize(TEXTS, 32)
    spread.truncate(2)
    assert fingerprints(spread, 2) == fingerprints(plain, 2)
    assert torch.equal(
        spread.record(tokens_BL, mask_BL, PLACES[2]), plain.record(tokens_BL, mask_BL, PLACES[2])
    )


def test_a_model_that_the_devices_do_not_hold_is_refused(
    tiny_lm_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from_pretrained = transformers.AutoModelForCausalLM.from_pretrained

    def without_room(*arguments: Any, **options: Any) -> Any:
        """As accelerate does where memory ends: the last layers stay on the disk."""
        parts = ["model.embed_tokens", "model.norm", "model.rotary_emb", "lm_head"]
        options["device_map"] = dict.fromkeys([*parts, "model.layers.0", "model.layers.1"], "cpu")
        options["device_map"] |= {"model.layers.2": "disk", "model.layers.3": "disk"}
        return from_pretrained(*arguments, **options, offload_folder=str(tmp_path))

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", without_room)
    told = r"in float32 is larger than the devices of this machine together: choose --lm_dtype bfloat16"
    with pytest.raises(UserError, match=told):
        LanguageModel.load(str(tiny_lm_folder), device="auto")
