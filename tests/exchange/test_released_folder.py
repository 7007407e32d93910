"""TemporalSAEs in the layout of the released ones: read from disk and from the hub, and written."""

import shutil
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from dictionary_learning.dictionaries.temporal_sae import TemporalSAE
from dictionary_learning.errors import UserError
from dictionary_learning.exchange import download, released_folder
from dictionary_learning.exchange.loading import weights_path
from dictionary_learning.utils import load_dictionary

ORACLE = Path(__file__).parents[1] / "oracles" / "attention_topk_tied"
SCALE = 0.0067  # of the oracle's conf.yaml


@pytest.fixture
def released(tmp_path: Path) -> Path:
    folder = tmp_path / "gemma-2-2B" / "layer_12" / "temporal"
    folder.mkdir(parents=True)
    for name in ("conf.yaml", "latest_ckpt.pt"):
        shutil.copy(ORACLE / name, folder / name)
    return folder


@pytest.fixture
def expected() -> dict[str, torch.Tensor]:
    return load_file(ORACLE / "expected.safetensors")


def state_of(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "latest_ckpt.pt", weights_only=True)["sae"]


def edit_conf(folder: Path, **sae: Any) -> None:
    conf = yaml.safe_load((folder / "conf.yaml").read_text())
    conf["sae"] = {k: v for k, v in (conf["sae"] | sae).items() if v is not None}
    (folder / "conf.yaml").write_text(yaml.safe_dump(conf))


def as_released(folder: Path) -> None:
    pass


def bare(folder: Path) -> None:
    torch.save(state_of(folder), folder / "latest_ckpt.pt")


def with_flat_bias(folder: Path) -> None:
    state = state_of(folder)
    torch.save({"sae": state | {"b": state["b"].squeeze(0)}, "iter": 7}, folder / "latest_ckpt.pt")


def as_safetensors(folder: Path) -> None:
    save_file(state_of(folder), folder / "latest_ckpt.safetensors")
    (folder / "latest_ckpt.pt").unlink()


@pytest.mark.parametrize("form", [as_released, bare, with_flat_bias, as_safetensors])
def test_every_form_of_the_weights_gives_the_released_codes(
    released: Path, expected: dict[str, torch.Tensor], form: Callable[[Path], None]
) -> None:
    form(released)
    sae = TemporalSAE.from_pretrained(released, torch.float32, "cpu")
    assert not sae.training
    assert (sae.kval_topk, sae.n_heads, sae.context_length) == (8, 4, 500)
    x_hat, parts = sae(expected["x"])
    torch.testing.assert_close(x_hat, expected["x_hat"])
    torch.testing.assert_close(parts["novel_codes"], expected["novel_codes"])


def test_the_scaling_factor_is_applied_by_the_callers_choice(
    released: Path, expected: dict[str, torch.Tensor]
) -> None:
    raw = expected["x"] / SCALE
    as_given = TemporalSAE.from_pretrained(released)
    on_raw = TemporalSAE.from_pretrained(released, raw_activations=True)
    assert float(as_given.scaling_factor) == float(on_raw.scaling_factor) == pytest.approx(SCALE)
    torch.testing.assert_close(on_raw.encode(raw), as_given.encode(raw * SCALE))
    torch.testing.assert_close(on_raw.reconstruct(raw), as_given.reconstruct(raw * SCALE) / SCALE)
    same, config = load_dictionary(released, "cpu")
    assert torch.equal(same.encode(raw), on_raw.encode(raw))
    assert config["trainer"]["scaling_factor"] == SCALE


def test_values_of_the_conf_can_be_overridden(released: Path, expected: dict[str, torch.Tensor]) -> None:
    sae = TemporalSAE.from_pretrained(released, kval_topk=3, scaling_factor=2.0)
    assert (sae.novel_codes(expected["x"]) > 0).sum(-1).max() == 3
    assert float(sae.scaling_factor) == 2.0
    with pytest.raises(UserError, match="k cannot be set"):
        TemporalSAE.from_pretrained(released, k=3)


def test_half_precision_leaves_the_scaling_factor_exact(released: Path) -> None:
    sae = TemporalSAE.from_pretrained(released, torch.bfloat16)
    assert sae.D.dtype == torch.bfloat16
    assert sae.scaling_factor.dtype == torch.float32
    assert float(sae.scaling_factor) == float(torch.tensor(SCALE))
    assert sae.encode(torch.randn(1, 5, 32, dtype=torch.bfloat16)).dtype == torch.bfloat16


@pytest.mark.parametrize("above", [0, 1, 2])
def test_load_dictionary_finds_the_folder_and_its_layer_from_above(released: Path, above: int) -> None:
    path = [released, *released.parents][above]
    dictionary, config = load_dictionary(path, "cpu")
    assert isinstance(dictionary, TemporalSAE)
    trainer, buffer = config["trainer"], config["buffer"]
    assert (trainer["layer"], trainer["lm_name"]) == (12, "google/gemma-2-2b")
    assert (trainer["activation_dim"], trainer["width"], trainer["dict_size"]) == (32, 128, 256)
    assert (buffer["context_length"], buffer["lm_dtype"]) == (500, "bfloat16")
    assert config["conf"]["data"]["hf_name"] == "monology/pile-uncopyrighted"
    assert weights_path(released) == released / "latest_ckpt.pt"


def test_several_folders_below_are_told_apart(released: Path) -> None:
    shutil.copytree(released, released.parents[1] / "layer_20" / "temporal")
    with pytest.raises(UserError, match=r"several dictionaries \(layer_12/temporal, layer_20/temporal\)"):
        load_dictionary(released.parents[1], "cpu")


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda f: (f / "conf.yaml").unlink(), "has no conf.yaml"),
        (lambda f: (f / "conf.yaml").write_text("llm: [1"), "damaged or of another kind"),
        (lambda f: (f / "latest_ckpt.pt").unlink(), "no weights: put latest_ckpt.safetensors or"),
        (lambda f: edit_conf(f, exp_factor=8), "width is 256 .* 128 in its weights"),
        (lambda f: edit_conf(f, n_heads=None), r"lacks sae\.n_heads: add it there, or give n_heads"),
        (lambda f: edit_conf(f, scaling_factor=None), r"lacks sae\.scaling_factor"),
        (lambda f: edit_conf(f, kval_topk=None), r"lacks sae\.kval_topk"),
        (lambda f: edit_conf(f, scaling_factor=0), "scaling_factor is 0 .* positive"),
        (lambda f: edit_conf(f, n_heads=3), "3 attention heads do not divide the 128 atoms"),
        (lambda f: edit_conf(f, tied_weights=False), "tied_weights is False .* True in its weights"),
        (lambda f: edit_conf(f, n_attn_layers=2), "n_attn_layers is 2 .* 1 in its weights"),
        (lambda f: edit_conf(f, bottleneck_factor=2), "bottleneck_factor is 2 .* 4 in its weights"),
        (lambda f: torch.save({"sae": {"D": torch.zeros(128, 32)}}, f / "latest_ckpt.pt"), "lacks attn_lay"),
        (lambda f: (f / "latest_ckpt.safetensors").write_bytes(b"\1" * 40), "damaged or cut short"),
    ],
)
def test_what_does_not_fit_is_told_in_a_sentence(
    released: Path, spoil: Callable[[Path], object], sentence: str
) -> None:
    spoil(released)
    for load in (TemporalSAE.from_pretrained, load_dictionary):
        with pytest.raises(UserError, match=sentence) as raised:
            load(released)
        assert "\n" not in str(raised.value)


class Run:
    """Something that torch.load would have to run code for."""


def test_a_checkpoint_with_code_is_not_run_and_the_way_to_convert_it_is_told(released: Path) -> None:
    torch.save({"sae": state_of(released), "config": Run()}, released / "latest_ckpt.pt")
    with pytest.raises(UserError, match=r"code, which was not run: convert it.*\['sae'\].*save_file"):
        TemporalSAE.from_pretrained(released)


def test_of_two_different_files_it_is_said_which_one_is_taken(released: Path) -> None:
    state = state_of(released)
    save_file(state, released / "latest_ckpt.safetensors")
    TemporalSAE.from_pretrained(released)  # the same weights twice: no word about it
    save_file(state | {"b": state["b"] + 1}, released / "latest_ckpt.safetensors")
    with pytest.warns(UserWarning, match=r"latest_ckpt.safetensors is taken"):
        sae = TemporalSAE.from_pretrained(released)
    assert torch.equal(sae.b, state["b"] + 1)


@pytest.mark.parametrize("kind", ["topk", "batchtopk", "relu", "nullify"])
@pytest.mark.parametrize("tied", [True, False])
def test_what_is_saved_comes_back_bit_for_bit(tmp_path: Path, kind: str, tied: bool) -> None:
    sae = TemporalSAE(6, 24, 2, sae_diff_type=kind, kval_topk=3, tied_weights=tied, n_attn_layers=2).eval()
    if kind == "batchtopk":
        sae.expected_min_act.fill_(0.001)
    sae.scale_biases(1 / 0.3)
    folder = tmp_path / "layer_3"
    released_folder.save(sae, folder, {"trainer": {"lm_name": "tiny"}, "buffer": {"lm_dtype": "float32"}})
    again, config = load_dictionary(folder, "cpu")
    before, after = sae.state_dict(), again.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    x = torch.randn(2, 5, 6)
    assert torch.equal(again.encode(x), sae.encode(x))
    assert (config["trainer"]["layer"], config["trainer"]["lm_name"]) == (3, "tiny")
    with pytest.raises(UserError, match="is there already"):
        released_folder.save(sae, folder)


def test_a_folder_names_the_model_where_it_lies_and_what_is_published_of_it_does_not(tmp_path: Path) -> None:
    sae = TemporalSAE(6, 24, 2, kval_topk=3).eval()
    model, texts = tmp_path / "lm", tmp_path / "texts.jsonl"
    config = {"trainer": {"lm_name": str(model)}, "buffer": {"dataset": str(texts)}}
    released_folder.save(sae, tmp_path / "layer_3", config)
    conf = released_folder.read_conf(tmp_path / "layer_3")
    assert (conf["llm"]["model_hf_name"], conf["data"]["hf_name"]) == (str(model), str(texts))
    public = released_folder.public_conf(conf)
    assert (public["llm"]["model_hf_name"], public["llm"]["tokenizer_hf_name"]) == ("lm", "lm")
    assert public["data"]["hf_name"] == "texts.jsonl"
    assert str(tmp_path) not in str(public)


def test_a_low_rank_is_saved_in_full_with_the_same_codes(tmp_path: Path) -> None:
    sae = TemporalSAE(6, 24, 2, kval_topk=3, value_rank=4, n_attn_layers=2).eval()
    released_folder.save(sae, tmp_path / "layer_3")
    full = TemporalSAE(6, 24, 2, kval_topk=3, n_attn_layers=2)
    state = load_file(tmp_path / "layer_3" / "latest_ckpt.safetensors")
    shapes = {name: tensor.shape for name, tensor in full.state_dict().items() if name != "scaling_factor"}
    assert {name: tensor.shape for name, tensor in state.items()} == shapes
    assert "value_rank" not in released_folder.read_conf(tmp_path / "layer_3")["sae"]
    again, _ = load_dictionary(tmp_path / "layer_3", "cpu")
    x = torch.randn(2, 5, 6)
    torch.testing.assert_close(again.encode(x), sae.encode(x), rtol=1e-5, atol=1e-7)


def test_a_released_folder_saved_again_says_the_same(released: Path, tmp_path: Path) -> None:
    dictionary, config = load_dictionary(released, "cpu")
    assert isinstance(dictionary, TemporalSAE)
    released_folder.save(dictionary, tmp_path / "copy" / "layer_12", config)
    assert released_folder.read_conf(tmp_path / "copy" / "layer_12") == config["conf"] | {
        "llm": config["conf"]["llm"] | {"tokenizer_hf_name": "google/gemma-2-2b"}
    }


# --- the hub ---


@pytest.fixture
def repository(released: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """`someone/saes` on a hub: its files, of which those asked for are copied; returns what was copied."""
    root = released.parents[2]
    shutil.copytree(released, root / "llama" / "layer_15" / "temporal")
    shutil.copy(released / "latest_ckpt.pt", released / "latest_ckpt_old.pt")
    (root / "README.md").write_text("x")
    files = [path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()]
    copied: list[str] = []

    def snapshot_download(repository: str, revision: str | None, allow_patterns: list[str]) -> str:
        from huggingface_hub.errors import LocalEntryNotFoundError

        if repository != "someone/saes":
            raise LocalEntryNotFoundError("no connection")
        assert revision == "v1"
        target = tmp_path / "cache" / "snapshots" / "abc"
        target.mkdir(parents=True, exist_ok=True)
        for name in files:
            if any(fnmatch(name, pattern) for pattern in allow_patterns):
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(root / name, target / name)
                copied.append(name)
        return str(target)

    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    monkeypatch.chdir(tmp_path)
    return copied


def test_only_the_files_of_the_dictionary_come_from_the_hub(repository: list[str]) -> None:
    dictionary, config = load_dictionary("someone/saes/gemma-2-2B/layer_12/temporal", "cpu", revision="v1")
    assert isinstance(dictionary, TemporalSAE)
    assert config["trainer"]["layer"] == 12
    folder = "gemma-2-2B/layer_12/temporal"
    assert repository == [f"{folder}/conf.yaml", f"{folder}/latest_ckpt.pt"]
    again = TemporalSAE.from_pretrained("someone/saes/llama", revision="v1")
    assert torch.equal(again.D, dictionary.state_dict()["D"])


def test_what_the_hub_does_not_have_is_told_in_a_sentence(repository: list[str]) -> None:
    with pytest.raises(UserError, match=r"several dictionaries \(gemma-2-2B/layer_12/temporal, llama"):
        load_dictionary("someone/saes", "cpu", revision="v1")
    with pytest.raises(UserError, match="has no folder 'pythia'"):
        load_dictionary("someone/saes/pythia", "cpu", revision="v1")
    with pytest.raises(UserError, match=r"no folder someone/else.*cannot be reached"):
        load_dictionary("someone/else", "cpu", revision="v1")


def test_a_path_that_is_missing_is_not_looked_for_on_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    assert not download.is_hub_name("runs/demo")
    assert not download.is_hub_name("/runs/demo")
    assert not download.is_hub_name("../runs/demo")
    assert not download.is_hub_name("demo")
    assert download.is_hub_name("canrager/temporalSAEs/gemma-2-2B/layer_12/temporal")
    with pytest.raises(UserError, match="there is no folder runs/demo"):
        load_dictionary("runs/demo", "cpu")
