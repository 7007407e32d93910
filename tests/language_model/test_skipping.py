"""Passes that skip the lower layers: the logits of whole passes, whatever the kind of model."""

from pathlib import Path
from typing import Any

import pytest
import torch
from model_families import FAMILIES, N_LAYERS, WIDTH, tiny_model
from torch import nn

from dictionary_learning.language_model import LanguageModel, only, replace
from dictionary_learning.language_model.places import Place
from dictionary_learning.language_model.skipping import LowerLayers


@pytest.fixture(scope="module")
def tokenizer(tiny_lm_folder: Path) -> Any:
    return LanguageModel.load(str(tiny_lm_folder), device="cpu").tokenizer


PLACES = [Place(1), Place(N_LAYERS - 1), Place(1, site="mlp"), Place(1, site="attn")]


class Calls:
    """How often each decoder layer ran."""

    def __init__(self, lm: LanguageModel) -> None:
        self.counts = [0] * len(lm.layers)
        for i, layer in enumerate(lm.layers):
            attention = next(m for n, m in layer.named_modules() if "attn" in n or "attention" in n)
            attention.register_forward_hook(lambda *_, i=i: self._count(i))

    def _count(self, i: int) -> None:
        self.counts[i] += 1


def texts() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    tokens_BL = torch.randint(3, 60, (3, 12), generator=generator)
    mask_BL = torch.ones(3, 12, dtype=torch.bool)
    mask_BL[1, 7:] = False
    return tokens_BL, mask_BL


def edits() -> list[Any]:
    x_D = torch.randn(WIDTH, generator=torch.Generator().manual_seed(1))
    some_BL = torch.zeros(3, 12, dtype=torch.bool)
    some_BL[:, 2:5] = True
    return [replace(x_D), only(some_BL, replace(x_D)), torch.zeros_like]


@pytest.mark.parametrize("place", PLACES, ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_pass_without_its_lower_layers_has_the_logits_of_a_whole_one(
    family: str, place: Place, tokenizer: Any
) -> None:
    lm = LanguageModel.wrap(tiny_model(family), tokenizer, name=family)
    tokens_BL, mask_BL = texts()
    with torch.no_grad():
        lower = LowerLayers(lm, place)
        clean_BLV, output = lower.clean(tokens_BL, mask_BL, None)
        torch.testing.assert_close(clean_BLV, lm.logits(tokens_BL, mask_BL))
        assert output is not None
        calls = Calls(lm)
        for edit in edits():
            whole_BLV = lm.logits(tokens_BL, mask_BL, place, edit)
            calls.counts = [0] * len(lm.layers)
            with lower.skipped(output):
                skipped_BLV = lm.logits(tokens_BL, mask_BL, place, edit)
            torch.testing.assert_close(skipped_BLV[mask_BL], whole_BLV[mask_BL], rtol=1e-4, atol=1e-5)
            assert calls.counts[0] == 0
        torch.testing.assert_close(lm.logits(tokens_BL, mask_BL), clean_BLV)  # nothing is left behind


@pytest.mark.parametrize("family", FAMILIES)
def test_a_clean_pass_can_begin_with_what_was_recorded(family: str, tokenizer: Any) -> None:
    lm = LanguageModel.wrap(tiny_model(family), tokenizer, name=family)
    tokens_BL, mask_BL = texts()
    with torch.no_grad():
        lower = LowerLayers(lm, 1)
        lower.clean(tokens_BL, mask_BL, lm.record(tokens_BL, mask_BL, 1))  # tried on the first texts
        other_BL = tokens_BL.flip(0)
        expected_BLV = lm.logits(other_BL, mask_BL)
        x_BLD = lm.record(other_BL, mask_BL, 1)
        calls = Calls(lm)
        found_BLV, _ = lower.clean(other_BL, mask_BL, x_BLD)
    torch.testing.assert_close(found_BLV[mask_BL], expected_BLV[mask_BL], rtol=1e-4, atol=1e-5)
    assert calls.counts == [0, 0] + [1] * (N_LAYERS - 2)


def test_a_model_whose_upper_layers_look_at_lower_ones_runs_whole(
    tokenizer: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    lm = LanguageModel.wrap(tiny_model("llama"), tokenizer, name="shares")
    first, last = lm.layers[0], lm.layers[N_LAYERS - 1]
    left: list[torch.Tensor] = []
    first.mlp.register_forward_hook(lambda m, args, out: left.append(out))

    def shares(module: nn.Module, args: Any, out: Any) -> Any:
        return out + left.pop() if left else out

    last.mlp.register_forward_hook(shares)
    tokens_BL, mask_BL = texts()
    with torch.no_grad():
        _, output = LowerLayers(lm, 1).clean(tokens_BL, mask_BL, None)
    assert output is None
    assert "all of them run" in capsys.readouterr().err.replace("\n", " ")
