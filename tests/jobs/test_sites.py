"""A run on what an MLP or an attention adds: the flag, training, evaluation, probes and other formats."""

import json
from pathlib import Path
from typing import Any

import pytest
from caches import refused
from toy_runs import load_script

from dictionary_learning import cache_activations, convert, eval_temporal, train_attention, train_baseline
from dictionary_learning.language_model import LanguageModel, Place
from dictionary_learning.language_model.places import SITES
from dictionary_learning.runs.folder import RunFolder
from dictionary_learning.utils import load_dictionary
from temporal_saes.experiment.options import ExperimentOptions
from temporal_saes.experiment.subjects import resolve
from temporal_saes.report.run_files import RunFiles

LAYER = 2
SIZES = "--dict_size 128 --k 16 --steps 200 --warmup_steps 10 --batch_size 256 --lr 0.003 --memory 20MB"


@pytest.fixture(scope="module")
def texts(tiny_lm_folder: Path, tiny_corpus: Path) -> list[str]:
    flags = f"--model {tiny_lm_folder} --dataset {tiny_corpus} --layer {LAYER} --context_length 32"
    return [*flags.split(), "--eval_share", "0.3", "--device", "cpu"]


@pytest.fixture(scope="module")
def runs(texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BatchTopK dictionary of every site."""
    folder = tmp_path_factory.mktemp("runs")
    for site in SITES:
        place = ["--site", site, "--run_name", site, "--checkpoints_path", str(folder)]
        train_baseline.main([*texts, *SIZES.split(), "--arch", "batch_top_k", *place])
    return folder


def evaluate(runs: Path, name: str, *flags: str, into: Path) -> dict[str, Any]:
    into.mkdir()
    words = [
        "--run_name",
        name,
        "--checkpoints_path",
        str(runs),
        "--device",
        "cpu",
        "--output_dir",
        str(into),
    ]
    eval_temporal.main([*words, *flags])
    (path,) = into.glob("*eval_results*.json")
    return json.loads(path.read_text())


@pytest.mark.parametrize("site", SITES)
def test_the_site_is_recorded_wherever_the_layer_is(runs: Path, site: str) -> None:
    run = RunFolder(runs / site)
    assert run.read_config()["options"]["site"] == site
    config = load_dictionary(runs / site, "cpu")[1]
    assert (config["buffer"]["layer"], config["buffer"]["site"]) == (LAYER, site)
    place = Place(LAYER, site=site)
    assert config["trainer"]["submodule_name"] == place.submodule_name
    assert Place.of_run(config) == place
    assert RunFiles.read(runs, site).output == place
    assert resolve(ExperimentOptions(run_name=site, checkpoints_path=str(runs))).place == place


@pytest.mark.parametrize("site", ["attn", "mlp"])
def test_an_evaluation_reads_and_splices_where_the_run_was_trained(
    runs: Path, site: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spliced = set()
    intervene = LanguageModel.intervene
    monkeypatch.setattr(
        LanguageModel,
        "intervene",
        lambda self, layer, edit: spliced.add(layer) or intervene(self, layer, edit),
    )
    own = evaluate(runs, site, into=tmp_path / "own")
    assert own["setting"]["site"] == site
    assert spliced == {Place(LAYER, site=site)}
    found = own["measures"]["all"]
    assert found["loss_ablated"]["value"] != found["loss_clean"]["value"]
    # at a place that it does not know it explains less, and an ablation there is another
    other = evaluate(runs, site, "--site", "resid", into=tmp_path / "other")
    assert other["setting"]["site"] == "resid"
    assert spliced == {Place(LAYER, site=site), Place(LAYER)}
    fve, elsewhere = (one["measures"]["all"]["fve_global"]["value"] for one in (own, other))
    assert fve > elsewhere + 0.2
    assert other["measures"]["all"]["loss_ablated"]["value"] != found["loss_ablated"]["value"]


def test_an_evaluation_takes_no_cache_of_another_site(
    runs: Path, texts: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = str(tmp_path / "cache")
    cache_activations.main(
        [*texts, "--site", "mlp", "--activations", cache, "--parts", "eval", "--memory", "20MB"]
    )
    cached = evaluate(runs, "mlp", "--activations", cache, into=tmp_path / "cached")
    live = evaluate(runs, "mlp", into=tmp_path / "live")
    assert cached["measures"]["all"]["fve_global"]["value"] == pytest.approx(
        live["measures"]["all"]["fve_global"]["value"], abs=1e-5
    )
    told = refused(capsys, lambda: evaluate(runs, "attn", "--activations", cache, into=tmp_path / "refused"))
    assert "--site attn (the cache has mlp)" in told


def test_training_takes_the_site_of_its_cache(
    texts: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = ["--activations", str(tmp_path / "cache")]
    cache_activations.main([*texts, "--site", "attn", *cache, "--memory", "20MB"])
    words = [*cache, *SIZES.split()[:-2], "--device", "cpu", "--checkpoints_path", str(tmp_path)]
    told = refused(
        capsys, lambda: train_baseline.main([*words, "--run_name", "no", "--site", "mlp", "--steps", "5"])
    )
    assert "--site mlp (the cache has attn)" in told
    train_baseline.main([*words, "--run_name", "cached", "--steps", "20"])
    assert Place.of_run(load_dictionary(tmp_path / "cached", "cpu")[1]) == Place(LAYER, site="attn")


def test_a_run_is_not_resumed_at_another_site(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--run_name", "mlp", "--checkpoints_path", str(runs), "--arch", "batch_top_k", "--resume"]
    assert "--site attn (the run has mlp)" in refused(
        capsys, lambda: train_baseline.main([*words, "--site", "attn"])
    )


def test_an_experiment_and_its_baseline_read_the_site_and_say_so(
    runs: Path, tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEMPORAL_SAES_CACHE", str(tmp_path / "cache"))
    recorded = set()
    record = LanguageModel.record_several

    def recording(self: LanguageModel, tokens_BL: Any, mask_BL: Any, layers: Any) -> Any:
        recorded.update(layers)
        return record(self, tokens_BL, mask_BL, layers)

    monkeypatch.setattr(LanguageModel, "record_several", recording)
    words = ["--compare", "mlp:2", "baseline_model", "--checkpoints_path", str(runs), "--device", "cpu"]
    words += ["--dataset", str(tiny_corpus), "--label_field", "domain"]
    words += ["--tasks", "semantics", "--n_train", "60", "--n_test", "30", "--repeats", "1", "--k", "all"]
    load_script("probing").main([*words, "--output_dir", str(tmp_path / "out")])
    assert recorded == {Place(LAYER, site="mlp")}
    results = {path.name: json.loads(path.read_text()) for path in (tmp_path / "out").glob("*.json")}
    assert {result["subject"]["site"] for result in results.values()} == {"mlp"}
    (baseline,) = [name for name in results if name.startswith("baseline_model")]
    assert f"layer{LAYER}_mlp" in baseline


def test_what_is_kept_of_one_site_is_not_taken_for_another(runs: Path, tiny_lm_folder: Path) -> None:
    from temporal_saes.recorded_activations import weights_identity

    lm = LanguageModel.load(str(tiny_lm_folder), device="cpu")
    identities = [weights_identity(lm, Place(LAYER, site=site)) for site in SITES]
    assert len(set(identities)) == 3
    assert weights_identity(lm, LAYER) == identities[0]


@pytest.mark.parametrize("site", ["attn", "mlp"])
def test_a_run_goes_to_other_formats_with_its_hook(runs: Path, site: str, tmp_path: Path) -> None:
    for form, out in (("saelens", "sae"), ("dictionary_learning", "library")):
        source = ["--from", str(runs / site), "--to", form, "--output", str(tmp_path / out)]
        convert.main(source)
        config = load_dictionary(tmp_path / out, "cpu")[1]
        assert Place.of_run(config) == Place(LAYER, site=site)
    metadata = json.loads((tmp_path / "sae" / "cfg.json").read_text())["metadata"]
    assert metadata["hook_name"] == f"blocks.{LAYER}.hook_{site}_out"


def test_a_temporal_sae_of_a_site_has_no_released_layout(
    texts: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = "--dict_size 64 --n_heads 4 --k 4 --steps 3 --batch_size 4 --memory 20MB --warmup_steps 1"
    place = ["--site", "mlp", "--run_name", "tfa", "--checkpoints_path", str(tmp_path)]
    train_attention.main([*texts, *sizes.split(), *place])
    words = ["--from", str(tmp_path / "tfa"), "--to", "released", "--output", str(tmp_path / "layer_2")]
    told = refused(capsys, lambda: convert.main(words))
    assert "reads what the MLP of layer 2 adds to the residual stream" in told
    assert "--to saelens" in told
