"""Claims: what an interval says, what is read from results, and the work in pieces that are done once."""

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from commands import called_here
from conftest import corpus_records
from modules import load_module

from dictionary_learning.errors import UserError
from temporal_saes.claims import curves, readings, report
from temporal_saes.claims import pieces as work
from temporal_saes.claims.methods import METHODS, UNTRAINED, method_and_budget, run_name
from temporal_saes.claims.pieces import Piece, Plan, pieces
from temporal_saes.claims.rows import ROWS, Reading, Row
from temporal_saes.claims.verdicts import agreed, paired, paired_texts, verdict
from temporal_saes.experiment.intervals import Interval

ROOT = Path(__file__).parents[2]


def plan(runs: Path, **changes: Any) -> Plan:
    values: dict[str, Any] = {
        "runs": runs,
        "config": "demo",
        "dataset": "demo",
        "methods": ("tsae", "top_k"),
        "budgets": (20_480, 40_960),
        "seeds": 2,
        "k": 20,
        "max_tokens": 1000,
        "eval_tokens": 500,
        "context_length": 128,
        "narrow_latents": 64,
    }
    return Plan(**values | changes)


def evaluation(run: str, seed: int, threshold: str | None = "claims", **high: float) -> dict[str, Any]:
    measures = {name: {"value": value} for name, value in high.items()}
    return {
        "run": run,
        "dict_class": "TemporalMatryoshkaBatchTopKSAE",
        "options": {"trainer": seed, "threshold": threshold},
        "setting": {},
        "measures": {"all": {"cosine": {"value": 0.5}}, "high": measures, "low": {}},
    }


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    "asked", [{"dataset": "other.jsonl"}, {"layer": 3}, {"part": "all"}, {"checkpoint": "ae_10.pt"}]
)
def test_an_evaluation_of_something_else_is_not_the_runs(tmp_path: Path, asked: dict[str, Any]) -> None:
    own, other = evaluation("tsae-20480", 0, nmse=0.1), evaluation("tsae-20480", 0, nmse=0.9)
    own["options"] |= {"part": "eval", "dataset": None, "max_tokens": 9}
    other["options"] |= asked
    write(tmp_path / "a.json", own)
    write(tmp_path / "b.json", other)
    assert readings.read(tmp_path)["tsae", 20480, 0, "NMSE"] == {0: 0.1}


def test_differences_are_paired_by_seed_and_have_a_t_interval() -> None:
    found = paired({0: 1.0, 1: 2.0, 2: 3.0}, {0: 0.5, 1: 1.0, 2: 1.5, 3: 9.0})
    assert found.seeds == [0, 1, 2]
    assert found.differences == [0.5, 1.0, 1.5]
    assert found.interval is not None
    # 1 ± t(.975, 2) * .5 / sqrt(3), with t = 4.3027
    assert found.interval.mean == 1.0
    assert found.interval.low == pytest.approx(1 - 4.3027 * 0.5 / 3**0.5, abs=1e-4)


def test_what_has_no_seed_stands_against_every_seed() -> None:
    assert paired({0: 1.0, 1: 2.0}, {-1: 0.5}).differences == [0.5, 1.5]
    assert paired({0: 1.0}, {1: 2.0}).interval is None


@pytest.mark.parametrize(
    ("low", "high", "better", "margin", "said"),
    [
        (0.1, 0.3, "higher", 0.0, "holds"),
        (-0.3, -0.1, "higher", 0.0, "does not"),
        (-0.1, 0.3, "higher", 0.0, "cannot be told"),
        (-0.3, -0.1, "lower", 0.0, "holds"),
        (0.1, 0.3, "lower", 0.0, "does not"),
        (-0.01, 0.3, "higher", 0.02, "holds"),
        (-0.05, -0.03, "higher", 0.02, "does not"),
        (-0.05, -0.01, "higher", 0.02, "cannot be told"),
    ],
)
def test_a_verdict_asks_the_whole_interval(
    low: float, high: float, better: Any, margin: float, said: str
) -> None:
    assert verdict(Interval((low + high) / 2, low, high), better, margin) == said


def test_differences_of_texts_are_means_over_seeds_and_leave_out_what_has_no_number() -> None:
    ours = {0: [1.0, 2.0, None, 4.0], 1: [3.0, 2.0, 1.0, None]}
    theirs = {0: [0.0, 1.0, 1.0, 1.0], 1: [1.0, 2.0, 1.0, None]}
    # text by text: (1 + 2) / 2, (1 + 0) / 2, 0 of the second seed alone, 3 of the first alone
    found = paired_texts(ours, theirs)
    assert found is not None
    assert found.mean == pytest.approx((1.5 + 0.5 + 0 + 3) / 4)
    constant = paired_texts({0: [1.0, 2.0], 1: [3.0, 4.0]}, {-1: [1.0, 1.0]})
    assert constant is not None
    assert constant.mean == pytest.approx(1.5)
    assert paired_texts({0: [1.0, 2.0]}, {0: [1.0]}) is None  # other texts
    assert paired_texts({0: [1.0]}, {}) is None


def test_a_verdict_over_seeds_that_other_texts_might_not_give_cannot_be_told() -> None:
    assert agreed("holds", None) == "holds"
    assert agreed("holds", "holds") == "holds"
    assert agreed("holds", "cannot be told") == "cannot be told"


def test_one_seed_tells_nothing() -> None:
    assert verdict(Interval(5.0, None, None), "higher", 0.0) == "cannot be told"
    assert verdict(None, "higher", 0.0) == "cannot be told"


def test_a_run_is_named_by_its_method_and_budget() -> None:
    for method in METHODS:
        assert method_and_budget(run_name(method, 300_000)) == (method, 300_000)
    assert method_and_budget("mine") is None
    assert method_and_budget("unknown-300000") is None


def test_every_row_asks_methods_that_are_trained_and_names_are_unique() -> None:
    for row in ROWS:
        for reading in (row.ours, row.theirs):
            assert reading.method in (*METHODS, *UNTRAINED)
    names = [row.name for row in ROWS]
    assert len(set(names)) == len(names)


def test_results_are_read_by_method_budget_chunk_measure_and_seed(tmp_path: Path) -> None:
    for seed, value in enumerate((0.1, 0.2)):
        folder = tmp_path / f"tsae-20480/trainer_{seed}"
        write(folder / "eval.json", evaluation("tsae-20480", seed, smoothness_lipschitz=value))
    subject = {"run_name": "tsae-20480", "trainer_folder": "trainer_1", "chunk": 1, "threshold": "claims"}
    tasks = {"semantics": {"accuracy": [{"k": 1, "mean": 0.3}, {"k": "all", "mean": 0.4}]}}
    write(tmp_path / "a.json", {"experiment": "probing", "subject": subject, "tasks": tasks})
    dense = {"run_name": "baseline_model", "trainer_folder": None, "chunk": 0}
    write(tmp_path / "b.json", {"experiment": "probing", "subject": dense, "tasks": tasks})
    found = readings.read(tmp_path)
    assert found["tsae", 20480, 0, "smoothness"] == {0: 0.1, 1: 0.2}
    assert found["tsae", 20480, 2, "cosine"] == {0: 0.5, 1: 0.5}
    assert found["tsae", 20480, 1, "semantics, k = 1"] == {1: 0.3}
    assert found["baseline_model", 0, 2, "semantics, k = all"] == {-1: 0.4}


def test_two_results_that_contradict_each_other_are_told_with_the_one_that_counts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in (("a", 0.1), ("b", 0.25), ("c", 0.25)):
        write(tmp_path / f"{name}.json", evaluation("tsae-20480", 0, smoothness_lipschitz=value))
    write(tmp_path / "d.json", evaluation("tsae-20480", 1, smoothness_lipschitz=0.3))
    assert readings.read(tmp_path)["tsae", 20480, 0, "smoothness"] == {0: 0.25, 1: 0.3}
    (said,) = capsys.readouterr().err.splitlines()
    told = f"taken from {tmp_path / 'b.json'}: smoothness 0.25 and not 0.1, as in {tmp_path / 'a.json'};"
    assert said.startswith(told)


def test_numbers_of_single_texts_are_read_and_make_an_interval_of_their_own(tmp_path: Path) -> None:
    for seed in (0, 1):
        for run, leans in (("tfa-20480", [0.5, 0.3, 0.4]), ("running_mean", [0.1, 0.1, 0.1])):
            subject = {"run_name": run, "trainer_folder": f"trainer_{seed}", "chunk": 0}
            # of a run that is trained no seed gives what another gives
            leans = [lean + 0.01 * seed * (run == "tfa-20480") for lean in leans]
            lean = {"mean": sum(leans) / 3}
            content = {"experiment": "garden_paths", "subject": subject, "lean": lean, "share_right": 1.0}
            write(tmp_path / f"{run}{seed}.json", content | {"lean_of_triples": leans})
    measure = "garden paths, lean"
    row = Row("r", "", Reading("tfa", 0, measure), Reading("running_mean", 0, measure), "higher", 0.0, "")
    (found,) = report.judged(readings.read(tmp_path), readings.read_of_texts(tmp_path), [row])
    at = found["at"]["20480"]
    assert at["differences"] == pytest.approx([0.3, 0.31])
    # .305 ± t(.975, 2) * .1 / sqrt(3)
    assert at["difference_over_texts"]["low"] == pytest.approx(0.305 - 4.3027 * 0.1 / 3**0.5, abs=1e-4)
    assert at["verdict"] == "holds"


def test_a_result_of_all_seeds_gives_a_number_to_each(tmp_path: Path) -> None:
    subject = {"run_name": "tsae-20480", "trainer_folder": "trainer_0", "chunk": 0, "threshold": "claims"}
    of_seeds = [{"persistence": [0.4, None], "in_any_order": [0.1, 0.1]} for _ in range(2)]
    stability = {"matched": {"jackknife": [0.5, 0.6]}}
    content = {"experiment": "persistence", "subject": subject, "lags": [1, 16], "of_seeds": of_seeds}
    write(tmp_path / "a.json", content | {"stability": stability})
    found = readings.read(tmp_path)
    assert found["tsae", 20480, 0, "persistence at 1, above any order"] == pytest.approx({0: 0.3, 1: 0.3})
    assert found["tsae", 20480, 0, "stability over seeds"] == {0: 0.5, 1: 0.6}
    assert not any("at 16" in measure for _, _, _, measure in found)


def test_steering_gives_its_gain_that_of_random_directions_and_its_floor(tmp_path: Path) -> None:
    def gain(value: float) -> dict[str, Any]:
        return {"domain_gain": {"mean": value}}

    subject = {"run_name": "tsae-20480", "trainer_folder": "trainer_0", "chunk": 0, "threshold": "claims"}
    summary = {
        "while_coherent": {"steered": gain(0.4), "control": gain(0.1)},
        "steered": [{"strength": 0.0, "measures": gain(0.02)}, {"strength": 1.0, "measures": gain(0.3)}],
    }
    content = {"experiment": "steering", "subject": subject, "options": {"mode": "add"}, "summary": summary}
    write(tmp_path / "a.json", content)
    found = {measure: values[0] for (_, _, _, measure), values in readings.read(tmp_path).items()}
    assert found == {
        "steering, add": 0.4,
        "steering, add, random directions": 0.1,
        "steering, add, strength 0": 0.02,
    }


def test_results_at_another_threshold_do_not_count(tmp_path: Path) -> None:
    write(tmp_path / "a.json", evaluation("tsae-20480", 0, "topk", smoothness_lipschitz=0.1))
    write(tmp_path / "b.json", evaluation("mine", 0, smoothness_lipschitz=0.1))
    with pytest.raises(UserError, match="no results of claims"):
        readings.read(tmp_path)


def test_a_damaged_result_is_left_out_with_a_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "a.json", evaluation("tsae-20480", 0, smoothness_lipschitz=0.1))
    (tmp_path / "b.json").write_text('{"half')
    write(tmp_path / "c.json", {"measures": 3, "dict_class": "x", "run": "tsae-20480"})
    assert readings.read(tmp_path)["tsae", 20480, 0, "smoothness"] == {0: 0.1}
    told = capfd.readouterr()
    assert "b.json" in told.out + told.err
    assert "c.json" in told.out + told.err


def test_the_table_has_a_verdict_for_each_budget_and_leaves_out_what_has_no_numbers() -> None:
    found: readings.Readings = {
        ("tsae", 20480, 0, "smoothness"): {0: 0.1, 1: 0.1, 2: 0.11},
        ("matryoshka", 20480, 0, "smoothness"): {0: 0.2, 1: 0.21, 2: 0.2},
        ("tsae", 1_000_000, 0, "smoothness"): {0: 0.1},
        ("matryoshka", 1_000_000, 0, "smoothness"): {0: 0.2},
    }
    one = Row(
        "smooth",
        "so",
        Reading("tsae", 0, "smoothness"),
        Reading("matryoshka", 0, "smoothness"),
        "lower",
        0.0,
        "",
    )
    none = one._replace(name="none", ours=Reading("tfa", 0, "smoothness"))
    table = report.markdown(report.judged(found, rows=[one, none]))
    assert (
        table.splitlines()[0]
        == "| claim | ours | other | difference, over seeds | over texts | 20,480 | 1 M |"
    )
    # -.1, -.11 and -.09 at the first length, one seed at the second
    assert table.splitlines()[2].endswith("| -0.100 | – | holds (-0.100) | cannot be told (-0.100) |")
    assert len(table.splitlines()) == 3


@pytest.mark.usefixtures("drawn")
def test_the_curves_are_drawn_for_the_methods_that_have_numbers(tmp_path: Path) -> None:
    found: readings.Readings = {
        (method, budget, 0, "smoothness"): {0: 0.1 * i, 1: 0.2 * i}
        for i, method in enumerate(METHODS)
        for budget in (300_000, 1_000_000)
    }
    found["baseline_model", 0, 2, "semantics, k = 5"] = {-1: 0.4}
    (path,) = curves.draw(found, tmp_path / "curves")
    assert path.stat().st_size > 10_000


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"methods": ("poems",)}, "'poems' is none of the methods"),
        ({"experiments": ("poems",)}, "'poems' is none of the experiments"),
        ({"budgets": (100,)}, "--budgets 100 is less than ten steps"),
        ({"seeds": 0}, "--seeds 0 trains nothing"),
    ],
)
def test_a_plan_that_cannot_work_is_a_sentence(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        plan(tmp_path, **changes)


def test_short_trainings_come_first_and_all_methods_have_the_same_length_and_l0(tmp_path: Path) -> None:
    made = list(
        pieces(plan(tmp_path, methods=("tsae", "top_k", "batch_top_k_narrow"), experiments=("probing",)))
    )
    names = [piece.name for piece in made]
    assert names[:4] == ["activations", "tsae-20480", "top_k-20480", "batch_top_k_narrow-20480"]
    assert names.index("eval-20480-threshold-1") < names.index("tsae-40960")
    assert names.index("probing-baseline_model") == 4  # once, as soon as a run says where
    assert names.count("probing-baseline_model") == 1
    assert "controls" not in names
    command = {piece.name: piece.command for piece in made}
    for method in ("tsae", "top_k", "batch_top_k_narrow"):
        training = command[f"{method}-40960"]
        assert training[training.index("--steps") + 1] == "20"
        assert training[training.index("--k") + 1] == "20"
    assert "--threshold" in command["eval-20480-threshold-0"]
    assert "--threshold" not in command["eval-20480-own-0"]
    assert "calibrate-tsae-20480-0" in names
    assert "calibrate-top_k-20480-0" not in names
    assert command["batch_top_k_narrow-20480"][-2:] == ("--dict_size", "64")


def test_means_that_nobody_trained_are_written_and_read_beside_the_predicted_codes(tmp_path: Path) -> None:
    made = {
        piece.name: piece.command
        for piece in pieces(
            plan(tmp_path, methods=("tsae", "tfa"), experiments=("temporal_geometry", "persistence"))
        )
    }
    assert made["controls"][0] == "controls"
    assert made["temporal_geometry-controls"][:4] == ("geometry", "--compare", "running_mean:0", "recall:0")
    assert made["temporal_geometry-20480-own-1"][2:4] == ("tfa-20480:0", "tfa-20480:1")
    assert "temporal_geometry-20480-threshold-0" not in made  # no row asks it of a T-SAE
    # one command reads all seeds, at the threshold that was set for each
    assert made["persistence-20480"][:4] == ("persistence", "--compare", "tsae-20480:0", "tsae-20480:1")
    assert "--trainer" not in made["persistence-20480"]
    assert "persistence-baseline_model" not in made


def test_activations_are_read_where_and_as_the_first_run_reads_them(tmp_path: Path) -> None:
    trainer = tmp_path / "tsae-20480/trainer_0"
    for seed in (0, 1):
        write(tmp_path / f"tsae-20480/trainer_{seed}/ae.pt", {})
    buffer = {"context_length": 64, "lm_dtype": "bfloat16"}
    write(trainer / "config.json", {"trainer": {"lm_name": "mine", "layer": 3}, "buffer": buffer})
    command = {piece.name: piece.command for piece in pieces(plan(tmp_path))}["probing-baseline_model"]
    assert " ".join(command).startswith(
        "probe --run_name baseline_model --model mine --layer 3 --lm_dtype bfloat16 --context_length 64"
    )


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that were run; none of them does anything, those named `fails` fail."""
    run: list[list[str]] = []

    def fake(*command: str) -> int:
        run.append(list(command))
        return 2 if "fails" in command else 0

    monkeypatch.setattr(work, "call", fake)
    return run


def test_a_piece_is_done_once_and_again_when_its_command_changes(
    tmp_path: Path, commands: list[list[str]]
) -> None:
    piece = Piece("a", ("eval", "--k", "1"))
    assert not piece.is_done(tmp_path)
    piece.run(tmp_path)
    assert piece.is_done(tmp_path)
    assert not Piece("a", ("eval", "--k", "2")).is_done(tmp_path)
    assert commands == [["eval", "--k", "1"]]


def test_a_piece_that_fails_ends_the_work_and_is_not_done(tmp_path: Path, commands: list[list[str]]) -> None:
    piece = Piece("a", ("eval", "fails"))
    with pytest.raises(UserError, match="stopped at a"):
        piece.run(tmp_path)
    assert not piece.is_done(tmp_path)


def test_a_training_that_was_stopped_goes_on(tmp_path: Path, commands: list[list[str]]) -> None:
    (tmp_path / "tsae-20480").mkdir()
    (tmp_path / "tsae-20480/config.yaml").touch()
    Piece("tsae-20480", ("train",)).run(tmp_path)
    Piece("top_k-20480", ("train-baseline",)).run(tmp_path)
    assert commands == [["train", "--resume"], ["train-baseline"]]


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """benchmarks/claims.py as a module."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return load_module(ROOT / "benchmarks/claims.py")


def test_a_small_version_trains_measures_and_judges_and_goes_on_where_it_stopped(
    benchmark: ModuleType,
    tiny_lm_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The real commands, in this process, on a tiny random model."""
    run = called_here(monkeypatch, work)
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("".join(json.dumps(record) + "\n" for record in corpus_records(200)))
    model = [
        "--model",
        str(tiny_lm_folder),
        "--dataset",
        str(corpus),
        "--layer",
        "1",
        "--lm_dtype",
        "float32",
    ]
    flags = ["--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "claims"), "--seeds", "2", "--k", "4"]
    flags += ["--methods", "tsae", "matryoshka", "top_k", "--budgets", "20480", "--max_tokens", "3000"]
    flags += ["--eval_tokens", "1200", "--dict_size", "64", "--experiments"]
    benchmark.main([*flags, "--", *model])
    assert run.count("train-baseline") == 2
    assert run.count("calibrate") == 4
    claims = json.loads((tmp_path / "claims.json").read_text())["claims"]
    smooth = next(claim for claim in claims if claim["name"].startswith("smoothness"))
    at = smooth["at"]["20480"]
    assert at["seeds"] == [0, 1]
    assert at["verdict"] in ("holds", "does not", "cannot be told")
    values = json.loads((tmp_path / "claims.json").read_text())["values"]
    l0 = [
        v for one in values if one["measure"] == "L0" and one["chunk"] == 2 for v in one["by_seed"].values()
    ]
    assert len(l0) == 6
    assert l0 == pytest.approx([4.0] * 6, abs=0.1)  # the same for all
    assert (tmp_path / "claims.png").is_file()
    assert "| smoothness of high-level latents, against Matryoshka |" in (tmp_path / "claims.md").read_text()

    n_run = len(run)
    capfd.readouterr()
    benchmark.main([*flags, "--", *model])
    assert len(run) == n_run
