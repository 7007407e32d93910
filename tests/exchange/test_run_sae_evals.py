"""What sae-probes reads of ours: its files here, and its `run_sae_evals` on them in its own environment."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from toy_runs import make_run

from dictionary_learning import convert
from dictionary_learning.errors import UserError
from dictionary_learning.exchange import sae_probes
from dictionary_learning.language_model import LanguageModel
from dictionary_learning.language_model.places import Place
from dictionary_learning.utils import load_dictionary
from temporal_saes.probing import probes

ROOT = Path(__file__).parents[2]
PYTHON = Path(os.environ.get("EXCHANGE_SAE_PROBES", ROOT / ".venv-sae-probes" / "bin" / "python"))
HOOK, SET = "blocks.2.hook_resid_post", "95_toxic_is"
TEXTS = [
    "The red star.",
    "An old star and a very long tale of it, told again and again.",
    "A",
    "The red star.",
]


@pytest.fixture
def a_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A data set of four records in place of the wheel's."""
    path = tmp_path / "7_stars.jsonl"
    path.write_text("".join(json.dumps({"text": text, "label": "1"}) + "\n" for text in TEXTS))
    monkeypatch.setattr(sae_probes, "sae_probes_file", {"sae-probes:7_stars": path}.__getitem__)


def ask(source: Path, output: Path, *sets: str) -> None:
    words = ["--from", str(source), "--to", "sae_probes", "--output", str(output)]
    convert.main([*words, *(["--sets", *sets] if sets else [])])


@pytest.mark.usefixtures("a_set")
def test_the_files_hold_the_activation_of_every_records_last_token(
    tmp_path: Path, tiny_lm_folder: Path
) -> None:
    run = make_run(tmp_path / "run", tiny_lm_folder)
    ask(run, tmp_path / "out", "7_stars")
    (path,) = (tmp_path / "out").glob("model_activations_*/*.pt")
    assert (path.parent.name, path.name) == (
        f"model_activations_{tiny_lm_folder.name}",
        f"7_stars_{HOOK}.pt",
    )
    x_ND = torch.load(path, weights_only=True)
    assert (tmp_path / "out" / "saelens" / "cfg.json").is_file()
    lm = LanguageModel.load(str(tiny_lm_folder), device="cpu")
    assert x_ND.shape == (4, 32)
    for text, x_D in zip(TEXTS, x_ND, strict=True):
        tokens_BL, mask_BL, _ = lm.tokenize([text], 128)
        torch.testing.assert_close(x_D, lm.record(tokens_BL, mask_BL, 2)[0, -1])


def test_of_a_long_text_the_end_is_read_without_special_tokens_behind_it(tiny_lm_folder: Path) -> None:
    lm = LanguageModel.load(str(tiny_lm_folder), device="cpu")
    row = lm.tokenize([TEXTS[1]], 128).tokens_BL[0].tolist()
    lm.bos_id = row[0]  # as if the tokenizer had put it there
    assert sae_probes._end(row, lm, 5, True) == [row[0], *row[-4:]]
    assert sae_probes._end(row, lm, 5, False) == row[-5:]
    assert sae_probes._end([*row, 0, 0], lm, None, True) == row
    assert sae_probes._end(row[:2], lm, 5, False) == row[1:2]
    lm.bos_id = None
    assert sae_probes._end(row, lm, 5, True) == row[-5:]
    assert sae_probes.last_activations(lm, ["", "A"], Place(2), 5, True)[0].eq(0).all()


@pytest.mark.usefixtures("a_set")
def test_what_cannot_be_probed_there_is_refused_before_anything_is_written(
    tmp_path: Path, tiny_lm_folder: Path
) -> None:
    temporal = make_run(tmp_path / "temporal", tiny_lm_folder, kind="attention")
    run = make_run(tmp_path / "run", tiny_lm_folder)
    for source, sets, told in (
        (temporal, ["7_stars"], "a TemporalSAE predicts from those before it: probe it here"),
        (run, [], "--sets is missing"),
    ):
        with pytest.raises(UserError, match=told):
            ask(source, tmp_path / "out", *sets)
        assert not any(path.is_file() for path in (tmp_path / "out").rglob("[!.]*"))
    with pytest.raises(UserError, match="--sets is for --to sae_probes, and this is --to run"):
        convert.main(
            ["--from", str(run), "--to", "run", "--output", str(tmp_path / "r"), "--sets", "7_stars"]
        )


@pytest.mark.exchange
def test_run_sae_evals_probes_our_codes(tmp_path: Path, tiny_lm_folder: Path) -> None:
    if not PYTHON.is_file():
        pytest.skip("sae-probes is not there: run bash scripts/test_exchange.sh")
    run = make_run(tmp_path / "run", tiny_lm_folder)
    folder = tmp_path / "probes"
    ask(run, folder, SET)
    words = [PYTHON, ROOT / "tests" / "sae_probes_run.py", folder, tiny_lm_folder.name, HOOK, SET]
    offline = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")}
    done = subprocess.run(list(map(str, words)), check=True, env=offline, capture_output=True, text=True)
    told = json.loads(done.stdout.splitlines()[-1])
    y, train, test = (np.array(told[name]) for name in ("y", "train", "test"))
    (path,) = folder.glob("model_activations_*/*.pt")
    dictionary, _ = load_dictionary(run / "trainer_0", "cpu")
    with torch.no_grad():
        f_NF = dictionary.encode(torch.load(path, weights_only=True)).numpy()
    assert len(f_NF) == len(y)
    one, several = told["metrics"]
    (best,) = one["indices"]
    area = roc_auc_score(y[test], f_NF[test, best])  # a probe on one latent orders texts as the latent does
    assert one["test_auc"] == pytest.approx(max(area, 1 - area), abs=1e-6)
    columns = several["indices"]
    ours = probes.fit(f_NF[train][:, columns], y[train], f_NF[test][:, columns], y[test])
    assert ours.accuracy == pytest.approx(several["test_acc"], abs=0.08)  # of 99 texts; other penalties
    assert several["test_acc"] > 0.55
