import json
from pathlib import Path

import pytest
import torch
import warm
from caches import forbid_language_model
from toy_runs import EXPERIMENTS, load_script, make_runs

from dictionary_learning.errors import UserError
from dictionary_learning.language_model import LanguageModel

pytestmark = pytest.mark.usefixtures("own_cache")

SCRIPT = EXPERIMENTS / "temporal_geometry.py"
geometry = load_script("temporal_geometry")


@pytest.fixture
def runs(tmp_path, tiny_lm_folder) -> Path:
    return make_runs(tmp_path / "runs", tiny_lm_folder)


def flags(runs: Path, corpus: Path, *more: str) -> list[str]:
    return [
        *["--checkpoints_path", str(runs), "--dataset", str(corpus), "--label_field", "domain"],
        *["--device", "cpu", "--n_texts", "8", "--steps", "8", "--max_lag", "6", *more],
    ]


def results_of(runs: Path) -> dict[str, dict]:
    results = [json.loads(path.read_text()) for path in runs.glob("*/temporal_geometry/*.json")]
    return {result["name"]: result for result in results}


def test_the_script_runs_from_another_folder(runs, tiny_corpus, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    words = flags(runs, tiny_corpus, "--run_name", "grouped", "--chunk", "1")
    done = warm.run([str(SCRIPT), *words], cwd=elsewhere)
    assert done.returncode == 0, done.stderr
    (path,) = (runs / "grouped" / "temporal_geometry").glob("*.json")
    assert path.name.endswith("_chunk1.json")
    assert path.with_suffix(".png").is_file()
    assert path.with_suffix(".pdf").is_file()
    result = json.loads(path.read_text())
    assert result["options"]["steps"] == 8
    assert (result["n_texts"], result["subject"]["split"]) == (8, "low")
    assert result["n_positions"] == 48
    measures = result["measures"]
    assert 1 < measures["participation_ratio"]["mean"] < measures["effective_rank"]["mean"] <= 32
    assert result["independent_positions"]["largest_rank"] == 47
    assert result["all_texts"]["effective_rank"] > measures["effective_rank"]["mean"]
    assert result["power_up_to"]["mean"][-1] == pytest.approx(1)
    assert result["autocorrelation"]["mean"][0] == pytest.approx(1)
    assert [one["position"] for one in result["dimension_at_position"]] == [1, 2, 4, 8, 16, 32, 47]
    assert "eff. rank" in done.stdout
    assert list(elsewhere.iterdir()) == []


def test_compare_measures_every_subject_on_the_same_texts(runs, tiny_corpus):
    names = ["grouped:0", "grouped:1", "attention:0", "attention:1", "plain:2", "baseline_model"]
    geometry.main(flags(runs, tiny_corpus, "--compare", *names))
    results = results_of(runs)
    assert set(results) == set(names)
    assert len({result["texts_sha256"] for result in results.values()}) == 1
    (figure,) = (runs / "comparisons" / "temporal_geometry").glob("*.pdf")
    assert "attention-0_attention-1" in figure.name
    dense = results["baseline_model"]["measures"]
    # the slow and the fast motion are all there is, at right angles
    squares = [dense[key]["mean"] ** 2 for key in ("cosine_with_slow", "cosine_with_fast")]
    assert sum(squares) == pytest.approx(1, abs=0.01)
    assert results["baseline_model"]["subject"]["context_length"] == 48


def test_the_parts_of_a_dictionary_sum_to_its_reconstruction(runs, tiny_lm_folder):
    from temporal_saes.experiment.options import ExperimentOptions
    from temporal_saes.experiment.subjects import resolve
    from temporal_saes.experiment.text_codes import text_codes
    from temporal_saes.geometry.trajectories import contribution

    lm = LanguageModel.load(str(tiny_lm_folder), device="cpu")
    text = "The distant comet circles the galaxy. Every orbit attracts a faint moon."
    for name in ("grouped", "attention"):
        parts = []
        for chunk in (0, 1):
            options = ExperimentOptions(
                run_name=name, checkpoints_path=str(runs), chunk=chunk, device="cpu", cache=False
            )
            subject = resolve(options)
            dictionary = subject.load_dictionary("cpu")
            (codes,) = text_codes([text], lm, subject, dictionary, subject.reading(options))
            parts.append(contribution(dictionary, chunk, codes.f_uF))
        with torch.no_grad():
            whole = dictionary(codes.x_uD[None], output_features=False)[0]
            bias = dictionary.decode(torch.zeros(1, dictionary.dict_size))
        torch.testing.assert_close(parts[0] + parts[1] + bias, whole, rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("drawn")
def test_a_chunk_that_says_nothing_has_no_numbers_and_still_a_figure(runs, tiny_corpus):
    file = runs / "plain" / "trainer_0" / "ae.pt"
    weights = torch.load(file, weights_only=True)
    torch.save(weights | {"threshold": torch.tensor(1e6)}, file)
    geometry.main(flags(runs, tiny_corpus, "--run_name", "plain"))
    (result,) = results_of(runs).values()
    for measure in result["measures"].values():
        assert measure == {"mean": None, "low": None, "high": None, "texts_without": 8}
    assert result["all_texts"] == {"effective_rank": None, "participation_ratio": None}
    assert all(one["mean"] is None for one in result["dimension_at_position"])
    assert list((runs / "plain" / "temporal_geometry").glob("*.png"))


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ([], "--run_name is missing"),
        (["--run_name", "nobody"], "no run 'nobody'"),
        (["--run_name", "plain", "--chunk", "1"], "chunk 1 needs groups"),
        (["--run_name", "plain", "--n_texts", "4"], "--n_texts 4 is too small: give at least 5"),
        (["--run_name", "plain", "--slow", "1"], "--slow 1.0"),
        (["--run_name", "plain", "--max_lag", "47"], "do not fit into texts of 48 tokens: give at most 46"),
        (["--run_name", "plain", "--context_length", "9"], "do not fit into texts of 9 tokens"),
    ],
)
def test_mistakes_are_told_before_the_language_model_is_loaded(
    runs, tiny_corpus, monkeypatch, more, sentence
):
    forbid_language_model(monkeypatch)
    with pytest.raises(UserError, match=sentence):
        geometry.main(flags(runs, tiny_corpus, *more))
    assert not list(runs.glob("*/temporal_geometry"))


def test_too_few_long_texts_are_told(runs, tiny_corpus):
    more = ["--run_name", "plain", "--context_length", "400"]
    with pytest.raises(UserError, match="0 of the 60 texts have 400 tokens, and 8 were asked for"):
        geometry.main(flags(runs, tiny_corpus, *more))
