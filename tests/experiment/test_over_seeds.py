"""`--trainers`: an experiment on several seeds of each run, and the spread of its numbers."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from toy_runs import load_script, make_run

from dictionary_learning.command.options import build
from dictionary_learning.errors import UserError
from temporal_saes.experiment.over_seeds import spread, table
from temporal_saes.garden_paths.options import GardenPathOptions


def probing_result(name: str, accuracy: float, folder: str | None = "trainer_0") -> dict[str, Any]:
    tasks = {"semantics": {"accuracy": [{"k": 5, "mean": accuracy}]}}
    return {"experiment": "probing", "name": name, "tasks": tasks, "subject": {"trainer_folder": folder}}


def test_means_and_differences_are_over_seeds_and_paired_seed_by_seed() -> None:
    results = [
        [probing_result("a:0", a), probing_result("b:0", b), probing_result("activations", 0.5, None)]
        for a, b in ((0.4, 0.5), (0.6, 0.9))
    ]
    found = spread((0, 3), results)
    one = found["measures"]["semantics, k = 5"]
    # by hand: two values 2 d apart have the interval mean ± t(.975, 1) d = mean ± 12.706 d
    assert one["a:0"]["by_trainer"] == {"0": 0.4, "3": 0.6}
    assert one["a:0"]["mean"]["mean"] == pytest.approx(0.5)
    assert one["a:0"]["mean"]["high"] == pytest.approx(0.5 + 12.7062 * 0.1, abs=1e-4)
    assert one["a:0"]["minus_first"] is None
    assert one["b:0"]["minus_first"]["mean"] == pytest.approx(0.2)
    assert one["b:0"]["minus_first"]["low"] == pytest.approx(0.2 - 12.7062 * 0.1, abs=1e-4)
    # what was not trained has one value and no spread, and stands against each seed
    assert one["activations"]["mean"] == {"mean": 0.5, "low": None, "high": None}
    assert one["activations"]["minus_first"]["mean"] == pytest.approx(0)
    assert one["activations"]["minus_first"]["high"] == pytest.approx(12.7062 * 0.1, abs=1e-4)
    lines = table(found).splitlines()
    assert len(lines) == 1 + 3
    assert lines[0].endswith("minus a:0")
    assert "0.500 ± 1.271" in lines[1]
    assert "+0.200 ± 1.271" in lines[2]


def test_what_has_one_trainer_stands_against_each_seed() -> None:
    control = probing_result("control:0", 0.3)
    results = [[probing_result("a:0", 0.4), control], [probing_result("a:0", 0.6)]]
    one = spread((0, 1), results)["measures"]["semantics, k = 5"]
    assert one["control:0"]["mean"] == {"mean": 0.3, "low": None, "high": None}
    assert one["control:0"]["minus_first"]["mean"] == pytest.approx(-0.2)
    assert one["control:0"]["minus_first"]["high"] == pytest.approx(-0.2 + 12.7062 * 0.1, abs=1e-4)


def test_the_table_says_where_a_seed_has_no_number() -> None:
    interval = {"mean": 0.5, "low": None, "high": None}
    some = {"by_trainer": {"0": 0.5}, "mean": interval, "minus_first": None}
    every = {**some, "by_trainer": {"0": 0.5, "1": 0.5}}
    lines = table({"first": "a", "subjects": ["a"], "measures": {"x": {"a": some}, "y": {"a": every}}})
    of_x, of_y = lines.splitlines()[1:]
    assert of_x.endswith("of 1 of 2 seeds")
    assert "seeds" not in of_y


@pytest.mark.parametrize(
    ("trainers", "said"),
    [
        ((1,), "--trainers 1 shows no spread: give two different ones or more"),
        ((1, 1), "--trainers 1 1 shows no spread"),
        ((0, -1), "--trainers 0 -1: they are counted from 0"),
    ],
)
def test_trainers_that_show_no_spread_are_one_sentence(trainers: tuple[int, ...], said: str) -> None:
    with pytest.raises(UserError, match=said):
        build(GardenPathOptions, {"trainers": trainers})


def test_one_trainer_and_several_exclude_each_other() -> None:
    with pytest.raises(UserError, match="--trainers 0 1 and --trainer 1 exclude each other"):
        build(GardenPathOptions, {"trainers": (0, 1), "trainer": 1})


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, tiny_lm_folder: Path) -> Path:
    folder = tmp_path_factory.mktemp("seeds")
    for seed in (0, 1):
        made = make_run(folder / f"made{seed}", tiny_lm_folder, seed=seed)
        shutil.copytree(made / "trainer_0", folder / "runs" / "grouped" / f"trainer_{seed}")
    shutil.copytree(folder / "runs" / "grouped" / "trainer_1", folder / "runs" / "once" / "trainer_0")
    return folder / "runs"


@pytest.mark.usefixtures("drawn")
def test_an_experiment_is_made_for_each_seed_and_its_numbers_stand_in_one_table(
    runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TEMPORAL_SAES_CACHE", str(tmp_path))
    script = load_script("garden_paths")
    where = ["--checkpoints_path", str(runs), "--device", "cpu"]
    script.main([*where, "--compare", "grouped:0", "once:0", "baseline_model", "--trainers", "0", "1"])
    (path,) = (runs / "comparisons" / "garden_paths").glob("*_seeds-*.json")
    found = json.loads(path.read_text())
    assert found["options"]["trainers"] == [0, 1]
    assert path.with_suffix(".png").is_file()
    own = [runs / "grouped" / "garden_paths" / f"built-in_chunk0{more}.json" for more in ("", "_trainer1")]
    leans = [json.loads(one.read_text())["lean"]["mean"] for one in own]
    told = found["measures"]["garden paths, lean"]["grouped:0"]
    assert list(told["by_trainer"].values()) == leans
    assert told["mean"]["mean"] == pytest.approx(sum(leans) / 2)
    once = found["measures"]["garden paths, lean"]["once:0"]
    assert list(once["by_trainer"].values()) == leans[1:]
    assert once["minus_first"]["mean"] == pytest.approx(leans[1] - told["mean"]["mean"])
    # the numbers of a paper say of which weights and by which versions they are
    single = [json.loads(one.read_text()) for one in own]
    assert found["of"]["grouped:0"]["weights_sha256"] == {
        str(seed): one["weights_sha256"] for seed, one in enumerate(single)
    }
    assert len({*found["of"]["grouped:0"]["weights_sha256"].values()}) == 2
    assert found["of"]["grouped:0"]["subject"]["layer"] == single[0]["subject"]["layer"]
    assert found["of"]["once:0"]["weights_sha256"] == {"0": single[1]["weights_sha256"]}
    assert found["of"]["baseline_model"]["weights_sha256"] == {"0": None, "1": None}
    assert found["provenance"]["versions"] == single[0]["provenance"]["versions"]
    # the figures of the seeds do not overwrite each other
    figures = {one.name for one in path.parent.glob("*.png")}
    assert len(figures) == 3
    assert sum("_trainer1" in name for name in figures) == 1
    said = capsys.readouterr()
    assert "mean over seeds" in said.out
    assert "trainer_1, 2 of 2" in said.err


def test_the_figures_of_all_seeds_are_named_for_what_was_read(
    runs: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TEMPORAL_SAES_CACHE", str(tmp_path))
    script = load_script("garden_paths")
    where = ["--checkpoints_path", str(runs), "--output_dir", str(tmp_path / "out"), "--device", "cpu"]
    for more in ([], ["--context_length", "100"]):
        script.main([*where, "--run_name", "grouped", "--trainers", "0", "1", *more])
    names = [path.name for path in (tmp_path / "out").glob("*_seeds-*.json")]
    assert len(names) == 2
    assert all(name.startswith("garden_paths_built-in_grouped-0_seeds-") for name in names)


def test_a_seed_that_is_not_there_is_told_before_the_first_one_begins(runs: Path) -> None:
    script = load_script("garden_paths")
    results = runs / "grouped" / "garden_paths"
    before = sorted(results.rglob("*")) if results.exists() else []
    with pytest.raises(UserError, match=r"has no trainer_7 with a config.json \(it has trainer_0, trainer_1"):
        script.main(
            ["--checkpoints_path", str(runs), "--compare", "grouped:0", "grouped:1", "--trainers", "0", "7"]
        )
    assert (sorted(results.rglob("*")) if results.exists() else []) == before


def test_a_run_with_one_trainer_alone_is_told(runs: Path) -> None:
    script = load_script("garden_paths")
    with pytest.raises(UserError, match="once:0 was not trained several times: leave --trainers out"):
        script.main(["--checkpoints_path", str(runs), "--run_name", "once", "--trainers", "0", "1"])


def test_a_dictionary_of_no_run_is_no_seed_of_itself(runs: Path, tmp_path: Path) -> None:
    script = load_script("garden_paths")
    alone = shutil.copytree(runs / "grouped" / "trainer_0", tmp_path / "alone")
    for where in (alone, runs / "grouped" / "trainer_0"):
        with pytest.raises(UserError, match="was not trained several times: leave --trainers out"):
            script.main(["--checkpoints_path", str(runs), "--run_name", str(where), "--trainers", "0", "1"])


def test_what_was_not_trained_has_no_seeds() -> None:
    script = load_script("garden_paths")
    place = ["--model", "demo", "--layer", "3"]
    with pytest.raises(UserError, match="baseline_model was not trained several times"):
        script.main(["--run_name", "baseline_model", *place, "--trainers", "0", "1"])
