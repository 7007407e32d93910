"""Loading trained dictionaries: the right class or one clear sentence.

Shapes: D 6 model width, F 12 latents, K 3.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dictionary_learning.dictionaries.base import Dictionary, check_width
from dictionary_learning.errors import UserError
from dictionary_learning.exchange.loading import DICTIONARIES, TRAINERS
from dictionary_learning.texts.documents import DocumentStream
from dictionary_learning.utils import get_submodule, hf_dataset_to_generator, load_dictionary

D, F, K = 6, 12, 3
ATTENTION = ("k_ctx", "q_target", "v_ctx", "c_proj")
TENSOR = torch.Generator().manual_seed(0)


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=TENSOR)


def state_of(name: str) -> dict[str, Tensor]:
    """Tensors as the dictionary_learning library writes them, by class."""
    two_maps = {"encoder.weight": normal(F, D), "encoder.bias": normal(F), "decoder.weight": normal(D, F)}
    flat = {"W_enc": normal(D, F), "b_enc": normal(F), "W_dec": normal(F, D), "b_dec": normal(D)}
    top_k = {"k": torch.tensor(K, dtype=torch.int32), "threshold": torch.tensor(0.5)}
    gated = {"decoder_bias": normal(D), "r_mag": normal(F), "gate_bias": normal(F), "mag_bias": normal(F)}
    return {
        "AutoEncoder": two_maps | {"bias": normal(D)},
        "AutoEncoderNew": two_maps | {"decoder.bias": normal(D)},
        "GatedAutoEncoder": {key: two_maps[key] for key in ("encoder.weight", "decoder.weight")} | gated,
        "JumpReluAutoEncoder": flat | {"threshold": normal(F).abs()},
        "AutoEncoderTopK": two_maps | {"b_dec": normal(D)} | top_k,
        "BatchTopKSAE": two_maps | {"b_dec": normal(D)} | top_k,
        "MatryoshkaBatchTopKSAE": flat | top_k | {"group_sizes": torch.tensor([3, 9])},
        "TemporalMatryoshkaBatchTopKSAE": flat | top_k | {"group_sizes": torch.tensor([3, 9])},
        "TemporalSAE": {
            **{"D": normal(F // 2, D), "b": normal(1, D), "scaling_factor": torch.tensor(0.5)},
            **{f"attn_layers.0.{name}.weight": normal(F // 2, F // 2) for name in ATTENTION},
            **{f"attn_layers.0.{name}.bias": normal(F // 2) for name in ATTENTION},
        },
        "ContextMean": {"b": normal(D), "constant": normal(D), "sharpness": torch.tensor(3.0)},
    }[name]


def write_run(folder: Path, name: str = "BatchTopKSAE", index: int = 0, **config: Any) -> Path:
    """A trainer's folder as upstream leaves it, without any key that is only ours."""
    trainer = folder / f"trainer_{index}"
    trainer.mkdir(parents=True)
    torch.save(state_of(name), trainer / "ae.pt")
    plain = {"dict_class": name, "activation_dim": D, "dict_size": F, "k": K, "lm_name": "tiny", "layer": 2}
    if name == "TemporalSAE":
        plain |= {"n_heads": 2, "sae_diff_type": "topk", "kval_topk": K}
    if name == "ContextMean":
        plain |= {"control": "recall", "fits_length": False}
    (trainer / "config.json").write_text(json.dumps({"trainer": plain | config}))
    return trainer


@pytest.mark.parametrize("name", DICTIONARIES)
def test_every_class_loads_by_the_name_in_its_config(tmp_path: Path, name: str) -> None:
    trainer = write_run(tmp_path / "run", name)
    dictionary, config = load_dictionary(tmp_path / "run", device="cpu")
    assert type(dictionary).__name__ == name
    assert not dictionary.training
    assert (dictionary.activation_dim, dictionary.dict_size) == (D, F)
    assert config["trainer"]["layer"] == 2
    saved = torch.load(trainer / "ae.pt", weights_only=True)
    loaded = dictionary.state_dict()
    assert all(torch.equal(loaded[key], saved[key]) for key in saved)
    x = normal(2, 4, D)
    x_hat, f = dictionary(x, output_features=True)
    assert x_hat.shape == x.shape
    assert f.shape == (2, 4, F)
    same, _ = load_dictionary(trainer, "cpu", trainer / "ae.pt")
    torch.testing.assert_close(same.encode(x), f)


def test_a_released_t_sae_config_loads_without_our_keys(tmp_path: Path) -> None:
    released = {
        "trainer_class": "TemporalMatryoshkaBatchTopKTrainer",
        **{"lr": 3e-4, "steps": 200_000, "auxk_alpha": 1 / 32, "warmup_steps": 1000, "decay_start": None},
        **{"threshold_beta": 0.999, "threshold_start_step": 1000, "top_k_aux": 3, "seed": None},
        **{"group_fractions": [0.25, 0.75], "group_weights": [0.5, 0.5], "group_sizes": [3, 9]},
        **{"temporal": "r", "device": "cuda:0", "wandb_name": "x", "submodule_name": "resid_post_layer_2"},
    }
    write_run(tmp_path / "run", "TemporalMatryoshkaBatchTopKSAE", **released)
    dictionary, _ = load_dictionary(tmp_path / "run", device="cpu")
    assert dictionary.splits() == {"high": slice(0, 3), "low": slice(3, 12)}


def test_a_config_that_names_only_the_trainer_is_enough(tmp_path: Path) -> None:
    write_run(tmp_path / "run", dict_class=None, trainer_class="BatchTopKTrainer")
    assert type(load_dictionary(tmp_path / "run", "cpu")[0]).__name__ == "BatchTopKSAE"
    assert set(TRAINERS.values()) == set(DICTIONARIES) - {"ContextMean"}  # which nobody trains


def test_a_backup_file_is_folded_to_raw_activations(tmp_path: Path) -> None:
    trainer = write_run(tmp_path / "run")
    scaled, _ = load_dictionary(trainer, "cpu")
    backup = {"step": 5, "ae": state_of("BatchTopKSAE"), "optimizer": {}, "config": {}, "norm_factor": 4.0}
    backup["ae"] = torch.load(trainer / "ae.pt", weights_only=True)
    torch.save(backup, trainer / "ae.pt")
    raw, _ = load_dictionary(trainer, "cpu")
    x = normal(5, D)
    torch.testing.assert_close(raw(4 * x), 4 * scaled(x))
    same = type(raw).from_pretrained(trainer / "ae.pt")
    torch.testing.assert_close(same(4 * x), raw(4 * x))


def test_a_checkpoint_is_found_in_the_trainers_folder(tmp_path: Path) -> None:
    trainer = write_run(tmp_path / "run")
    (trainer / "checkpoints").mkdir()
    state = torch.load(trainer / "ae.pt", weights_only=True) | {"b_dec": torch.full((D,), 7.0)}
    torch.save(state, trainer / "checkpoints/ae_1000.pt")
    dictionary, _ = load_dictionary(tmp_path / "run", "cpu", "checkpoints/ae_1000.pt")
    assert float(dictionary.state_dict()["b_dec"][0]) == 7.0
    with pytest.raises(UserError, match=r"no checkpoint .*the run has checkpoints/ae_1000.pt"):
        load_dictionary(tmp_path / "run", "cpu", "checkpoints/ae_2000.pt")


def empty(run: Path) -> None:
    shutil.rmtree(run)
    run.mkdir()


def two_trainers(run: Path) -> None:
    write_run(run, index=1)


def rewrite_config(**changes: Any) -> Callable[[Path], None]:
    def rewrite(run: Path) -> None:
        path = run / "trainer_0/config.json"
        config = json.loads(path.read_text())
        config["trainer"].update(changes)
        path.write_text(json.dumps(config))

    return rewrite


def foreign(name: str) -> Callable[[Path], None]:
    def write(run: Path) -> None:
        empty(run)
        (run / name).write_text("{}")

    return write


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (shutil.rmtree, "there is no folder"),
        (empty, "holds no trained dictionary"),
        (two_trainers, r"several trainers \(trainer_0, trainer_1\): choose one"),
        (lambda run: (run / "trainer_0/config.json").write_text("{"), "damaged or of another kind"),
        (lambda run: (run / "trainer_0/config.json").write_text("{}"), "damaged or of another kind"),
        (lambda run: (run / "trainer_0/ae.pt").unlink(), "there is no file"),
        (lambda run: (run / "trainer_0/ae.pt").write_bytes(b"PK\3\4"), "damaged or cut short"),
        (rewrite_config(activation_dim=7), "does not fit .*config.json"),
        (rewrite_config(dict_size=24), "does not fit .*config.json"),
        (rewrite_config(dict_class="JumpReluAutoEncoder"), "does not fit .*config.json"),
        (rewrite_config(dict_class="CrossCoder"), "asks for a CrossCoder"),
        (foreign("conf.yaml"), "conf.yaml is damaged or of another kind"),
        (foreign("cfg.json"), "cfg.json is damaged or of another kind"),
    ],
)
def test_anything_else_is_one_sentence_and_never_another_architecture(
    tmp_path: Path, spoil: Callable[[Path], object], sentence: str
) -> None:
    write_run(tmp_path / "run")
    spoil(tmp_path / "run")
    with pytest.raises(UserError, match=sentence) as raised:
        load_dictionary(tmp_path / "run", "cpu")
    assert "\n" not in str(raised.value)


def test_a_dictionary_of_another_width_than_the_model_is_told(tmp_path: Path) -> None:
    class Model:
        name, d_model = "wide", 8

    write_run(tmp_path / "run")
    dictionary: Dictionary
    dictionary, _ = load_dictionary(tmp_path / "run", "cpu")
    with pytest.raises(UserError, match=r"width 6, and wide has width 8.*--model"):
        check_width(dictionary, Model())


def test_upstreams_helpers_find_layers_and_read_texts(tiny_lm_folder: Path, tiny_corpus: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_lm_folder)
    assert get_submodule(model, 2) is model.model.layers[2]
    with pytest.raises(UserError, match="layer 4"):
        get_submodule(model, 4)
    texts = list(hf_dataset_to_generator(str(tiny_corpus)))
    assert texts == [document.text for document in DocumentStream.open(str(tiny_corpus), part="all")]
    assert len(texts) == 60
