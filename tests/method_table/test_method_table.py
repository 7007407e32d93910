"""The table of all methods, from small results made by hand."""

import json
from pathlib import Path
from typing import Any

import pytest

from dictionary_learning.errors import UserError
from temporal_saes.method_table.command import main
from temporal_saes.method_table.results import read_results
from temporal_saes.method_table.table import table

T_SAE, BATCH = "TemporalMatryoshkaBatchTopKSAE", "BatchTopKSAE"


def interval(mean: float, half: float = 0.01) -> dict[str, float]:
    return {"mean": mean, "low": mean - half, "high": mean + half}


def write(folder: Path, name: str, experiment: str, content: dict[str, Any], **given: Any) -> None:
    """A result of `<run>:<chunk>`."""
    run, _, chunk = given.get("column", "tsae:0").partition(":")
    baseline = run == "baseline_model"
    subject = {
        "run_name": run,
        "chunk": int(chunk or 2),
        "split": "high" if chunk == "0" else "all",
        "context_length": given.get("context_length", 128),
        "dict_class": given.get("dict_class", "baseline_model" if baseline else T_SAE),
        "trainer_folder": None if baseline else f"trainer_{given.get('trainer', 0)}",
        **given.get("subject", {}),
    }
    result = {
        "experiment": experiment,
        "options": {"dataset": given.get("dataset", "demo"), "n": given.get("n", 100)},
        "subject": subject,
        "name": f"{run}:{chunk}",
        "provenance": {"started": given.get("started", "2026-01-01")},
        "weights_sha256": given.get("weights"),
        **content,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(result))


def geometry(rank: float, half: float = 0.5) -> dict[str, Any]:
    return {
        "measures": {
            "effective_rank": interval(rank, half),
            "tortuosity": interval(2.0),
            "slow_share": {"mean": 0.5, "low": None, "high": None},
        }
    }


def rows(written: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in written.splitlines() if "|" in line]


def row(written: str, measure: str) -> list[str]:
    (found,) = [one for one in rows(written) if one[1].startswith(measure)]
    return found


def test_columns_are_runs_and_rows_are_numbers_with_their_intervals(tmp_path):
    write(tmp_path / "tsae", "a", "temporal_geometry", geometry(31.76))
    write(tmp_path / "base", "b", "temporal_geometry", geometry(96.8), column="baseline_model")
    written = table(read_results(tmp_path))
    head, _, rank, tortuosity, slow = rows(written)
    assert head == ["experiment", "measure", "chance", "tsae:0 (T-SAE, high)", "dense activations"]
    assert rank == ["temporal_geometry, demo", "effective rank", "", "31.8 ± 0.5", "96.8 ± 0.5"]
    assert tortuosity[1:4] == ["tortuosity", "", "2.000 ± 0.010"]
    assert slow[1:4] == ["slow share", "", "0.500"]


def test_several_seeds_are_their_mean_and_standard_deviation(tmp_path):
    for trainer, rank in enumerate((1.0, 2.0, 3.0)):  # mean 2, standard deviation 1
        write(tmp_path / f"seed{trainer}", "a", "temporal_geometry", geometry(rank), trainer=trainer)
    assert row(table(read_results(tmp_path)), "effective rank")[3] == "2.000 ± 1.000"


def test_a_newer_result_of_the_same_trainer_takes_the_place_of_an_older_one(tmp_path):
    write(tmp_path, "a", "temporal_geometry", geometry(5.0), started="2026-02-02")
    write(tmp_path, "b", "temporal_geometry", geometry(1.0), started="2026-01-01")
    assert row(table(read_results(tmp_path)), "effective rank")[3] == "5.000 ± 0.500"


def columns(written: str) -> dict[str, str]:
    """Every column with its effective rank."""
    head = rows(written)[0][3:]
    return dict(zip(head, row(written, "effective rank")[3:], strict=True))


def test_a_checkpoint_or_a_threshold_has_a_column_of_its_own(tmp_path):
    write(tmp_path, "a", "temporal_geometry", geometry(5.0))
    for name, rank, told in (
        ("ae_10", 1.0, {"checkpoint": "c/ae_10.pt"}),
        ("topk", 2.0, {"threshold": "topk"}),
    ):
        content = {**geometry(rank), "name": f"tsae:0 {name}"}
        write(tmp_path, name, "temporal_geometry", content, subject=told, started="2026-03-03")
    written = table(read_results(tmp_path))
    assert [one.split()[0] for one in columns(written).values()] == ["5.000", "1.000", "2.000"]
    assert "Left out" not in written
    only = table(read_results(tmp_path), ["tsae:0 topk"])
    assert [one.split()[0] for one in columns(only).values()] == ["2.000"]


def test_layers_and_models_of_one_name_have_columns_of_their_own(tmp_path):
    base = {"column": "baseline_model"}
    for name, model, layer in (("a", "x", 1), ("b", "x", 2), ("c", "y", 2)):
        subject = {"model": model, "layer": layer}
        write(tmp_path, name, "temporal_geometry", geometry(layer + 0.5), subject=subject, **base)
    write(tmp_path, "d", "temporal_geometry", geometry(7.0), subject={"model": "x", "layer": 2})
    found = {name: one.split()[0] for name, one in columns(table(read_results(tmp_path))).items()}
    assert found == {
        "tsae:0 (T-SAE, high)": "7.000",
        "dense activations, x, layer 1": "1.500",
        "dense activations, x, layer 2": "2.500",
        "dense activations, y, layer 2": "2.500",
    }


def test_runs_of_one_name_in_two_folders_have_columns_of_their_own(tmp_path):
    for folder, rank in (("one", 1.0), ("two", 2.0)):
        write(tmp_path / folder / "tsae/temporal_geometry", "a", "temporal_geometry", geometry(rank))
    found = {name: one.split()[0] for name, one in columns(table(read_results(tmp_path))).items()}
    title = "tsae:0 (T-SAE, high), in"
    assert found == {f"{title} one/tsae": "1.000", f"{title} two/tsae": "2.000"}
    by_name = table(read_results(tmp_path), ["tsae:0"])
    assert list(columns(by_name)) == list(found)
    assert list(columns(table(read_results(tmp_path), ["tsae:0, in two/tsae"]))) == [f"{title} two/tsae"]


def test_results_of_weights_that_are_no_more_are_left_out_and_named(tmp_path):
    new = {"weights": "new", "started": "2026-02-02"}
    write(tmp_path, "a", "temporal_geometry", geometry(5.0), weights="old")
    write(
        tmp_path,
        "b",
        "similarity",
        {"detectors": {"novelty": {"given_number": {"f1": interval(0.5), "chance_f1_sentence_starts": 0.1}}}},
        **new,
    )
    written = table(read_results(tmp_path))
    assert [one[1] for one in rows(written)[2:]] == [
        "boundaries found (F1; chance: at sentence starts), novelty"
    ]
    assert "Left out, as newer results are of other weights: a.json of tsae:0." in written


def test_other_settings_never_share_a_row_and_are_named(tmp_path):
    write(tmp_path, "a", "temporal_geometry", geometry(1.0), column="tsae:0", n=100)
    write(tmp_path, "b", "temporal_geometry", geometry(2.0), column="other:0", n=100)
    write(tmp_path, "fewer", "temporal_geometry", geometry(3.0), column="third:0", n=10)
    written = table(read_results(tmp_path))
    assert [name.split()[0] for name in rows(written)[0][3:]] == ["other:0", "third:0", "tsae:0"]
    assert row(written, "effective rank")[3:] == ["2.000 ± 0.500", "–", "1.000 ± 0.500"]
    assert "Left out, as another setting has more columns or is newer: fewer.json." in written


def test_data_sets_have_rows_of_their_own(tmp_path):
    write(tmp_path, "a", "temporal_geometry", geometry(1.0))
    write(tmp_path, "b", "temporal_geometry", geometry(2.0), dataset="mmlu")
    titles = [one[0] for one in rows(table(read_results(tmp_path))) if one[1] == "effective rank"]
    assert titles == ["temporal_geometry, demo", "temporal_geometry, mmlu"]


def test_contexts_of_another_length_have_rows_of_their_own(tmp_path):
    write(tmp_path, "a", "temporal_geometry", geometry(1.0), column="tsae:0")
    write(tmp_path, "b", "temporal_geometry", geometry(2.0), column="tfa:0", context_length=500)
    found = [[one[0], *one[3:]] for one in rows(table(read_results(tmp_path))) if one[1] == "effective rank"]
    assert found == [
        ["temporal_geometry, demo, contexts of 128", "–", "1.000 ± 0.500"],
        ["temporal_geometry, demo, contexts of 500", "2.000 ± 0.500", "–"],
    ]


def test_probing_takes_ten_latents_a_class_or_what_is_nearest(tmp_path):
    accuracy = [{"k": k, **interval(mean)} for k, mean in ((1, 0.1), (20, 0.2), ("all", 0.9))]
    write(tmp_path, "a", "probing", {"tasks": {"syntax": {"accuracy": accuracy, "chance": 0.25}}})
    (_, _, found) = rows(table(read_results(tmp_path)))
    # 1 is nine away from ten, 20 is ten away
    assert found == ["probing, demo", "syntax, k = 1", "0.250", "0.100 ± 0.010"]


def test_every_experiment_has_its_numbers(tmp_path):
    score = {"space": "features", "measure": "neighbours", "value": 0.5, "high": 0.6, "chance": 0.1}
    scores = [{**score, "colouring": "domain", "among": among} for among in ("all", "other texts")]
    write(tmp_path, "map", "tsne", {"scores": scores})
    found = {name: interval(0.3) for name in ("above_shifted", "distance", "relative_flicker")}
    write(
        tmp_path,
        "seq",
        "sequence_interpretability",
        {"scores": {"chosen": found | {"distance": None}, "all": found}},
    )
    one = {"given_number": {"f1": interval(0.7), "chance_f1_sentence_starts": 0.4}}
    write(tmp_path, "sim", "similarity", {"detectors": {"novelty": one}})
    views = {"raw": {"significant": 3}, "equal_length": {"significant": 1}}
    views["matched"] = {"missing": "no two answers are of one length"}
    alignment = {"n_tested": 1234, "views": views, "n_length_latents": 2}
    write(tmp_path, "align", "alignment_study", alignment, dataset="hh-rlhf")
    lean = {"lean": interval(0.02), "share_right": 0.6}
    write(tmp_path, "garden", "garden_paths", lean, dataset="built-in")
    persistence = {
        "lags": [1, 8],
        "persistence": [interval(0.31), None],
        "persistence_in_any_order": [interval(0.04), None],
        "stability": {"matched": interval(0.81), "chance_matched": interval(0.11)},
    }
    write(tmp_path, "persistence", "persistence", persistence)
    areas = {"words": interval(0.91), "tokens": None, "words of another": interval(0.51)}
    content = {"splits": {"high": {"8": areas | {"tokens of another": None}}}}
    write(tmp_path, "naming", "naming", {**content, "options": {"dataset": "demo", "held": 8}})
    coherent = {"steered": {"domain_gain": interval(0.2)}, "control": {"domain_gain": interval(0.05)}}
    write(tmp_path, "steer", "steering", {"summary": {"while_coherent": coherent}})
    written = table(read_results(tmp_path))
    assert row(written, "neighbours with the same domain")[2:] == ["0.100", "0.500 ± 0.100"]
    assert row(written, "tokens from a boundary to the switch, chosen")[3] == "–"
    assert row(written, "flicker, as a share of any order's, all")[2:] == ["1", "0.300 ± 0.010"]
    assert row(written, "boundaries found")[2:] == ["0.400", "0.700 ± 0.010"]
    assert row(written, "latents tested")[3] == "1,234"
    assert row(written, "latents that differ, equal length")[3] == "1"
    assert row(written, "lean to the right reading")[2:] == ["0", "0.020 ± 0.010"]
    assert row(written, "share of sentences that lean to it")[3] == "0.600"
    assert row(written, "persistence at a distance of 1")[2:] == ["0.040", "0.310 ± 0.010"]
    assert row(written, "persistence at a distance of 8")[2:] == ["", "–"]
    assert row(written, "cosine with the matched latent of another seed")[2:] == ["0.110", "0.810 ± 0.010"]
    assert row(written, "AUC of words, high, held over 8")[2:] == ["0.510", "0.910 ± 0.010"]
    assert row(written, "AUC of tokens, high, held over 8")[3] == "–"
    assert row(written, "latents that differ, matched")[3] == "–"
    assert row(written, "most gain of the domain")[2:] == ["0.050", "0.200 ± 0.010"]


def test_an_evaluation_gives_every_split_its_column(tmp_path):
    measures = {
        "all": {"fve_context_mean": {"value": 0.75}, "loss_recovered": {"value": 0.97}},
        "high": {"fve_context_mean": {"value": 0.25}},
        "low": {"fve_context_mean": {"value": 0.5}},
    }
    result = {
        "measures": measures,
        "run": "tsae",
        "dict_class": T_SAE,
        "setting": {"dataset": "pile", "context_length": 128},
        "options": {"trainer": 0, "max_tokens": 1000},
        "provenance": {"started": "2026-01-01"},
    }
    (tmp_path / "eval_results.json").write_text(json.dumps(result))
    written = table(read_results(tmp_path), ["tsae:2", "tsae:0", "tsae:1"])
    assert rows(written)[0][3:] == ["tsae:2 (T-SAE, all)", "tsae:0 (T-SAE, high)", "tsae:1 (T-SAE, low)"]
    assert row(written, "FVE")[3:] == ["0.750", "0.250", "0.500"]
    assert row(written, "cross-entropy")[3:] == ["0.970", "–", "–"]


def test_other_files_and_results_of_another_form_are_passed_over(tmp_path, capsys):
    (tmp_path / "config.json").write_text('{"trainer": {}}')
    (tmp_path / "list.json").write_text("[1]")
    (tmp_path / "cut.json").write_text('{"experiment": ')
    write(tmp_path, "old", "similarity", {})
    write(tmp_path, "good", "temporal_geometry", geometry(1.0))
    assert [result.path.name for result in read_results(tmp_path)] == ["good.json"]
    assert "old.json is no result of this version" in capsys.readouterr().err


def test_a_bar_in_a_name_does_not_make_a_column(tmp_path):
    write(tmp_path, "a", "temporal_geometry", geometry(1.0), column="a|b:0")
    assert r"a\|b:0" in table(read_results(tmp_path))


def test_the_command_writes_the_file(tmp_path):
    write(tmp_path / "runs", "a", "temporal_geometry", geometry(1.0))
    output = tmp_path / "docs" / "methods.md"
    main(["--checkpoints_path", str(tmp_path / "runs"), "--output", str(output)])
    assert output.read_text().startswith("| experiment | measure | chance | tsae:0 (T-SAE, high) |")


def test_a_damaged_result_is_left_out_with_a_line_and_other_files_without(tmp_path, capsys):
    write(tmp_path / "run" / "temporal_geometry", "whole", "temporal_geometry", geometry(1.0))
    folder = tmp_path / "run" / "temporal_geometry"
    whole = (folder / "whole.json").read_text()
    (folder / "cut.json").write_text(whole[:100])
    (folder / "list.json").write_text("[1, 2]")
    (folder / "renamed.json").write_text(whole.replace('"experiment"', '"experimentx"'))
    (folder / "folder.json").mkdir()
    changed = {"subject": 1, "options": [1], "measures": {"effective_rank": "x"}}
    for key, value in changed.items():
        (folder / f"{key}.json").write_text(json.dumps(json.loads(whole) | {key: value}))
    number = {"effective_rank": {"mean": "high"}, "tortuosity": None, "slow_share": None}
    (folder / "word.json").write_text(json.dumps(json.loads(whole) | {"measures": number}))
    (tmp_path / "run" / "eval_results.json").write_text("{}")
    (tmp_path / "run" / "config.json").write_text("{}")
    (tmp_path / "run" / "other.json").write_text("[1, 2]")
    (tmp_path / "comparisons" / "temporal_geometry").mkdir(parents=True)
    comparison = {"experiment": "temporal_geometry", "first": "a"}
    (tmp_path / "comparisons" / "temporal_geometry" / "a_b.json").write_text(json.dumps(comparison))
    results = read_results(tmp_path)
    assert [result.path.name for result in results] == ["whole.json"]
    lines = capsys.readouterr().err.splitlines()
    assert all(line.startswith("left out: ") for line in lines)
    named = [line.split(".json")[0].rsplit("/", 1)[-1] for line in lines]
    damaged = ["cut", "folder", "list", "measures", "options", "renamed", "subject", "word"]
    assert named == ["eval_results", *damaged]
    assert "Is a directory" in lines[2]
    assert "'high' in place of a number" in lines[-1]


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--output", "full"], "--output full is a folder"),
        (["--output", "full/a.json/table.md"], "a.json is a file, not a folder: choose another --output"),
        (["--checkpoints_path", "nowhere"], "no folder nowhere"),
        (["--checkpoints_path", "empty"], "no experiment has written a result in empty"),
        (
            ["--checkpoints_path", "full", "--compare", "tsae:1"],
            "no result is of 'tsae:1': choose from tsae:0",
        ),
        (["--compare", "a:0", "a:0"], "names the same thing twice"),
    ],
)
def test_what_cannot_be_shown_is_told_in_one_sentence(tmp_path, monkeypatch, flags, sentence):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    write(tmp_path / "full", "a", "temporal_geometry", geometry(1.0))
    with pytest.raises(UserError, match=sentence):
        main(flags)
