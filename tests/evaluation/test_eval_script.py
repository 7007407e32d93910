"""eval_temporal.py from the outside: on hand-made run folders, from another directory, and its refusals."""

import json
from pathlib import Path

import pytest
import torch
import warm
from caches import forbid_language_model

from dictionary_learning import ActivationBuffer, LanguageModel, eval_temporal, trainSAE
from dictionary_learning.command import cli, devices
from dictionary_learning.errors import UserError
from dictionary_learning.eval_temporal import EvalOptions, main
from dictionary_learning.evaluation import report
from dictionary_learning.evaluation.formulas import FORMULAS
from dictionary_learning.evaluation.results import result_path
from dictionary_learning.evaluation.setting import resolve
from dictionary_learning.exchange.loading import find_run
from dictionary_learning.texts.documents import DocumentStream
from dictionary_learning.trainers import BatchTopKSAE, BatchTopKTrainer, TemporalMatryoshkaBatchTopKSAE
from dictionary_learning.utils import load_dictionary

SCRIPT = Path(eval_temporal.__file__)
PNG = b"\x89PNG\r\n\x1a\n"


def make_run(folder, lm_folder, corpus, *, cls=TemporalMatryoshkaBatchTopKSAE, D=32, trainer=0, **buffer):
    """A run folder as training leaves it, of a dictionary with random weights."""
    ae = BatchTopKSAE(D, 64, 4) if cls is BatchTopKSAE else cls(D, 64, 4, [16, 48])
    ae.threshold.fill_(1.0)
    place = folder / f"trainer_{trainer}"
    (place / "checkpoints").mkdir(parents=True)
    torch.save(ae.state_dict(), place / "ae.pt")
    ae.threshold.fill_(0.5)
    torch.save(ae.state_dict(), place / "checkpoints" / "ae_10.pt")
    config = {
        "trainer": {
            "dict_class": cls.__name__,
            "activation_dim": D,
            "dict_size": 64,
            "k": 4,
            "layer": 1,
            "lm_name": str(lm_folder),
        },
        "buffer": {
            "model": str(lm_folder),
            "layer": 1,
            "lm_dtype": "float32",
            "dataset": str(corpus),
            "text_field": "text",
            "eval_share": 0.3,
            "context_length": 32,
            "ctx_len": 32,
            "max_norm_ratio": 10.0,
        }
        | buffer,
    }
    (place / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


@pytest.fixture
def runs(tmp_path, tiny_lm_folder, tiny_corpus):
    make_run(tmp_path / "runs" / "one", tiny_lm_folder, tiny_corpus)
    make_run(tmp_path / "runs" / "two", tiny_lm_folder, tiny_corpus, cls=BatchTopKSAE)
    return tmp_path / "runs"


def evaluated(folder, name="eval_results.json"):
    return json.loads((folder / name).read_text(encoding="utf-8"))


def refused(capsys, *words):
    """The one sentence that the command line answers with, and nothing else."""
    with pytest.raises(SystemExit) as stopped:
        cli.run(lambda: main([*map(str, words)]))
    assert stopped.value.code == 2
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(told) == 1
    return told[0]


@pytest.fixture(scope="module")
def from_elsewhere(tmp_path_factory, tiny_lm_folder, tiny_corpus):
    """The script's process, run from another directory, and the trainer folder that it evaluated."""
    place, elsewhere = tmp_path_factory.mktemp("place"), tmp_path_factory.mktemp("elsewhere")
    run = make_run(place / "runs" / "one", tiny_lm_folder, tiny_corpus)
    words = [SCRIPT, "--run_name", "one", "--checkpoints_path", run.parent, "--device", "cpu"]
    done = warm.run(words, cwd=elsewhere)
    assert not list(elsewhere.iterdir())
    return done, run / "trainer_0"


def test_a_run_is_evaluated_from_another_directory(from_elsewhere):
    done, folder = from_elsewhere
    assert done.returncode == 0, done.stderr
    for label in ("FVE, global", "Lipschitz", "loss recovered", "high", "low"):
        assert label in done.stdout
    results = evaluated(folder)
    measures = results["measures"]
    assert set(measures) == {"all", "high", "low"}
    assert set(measures["all"]) | set(measures["high"]) == set(FORMULAS)
    assert measures["all"]["alive"]["tokens"] == results["tokens"] > 500
    assert results["dict_class"] == "TemporalMatryoshkaBatchTopKSAE"
    assert results["setting"]["part"] == "eval"
    assert results["options"]["run_name"] == "one"
    assert results["provenance"]["versions"]["torch"]
    assert (folder / "eval.png").read_bytes().startswith(PNG)


def test_evaluation_documents_were_not_trained_on(from_elsewhere, tiny_corpus):
    held_out = {d.id for d in DocumentStream.open(str(tiny_corpus), part="eval", eval_share=0.3)}
    trained = {d.id for d in DocumentStream.open(str(tiny_corpus), part="train", eval_share=0.3)}
    assert not trained & held_out
    assert evaluated(from_elsewhere[1])["texts"]["n_documents"] == len(held_out) > 0


def test_another_evaluation_gives_the_same_numbers(from_elsewhere, tmp_path):
    folder = from_elsewhere[1]
    main(["--run_name", str(folder), "--device", "cpu", "--output_dir", str(tmp_path)])
    again = next(tmp_path.glob("*_eval_results.json"))
    assert evaluated(tmp_path, again.name)["measures"] == evaluated(folder)["measures"]


def test_a_run_is_a_name_or_the_path_of_a_folder(runs, monkeypatch, tiny_lm_folder, tiny_corpus):
    make_run(runs / "one", tiny_lm_folder, tiny_corpus, trainer=1)
    monkeypatch.chdir(runs.parent)

    def found(name, **options):
        options = {"checkpoints_path": "runs", **options}
        return find_run(name, **options).dictionary.resolve()

    first, second = (runs / "one" / f"trainer_{i}" for i in (0, 1))
    assert found("one") == found("runs/one") == found(str(first)) == found("one/trainer_0") == first
    assert found("one", trainer=1) == found(str(second)) == second
    assert found("one", checkpoints_path=str(runs)) == first


@pytest.mark.usefixtures("drawn")
def test_runs_are_compared_in_one_table_and_one_figure(runs, capsys):
    words = ["--compare", "one", "two", "--checkpoints_path", str(runs), "--n_contexts", "7"]
    main([*words, "--device", "cpu"])
    table = capsys.readouterr().out
    assert "one" in table.splitlines()[0]
    assert "two" in table.splitlines()[0]
    high = next(line for line in table.splitlines() if line.split()[:1] == ["high"])
    assert high.split()[-1] == "-"  # BatchTopK has no splits
    both = evaluated(runs, "compare_one_two.json")
    assert [result["contexts"] for result in both.values()] == [7, 7]
    assert both["one"]["measures"]["all"]["loss_clean"] == both["two"]["measures"]["all"]["loss_clean"]
    assert (runs / "compare_one_two.png").read_bytes().startswith(PNG)
    assert evaluated(runs / "two" / "trainer_0")["run"] == "two"


def test_an_intermediate_checkpoint_gets_files_of_its_own(runs, from_elsewhere):
    words = ["--run_name", "one", "--checkpoints_path", str(runs), "--no_lm_loss", "--device", "cpu"]
    main([*words, "--checkpoint", "checkpoints/ae_10.pt"])
    place = runs / "one" / "trainer_0"
    made = sorted(path.name for path in place.iterdir() if path.name.startswith("eval"))
    assert made == ["eval_ae_10.png", "eval_results_ae_10.json"]
    early, final = evaluated(place, "eval_results_ae_10.json"), evaluated(from_elsewhere[1])
    assert early["l0"] > final["l0"]  # its threshold is lower
    assert early["weights_sha256"] != final["weights_sha256"]
    assert "frac_recovered" not in early


def test_what_is_asked_for_is_in_the_name_of_the_results_so_that_none_is_overwritten(tmp_path):
    def name(**options):
        return result_path("a/b", Path("t"), EvalOptions(run_name="a/b", **options)).as_posix()

    assert name() == "t/eval_results.json"
    assert name(max_tokens=9, lm_loss=False, batch_size=2, device="cpu") == "t/eval_results.json"
    assert name(dataset="demo", output_dir="o") == "o/a-b_eval_results_demo.json"
    assert name(trainer=1, output_dir="o") == "o/a-b_trainer1_eval_results.json"
    assert name(part="all", layer=0, context_length=64) == (
        "t/eval_results_layer-0_part-all_context_length-64.json"
    )
    for folder in ("one", "other"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "val.jsonl").write_text("{}")
    one, other = (name(dataset=str(tmp_path / folder / "val.jsonl")) for folder in ("one", "other"))
    assert one.startswith("t/eval_results_val-")
    assert one != other


def test_flags_stand_over_the_run_and_another_data_set_forgets_the_fields_of_the_runs_own():
    config = {
        "trainer": {"lm_name": "m", "layer": 3},
        "buffer": {"dataset": "d", "text_field": "body", "split": "test", "ctx_len": 99, "eval_share": 0.2},
    }
    own = resolve(EvalOptions(run_name="r"), config, Path("r"))
    assert (own.model, own.layer, own.dataset, own.text_field, own.split) == ("m", 3, "d", "body", "test")
    assert (own.context_length, own.eval_share, own.part, own.lm_dtype) == (99, 0.2, "eval", "float32")
    other = resolve(EvalOptions(run_name="r", dataset="e", layer=1, context_length=5), config, Path("r"))
    assert (other.layer, other.dataset, other.text_field, other.split) == (1, "e", "text", "train")
    assert other.context_length == 5


def test_a_dtype_that_is_left_to_the_machine_is_the_runs_own_where_a_cache_holds_the_activations(monkeypatch):
    monkeypatch.setattr(devices, "times_as_long", lambda dtype, kind: 4.0)
    config = {"trainer": {"lm_name": "m", "layer": 3}, "buffer": {"dataset": "d", "ctx_len": 9}}
    config["buffer"]["lm_dtype"] = "bfloat16"

    def dtype(**options):
        return resolve(EvalOptions(run_name="r", **options), config, Path("r")).lm_dtype

    assert dtype() == dtype(activations="cache") == dtype(activations="cache", lm_dtype="auto") == "bfloat16"
    assert dtype(lm_dtype="auto") == dtype(activations="cache", lm_dtype="float32") == "float32"
    with pytest.raises(UserError, match="--lm_device cuda:99 does not exist"):
        dtype(lm_dtype="auto", lm_device="cuda:99")


def test_a_run_of_another_program_needs_its_texts_named(capsys, runs):
    place = runs / "one" / "trainer_0" / "config.json"
    config = json.loads(place.read_text())
    del config["buffer"]
    place.write_text(json.dumps(config))
    assert "--dataset" in refused(capsys, "--run_name", "one", "--checkpoints_path", runs)


def test_wrong_runs_are_refused_in_one_sentence(runs, capsys, tmp_path):
    assert "one, two" in refused(capsys, "--run_name", "thre", "--checkpoints_path", runs)
    (runs / "empty").mkdir()
    assert "no trained dictionary" in refused(capsys, "--run_name", "empty", "--checkpoints_path", runs)
    assert "trainer_4" in refused(capsys, "--run_name", "one", "--checkpoints_path", runs, "--trainer", 4)
    assert "ae_10.pt" in refused(
        capsys, "--run_name", "one", "--checkpoints_path", runs, "--checkpoint", "checkpoints/ae_99.pt"
    )
    assert "--compare" in refused(capsys, "--checkpoints_path", runs)
    assert "twice" in refused(capsys, "--compare", "one", "one", "--checkpoints_path", runs)
    assert "--max_tokens is 0" in refused(capsys, "--run_name", "one", "--max_tokens", 0)
    assert not list(runs.rglob("eval*"))


def test_a_damaged_checkpoint_is_refused(runs, capsys):
    weights = runs / "one" / "trainer_0" / "ae.pt"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert "damaged" in refused(capsys, "--run_name", "one", "--checkpoints_path", runs)


def test_a_dictionary_of_another_width_than_the_model_is_refused(
    runs, capsys, tiny_lm_folder, tiny_corpus, monkeypatch
):
    forbid_language_model(monkeypatch)
    make_run(runs / "wide", tiny_lm_folder, tiny_corpus, D=48)
    told = refused(capsys, "--run_name", "wide", "--checkpoints_path", runs, "--device", "cpu")
    assert "48" in told
    assert "32" in told
    assert not list(runs.rglob("eval*"))


def test_a_layer_that_the_model_lacks_is_refused(runs, capsys):
    told = refused(capsys, "--run_name", "one", "--checkpoints_path", runs, "--layer", 9, "--device", "cpu")
    assert "no layer 9" in told


def test_no_documents_left_are_refused(runs, capsys, tiny_lm_folder, tiny_corpus, tmp_path):
    make_run(runs / "all", tiny_lm_folder, tiny_corpus, eval_share=0.0)
    assert "none are left" in refused(capsys, "--run_name", "all", "--checkpoints_path", runs)
    make_run(runs / "few", tiny_lm_folder, tiny_corpus, eval_share=1e-9)
    assert "no document left" in refused(capsys, "--run_name", "few", "--checkpoints_path", runs)
    missing = refused(capsys, "--run_name", "one", "--checkpoints_path", runs, "--text_field", "body")
    assert "body" in missing


def test_a_dictionary_of_what_a_layer_is_given_is_evaluated_on_the_output_of_the_layer_before(
    tmp_path, tiny_lm_folder, tiny_corpus
):
    texts = [document.text for document in DocumentStream.open(str(tiny_corpus), part="all")]
    lm = LanguageModel.load(str(tiny_lm_folder), device="cpu")

    def buffer(n_tokens):
        small = {"n_ctxs": 2000, "ctx_len": 16, "remove_bos": True, "log": lambda line: None}
        return ActivationBuffer(iter(texts), lm, lm.layers[2], io="in", out_batch_size=n_tokens, **small)

    config = {
        "trainer": BatchTopKTrainer,
        **{"activation_dim": 32, "dict_size": 64, "k": 8, "steps": 60, "warmup_steps": 1, "device": "cpu"},
        **{"layer": 2, "lm_name": str(tiny_lm_folder), "lr": 1e-3, "seed": 0},
    }
    trainSAE(buffer(64), [config], 60, save_dir=tmp_path / "run", device="cpu")
    words = ["--run_name", str(tmp_path / "run"), "--dataset", str(tiny_corpus), "--part", "all"]
    main([*words, "--device", "cpu", "--no_lm_loss"])
    (path,) = (tmp_path / "run" / "trainer_0").glob("eval_results_part-all_tiny-*.json")
    found = json.loads(path.read_text())
    assert found["setting"]["layer"] == 1
    dictionary, _ = load_dictionary(tmp_path / "run", "cpu")
    x_BD = torch.cat(list(buffer(1)))
    with torch.no_grad():
        error = (x_BD - dictionary(x_BD)).square().sum()
    fve = float(1 - error / (x_BD - x_BD.mean(0)).square().sum())
    assert len(x_BD) == found["tokens"]
    assert found["measures"]["all"]["fve_global"]["value"] == pytest.approx(fve, abs=1e-4)
    main([*words, "--layer", "2", "--device", "cpu", "--no_lm_loss"])  # a layer that is asked for stands
    (path,) = (tmp_path / "run" / "trainer_0").glob("eval_results_layer-2_part-all_tiny-*.json")
    there = json.loads(path.read_text())
    assert there["setting"]["layer"] == 2
    assert there["measures"]["all"]["fve_global"]["value"] < fve - 0.01


@pytest.mark.parametrize("layer", [[], ["--layer", 2]])
@pytest.mark.parametrize("name", ["mlp_in_layer_1", "attn_z_layer_1"])
def test_a_dictionary_of_a_part_of_a_layer_is_refused_by_its_name(runs, capsys, name, layer):
    place = runs / "one" / "trainer_0" / "config.json"
    config = json.loads(place.read_text())
    config["trainer"]["submodule_name"] = name
    place.write_text(json.dumps(config))
    told = refused(capsys, "--run_name", "one", "--checkpoints_path", runs, "--device", "cpu", *layer)
    assert name in told
    assert "choose a dictionary" in told


def test_the_table_shows_a_dash_where_nothing_was_measured():
    measures = {"all": {"l0": {"value": 12345.6}, "cosine": {"value": None}}}
    table = report.table({"r": {"measures": measures, "tokens": 5, "contexts": 1}})
    rows = {line[:32].strip(): line[32:].strip() for line in table.splitlines()}
    assert rows["L0"] == "12,346"
    assert rows["cosine"] == "-"
    assert rows["text tokens"] == "5"
    assert "loss, clean" not in rows


def test_a_log_file_gets_lines_on_tokens_and_on_the_cross_entropy(runs, capsys, monkeypatch):
    monkeypatch.setattr("dictionary_learning.command.progress.SECONDS_BETWEEN_LINES", 0)
    words = ["--checkpoints_path", str(runs), "--run_name", "one", "--device", "cpu", "--batch_size", "4"]
    main([*words, "--max_tokens", "400", "--loss_tokens", "150"])
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("evaluating: ")]
    assert any("tokens/s" in line and "min left" in line for line in lines)
    assert any("cross-entropy 150 of 150" in line for line in lines)


def test_no_loss_tokens_leave_the_cross_entropy_out(runs, capsys):
    words = ["--checkpoints_path", str(runs), "--run_name", "one", "--device", "cpu", "--max_tokens", "100"]
    main([*words, "--loss_tokens", "0"])
    assert "loss, clean" not in capsys.readouterr().out
    assert "loss_clean" not in evaluated(runs / "one" / "trainer_0")["measures"]["all"]
    assert "--loss_tokens is -1" in refused(capsys, *words, "--loss_tokens", "-1")
