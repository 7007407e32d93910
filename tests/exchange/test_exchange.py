"""Round trips through SAELens, SAEBench and the dictionary_learning library themselves.

`bash scripts/test_exchange.sh` makes the environments that have them; elsewhere these tests are skipped.

Shapes: D 32 model width, F 256 latents (64 of a TemporalSAE, whose attention costs W² a token), K 8; 20,000
tokens.
"""

import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from every_dictionary import CONFIG, KINDS, make, normal
from fake_hub import FakeHub
from safetensors.torch import save_file
from torch import Tensor
from toy_runs import make_run

from dictionary_learning.dictionaries.temporal_sae import TemporalSAE
from dictionary_learning.exchange import run_folder, saelens
from dictionary_learning.exchange.fidelity import Fidelity
from dictionary_learning.exchange.hub import push_to_hub
from dictionary_learning.trainers.batch_top_k import BatchTopKSAE
from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKSAE
from dictionary_learning.trainers.threshold import ThresholdDictionary
from dictionary_learning.utils import load_dictionary

pytestmark = pytest.mark.exchange
D, F, K = 32, 256, 8
NARROW = 64  # latents of a TemporalSAE
ROOT = Path(__file__).parents[2]
LIBRARY = Path(os.environ.get("EXCHANGE_LIBRARY", ROOT / ".venv-exchange" / "library"))
SAEBENCH = Path(os.environ.get("EXCHANGE_SAEBENCH", ROOT / ".venv-saebench" / "bin" / "python"))


@pytest.fixture(scope="session")
def sae_lens() -> Any:
    return pytest.importorskip("sae_lens", reason="no sae_lens here: run bash scripts/test_exchange.sh")


@pytest.fixture(scope="session")
def texts() -> Tensor:
    """20,000 tokens off centre, as 400 texts [B, L, D]."""
    return 3 * normal(400, 50, D, seed=1) + normal(D, seed=2)


def made(kind: str) -> Any:
    return make(kind, D, NARROW if kind in ("temporal", "untied", "low_rank") else F, K)


def assert_equal_codes(ours: Tensor, theirs: Tensor, rounded: bool = False) -> None:
    """Equal up to the last bit of the matrix product, or (`rounded`) as far as float32 goes, of [..., F].

    That bit may exchange two latents that compete for the last place of a token's top-k: the values that are
    kept are then the same. Rounding may take a latent at its very threshold to the other side. Either is a
    matter of one token in 20,000.
    """
    assert ours.shape == theirs.shape
    ours, theirs = ours.flatten(0, -2), theirs.flatten(0, -2)
    scale = float(theirs.abs().max())
    rtol, atol = (1e-4, 1e-5 * scale) if rounded else (1e-6, 2e-6 * scale)
    differs = (~torch.isclose(ours, theirs, rtol=rtol, atol=atol)).any(1)
    assert int(differs.sum()) <= len(ours) // 20_000
    if not rounded:
        kept = ours[differs].sort().values, theirs[differs].sort().values
        torch.testing.assert_close(*kept, rtol=rtol, atol=atol)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_saelens_computes_our_codes(sae_lens: Any, texts: Tensor, tmp_path: Path, kind: str) -> None:
    ours = made(kind)
    saelens.write(ours, CONFIG, tmp_path)
    theirs = sae_lens.SAE.load_from_disk(str(tmp_path))
    assert theirs.cfg.metadata.hook_name == "blocks.8.hook_resid_post"
    if isinstance(ours, TemporalSAE):
        novel, predicted = theirs.encode_with_predictions(texts)
        _, parts = ours(texts)
        assert_equal_codes(parts["novel_codes"], novel)
        torch.testing.assert_close(parts["pred_codes"], predicted, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(ours(texts, output_features=False), theirs(texts), rtol=1e-4, atol=1e-4)
        return
    x = texts.flatten(0, 1)
    f, g = ours.encode(x), theirs.encode(x)
    assert_equal_codes(f, g, rounded=kind == "gated")  # SAELens multiplies by exp(r_mag) before the product
    if kind in ("tsae", "matryoshka", "batchtopk"):
        assert torch.equal(f, g)
    torch.testing.assert_close(ours.decode(g), theirs.decode(g), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("folder", ["", "layer_8/tsae"])
@torch.no_grad()
def test_saelens_loads_what_was_pushed_with_training_and_sparsity(
    sae_lens: Any, hub: FakeHub, texts: Tensor, tmp_path: Path, folder: str
) -> None:
    ours, x = made("tsae"), texts[:20].flatten(0, 1)
    saelens.write(ours, CONFIG, tmp_path / "saelens")
    log_sparsity_F = torch.linspace(-6, -1, F)
    save_file({"sparsity": log_sparsity_F}, tmp_path / "saelens" / "sparsity.safetensors")
    push_to_hub(tmp_path / "saelens", "me/many", folder=folder)
    card = hub.repositories["me/many"]["main"][f"{folder}/README.md".lstrip("/")].decode()
    told = re.search(r'SAE\.from_pretrained\("me/many", "(.+)"\)', card)  # as the card says it
    assert told
    theirs, cfg, sparsity = sae_lens.SAE.from_pretrained_with_cfg_and_sparsity("me/many", told[1])
    assert torch.equal(theirs.encode(x), ours.encode(x))
    assert torch.equal(sparsity, log_sparsity_F)
    assert theirs.cfg.metadata.hook_name == "blocks.8.hook_resid_post"
    assert cfg["metadata"]["temporal_saes"]["dict_class"] == type(ours).__name__

    theirs.save_model(str(tmp_path / "again"))  # our part of the metadata goes through SAELens, too
    back, config = load_dictionary(tmp_path / "again", "cpu")
    assert type(back) is type(ours)
    assert back.splits() == ours.splits()
    assert torch.equal(back.encode(x), ours.encode(x))
    assert config["trainer"]["lm_name"] == CONFIG["trainer"]["lm_name"]


def test_the_training_stands_in_runner_cfg_under_saelens_names(sae_lens: Any, tmp_path: Path) -> None:
    saelens.write(made("tsae"), CONFIG, tmp_path)
    runner = json.loads((tmp_path / "runner_cfg.json").read_text())
    theirs = {field.name for field in dataclasses.fields(sae_lens.LanguageModelSAERunnerConfig)}
    assert runner.keys() - theirs == {"hf_hook_name", "architecture", "temporal_saes"} & runner.keys()
    assert {"model_name", "hook_name", "sae"} <= runner.keys() & theirs


def randomise(sae: Any) -> Any:
    with torch.no_grad():
        for i, (name, parameter) in enumerate(sorted(sae.named_parameters())):
            scale = 0.1 if parameter.ndim == 1 else 1.0
            parameter.copy_(scale * normal(*parameter.shape, seed=i + 20))
            if "threshold" in name:
                parameter.abs_()
    return sae


INFERENCE: dict[str, dict[str, Any]] = {
    "standard": {},
    "standard, no bias": {"apply_b_dec_to_input": False},
    "gated": {},
    "topk": {"k": K},
    "topk, rescaled": {"k": K, "rescale_acts_by_decoder_norm": True},
    "jumprelu": {},
    "jumprelu, no bias": {"apply_b_dec_to_input": False},
    "temporal": {"n_heads": 2, "bottleneck_factor": 2, "kval_topk": K},
    "temporal, untied": {
        "n_heads": 2,
        "bottleneck_factor": 4,
        "sae_diff_type": "relu",
        "tied_weights": False,
    },
    "temporal, scaled": {
        "n_heads": 2,
        "bottleneck_factor": 2,
        "kval_topk": K,
        "normalize_activations": "constant_scalar_rescale",
        "activation_normalization_factor": 0.029,
    },
}


@pytest.mark.parametrize("name", INFERENCE)
@torch.no_grad()
def test_what_saelens_saves_has_the_same_codes_here(
    sae_lens: Any, texts: Tensor, tmp_path: Path, name: str
) -> None:
    architecture = name.split(",")[0]
    width = NARROW if architecture == "temporal" else F
    cfg = {"architecture": architecture, "d_in": D, "d_sae": width, **INFERENCE[name]}
    theirs = randomise(sae_lens.SAE.from_dict(cfg))
    theirs.save_model(str(tmp_path))
    ours, _ = load_dictionary(tmp_path, "cpu")
    if isinstance(ours, TemporalSAE):
        novel, predicted = theirs.encode_with_predictions(texts)
        _, parts = ours(texts)
        assert_equal_codes(parts["novel_codes"], novel)
        torch.testing.assert_close(parts["pred_codes"], predicted, rtol=1e-4, atol=1e-5)
        return
    x = texts.flatten(0, 1)
    # of the rescaled one the norms are folded into the encoder
    g = theirs.encode(x)
    assert_equal_codes(ours.encode(x), g, rounded="rescaled" in name or name == "gated")
    torch.testing.assert_close(ours.decode(g), theirs.decode(g), rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("architecture", ["batchtopk", "matryoshka_batchtopk"])
@torch.no_grad()
def test_a_training_checkpoint_is_read_as_what_saelens_saves_of_it_for_inference(
    sae_lens: Any, texts: Tensor, tmp_path: Path, architecture: str
) -> None:
    from sae_lens.saes.sae import TrainingSAE

    widths = [F // 4, F // 2, F]
    cfg = {"architecture": architecture, "d_in": D, "d_sae": F, "k": K, "matryoshka_widths": widths}
    training = randomise(TrainingSAE.from_dict(cfg))
    training.topk_threshold.fill_(7.5)
    training.save_model(str(tmp_path / "training"))
    training.save_inference_model(str(tmp_path / "inference"))
    theirs = sae_lens.SAE.load_from_disk(str(tmp_path / "inference"))
    x = texts.flatten(0, 1)
    for folder in ("training", "inference"):
        ours, _ = load_dictionary(tmp_path / folder, "cpu")
        weights = saelens.form_of(ours, Fidelity()).tensors
        assert weights.keys() == theirs.state_dict().keys()
        for name, tensor in theirs.state_dict().items():
            assert torch.equal(weights[name], tensor), f"{name} of {folder}"
        f, g = ours.encode(x), theirs.encode(x)
        assert 1 < (g != 0).sum(1).float().mean() < F / 2  # the threshold takes latents, and leaves some
        assert_equal_codes(f, g)
        torch.testing.assert_close(ours.decode(g), theirs.decode(g), rtol=1e-5, atol=1e-4)
    trained, _ = load_dictionary(tmp_path / "training", "cpu")
    assert isinstance(trained, ThresholdDictionary)
    assert int(trained.k) == K
    if architecture == "matryoshka_batchtopk":
        assert isinstance(trained, MatryoshkaBatchTopKSAE)
        assert trained.group_sizes.tolist() == [F // 4, F // 4, F // 2]
    else:
        assert isinstance(trained, BatchTopKSAE)


@torch.no_grad()
def test_what_saelens_folds_of_decoder_norms_leaves_the_reconstruction(
    sae_lens: Any, texts: Tensor, tmp_path: Path
) -> None:
    ours = made("matryoshka")
    ours.threshold.fill_(7.5)
    norm_F = torch.linspace(0.2, 3.0, F)
    ours.W_dec.mul_((norm_F / ours.W_dec.norm(dim=1)).unsqueeze(1))
    saelens.write(ours, CONFIG, tmp_path)
    folded = sae_lens.SAE.load_from_disk(str(tmp_path), fold_W_dec_norm=True)
    torch.testing.assert_close(folded.W_dec.norm(dim=1), torch.ones(F))
    x = texts.flatten(0, 1)
    assert_equal_codes(ours.encode(x) * norm_F, folded.encode(x), rounded=True)
    differs = ~torch.isclose(ours(x), folded(x), rtol=1e-4, atol=1e-3).all(1)
    assert int(differs.sum()) <= 1  # a latent at its very threshold


# nnsight is imported by the library's buffers, which nothing here uses, and its own import takes seconds
OF_THE_LIBRARY = """
import sys, types, torch
stub = types.ModuleType("nnsight")
stub.LanguageModel = object
sys.modules["nnsight"] = stub
import dictionary_learning
from dictionary_learning.utils import load_dictionary
x, *folders = sys.argv[1:]
x = torch.load(x, weights_only=True)
for folder in folders:
    ae, config = load_dictionary(folder + "/ours", "cpu")
    made = {"class": type(ae).__name__, "file": dictionary_learning.__file__}
    with torch.no_grad():
        torch.save(made | {"f": ae.encode(x), "x_hat": ae(x)}, folder + "/out.pt")
    torch.save(ae.state_dict(), folder + "/theirs/ae.pt")
"""
OF_THE_EIGHT = {
    "tsae": "MatryoshkaBatchTopKSAE",
    "matryoshka": "MatryoshkaBatchTopKSAE",
    "batchtopk": "BatchTopKSAE",
    "topk": "AutoEncoderTopK",
    "relu": "AutoEncoder",
    "relu_new": "AutoEncoderNew",
    "gated": "GatedAutoEncoder",
    "jumprelu": "JumpReluAutoEncoder",
}


@pytest.fixture(scope="module")
def through_the_library(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Tensor]:
    """A folder for each kind, with `ours`, `out.pt` and `theirs`, and the activations [B, D]."""
    if not LIBRARY.is_dir():
        pytest.skip("the dictionary_learning library is not there: run bash scripts/test_exchange.sh")
    root = tmp_path_factory.mktemp("library")
    for kind in OF_THE_EIGHT:
        run_folder.write_for_library(made(kind), CONFIG, root / kind / "ours")
        (root / kind / "theirs").mkdir()
        (root / kind / "theirs" / "config.json").write_text(
            (root / kind / "ours" / "config.json").read_text()
        )
    x = 3 * normal(5_000, D, seed=1)
    torch.save(x, root / "x.pt")
    command = [sys.executable, "-c", OF_THE_LIBRARY, str(root / "x.pt")]
    command += [str(root / kind) for kind in OF_THE_EIGHT]
    subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": str(LIBRARY)}, cwd=root)
    return root, x


@pytest.mark.parametrize(("kind", "name"), OF_THE_EIGHT.items())
@torch.no_grad()
def test_the_library_loads_what_we_write_and_saves_what_we_load(
    through_the_library: tuple[Path, Tensor], kind: str, name: str
) -> None:
    root, x = through_the_library
    ours = made(kind)
    out = torch.load(root / kind / "out.pt", weights_only=True)
    assert Path(out["file"]).is_relative_to(LIBRARY)
    assert out["class"] == name
    assert_equal_codes(ours.encode(x), out["f"])
    torch.testing.assert_close(ours.decode(out["f"]), out["x_hat"], rtol=1e-5, atol=1e-4)
    back, _ = load_dictionary(root / kind / "theirs", "cpu")
    assert torch.equal(back.encode(x), ours.encode(x))


@pytest.mark.saebench
def test_core_and_sparse_probing_of_saebench_run_on_our_dictionaries(tmp_path: Path) -> None:
    if not SAEBENCH.is_file():
        pytest.skip("SAEBench is not there: run bash scripts/test_exchange.sh")
    for kind in ("grouped", "plain", "attention"):
        make_run(tmp_path / "runs" / kind, Path("tiny"), kind=kind)
    words = [SAEBENCH, ROOT / "tests" / "saebench_run.py", tmp_path / "runs", tmp_path / "out"]
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")}
    done = subprocess.run(
        list(map(str, words)), check=True, env=os.environ | offline, capture_output=True, text=True
    )
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures.keys() == {"grouped", "plain", "attention"}
    assert figures["attention"]["l0"] == pytest.approx(8, abs=0.01)  # novel codes: top 8 of each token
    assert figures["attention"]["explained_variance"] > 0  # with the predicted part, also of an untrained one
    assert all(found["probe_of_the_sae"] > 0.8 for found in figures.values())
