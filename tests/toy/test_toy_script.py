"""The toy corpus from its command: files, figures, and dictionaries that find an easy truth."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import warm
from toy_runs import EXPERIMENTS, load_script

from dictionary_learning.command import figures
from dictionary_learning.command.options import build
from dictionary_learning.errors import UserError
from temporal_saes.experiment.results import save_json
from temporal_saes.toy.command import parser
from temporal_saes.toy.figure import _draw_parts
from temporal_saes.toy.options import ToyOptions
from temporal_saes.toy.result import minus_first
from temporal_saes.toy.study import study

SCRIPT = EXPERIMENTS / "toy_features.py"
toy = load_script("toy_features")
SMALL = [
    *["--texts", "40", "--eval_texts", "12", "--length", "16", "--steps", "12", "--batch_tokens", "64"],
    *["--d_model", "12", "--dict_size", "24", "--subjects", "1", "--kinds", "3", "--words", "3"],
    *["--words_a_token", "1.5", "--stretch", "6", "--device", "cpu"],
]


def test_the_script_writes_scores_of_every_method_and_a_figure(tmp_path: Path) -> None:
    methods = ["tsae", "top_k", "tfa"]
    words = [*SMALL, "--seeds", "0", "1", "--methods", *methods, "--output_dir", str(tmp_path / "out")]
    done = warm.run([str(SCRIPT), *words], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    names = ["toy_features.json", "toy_features.pdf", "toy_features.png"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    result = json.loads((tmp_path / "out" / names[0]).read_text())
    assert list(result["mean"]["methods"]) == methods
    assert [one["seed"] for one in result["of_seeds"]] == [0, 1]
    assert result["of_seeds"][0]["world"]["n"] == {"slow": 8, "fast": 12}
    for method, scores in result["mean"]["methods"].items():
        for score in scores["recovery"].values():
            for sort in ("all", "slow", "fast"):
                assert 0 <= score[sort]["mean"] <= 1
        assert (scores["placement"] is None) == (method == "top_k")
    assert result["minus_first"]["first"] == "tsae"
    of_seeds = [
        one["methods"]["top_k"]["recovery"]["mcc"]["all"] - one["methods"]["tsae"]["recovery"]["mcc"]["all"]
        for one in result["of_seeds"]
    ]
    assert result["minus_first"]["top_k"]["mcc"]["mean"] == pytest.approx(sum(of_seeds) / 2)
    for said in ("T-SAE", "TFA", "random directions", "running mean", "persistence AUC"):
        assert said in done.stdout


def test_what_a_world_has_no_truth_for_is_left_out() -> None:
    def scores(value: float, told: float | None) -> dict[str, Any]:
        row = {"all": value, "slow": value, "fast": None}
        return {"recovery": {"mcc": row, "f1": row}, "told_by_persistence": told}

    results = [
        {"methods": {"top_k": scores(0.1, 0.2), "batch_top_k": scores(0.4, told)}} for told in (0.7, None)
    ]
    found = minus_first(results)["batch_top_k"]
    assert found["mcc"]["mean"] == pytest.approx(0.3)
    assert found["told by persistence"]["mean"] == pytest.approx(0.5)  # of the one world that has it
    assert found["f1 of fast truths"] is None


def test_a_part_without_a_score_and_one_below_chance_have_their_place_in_the_figure() -> None:
    alone = {"slow": {"mean": 0.3, "low": None, "high": None}, "fast": None}
    controls = {name: {"predicted": alone, "novel": alone} for name in ("running_mean", "recall")}
    with figures.style():
        _, axis = figures.subplots()
        _draw_parts(axis, {"top_k": {"parts": {"all": {"slow": None, "fast": None}}}}, controls)
    assert axis.get_xlim()[0] < 0.3
    caps = np.array([cap.get_xdata() for bar in axis.containers for cap in bar.lines[1]], float)
    assert caps.size
    assert np.isnan(caps).all(), "no interval of no width"
    assert len(axis.get_yticks()) == 5


@pytest.mark.usefixtures("drawn")
def test_one_seed_has_no_intervals_and_still_a_figure_and_the_same_scores_again(tmp_path: Path) -> None:
    methods = ["tsae_strength_0", "matryoshka", "batch_top_k"]
    words = [*SMALL, "--seeds", "3", "--methods", *methods, "--output_dir", str(tmp_path)]
    toy.main(words)
    result = json.loads((tmp_path / "toy_features.json").read_text())
    assert list(result["mean"]["methods"]) == methods
    assert result["mean"]["methods"]["batch_top_k"]["fve"]["high"] is None
    assert (tmp_path / "toy_features.png").is_file()
    again = study(build(ToyOptions, vars(parser().parse_args(words))), 3)
    save_json(tmp_path / "again", {"of_seeds": [again]})
    assert json.loads((tmp_path / "again.json").read_text())["of_seeds"] == result["of_seeds"]


def test_in_an_easy_world_truths_are_found_and_the_temporal_term_keeps_fast_ones_out() -> None:
    options = ToyOptions(
        **{"d_model": 32, "subjects": 2, "domains": 1, "topics": 3, "kinds": 4, "words": 3, "zipf": 0.3},
        **{"noise": 0.05, "mean_share": 0.3, "local": 0.0, "words_a_token": 1.5, "length": 32},
        **{"texts": 300, "eval_texts": 60, "dict_size": 40, "steps": 400, "batch_tokens": 256, "lr": 1e-2},
        **{"high_share": 0.3, "methods": ("tsae", "tsae_strength_0"), "device": "cpu"},
    )
    found = study(options, 0)
    tsae, control = (found["methods"][name] for name in options.methods)
    for scores in (tsae, control):
        assert scores["recovery"]["mcc"]["all"] > found["chance_mcc"] + 0.2
        assert scores["recovery"]["auc"]["all"] > 0.75
        assert scores["parts"]["high"]["slow"] > 0.9
    assert tsae["parts"]["high"]["fast"] < control["parts"]["high"]["fast"] - 0.1
    assert tsae["placement"]["balanced_accuracy"] > 0.65
    # the running mean knows topics, and nothing of words that are drawn anew
    running = found["controls"]["running_mean"]["predicted"]
    assert running["slow"] > 0.8
    assert running["fast"] == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--stretch", "0"], "--stretch is 0.0"),
        (["--steps", "0"], "--steps is 0"),
        (["--output_dir", ""], "--output_dir is , and must be a folder|--output_dir is ''"),
        (["--length", "2"], "--length is 2, and must be at least 3"),
    ],
)
def test_a_mistake_is_told_before_anything_is_trained(words: list[str], told: str) -> None:
    with pytest.raises(UserError, match=told):
        toy.main(words)
