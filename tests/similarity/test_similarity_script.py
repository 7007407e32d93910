import json
from pathlib import Path

import numpy as np
import pytest
import warm
from caches import forbid_language_model
from toy_runs import EXPERIMENTS, JUDGES, LAYER, load_script, make_run, make_runs, passage_files

from dictionary_learning.command import figures
from dictionary_learning.errors import UserError
from temporal_saes.similarity.figure import _draw_scores
from temporal_saes.similarity.options import DETECTORS, SimilarityOptions

pytestmark = pytest.mark.usefixtures("own_cache")

SCRIPT = EXPERIMENTS / "similarity.py"
similarity = load_script("similarity")


@pytest.fixture
def runs(tmp_path, tiny_lm_folder) -> Path:
    make_runs(tmp_path / "runs", tiny_lm_folder)
    make_run(tmp_path / "runs" / "wide", tiny_lm_folder, width=40)
    return tmp_path / "runs"


def flags(runs: Path, corpus: Path, *more: str) -> list[str]:
    return [
        *["--checkpoints_path", str(runs), "--dataset", str(corpus), "--label_field", "domain"],
        *["--device", "cpu", "--context_length", "96", "--n_texts", "4", "--half_width", "6", *more],
    ]


COMETS = "The distant comet circles the galaxy. A comet near the orbit often eclipses it."


def only_result(runs: Path) -> dict:
    (path,) = runs.glob("*/similarity/*.json")
    return json.loads(path.read_text())


def test_the_script_runs_from_another_folder(runs, tiny_corpus, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    words = flags(runs, tiny_corpus, "--run_name", "grouped")
    done = warm.run([str(SCRIPT), *words], cwd=elsewhere)
    assert done.returncode == 0, done.stderr
    (path,) = (runs / "grouped" / "similarity").glob("*.json")
    assert path.with_suffix(".png").is_file()
    assert path.with_suffix(".pdf").is_file()
    result = json.loads(path.read_text())
    assert result["options"]["n_texts"] == result["n_texts"] == 4
    assert (result["subject"]["layer"], result["subject"]["split"]) == (LAYER, "high")
    assert len(result["shown"]["true"]) == 2
    for numbers in result["detectors"].values():
        given = numbers["given_number"]
        assert len(given["f1_of_texts"]) == 4
        assert 0 <= given["f1"]["mean"] <= 1
        assert given["true_a_text"] == 2
        assert 0 < given["chance_f1"] < given["chance_f1_sentence_starts"] < 1
    assert "novelty, given number" in done.stdout
    assert list(elsewhere.iterdir()) == []


def test_compare_reads_the_same_texts_through_every_subject(runs, tiny_corpus, capsys):
    names = ["grouped:0", "grouped:1", "attention:0", "attention:1", "plain", "baseline_model"]
    similarity.main(flags(runs, tiny_corpus, "--compare", *names, "--detector", "segments"))
    results = {}
    for path in set(runs.glob("*/similarity/*.json")) - set(runs.glob("comparisons/similarity/*.json")):
        result = json.loads(path.read_text())
        results[result["name"]] = result
    assert sorted(result["subject"]["split"] for result in results.values()) == [
        *["all", "all", "high", "low", "novel", "predicted"]
    ]
    assert len({result["texts_sha256"] for result in results.values()}) == 1
    assert len({json.dumps(result["shown"]["true"]) for result in results.values()}) == 1
    (path,) = (runs / "comparisons" / "similarity").glob("*.json")
    assert path.with_suffix(".pdf").is_file()
    differences = json.loads(path.read_text())
    assert differences["first"] == "grouped:0"
    assert list(differences["f1_minus_first"]) == [*names[1:4], "plain:0", "baseline_model"]
    own = results["baseline_model"]["detectors"]["novelty"]["own_number"]["f1"]["mean"]
    first = results["grouped:0"]["detectors"]["novelty"]["own_number"]["f1"]["mean"]
    paired = differences["f1_minus_first"]["baseline_model"]["novelty"]["own_number"]
    assert paired["mean"] == pytest.approx(own - first)
    assert "F1 minus that of grouped:0" in capsys.readouterr().out


def test_activations_of_the_tiny_model_know_the_boundaries_of_its_domains(runs, tiny_corpus):
    # no word is in two domains, and the model's activations hold the word
    more = ["--compare", "baseline_model", "grouped", "--n_texts", "6", "--half_width", "10"]
    similarity.main(flags(runs, tiny_corpus, *more))
    (path,) = (runs / "baseline_model" / "similarity").glob("*.json")
    scores = json.loads(path.read_text())["detectors"]["novelty"]["given_number"]
    assert scores["f1"]["mean"] > scores["chance_f1_sentence_starts"]


def test_given_files_are_joined_in_their_order(runs, tiny_corpus, tmp_path):
    files = passage_files(tmp_path, COMETS, JUDGES)
    similarity.main(flags(runs, tiny_corpus, "--run_name", "plain", "--passages", *files))
    result = only_result(runs)
    assert result["shown"]["text"] == f"{COMETS} {JUDGES}"
    assert result["shown"]["passages"] == ["passage0", "passage1"]
    assert result["detectors"]["novelty"]["own_number"]["f1"]["low"] is None
    assert result["detectors"]["novelty"]["own_number"]["true_a_text"] == 1


def test_bars_of_equal_scores_have_no_interval_of_no_width() -> None:
    def score(high: float | None) -> dict:
        chance = {"chance_f1": None, "chance_f1_sentence_starts": None}
        return {"f1": {"mean": 0.5, "low": high and 1 - high, "high": high}, **chance}

    of_detector = {"own_number": score(0.75), "given_number": score(None)}
    result = {
        "name": "plain:2",
        "subject": {"dict_class": "BatchTopKSAE", "split": "all", "trainer_folder": None},
        "detectors": dict.fromkeys(DETECTORS, of_detector),
        "n_texts": 2,
    }
    with figures.style():
        _, axis = figures.subplots()
        _draw_scores(axis, [result], SimilarityOptions(run_name="plain"))
    (bars,) = (container for container in axis.containers if hasattr(container, "patches"))
    caps = np.array([cap.get_ydata() for cap in bars.errorbar.lines[1]], float)
    assert caps[:, ::2].tolist() == [[0.25] * 2, [0.75] * 2]
    assert np.isnan(caps[:, 1::2]).all()


def test_one_file_has_a_kernel_and_no_score(runs, tiny_corpus, tmp_path, capsys):
    files = passage_files(tmp_path, f"{COMETS} {JUDGES}")
    more = ["--compare", "plain", "baseline_model", "--passages", *files]
    similarity.main(flags(runs, tiny_corpus, *more))
    (path,) = (runs / "plain" / "similarity").glob("*.json")
    result = json.loads(path.read_text())
    assert result["detectors"] == {}
    assert result["shown"]["true"] == []
    assert list((runs / "comparisons" / "similarity").glob("*.png"))
    found = result["shown"]["found"]["novelty"]
    assert len(result["shown"]["words_at_found"]["novelty"]) == len(found) > 0
    printed = capsys.readouterr().out
    assert f"token {found[0]}: " in printed
    assert "F1" not in printed


def test_results_for_other_files_do_not_overwrite_each_other(runs, tiny_corpus, tmp_path):
    run = ["--run_name", "plain"]
    similarity.main(flags(runs, tiny_corpus, *run))
    similarity.main(flags(runs, tiny_corpus, *run, "--passages", *passage_files(tmp_path, COMETS, JUDGES)))
    similarity.main(flags(runs, tiny_corpus, *run, "--passages", *passage_files(tmp_path, JUDGES, COMETS)))
    assert len(list(runs.glob("plain/similarity/*.json"))) == 3


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ([], "--run_name is missing"),
        (["--run_name", "nobody"], "no run 'nobody'"),
        (["--run_name", "plain", "--chunk", "1"], "chunk 1 needs groups"),
        (["--run_name", "plain", "--n_texts", "0"], "--n_texts 0"),
        (["--run_name", "plain", "--show", "4"], "--show 4 does not exist: there are the texts 0 to 3"),
        (["--run_name", "plain", "--cut", "2"], "--cut 2.0 is no cosine"),
        (["--run_name", "plain", "--half_width", "1"], "--half_width 1"),
        (["--run_name", "plain", "--half_width", "16"], "shortest passage, 15 tokens"),
        (["--run_name", "plain", "--n_passages", "1"], "no boundary"),
        (["--run_name", "plain", "--n_passages", "9"], "shorter than 8 tokens"),
        (["--run_name", "plain", "--passages", "nowhere.txt"], "nowhere.txt cannot be read"),
        (["--run_name", "plain", "--tolerance", "-1"], "--tolerance -1"),
    ],
)
def test_mistakes_are_told_before_the_language_model_is_loaded(
    runs, tiny_corpus, monkeypatch, more, sentence
):
    forbid_language_model(monkeypatch)
    with pytest.raises(UserError, match=sentence):
        similarity.main(flags(runs, tiny_corpus, *more))
    assert not list(runs.glob("*/similarity"))


def test_what_only_the_language_model_shows_is_told_too(runs, tiny_corpus, tmp_path):
    with pytest.raises(UserError, match="width 40"):
        similarity.main(flags(runs, tiny_corpus, "--run_name", "wide"))
    with pytest.raises(UserError, match="4000 were asked for"):
        similarity.main(flags(runs, tiny_corpus, "--run_name", "plain", "--n_texts", "4000"))
    with pytest.raises(UserError, match="the data have 3"):
        similarity.main(flags(runs, tiny_corpus, "--run_name", "plain", "--n_passages", "4"))
    files = passage_files(tmp_path, COMETS * 5, JUDGES)
    with pytest.raises(UserError, match="more than 96 tokens together"):
        similarity.main(flags(runs, tiny_corpus, "--run_name", "plain", "--passages", *files))
    files = passage_files(tmp_path, "A moon.", "A judge.")
    with pytest.raises(UserError, match="--half_width 6 needs 12"):
        similarity.main(flags(runs, tiny_corpus, "--run_name", "plain", "--passages", *files))


def test_runs_of_two_language_models_are_not_compared(runs, tiny_corpus, tmp_path):
    make_run(runs / "other", tmp_path / "another_model", kind="plain")
    with pytest.raises(UserError, match="compare runs of one model"):
        similarity.main(flags(runs, tiny_corpus, "--compare", "plain", "other"))
