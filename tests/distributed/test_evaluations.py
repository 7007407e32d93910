"""Evaluations and calibrations by several processes: the results of one."""

import json
from pathlib import Path
from typing import Any

import pytest
from distributed.forks import End, forked
from distributed.torchrun import torchrun
from toy_runs import make_run

from dictionary_learning import calibrate, eval_temporal
from dictionary_learning.activations.cache import ActivationCache
from dictionary_learning.command import processes
from dictionary_learning.evaluation import report

OF_THIS_RUN = ("seconds", "processes", "provenance", "options", "made")
KINDS = ("grouped", "plain", "attention")


@pytest.fixture(scope="module")
def runs(tiny_lm_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluated") / "runs"
    for kind in KINDS:
        [config] = make_run(folder / kind, tiny_lm_folder, kind=kind).rglob("config.json")
        content = json.loads(config.read_text("utf-8"))
        content["buffer"]["eval_share"] = 0.2  # as of `written_cache`
        config.write_text(json.dumps(content), encoding="utf-8")
    return folder


@pytest.fixture
def without_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "draw", lambda results, methods, path: [path.with_suffix(".png")])


def flags(runs: Path, corpus: Path, *more: str) -> list[str]:
    words = f"--checkpoints_path {runs} --dataset {corpus} --part all --device cpu --context_length 24"
    return [*words.split(), "--compare", *KINDS, *more]


def results(folder: Path) -> dict[str, Any]:
    [comparison] = folder.glob("compare_*.json")
    return json.loads(comparison.read_text("utf-8"))


def assert_same(found: Any, expected: Any, name: str = "") -> None:
    """Numbers to 1e-6 of their size, counts and all else exactly."""
    if isinstance(expected, dict):
        assert list(found) == list(expected), name
        for key in expected:
            if key not in OF_THIS_RUN:
                assert_same(found[key], expected[key], f"{name} {key}")
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=1e-6, abs=1e-12), name
    else:
        assert found == expected, name


def fork(n: int, main: Any, words: list[str], cwd: Path, **named: Any) -> list[End]:
    def before(rank: int) -> None:
        processes._SECONDS_TO_TELL = 0.5

    return forked(n, main, words, cwd, **{"before": before, **named})


# so many tokens of cross-entropy that the last processes have none, or all; blocks of the corpus, or one
AMOUNTS = {
    "several blocks": "--max_tokens 3000 --memory 150KB --loss_tokens 700 --batch_size 5",
    "a process without contexts": "--n_contexts 7 --batch_size 4 --loss_tokens 10",
}


@pytest.mark.usefixtures("without_figures")
@pytest.mark.parametrize("amount", AMOUNTS)
def test_two_and_three_processes_find_what_one_does(
    amount: str, runs: Path, marked_corpus: Path, tmp_path: Path
) -> None:
    words = flags(runs, marked_corpus, *AMOUNTS[amount].split(), "--output_dir")
    eval_temporal.main([*words, str(tmp_path / "one")])
    expected = results(tmp_path / "one")
    assert expected["grouped"]["measures"]["all"]["loss_recovered"]["predictions"] > 0
    for n in (2, 3):
        ends = fork(n, eval_temporal.main, [*words, f"{n}"], tmp_path)
        assert [end.code for end in ends] == [0] * n, ends[0].said
        assert not any(end.said for end in ends[1:])
        assert_same(results(tmp_path / f"{n}"), expected)
        assert results(tmp_path / f"{n}")["plain"]["processes"] == n


@pytest.mark.usefixtures("without_figures")
def test_a_cache_gives_what_it_gives_to_one_process(runs: Path, written_cache: Path, tmp_path: Path) -> None:
    corpus = ActivationCache.open(written_cache).options["dataset"]
    words = flags(runs, corpus, "--activations", str(written_cache), "--part", "eval")
    words += ["--context_length", "16", "--max_norm_ratio", "1.2", "--output_dir"]
    eval_temporal.main([*words, str(tmp_path / "one")])
    ends = fork(3, eval_temporal.main, [*words, "three"], tmp_path)
    assert [end.code for end in ends] == [0] * 3, ends[0].said
    assert_same(results(tmp_path / "three"), results(tmp_path / "one"))


@pytest.mark.usefixtures("without_figures")  # of the one process
def test_torchrun_evaluates_as_one_process_does(runs: Path, marked_corpus: Path, tmp_path: Path) -> None:
    words = flags(runs, marked_corpus, "--max_tokens", "2000", "--loss_tokens", "500", "--output_dir")
    eval_temporal.main([*words, str(tmp_path / "one")])
    done = torchrun(2, "temporal_saes", "eval", *words, "two", cwd=tmp_path)
    assert done.code == 0, done.said
    assert done.said.count("FVE, global") == 1
    assert len(list((tmp_path / "two").glob("*.png"))) == len(KINDS) + 1
    assert_same(results(tmp_path / "two"), results(tmp_path / "one"))


def test_a_threshold_is_that_of_one_process(
    tiny_lm_folder: Path, marked_corpus: Path, tmp_path: Path
) -> None:
    found = []
    for n in (1, 2, 3):
        run = make_run(tmp_path / f"run{n}", tiny_lm_folder)
        words = f"--run_name {run} --dataset {marked_corpus} --name news --device cpu --max_tokens 900"
        words += " --context_length 24 --batch_size 16"
        if n == 1:
            calibrate.main(words.split())
        else:
            ends = fork(n, calibrate.main, words.split(), tmp_path)
            assert [end.code for end in ends] == [0] * n, ends[0].said
            assert not any(end.said for end in ends[1:])
        [path] = run.rglob("thresholds.json")
        found.append(json.loads(path.read_text("utf-8"))["news"])
    for other in found[1:]:
        assert_same(other, found[0])
        assert other["threshold"] == found[0]["threshold"]


DAMAGE = """
from dictionary_learning.evaluation.decoding import Decoder
parts, calls = Decoder.parts, []
def damaged(decoder, code):
    calls.append(1)
    found = parts(decoder, code)
    is_bad = rank == failing and len(calls) == 5
    return {name: x_nD * float("nan") for name, x_nD in found.items()} if is_bad else found
Decoder.parts = damaged
"""
FEW = ("--max_tokens", "2000", "--no_lm_loss", "--output_dir", "none")


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_what_fails_in_one_process_ends_all_with_its_sentence(
    failing: int, runs: Path, marked_corpus: Path, tmp_path: Path
) -> None:
    def before(rank: int) -> None:
        processes._SECONDS_TO_TELL = 20
        exec(DAMAGE, {"rank": rank, "failing": failing})

    ends = fork(3, eval_temporal.main, flags(runs, marked_corpus, *FEW), tmp_path, before=before)
    assert [end.code for end in ends] == [2, 2, 2]
    told = [error for end in ends for error in end.errors]
    assert len(told) == 1, [end.said for end in ends]
    assert "plain gives reconstructions that are not finite" in told[0]
    assert not (tmp_path / "none").exists()


def test_what_fails_under_torchrun_is_told_once(runs: Path, marked_corpus: Path, tmp_path: Path) -> None:
    words = flags(runs, marked_corpus, *FEW)
    done = torchrun(2, "eval_temporal", *words, cwd=tmp_path, code=f"failing = 1\n{DAMAGE}")
    assert done.code != 0
    assert len(done.errors) == 1, done.said
    assert "plain gives reconstructions that are not finite" in done.errors[0]


def test_a_run_that_is_not_there_is_told_once(tmp_path: Path) -> None:
    ends = fork(2, eval_temporal.main, ["--run_name", "nobody"], tmp_path)
    assert [end.code for end in ends] == [2, 2]
    assert len([error for end in ends for error in end.errors]) == 1


def test_texts_that_differ_between_processes_are_refused(
    runs: Path, marked_corpus: Path, tmp_path: Path
) -> None:
    def before(rank: int) -> None:
        processes._SECONDS_TO_TELL = 0.5
        if rank == 1:
            from dictionary_learning.activations.contexts import PackedTokens

            PackedTokens.sha256 = lambda packed: "other"

    words = flags(runs, marked_corpus, "--max_tokens", "900", "--output_dir", "none")
    ends = fork(2, eval_temporal.main, words, tmp_path, before=before)
    assert [end.code for end in ends] == [2, 2]
    [told] = [error for end in ends for error in end.errors]
    assert "process 1 has other texts than process 0" in told
