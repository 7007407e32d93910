"""Persistence and stability from the command, on runs of several seeds of the tiny model."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import warm
from toy_runs import EXPERIMENTS, load_script, make_run

from dictionary_learning.command import figures
from dictionary_learning.errors import UserError
from temporal_saes.persistence.figure import _draw_stability
from temporal_saes.persistence.options import PersistenceOptions
from temporal_saes.persistence.study import stability

pytestmark = pytest.mark.usefixtures("own_cache")

SCRIPT = EXPERIMENTS / "persistence.py"
persistence = load_script("persistence")


@pytest.fixture
def runs(tmp_path, tiny_lm_folder) -> Path:
    """A run of two seeds, and one of a single one."""
    for seed in (0, 1):
        made = make_run(tmp_path / f"made{seed}", tiny_lm_folder, seed=seed)
        trainer = made if made.name.startswith("trainer_") else made / "trainer_0"
        shutil.copytree(trainer, tmp_path / "runs" / "grouped" / f"trainer_{seed}")
    make_run(tmp_path / "runs" / "attention", tiny_lm_folder, kind="attention")
    return tmp_path / "runs"


def flags(runs: Path, corpus: Path, *more: str) -> list[str]:
    return [
        *["--checkpoints_path", str(runs), "--dataset", str(corpus), "--device", "cpu", "--n_texts", "12"],
        *["--min_on", "3", "--lags", "1", "4", *more],
    ]


def test_the_script_reads_all_seeds_of_a_run(runs, tiny_corpus, tmp_path):
    words = flags(runs, tiny_corpus, "--run_name", "grouped")
    done = warm.run([str(SCRIPT), *words], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (path,) = (runs / "grouped" / "persistence").glob("*.json")
    assert path.with_suffix(".png").is_file()
    assert path.with_suffix(".pdf").is_file()
    result = json.loads(path.read_text())
    assert len(result["of_seeds"]) == len(result["weights_of_seeds"]) == 2
    assert result["weights_of_seeds"][0] != result["weights_of_seeds"][1]
    for k in range(2):
        of_seeds = [one["persistence"][k] for one in result["of_seeds"]]
        assert result["persistence"][k]["mean"] == pytest.approx(np.mean(of_seeds))
        assert all(-1 <= value <= 1 for value in of_seeds)
    # two random dictionaries are no more alike than random directions are
    stable = result["stability"]
    assert stable["matched"]["mean"] == pytest.approx(stable["chance_matched"]["mean"], abs=0.1)
    assert stable["best"]["mean"] >= stable["matched"]["mean"]
    # two seeds are one pair, of which nothing tells how it would be with others
    assert [stable[name]["high"] for name in stable] == [None] * 4
    assert "one pair, and so no intervals" in done.stdout
    assert "2 seeds" in done.stdout


def test_compare_tells_how_much_chunks_differ_and_one_seed_has_no_stability(runs, tiny_corpus):
    persistence.main(flags(runs, tiny_corpus, "--compare", "grouped:0", "grouped:1", "attention:1"))
    (path,) = (runs / "comparisons" / "persistence").glob("*.json")
    differ = json.loads(path.read_text())["minus_first"]
    one, other = (
        json.loads(next((runs / "grouped" / "persistence").glob(f"*chunk{chunk}.json")).read_text())
        for chunk in (0, 1)
    )
    expected = np.mean(
        [
            b["persistence"][0] - a["persistence"][0]
            for a, b in zip(one["of_seeds"], other["of_seeds"], strict=True)
        ]
    )
    assert differ["grouped:1"]["persistence"][0]["mean"] == pytest.approx(expected)
    assert differ["attention:1"] == {}  # of another number of seeds
    (alone,) = (runs / "attention" / "persistence").glob("*.json")
    assert json.loads(alone.read_text())["stability"] is None
    assert list((runs / "comparisons" / "persistence").glob("*.png"))


def test_a_result_of_other_seeds_is_not_taken_again(runs, tiny_corpus, capsys):
    words = flags(runs, tiny_corpus, "--compare", "grouped:0", "grouped:1")
    persistence.main(words)
    capsys.readouterr()
    persistence.main(words)
    assert capsys.readouterr().err.count("taken from") == 2
    shutil.rmtree(runs / "grouped" / "trainer_1")
    persistence.main(words)
    assert "taken from" not in capsys.readouterr().err


def test_the_same_directions_in_another_order_are_found_again():
    generator = np.random.default_rng(0)
    own_FD = generator.normal(size=(30, 12))
    found = stability([own_FD, own_FD[::-1]], [np.ones(30, bool)] * 2, PersistenceOptions())
    assert found is not None
    assert found["matched"]["mean"] == pytest.approx(1)
    assert found["same_share"]["mean"] == 1
    assert found["chance_matched"]["mean"] < 0.7
    assert stability([own_FD], [np.ones(30, bool)], PersistenceOptions()) is None


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ["--run_name", "baseline_model", "--model", "demo", "--layer", "2"],
            "dense activations are never off",
        ),
        (["--run_name", "grouped", "--lags", "0"], "--lags 0 are no distances"),
        (["--run_name", "grouped", "--lags", "90"], "--lags 90 does not fit into texts of 48 tokens"),
        (["--run_name", "grouped", "--same", "2"], "--same 2.0 is no cosine"),
        (["--run_name", "grouped", "--min_on", "100000"], "no latent of grouped:0 is on at 100000"),
    ],
)
def test_what_cannot_work_is_told_in_a_sentence(runs, tiny_corpus, words, told):
    with pytest.raises(UserError, match=told):
        persistence.main(flags(runs, tiny_corpus)[:8] + words)


def test_a_run_of_one_seed_has_its_place_in_the_figure_beside_others():
    found = {key: {"mean": 0.4, "high": 0.5} for key in ("matched", "chance_matched")}
    results = [
        {"name": name, "stability": stable, "subject": {"dict_class": "BatchTopKSAE"}}
        for name, stable in (("alone", None), ("several", found), ("also_alone", None))
    ]
    with figures.style():
        _, axis = figures.subplots()
        _draw_stability(axis, results)
    assert axis.get_xlim() == (-0.5, 2.5)
    assert [text.get_position()[0] for text in axis.texts if "one" in text.get_text()] == [0, 2]


def test_texts_are_asked_for_in_one_way(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        persistence.main(["--run_name", "anyone", "--max_texts", "20"])
    assert "--max_texts" in capsys.readouterr().err
