"""Dictionaries in single files, of temp_xc and of Qwen-Scope: their own formulas, and what is refused.

The files are made here in the forms that the code of both writes; none of the published ones was at hand.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dictionary_learning.dictionaries.temporal_sae import TemporalSAE
from dictionary_learning.errors import UserError
from dictionary_learning.exchange.beginning import load_beginning
from dictionary_learning.exchange.fidelity import Fidelity
from dictionary_learning.exchange.loading import find_run, weights_sha256
from dictionary_learning.trainers import TemporalMatryoshkaBatchTopKSAE
from dictionary_learning.trainers.top_k import AutoEncoderTopK
from dictionary_learning.utils import load_dictionary

D, F = 8, 24
META = {
    "k_pos": 4,
    "group_sizes": [5, 19],
    "subject_model": "google/gemma-2-2b",
    "anchor_layer": 12,
    "seed": 42,
}


def halved(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: t.half() if t.dtype == torch.float32 else t for name, t in state.items()}


def t_sae() -> TemporalMatryoshkaBatchTopKSAE:
    ae = TemporalMatryoshkaBatchTopKSAE(D, F, 4, [5, 19], seed=1)
    with torch.no_grad():
        ae.b_enc.normal_(generator=torch.Generator().manual_seed(2))
    ae.threshold.fill_(0.5)
    # as float16 holds it, so that it comes back as it was
    ae.load_state_dict(
        {name: t.half().float() if t.is_floating_point() else t for name, t in ae.state_dict().items()}
    )
    return ae.eval()


def x_of(*shape: int) -> Tensor:
    return torch.randn(*shape, D, generator=torch.Generator().manual_seed(0))


def save(path: Path, **content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path)
    return path


def test_a_t_sae_of_temp_xc_comes_back_in_float32(tmp_path: Path) -> None:
    ae = t_sae()
    path = save(
        tmp_path / "tsae_paper_k20__seed42.pt",
        state_dict=halved(ae.state_dict()),
        arch="tsae_paper_k20",
        meta=META,
        state_dict_dtype="float16",
    )
    fidelity = Fidelity()
    for place in (path, tmp_path):  # the one file of its folder
        dictionary, config = load_dictionary(place, "cpu", fidelity=fidelity)
        assert type(dictionary) is TemporalMatryoshkaBatchTopKSAE
        assert torch.equal(dictionary.encode(x_of(64)), ae.encode(x_of(64)))
        assert dictionary.splits() == {"high": slice(0, 5), "low": slice(5, 24)}
        trainer = config["trainer"]
        assert (trainer["lm_name"], trainer["layer"], trainer["k"], trainer["seed"]) == (
            "google/gemma-2-2b",
            12,
            4,
            42,
        )
        assert config["meta"]["arch"] == "tsae_paper_k20"
    assert "float32" in fidelity.remarks[0]
    assert find_run(str(path), tmp_path).dictionary == path
    assert len(weights_sha256(path)) == 64
    assert load_beginning(str(path)).models == {"google/gemma-2-2b"}


def test_the_meta_of_a_bare_state_dict_stands_in_the_log(tmp_path: Path) -> None:
    path = tmp_path / "ckpts" / "tsae__seed1.pt"
    path.parent.mkdir()
    torch.save(halved(t_sae().state_dict()), path)
    (tmp_path / "training_logs").mkdir()
    log = {**META, "loss": list(range(100))}
    (tmp_path / "training_logs" / "tsae__seed1.json").write_text(json.dumps(log))
    _, config = load_dictionary(path, "cpu")
    assert config["trainer"]["layer"] == 12
    assert "loss" not in config["meta"]


def test_groups_come_from_the_weights_or_the_meta_and_must_agree(tmp_path: Path) -> None:
    state = halved(t_sae().state_dict())
    without = {name: tensor for name, tensor in state.items() if name != "group_sizes"}
    path = save(tmp_path / "a.pt", state_dict=without, arch="tsae", meta=META)
    assert load_dictionary(path, "cpu")[0].splits()["high"] == slice(0, 5)
    path = save(tmp_path / "b.pt", state_dict=without, arch="tsae", meta={"k_pos": 4})
    with pytest.raises(UserError, match="says nowhere how its latents are grouped"):
        load_dictionary(path, "cpu")
    path = save(tmp_path / "c.pt", state_dict=state, arch="tsae", meta={**META, "group_sizes": [4, 20]})
    with pytest.raises(UserError, match=r"groups of \[5, 19\] latents in its weights and of \[4, 20\]"):
        load_dictionary(path, "cpu")


def test_a_temporal_sae_of_temp_xc_takes_raw_activations(tmp_path: Path) -> None:
    torch.manual_seed(0)
    ae = TemporalSAE(D, F, n_heads=4, kval_topk=4, bottleneck_factor=2, seed=0)
    state = {name: tensor for name, tensor in ae.state_dict().items() if name != "scaling_factor"}
    state["b"] = state["b"].reshape(1, -1)
    meta = {"k_pos": 4, "T": 16, "scale": 0.25, "layer": 13, "use_pos": False}
    # their name says T-SAE, and the tensors decide
    path = save(tmp_path / "tsae.pt", state_dict=state, arch="tsae_paper", meta=meta)
    dictionary, config = load_dictionary(path, "cpu")
    assert isinstance(dictionary, TemporalSAE)
    x = x_of(2, 6)
    torch.testing.assert_close(dictionary(x)[0] * 0.25, ae(x * 0.25)[0])
    assert config["trainer"]["layer"] == 13
    assert config["trainer"]["context_length"] == 16
    del meta["scale"]
    path = save(tmp_path / "tfa.pt", state_dict=state, arch="tfa_big", meta=meta)
    with pytest.raises(UserError, match=r"does not say by what activations are multiplied.*scaling_factor"):
        load_dictionary(path, "cpu")
    again, _ = load_dictionary(path, "cpu", overrides={"scaling_factor": 0.25})
    assert torch.equal(again(x)[0], dictionary(x)[0])
    path = save(tmp_path / "pos.pt", state_dict=state, arch="tfa_pos_big", meta={**meta, "use_pos": True})
    with pytest.raises(UserError, match="positional encodings"):
        load_dictionary(path, "cpu")


def test_a_file_of_qwen_scope_has_its_codes(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    W_enc_FD, W_dec_DF = (torch.randn(shape, generator=generator) for shape in ((F, D), (D, F)))
    b_enc, b_dec = torch.randn(F, generator=generator), torch.randn(D, generator=generator)
    folder = tmp_path / "SAE-Res-Qwen3-8B-Base-W64K-L0_5"
    path = save(folder / "layer12.sae.pt", W_enc=W_enc_FD, W_dec=W_dec_DF, b_enc=b_enc, b_dec=b_dec)
    dictionary, config = load_dictionary(folder, "cpu")
    assert type(dictionary) is AutoEncoderTopK
    assert (config["trainer"]["lm_name"], config["trainer"]["layer"]) == ("Qwen/Qwen3-8B-Base", 12)
    x = x_of(64)
    pre = x @ W_enc_FD.T + b_enc  # as their card writes it: nothing is taken off the input
    top = pre.topk(5, dim=-1)
    f = torch.zeros_like(pre).scatter(-1, top.indices, top.values)
    assert (top.values > 0).all()
    torch.testing.assert_close(dictionary.encode(x), f, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(dictionary(x), f @ W_dec_DF.T + b_dec, rtol=1e-4, atol=1e-4)
    torch.save(torch.load(path, weights_only=True), folder / "layer13.sae.pt")
    with pytest.raises(UserError, match=r"several files \(layer12.sae.pt, layer13.sae.pt\): choose one"):
        load_dictionary(folder, "cpu")
    for elsewhere in ("layer3.sae.pt", "relu_L0_5/layer3.sae.pt"):
        path = save(tmp_path / elsewhere, W_enc=W_enc_FD, W_dec=W_dec_DF, b_enc=b_enc, b_dec=b_dec)
        with pytest.raises(UserError, match=r"nothing says that .* is a TopK SAE of Qwen-Scope"):
            load_dictionary(path, "cpu")
    again, _ = load_dictionary(path, "cpu", overrides={"k": 5})
    assert torch.equal(again.encode(x), dictionary.encode(x))


class Evil:
    def __reduce__(self) -> Any:
        return print, ("code was run",)


def test_no_code_is_run_and_other_files_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save(tmp_path / "evil" / "a.pt", state_dict=halved(t_sae().state_dict()), arch="tsae", meta=Evil())
    with pytest.raises(UserError, match=r"pickled"):
        load_dictionary(path, "cpu")
    assert "code was run" not in capsys.readouterr().out
    path = save(tmp_path / "other.pt", state_dict={"W": torch.ones(2)}, arch="mlc", meta={})
    with pytest.raises(UserError, match=r"holds a mlc with the tensors W, and only T-SAEs"):
        load_dictionary(path, "cpu")
    nan = {**t_sae().state_dict(), "b_enc": torch.full((F,), torch.nan)}
    with pytest.raises(UserError, match=r"b_enc in .* holds NaN or infinity"):
        load_dictionary(save(tmp_path / "nan.pt", state_dict=nan, arch="t", meta=META), "cpu")
    torn = {**t_sae().state_dict(), "b_enc": torch.zeros(F - 1)}
    with pytest.raises(UserError, match="is damaged or of another kind"):
        load_dictionary(save(tmp_path / "torn.pt", state_dict=torn, arch="t", meta=META), "cpu")
    with pytest.raises(UserError, match="k_pos is 'x'"):
        load_dictionary(save(tmp_path / "x.pt", state_dict=nan, arch="t", meta={**META, "k_pos": "x"}), "cpu")
    with pytest.raises(UserError, match="tied_weights cannot be set"):
        load_dictionary(path, "cpu", overrides={"tied_weights": True})


def test_a_file_is_converted_and_run_by_experiments(tmp_path: Path, tiny_lm_folder: Path) -> None:
    from dictionary_learning import convert
    from temporal_saes.experiment.options import ExperimentOptions
    from temporal_saes.experiment.subjects import resolve

    path = save(
        tmp_path / "t.pt",
        state_dict=halved(t_sae().state_dict()),
        arch="tsae",
        meta={**META, "subject_model": str(tiny_lm_folder), "anchor_layer": 2},
    )
    convert.main(["--from", str(path), "--to", "run", "--output", str(tmp_path / "run" / "trainer_0")])
    one, two = (load_dictionary(place, "cpu")[0] for place in (path, tmp_path / "run"))
    assert torch.equal(one.encode(x_of(8)), two.encode(x_of(8)))
    subject = resolve(ExperimentOptions(run_name=str(path), checkpoints_path=str(tmp_path), chunk=0))
    assert (subject.layer, subject.split) == (2, "high")
    assert subject.load_dictionary("cpu") is not None
