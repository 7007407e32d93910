"""What is exported of a dictionary's place and texts: the true hook, and whether a BOS was read."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import make_tokenizer
from every_dictionary import CONFIG, D, F, make
from test_saelens_folder import flat, foreign

from dictionary_learning import ActivationBuffer, LanguageModel
from dictionary_learning.errors import UserError
from dictionary_learning.eval_temporal import EvalOptions
from dictionary_learning.eval_temporal import resolve as resolve_evaluation
from dictionary_learning.exchange import released_folder, run_folder, saelens
from dictionary_learning.exchange.fidelity import Fidelity
from dictionary_learning.exchange.model_card import model_card
from dictionary_learning.exchange.saebench import SAEBenchSAE
from dictionary_learning.language_model.places import Place
from dictionary_learning.utils import load_dictionary
from temporal_saes.experiment.options import ExperimentOptions
from temporal_saes.experiment.subjects import resolve

MODEL = CONFIG["trainer"]["lm_name"]


def metadata_of(folder: Path, trainer: dict[str, Any], buffer: dict[str, Any]) -> dict[str, Any]:
    """The metadata of the SAELens folder of a run with such a config."""
    saelens.write(make("tsae"), {"trainer": {"lm_name": MODEL} | trainer, "buffer": buffer}, folder)
    return json.loads((folder / "cfg.json").read_text())["metadata"]


@pytest.mark.parametrize(
    ("trainer", "io", "hook"),
    [
        ({"layer": 2}, "out", "blocks.2.hook_resid_post"),
        ({"layer": 2}, "in", "blocks.2.hook_resid_pre"),
        ({"layer": 2, "submodule_name": "mlp_out_layer_2"}, "out", "blocks.2.hook_mlp_out"),
        ({"layer": 2, "submodule_name": "attn_out_layer_2"}, "out", "blocks.2.hook_attn_out"),
    ],
)
def test_the_true_hook_is_exported_and_comes_back(
    tmp_path: Path, trainer: dict[str, Any], io: str, hook: str
) -> None:
    buffer = {"io": io, "bos": False}
    assert metadata_of(tmp_path / "out", trainer, buffer)["hook_name"] == hook
    again = load_dictionary(tmp_path / "out", "cpu")
    saelens.write(*again, tmp_path / "again")
    assert json.loads((tmp_path / "again" / "cfg.json").read_text())["metadata"]["hook_name"] == hook
    assert SAEBenchSAE(*again).cfg.hook_name == hook


@pytest.mark.parametrize("layer", [None, 6])
@pytest.mark.parametrize(
    "hook",
    ["blocks.6.mlp.hook_post", "blocks.6.hook_attn_in", "blocks.6.attn.hook_z", "blocks.6.hook_resid_mid"],
)
def test_a_folder_of_another_hook_is_refused_by_its_name_whatever_layer_is_asked_for(
    tmp_path: Path, hook: str, layer: int | None
) -> None:
    metadata = {"sae_lens_version": "6.54.12", "model_name": "gpt2-small", "hook_name": hook}
    folder = foreign(tmp_path / "sae", "standard", flat(), metadata=metadata)
    _, config = load_dictionary(folder, "cpu")
    with pytest.raises(UserError, match=rf"was trained on .*\({hook}\)"):
        resolve(ExperimentOptions(run_name=str(folder), layer=layer))
    with pytest.raises(UserError, match=rf"was trained on .*\({hook}\)"):
        resolve_evaluation(EvalOptions(run_name="r", layer=layer, dataset="d"), config, folder)
    saelens.write(*load_dictionary(folder, "cpu"), tmp_path / "again")  # converted it keeps its place
    assert json.loads((tmp_path / "again" / "cfg.json").read_text())["metadata"]["hook_name"] == hook


@pytest.mark.parametrize("site", ["attn", "mlp"])
def test_a_folder_of_what_attention_or_mlp_add_is_read_there(tmp_path: Path, site: str) -> None:
    hook = f"blocks.6.hook_{site}_out"
    metadata = {"sae_lens_version": "6.54.12", "model_name": "gpt2-small", "hook_name": hook}
    folder = foreign(tmp_path / "sae", "standard", flat(), metadata=metadata)
    dictionary, config = load_dictionary(folder, "cpu")
    place = Place(6, site=site)
    assert resolve(ExperimentOptions(run_name=str(folder))).place == place
    options = EvalOptions(run_name="r", dataset="d", context_length=32)
    assert resolve_evaluation(options, config, folder).place == place
    # a run keeps it, and so does what is made of the run
    run_folder.write(dictionary, config, tmp_path / "run")
    dictionary, config = load_dictionary(tmp_path / "run", "cpu")
    assert (config["buffer"]["layer"], config["buffer"]["site"]) == (6, site)
    assert resolve_evaluation(options, config, folder).place == place
    saelens.write(dictionary, config, tmp_path / "again")
    assert json.loads((tmp_path / "again" / "cfg.json").read_text())["metadata"]["hook_name"] == hook
    card = model_card("me/it", dictionary, config, None, licence="mit")
    assert f"# ReLU SAE for the {'MLP' if site == 'mlp' else 'attention'} of layer 6 of gpt2-small" in card
    assert f"`{hook}` in TransformerLens' words" in card


@pytest.mark.parametrize(
    ("name", "told"), [("mlp_out_layer_2", "reads what the MLP of layer 2 adds"), ("mlp_in", "on an MLP")]
)
def test_the_released_layout_is_not_given_a_place_that_it_cannot_name(
    tmp_path: Path, name: str, told: str
) -> None:
    config = {"trainer": {"layer": 2, "submodule_name": name}}
    with pytest.raises(UserError, match=told):
        released_folder.save(make("temporal"), tmp_path, config)
    assert not list(tmp_path.iterdir())


# --- BOS ---


def model_with(tokenizer: Any, tiny_lm_folder: Path, folder: Path) -> Path:
    shutil.copytree(tiny_lm_folder, folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def models(tmp_path: Path, tiny_lm_folder: Path) -> dict[str, Path]:
    """The tiny model with tokenizers that name a BOS or not, and that put it in front or not."""
    from tokenizers.processors import TemplateProcessing

    words = ["the river runs past the old bridge"]
    named = make_tokenizer(words, eos_token="<|endoftext|>", bos_token="<|endoftext|>")  # as GPT-2, Pythia
    put = make_tokenizer(words, eos_token="<|im_end|>", bos_token="<|endoftext|>")  # of id 0
    put.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)]
    )
    return {
        "none": tiny_lm_folder,
        "named": model_with(named, tiny_lm_folder, tmp_path / "named"),
        "put": model_with(put, tiny_lm_folder, tmp_path / "put"),
    }


@pytest.mark.parametrize(
    ("name", "add_bos", "expected"),
    [("none", True, False), ("named", True, False), ("put", True, True), ("put", False, False)],
)
def test_a_run_records_whether_a_bos_was_read_and_an_old_one_asks_the_tokenizer(
    models: dict[str, Path], tmp_path: Path, name: str, add_bos: bool, expected: bool
) -> None:
    lm = LanguageModel.load(str(models[name]), device="cpu")
    small = {"n_ctxs": 10, "ctx_len": 8, "log": lambda line: None}
    buffer = ActivationBuffer(
        iter(["one two three"] * 4), lm, 1, add_special_tokens=add_bos, out_batch_size=2, **small
    )
    first = lm.tokenizer("one two three")["input_ids"][0]
    assert (add_bos and first == lm.bos_id) == expected == buffer.config["bos"]
    trainer = {"lm_name": str(models[name]), "layer": 1}
    old = {"add_bos": add_bos}
    for i, recorded in enumerate((buffer.config, old)):
        assert metadata_of(tmp_path / f"{i}", trainer, recorded)["prepend_bos"] is expected
        assert SAEBenchSAE(make("tsae"), {"trainer": trainer, "buffer": recorded}).cfg.prepend_bos is expected


def test_a_bos_that_nothing_tells_of_is_left_open_and_said(tmp_path: Path) -> None:
    fidelity = Fidelity()
    saelens.write(make("tsae"), {"trainer": {"lm_name": "no/such-model", "layer": 1}}, tmp_path, fidelity)
    assert json.loads((tmp_path / "cfg.json").read_text())["metadata"]["prepend_bos"] is None
    assert "the tokenizer of no/such-model is not there" in fidelity.remarks[0]
    with pytest.warns(UserWarning, match="set cfg.prepend_bos"):
        SAEBenchSAE(make("tsae"), {"trainer": {"lm_name": "no/such-model", "layer": 1}})


@pytest.mark.parametrize("flag", [True, False])
def test_the_flag_of_a_folder_is_kept_in_experiments_and_evaluation(tmp_path: Path, flag: bool) -> None:
    metadata = {"model_name": "gpt2", "hook_name": "blocks.3.hook_resid_post", "prepend_bos": flag}
    folder = foreign(tmp_path / "sae", "standard", flat(), metadata=metadata | {"context_size": 64})
    dictionary, config = load_dictionary(folder, "cpu")
    assert (dictionary.activation_dim, dictionary.dict_size) == (D, F)
    assert resolve(ExperimentOptions(run_name=str(folder))).add_bos is flag
    assert resolve_evaluation(EvalOptions(run_name="r", dataset="d"), config, folder).add_bos is flag
    run_folder.write(dictionary, config, tmp_path / "run")
    assert resolve(ExperimentOptions(run_name=str(tmp_path / "run"))).add_bos is flag
