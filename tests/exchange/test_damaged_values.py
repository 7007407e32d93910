"""Values and shapes in a folder that no dictionary can have: one sentence, and no Python error.

Shapes: D 6 model width, F 12 latents, K 3.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from every_dictionary import CONFIG, make
from safetensors.torch import load_file, save_file
from torch import Tensor

from dictionary_learning.errors import UserError
from dictionary_learning.exchange import run_folder, saelens
from dictionary_learning.utils import load_dictionary


def config_of(dictionary: Any) -> dict[str, Any]:
    facts = {"dict_class": type(dictionary).__name__, "activation_dim": 6, "dict_size": dictionary.dict_size}
    sizes = {"width": dictionary.width, **dictionary.architecture} if hasattr(dictionary, "width") else {}
    return CONFIG | {"trainer": CONFIG["trainer"] | facts | sizes}


@pytest.mark.parametrize(
    ("kind", "name", "damage", "sentence"),
    [
        ("temporal", "b", lambda b: b[:0], r"b of this TemporalSAE has shape \[0, 6\]"),
        ("temporal", "b", lambda b: torch.cat([b, b]), r"b of this TemporalSAE has shape \[2, 6\]"),
        ("temporal", "scaling_factor", torch.zeros_like, "scaling_factor .* is 0, and must be above 0"),
        ("untied", "scaling_factor", torch.neg, r"scaling_factor .* is -0\.029, and must be above 0"),
        ("batchtopk", "k", lambda k: k.repeat(2), r"k of this BatchTopKSAE has shape \[2\]"),
        ("topk", "k", lambda k: k[None][:0], r"k of this AutoEncoderTopK has shape \[0\]"),
    ],
)
def test_a_tensor_that_no_dictionary_has(
    tmp_path: Path, kind: str, name: str, damage: Callable[[Tensor], Tensor], sentence: str
) -> None:
    dictionary = make(kind)
    run_folder.write(dictionary, config_of(dictionary), tmp_path)
    (tmp_path / "checksums.json").unlink()
    state = torch.load(tmp_path / "ae.pt", weights_only=True)
    torch.save(state | {name: damage(state[name])}, tmp_path / "ae.pt")
    with pytest.raises(UserError, match=sentence):
        load_dictionary(tmp_path, "cpu")


def test_a_config_of_another_k_or_other_groups_is_told(tmp_path: Path) -> None:
    dictionary = make("matryoshka")
    config = config_of(dictionary)
    run_folder.write(dictionary, config, tmp_path)
    for name, value in (("k", 5), ("group_sizes", [6, 6])):
        content = json.loads((tmp_path / "config.json").read_text())
        kept = json.dumps(content)
        content["trainer"][name] = value
        (tmp_path / "config.json").write_text(json.dumps(content))
        with pytest.raises(UserError, match=f"does not fit .*config.json: {name}"):
            load_dictionary(tmp_path, "cpu")
        (tmp_path / "config.json").write_text(kept)


@pytest.mark.parametrize(
    ("kind", "value", "sentence"),
    [
        ("topk", {"k": True}, "k is True, and must be between 1 and the 12 latents"),
        ("topk", {"k": 10**30}, f"k is {10**30}, and must be between 1 and the 12 latents"),
        ("batchtopk", {"metadata": {"k": 10**30}}, f"k is {10**30}, and must be between 1 and the 12"),
        ("temporal", {"activation_normalization_factor": None}, "activation_normalization_factor is null"),
    ],
)
def test_a_number_in_cfg_json_that_no_dictionary_has(
    tmp_path: Path, kind: str, value: dict[str, Any], sentence: str
) -> None:
    dictionary = make(kind)
    saelens.write(dictionary, config_of(dictionary), tmp_path)
    path = tmp_path / saelens.CFG
    cfg = json.loads(path.read_text())
    path.write_text(json.dumps(cfg | value | {"metadata": cfg["metadata"] | value.get("metadata", {})}))
    with pytest.raises(UserError, match=sentence):
        load_dictionary(tmp_path, "cpu")


def test_weights_in_a_row_are_told_without_a_word_of_torch(tmp_path: Path, recwarn) -> None:
    dictionary = make("batchtopk")
    saelens.write(dictionary, config_of(dictionary), tmp_path)
    (tmp_path / "checksums.json").unlink()
    state = load_file(tmp_path / saelens.WEIGHTS)
    save_file(state | {"W_dec": state["W_dec"].flatten()}, tmp_path / saelens.WEIGHTS)
    with pytest.raises(UserError, match=r"does not fit .*cfg\.json"):
        load_dictionary(tmp_path, "cpu")
    assert not recwarn.list
