"""SAELens folders as they stand on disk; the round trip through SAELens itself is in test_exchange.py.

Shapes: D 6 model width, F 12 latents, K 3.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from every_dictionary import CONFIG, KINDS, D, F, K, make, normal
from safetensors.torch import load_file, save_file
from torch import Tensor

from dictionary_learning.dictionaries.classics import JumpReluAutoEncoder
from dictionary_learning.dictionaries.temporal_sae import TemporalSAE
from dictionary_learning.errors import UserError
from dictionary_learning.exchange import saelens
from dictionary_learning.exchange.fidelity import Fidelity
from dictionary_learning.exchange.loading import weights_path
from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKSAE
from dictionary_learning.trainers.top_k import AutoEncoderTopK
from dictionary_learning.utils import load_dictionary


def written(kind: str, folder: Path) -> dict[str, Any]:
    saelens.write(make(kind), CONFIG, folder)
    return json.loads((folder / "cfg.json").read_text())


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "low_rank"])
def test_what_is_written_and_read_again_has_the_same_codes_to_the_bit(tmp_path: Path, kind: str) -> None:
    before = make(kind)
    saelens.write(before, CONFIG, tmp_path)
    after, config = load_dictionary(tmp_path, "cpu")
    x = normal(4, 5, D)
    assert type(after) is type(before)
    assert torch.equal(after.encode(x), before.encode(x))
    assert torch.equal(after.decode(after.encode(x)), before.decode(before.encode(x)))
    assert after.splits() == before.splits()
    assert int(getattr(after, "k", 0)) == int(getattr(before, "k", 0))
    assert (config["trainer"]["layer"], config["buffer"]["ctx_len"]) == (8, 128)
    assert weights_path(tmp_path).name == "sae_weights.safetensors"


def test_a_t_sae_is_written_as_the_jumprelu_of_the_format(tmp_path: Path) -> None:
    cfg = written("tsae", tmp_path)
    state = load_file(tmp_path / "sae_weights.safetensors")
    assert {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in state.items()} == {
        "W_enc": ((D, F), torch.float32),
        "b_enc": ((F,), torch.float32),
        "W_dec": ((F, D), torch.float32),
        "b_dec": ((D,), torch.float32),
        "threshold": ((F,), torch.float32),
    }
    assert torch.equal(state["threshold"], torch.full((F,), 0.25))
    assert {key: value for key, value in cfg.items() if key != "metadata"} == {
        "d_in": D,
        "d_sae": F,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "architecture": "jumprelu",
    }
    metadata = cfg["metadata"]
    assert (
        int(metadata["sae_lens_version"].split(".")[0]) >= 6
    )  # below, SAELens reads cfg.json in another way
    assert metadata["hook_name"] == "blocks.8.hook_resid_post"
    assert (metadata["model_name"], metadata["context_size"]) == ("EleutherAI/pythia-160m", 128)
    assert (metadata["prepend_bos"], metadata["k"]) == (False, K)
    assert metadata["matryoshka_widths"] == [3, 12]  # cumulative
    assert "/home/me" not in json.dumps(cfg)


def test_a_temporal_sae_is_written_with_its_scale_and_attention(tmp_path: Path) -> None:
    cfg = written("untied", tmp_path)
    names = {f"attn_layers.{i}.{n}" for i in (0, 1) for n in ("k_ctx", "q_target", "v_ctx", "c_proj")}
    expected = {f"{name}.{part}" for name in names for part in ("weight", "bias")} | {
        "W_dec",
        "W_enc",
        "b_dec",
    }
    state = load_file(tmp_path / "sae_weights.safetensors")
    assert state.keys() == expected
    assert (state["b_dec"].shape, state["W_enc"].shape, state["W_dec"].shape) == ((D,), (D, F), (F, D))
    assert cfg["d_sae"] == F
    assert cfg["normalize_activations"] == "constant_scalar_rescale"
    assert cfg["activation_normalization_factor"] == float(torch.tensor(0.029))
    assert (cfg["n_heads"], cfg["n_attn_layers"], cfg["sae_diff_type"]) == (2, 2, "relu")


def test_a_low_rank_is_written_in_full_and_said(tmp_path: Path) -> None:
    fidelity, before = Fidelity(), make("low_rank")
    saelens.write(before, CONFIG, tmp_path, fidelity)
    assert "no value_rank (6): zeros follow" in fidelity.remarks[0]
    state = load_file(tmp_path / "sae_weights.safetensors")
    for name in ("v_ctx", "c_proj"):
        assert state[f"attn_layers.0.{name}.weight"].shape == (F, F)
    assert "value_rank" not in json.loads((tmp_path / "cfg.json").read_text())
    after, _ = load_dictionary(tmp_path, "cpu")
    x = normal(4, 5, D)
    torch.testing.assert_close(after.encode(x), before.encode(x), rtol=1e-5, atol=1e-7)


def test_an_unset_threshold_is_a_plain_relu_in_both(tmp_path: Path) -> None:
    before = make("tsae")
    before.threshold.fill_(-1.0)
    fidelity = Fidelity()
    saelens.write(before, CONFIG, tmp_path, fidelity)
    assert "never set" in fidelity.remarks[0]
    x = normal(50, D)
    state = load_file(tmp_path / "sae_weights.safetensors")
    pre = (x - state["b_dec"]) @ state["W_enc"] + state["b_enc"]
    theirs = pre.relu() * (pre > state["threshold"])
    assert torch.equal(before.encode(x), theirs)
    assert torch.equal(load_dictionary(tmp_path, "cpu")[0].encode(x), theirs)


def test_decoder_rows_of_any_norm_are_carried_as_they_are(tmp_path: Path) -> None:
    before = make("matryoshka")
    with torch.no_grad():
        before.W_dec.mul_(torch.linspace(0.1, 3.0, F).unsqueeze(1))
    saelens.write(before, CONFIG, tmp_path)
    after, _ = load_dictionary(tmp_path, "cpu")
    x = normal(9, D)
    assert torch.equal(after.encode(x), before.encode(x))
    assert torch.equal(after(x), before(x))


@pytest.mark.parametrize(("kind", "novel"), [("batchtopk", K), ("nullify", None)])
def test_a_temporal_sae_that_saelens_cannot_compute_is_refused(
    tmp_path: Path, kind: str, novel: int | None
) -> None:
    sae = TemporalSAE(D, F, 2, sae_diff_type=kind, kval_topk=novel)
    with pytest.raises(UserError, match="SAELens has no TemporalSAE"):
        saelens.write(sae, CONFIG, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_batchtopk_temporal_sae_becomes_a_topk_where_loss_is_allowed(tmp_path: Path) -> None:
    sae = TemporalSAE(D, F, 2, sae_diff_type="batchtopk", kval_topk=K)
    fidelity = Fidelity(allow_loss=True)
    saelens.write(sae, CONFIG, tmp_path, fidelity)
    assert "3 latents at every token" in fidelity.losses[0]
    after = load_dictionary(tmp_path, "cpu")[0]
    assert (after.encode(normal(2, 4, D))[..., F:] != 0).sum(-1).max() <= K


# --- folders that others made ---


def foreign(folder: Path, architecture: str, tensors: dict[str, Tensor], **cfg: Any) -> Path:
    """A SAELens folder written by hand."""
    folder.mkdir(exist_ok=True)
    plain = {
        "d_in": D,
        "d_sae": F,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": {
            "sae_lens_version": "6.54.12",
            "model_name": "gpt2-small",
            "hook_name": "blocks.4.hook_resid_pre",
        },
        "architecture": architecture,
    }
    (folder / "cfg.json").write_text(json.dumps(plain | cfg))
    save_file(
        {name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "sae_weights.safetensors"
    )
    return folder


def flat(**more: Tensor) -> dict[str, Tensor]:
    shapes = {"W_enc": (D, F), "b_enc": (F,), "W_dec": (F, D), "b_dec": (D,)}
    return {name: normal(*shape, seed=i) for i, (name, shape) in enumerate(shapes.items())} | more


def test_a_jumprelu_of_many_thresholds_subtracts_its_bias_where_the_cfg_says_so(tmp_path: Path) -> None:
    t = flat(threshold=normal(F, seed=9).abs())
    x = normal(30, D, seed=10)
    for subtracts in (True, False):
        folder = foreign(tmp_path / str(subtracts), "jumprelu", t, apply_b_dec_to_input=subtracts)
        sae, config = load_dictionary(folder, "cpu")
        pre = (x - t["b_dec"] * subtracts) @ t["W_enc"] + t["b_enc"]
        assert torch.equal(sae.encode(x), pre.relu() * (pre > t["threshold"]))
        assert type(sae) is JumpReluAutoEncoder
    # the residual stream before layer 4 is what layer 3 gives
    assert (config["trainer"]["layer"], config["trainer"]["lm_name"]) == (3, "gpt2-small")


def test_codes_in_units_of_the_decoders_norms_are_folded_and_told(tmp_path: Path) -> None:
    t = flat()
    folder = foreign(tmp_path / "s", "topk", t, k=K, rescale_acts_by_decoder_norm=True)
    fidelity = Fidelity()
    sae = saelens.read(folder, fidelity).dictionary
    x = normal(30, D, seed=10)
    norms = t["W_dec"].norm(dim=1)
    scaled = ((x - t["b_dec"]) @ t["W_enc"] + t["b_enc"]) * norms
    top = scaled.topk(K)
    expected = torch.zeros_like(scaled).scatter(1, top.indices, top.values.relu())
    torch.testing.assert_close(sae.encode(x), expected)
    torch.testing.assert_close(sae(x), (expected / norms) @ t["W_dec"] + t["b_dec"])
    assert "folded" in fidelity.remarks[0]


def test_a_training_checkpoint_of_a_matryoshka_gets_its_threshold_and_groups(tmp_path: Path) -> None:
    t = flat(topk_threshold=torch.tensor(0.75, dtype=torch.float64))
    folder = foreign(tmp_path / "s", "matryoshka_batchtopk", t, k=3.0, matryoshka_widths=[4, 9])
    sae, _ = load_dictionary(folder, "cpu")
    assert isinstance(sae, MatryoshkaBatchTopKSAE)
    assert sae.group_sizes.tolist() == [4, 5, 3]  # SAELens adds the last level itself
    x = normal(30, D, seed=10)
    post = ((x - t["b_dec"]) @ t["W_enc"] + t["b_enc"]).relu()
    assert torch.equal(sae.encode(x), post * (post > 0.75))


def test_a_bias_that_is_not_subtracted_is_folded_into_the_encoder(tmp_path: Path) -> None:
    t = flat(topk_threshold=torch.tensor(0.0, dtype=torch.float64))
    folder = foreign(tmp_path / "s", "batchtopk", t, k=3, apply_b_dec_to_input=False)
    x = normal(30, D, seed=10)
    expected = (x @ t["W_enc"] + t["b_enc"]).relu()
    torch.testing.assert_close(load_dictionary(folder, "cpu")[0].encode(x), expected)
    gate = {name: t[name] for name in ("W_enc", "W_dec", "b_dec")}
    gate |= {"b_gate": normal(F, seed=5), "b_mag": normal(F, seed=6), "r_mag": 0.3 * normal(F, seed=7)}
    folder = foreign(tmp_path / "g", "gated", gate, apply_b_dec_to_input=False)
    magnitude = (x @ (gate["W_enc"] * gate["r_mag"].exp()) + gate["b_mag"]).relu()
    expected = magnitude * (x @ gate["W_enc"] + gate["b_gate"] > 0)
    torch.testing.assert_close(load_dictionary(folder, "cpu")[0].encode(x), expected)


def test_a_folder_from_before_version_6_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "old"
    folder.mkdir()
    cfg = {"d_in": D, "d_sae": F, "hook_point": "blocks.3.hook_resid_post", "model_name": "gpt2"}
    cfg |= {"activation_fn_str": "topk", "activation_fn_kwargs": {"k": 2}}
    (folder / "cfg.json").write_text(json.dumps(cfg))
    save_file(flat(scaling_factor=torch.ones(F)), folder / "sae_weights.safetensors")
    sae, config = load_dictionary(folder, "cpu")
    assert type(sae) is AutoEncoderTopK
    assert (int(sae.k), config["trainer"]["layer"]) == (2, 3)


def of_cfg(folder: Path, version: int, architecture: str, field: str, value: Any, **more: Any) -> Path:
    """A folder of the form of SAELens 5 (all in one level) or 6, with one field set."""
    topk = {"k": 2} if architecture == "topk" else {}
    t = flat(threshold=normal(F, seed=9).abs()) if architecture == "jumprelu" else flat()
    foreign(folder, architecture, t, **topk)
    path = folder / "cfg.json"
    cfg = json.loads(path.read_text())
    if version == 5:
        cfg |= cfg.pop("metadata")
    if version == 6 and field == "hook_head_index":
        cfg["metadata"][field] = value
    else:
        cfg[field] = value
    path.write_text(json.dumps(cfg | more))
    return folder


@pytest.mark.parametrize("version", [5, 6])
@pytest.mark.parametrize("architecture", ["standard", "jumprelu", "topk"])
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("activation_fn", "tanh-relu"),
        ("activation_fn_str", "tanh-relu"),
        ("activation_fn", "identity"),
        ("normalize_activations", "layer_norm"),
        ("normalize_activations", "constant_norm_rescale"),
        ("normalize_activations", "constant_scalar_rescale"),
        ("normalize_activations", "expected_average_only_in"),
        ("normalize_activations", True),
        ("normalize_activations", ["layer_norm"]),
        ("reshape_activations", "hook_z"),
        ("hook_head_index", 0),
        ("apply_b_dec_to_input", "no"),
    ],
)
def test_a_field_that_changes_codes_is_refused_by_its_name(
    tmp_path: Path, version: int, architecture: str, field: str, value: Any
) -> None:
    folder = of_cfg(tmp_path / "sae", version, architecture, field, value)
    name = "activation_fn" if field == "activation_fn_str" else field
    with pytest.raises(UserError, match=name) as raised:
        load_dictionary(folder, "cpu")
    assert "\n" not in str(raised.value)
    assert "which has no counterpart" not in str(raised.value)


@pytest.mark.parametrize(
    ("architecture", "version", "field", "value", "sentence"),
    [
        ("standard", 5, "activation_fn_kwargs", {"k": 2, "postact_fn": "identity"}, "activation_fn_kwargs"),
        ("standard", 5, "activation_fn_kwargs", {}, "k is None"),
        ("standard", 5, "activation_fn_kwargs", {"k": "two"}, "k is two"),
        ("topk", 6, "activation_fn_kwargs", {"k": 7}, "activation_fn_kwargs"),
        ("standard", 6, "rescale_acts_by_decoder_norm", True, "rescale_acts_by_decoder_norm"),
        ("standard", 6, "finetuning_scaling_factor", True, "it lacks finetuning_scaling_factor"),
    ],
)
def test_settings_of_a_field_that_have_no_counterpart_are_refused(
    tmp_path: Path, architecture: str, version: int, field: str, value: Any, sentence: str
) -> None:
    more = {"activation_fn_str": "topk"} if field == "activation_fn_kwargs" else {}
    folder = of_cfg(tmp_path / "sae", version, architecture, field, value, **more)
    with pytest.raises(UserError, match=sentence):
        load_dictionary(folder, "cpu")


@pytest.mark.parametrize("version", [5, 6])
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("activation_fn_str", "relu"),
        ("activation_fn", "relu"),
        ("activation_fn_kwargs", {"k": 2}),  # a ReLU takes none
        ("normalize_activations", False),
        ("normalize_activations", None),
        ("hook_head_index", None),
        ("seqpos_slice", [1, None]),
        ("finetuning_scaling_factor", False),
        ("rescale_acts_by_decoder_norm", False),
    ],
)
def test_a_field_that_leaves_codes_as_they_are_is_no_reason_to_refuse(
    tmp_path: Path, version: int, field: str, value: Any
) -> None:
    t, x = flat(), normal(30, D, seed=10)
    sae, _ = load_dictionary(of_cfg(tmp_path / "sae", version, "standard", field, value), "cpu")
    expected = ((x - t["b_dec"]) @ t["W_enc"] + t["b_enc"]).relu()
    torch.testing.assert_close(sae.encode(x), expected)


@pytest.mark.parametrize("name", ["scaling_factor", "finetuning_scaling_factor"])
def test_latents_that_finetuning_scales_reconstruct_as_there(tmp_path: Path, name: str) -> None:
    scale = normal(F, seed=8).abs()
    t, x = flat(**{name: scale}), normal(30, D, seed=10)
    folder = foreign(tmp_path / "s", "standard", t, finetuning_scaling_factor=True)
    fidelity = Fidelity()
    sae = saelens.read(folder, fidelity).dictionary
    f = ((x - t["b_dec"]) @ t["W_enc"] + t["b_enc"]).relu()
    torch.testing.assert_close(sae.encode(x), f)
    torch.testing.assert_close(sae(x), (f * scale) @ t["W_dec"] + t["b_dec"])
    assert "folded into the decoder" in fidelity.remarks[0]
    with pytest.raises(UserError, match=f"it has {name}"):  # and nothing says what it is for
        load_dictionary(foreign(tmp_path / "t", "standard", t), "cpu")


def test_folders_below_are_found_and_told_apart(tmp_path: Path) -> None:
    written("tsae", tmp_path / "release" / "blocks.8.hook_resid_post")
    assert load_dictionary(tmp_path / "release", "cpu")[0].dict_size == F
    written("relu", tmp_path / "release" / "other")
    with pytest.raises(UserError, match=r"several dictionaries \(blocks.8.hook_resid_post, other\)"):
        load_dictionary(tmp_path / "release", "cpu")


def edit(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "cfg.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def drop_tensor(folder: Path) -> None:
    path = folder / "sae_weights.safetensors"
    state = load_file(path)
    del state["b_enc"]
    save_file(state, path)
    (folder / "checksums.json").unlink()


def cut(folder: Path) -> None:
    path = folder / "sae_weights.safetensors"
    path.write_bytes(path.read_bytes()[:-40])


WEIGHTS = "sae_weights.safetensors"


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda f: (f / "cfg.json").unlink(), "has no cfg.json, which says what the weights mean"),
        (lambda f: (f / "cfg.json").write_text('{"d_in"'), "cfg.json is damaged"),
        (lambda f: (f / "cfg.json").write_text("[]"), "cfg.json is damaged"),
        (
            lambda f: (f / WEIGHTS).rename(f / "model.safetensors"),
            r"no sae_weights.safetensors \(its .*: model",
        ),
        (cut, "sae_weights.safetensors is damaged or cut short"),
        (lambda f: (f / WEIGHTS).write_bytes(b""), "sae_weights.safetensors is damaged or cut short"),
        (drop_tensor, "is no file of a jumprelu as cfg.json says: it lacks b_enc"),
        (edit(architecture="standard"), "is no file of a standard as cfg.json says: it has threshold"),
        (edit(architecture="skip_transcoder"), "a SAELens skip_transcoder, which has no counterpart here"),
        (edit(architecture=None), "names no architecture"),
        (edit(d_sae=24), "does not fit .*cfg.json"),
        (edit(d_in="6"), "cfg.json is damaged"),
        (edit(normalize_activations="layer_norm"), "normalize_activations is .layer_norm."),
        (
            edit(normalize_activations="expected_average_only_in"),
            "scaled by a factor that the folder does not",
        ),
    ],
)
def test_a_folder_that_cannot_be_read_exactly_is_one_sentence(
    tmp_path: Path, spoil: Callable[[Path], object], sentence: str
) -> None:
    folder = tmp_path / "sae"
    written("batchtopk", folder)
    spoil(folder)
    with pytest.raises(UserError, match=sentence) as raised:
        load_dictionary(folder, "cpu")
    assert "\n" not in str(raised.value)


def test_float64_weights_are_refused_unless_loss_is_allowed(tmp_path: Path) -> None:
    t = {name: tensor.double() + 1e-12 for name, tensor in flat().items()}
    folder = foreign(tmp_path / "s", "standard", t)
    with pytest.raises(UserError, match=r"float64.*--allow_loss"):
        load_dictionary(folder, "cpu")
    fidelity = Fidelity(allow_loss=True)
    assert saelens.read(folder, fidelity).dictionary.dict_size == F
    assert len(fidelity.losses) == 4


def test_a_checkpoint_of_a_folder_without_any_is_refused(tmp_path: Path) -> None:
    written("tsae", tmp_path)
    with pytest.raises(UserError, match=r"has no checkpoints: leave ae_5\.pt out"):
        load_dictionary(tmp_path, "cpu", "ae_5.pt")


def test_the_module_of_transformers_is_named_where_the_model_is_known(
    tmp_path: Path, tiny_lm_folder: Path
) -> None:
    dictionary = MatryoshkaBatchTopKSAE(32, 64, 4, [16, 48])
    trainer = {"lm_name": str(tiny_lm_folder), "layer": 2, "k": 4}
    for submodule, expected in (
        ("resid_post_layer_2", "model.layers.2"),
        ("resid_pre_layer_2", "model.layers.1"),
        ("mlp_out_layer_2", None),
    ):
        config = {"trainer": {**trainer, "submodule_name": submodule}}
        saelens.write(dictionary, config, tmp_path / submodule)
        cfg = json.loads((tmp_path / submodule / "cfg.json").read_text())
        assert cfg["metadata"]["hf_hook_name"] == expected
        runner = json.loads((tmp_path / submodule / "runner_cfg.json").read_text())
        assert runner.get("hf_hook_name") == expected
        assert runner["architecture"] == "jumprelu"
    saelens.write(dictionary, {"trainer": {**trainer, "lm_name": "nobody/knows"}}, tmp_path / "far")
    assert json.loads((tmp_path / "far" / "cfg.json").read_text())["metadata"]["hf_hook_name"] is None
