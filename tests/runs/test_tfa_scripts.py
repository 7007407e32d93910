"""A TemporalSAE from the command line to every script that takes a T-SAE: its own run, and as released."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_runs import load_script

from dictionary_learning import eval_temporal, train_attention
from dictionary_learning.activations.live_store import ActivationStore
from dictionary_learning.activations.sequences import Sequences
from dictionary_learning.dictionaries.temporal_sae import TemporalSAE
from dictionary_learning.errors import UserError
from dictionary_learning.exchange import export_temporal_sae, released_folder
from dictionary_learning.language_model import LanguageModel
from dictionary_learning.texts.documents import DocumentStream
from dictionary_learning.utils import load_dictionary
from temporal_saes.features import every_usable, extract_features
from temporal_saes.reading import Reading


@pytest.fixture(scope="module")
def runs(tiny_lm_folder: Path, tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of the same dictionary: `tfa` as trained, `layer_2` in the released layout."""
    folder = tmp_path_factory.mktemp("runs")
    flags = f"--model {tiny_lm_folder} --dataset {tiny_corpus} --layer 2 --device cpu --context_length 32"
    sizes = "--memory 20MB --batch_size 8 --dict_size 64 --k 4 --n_heads 2 --bottleneck_factor 4 --steps 60"
    more = "--warmup_steps 5 --max_tokens 3000 --eval_share 0.3 --run_name tfa"
    train_attention.main(f"{flags} {sizes} {more} --checkpoints_path {folder}".split())
    dictionary, config = load_dictionary(folder / "tfa", "cpu")
    assert isinstance(dictionary, TemporalSAE)
    released_folder.save(dictionary, folder / "layer_2", config)
    return folder


@pytest.mark.usefixtures("drawn")
def test_both_parts_are_evaluated(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--run_name", "tfa", "--checkpoints_path", str(runs), "--device", "cpu"]
    eval_temporal.main([*words, "--output_dir", str(tmp_path)])
    table = capsys.readouterr().out
    results = json.loads((tmp_path / "tfa_eval_results.json").read_text())
    measures = results["measures"]
    assert measures.keys() == {"all", "predicted", "novel"}
    assert measures["novel"]["l0"]["value"] <= 4
    assert measures["all"]["nmse"]["value"] < measures["predicted"]["nmse"]["value"]
    assert measures["all"]["loss_reconstructed"]["value"] is not None
    shares = [measures[part]["norm_share"]["value"] for part in ("predicted", "novel")]
    assert sum(shares) == pytest.approx(1)
    assert -1 <= measures["all"]["cosine_of_parts"]["value"] <= 1
    for part in ("predicted", "novel"):
        for name in ("lipschitz", "total_variation", "fourier", "wavelet", "multiscale"):
            assert measures[part][f"smoothness_{name}"]["value"] is not None
    assert results["frac_variance_explained_predicted"] == measures["predicted"]["fve_context_mean"]["value"]
    assert "share of the norm, predicted" in table
    assert (tmp_path / "tfa_eval.png").stat().st_size > 10_000


def test_a_released_folder_is_evaluated_as_the_run_it_was_made_from(
    runs: Path, tmp_path: Path, tiny_corpus: Path
) -> None:
    for name in ("tfa", "layer_2"):
        # a conf.yaml names neither the share of documents kept out nor the norm filter: both are the usual
        words = ["--run_name", name, "--checkpoints_path", str(runs), "--dataset", str(tiny_corpus)]
        more = ["--part", "all", "--no_lm_loss", "--device", "cpu", "--output_dir", str(tmp_path)]
        eval_temporal.main([*words, *more])
    (first,), (second,) = (list(tmp_path.glob(f"{name}_*.json")) for name in ("tfa", "layer_2"))
    measured = [json.loads(path.read_text())["measures"]["all"] for path in (first, second)]
    assert measured[0]["nmse"] == pytest.approx(measured[1]["nmse"])
    assert json.loads(second.read_text())["setting"]["layer"] == 2


def test_every_chunk_is_probed(
    runs: Path, tmp_path: Path, tiny_corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEMPORAL_SAES_CACHE", str(tmp_path / "cache"))
    local = tmp_path / "runs"
    shutil.copytree(runs, local)
    small = "--label_field domain --k 2 --repeats 1 --n_train 40 --n_test 16 --context_texts 4"
    words = ["--checkpoints_path", str(local), "--dataset", str(tiny_corpus), "--device", "cpu"]
    load_script("probing").main(["--compare", "tfa:0", "tfa:1", "layer_2:2", *words, *small.split()])
    found = {path.parent.parent.name: path.stem for path in local.rglob("probing/*chunk2.json")}
    assert list(found) == ["layer_2"]
    assert len(list((local / "tfa" / "probing").glob("*_chunk[01].json"))) == 2


def test_a_code_is_the_same_in_training_evaluation_and_experiments(
    runs: Path, tiny_lm_folder: Path, tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a sink in front of every text, and a norm filter that takes it out."""
    monkeypatch.setenv("TEMPORAL_SAES_CACHE", str(tmp_path))
    record = LanguageModel.record_several

    def with_sink(self: LanguageModel, tokens_BL: torch.Tensor, *rest: object) -> list[torch.Tensor]:
        (x_BLD,) = record(self, tokens_BL, *rest)
        x_BLD[:, 0] *= 1000
        return [x_BLD]

    monkeypatch.setattr(LanguageModel, "record_several", with_sink)
    lm = LanguageModel.load(str(tiny_lm_folder), device="cpu")
    dictionary, _ = load_dictionary(runs / "tfa", "cpu")
    documents = list(DocumentStream.open(str(tiny_corpus), part="all"))[:5]
    path = tmp_path / "five.jsonl"
    path.write_text("".join(json.dumps({"text": document.text}) + "\n" for document in documents))
    store = ActivationStore(
        lm,
        2,
        lambda start: DocumentStream.open(str(path), part="all", start=start),
        context_length=32,
        lm_batch_size=2,
        memory_bytes=10**7,
        log=lambda sentence: None,
    )
    assert store.statistics.n_high_norm == store.statistics.n_contexts
    n_compared = 0
    with torch.no_grad():
        for batch in store.contexts(1):
            texts = Sequences.of(batch.x_NLD, batch.mask_NL)
            assert not bool(batch.mask_NL[0, 0])
            in_training = texts.tokens(dictionary.encode(texts.padded()))
            ids = batch.tokens_NL[0].tolist()
            features = extract_features(
                [lm.tokenizer.decode(ids)],
                lm,
                2,
                Reading(32, cache=False),
                dictionary,
                choose=every_usable,
            )
            if features.tokens[0].ids_L.tolist() != ids:
                continue  # the text of a later context does not always fall into the same tokens
            np.testing.assert_allclose(features.x.toarray(), in_training.numpy(), rtol=1e-3, atol=1e-5)
            n_compared += 1
    assert n_compared >= 5


def test_a_run_is_exported_in_the_released_layout(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--run_name", "tfa", "--checkpoints_path", str(runs)]
    export_temporal_sae.main([*words, "--output", str(tmp_path / "tfa" / "layer_2")])
    assert "warning" not in capsys.readouterr().err
    ours, theirs = load_dictionary(runs / "tfa", "cpu")[0], load_dictionary(tmp_path / "tfa", "cpu")[0]
    x = torch.randn(1, 6, 32)
    assert torch.equal(ours.encode(x), theirs.encode(x))
    export_temporal_sae.main([*words, "--output", str(tmp_path / "elsewhere")])
    assert "no folder of" in capsys.readouterr().err
    with pytest.raises(UserError, match="is there already"):
        export_temporal_sae.main([*words, "--output", str(tmp_path / "tfa" / "layer_2")])
    with pytest.raises(UserError, match="--run_name and --output are needed"):
        export_temporal_sae.main(words)
