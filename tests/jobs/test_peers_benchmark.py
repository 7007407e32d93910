"""benchmarks/peers.py at sizes of a second: every trainer takes its steps, and the table says so."""

import importlib
import json
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
import warm

ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return warm.run([ROOT / "benchmarks/peers.py", *arguments], ROOT)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Written by the command in this process, but for its trainers: each is a process, as ever."""
    path = tmp_path_factory.mktemp("peers") / "peers.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        peers = importlib.import_module("peers")
        if not warm.COLD:  # ten new interpreters take half a minute
            names = {name: getattr(subprocess, name) for name in ("PIPE", "run")}
            patch.setattr(peers, "subprocess", SimpleNamespace(**names, Popen=warm.Piped))
        # this build stands for an earlier one of itself, too
        sizes = ["--small", "--steps", "3", "--methods", "T-SAE", "TemporalSAE"]
        peers.main([*sizes, "--earlier", str(ROOT), "--output", str(path)])
    return path


def test_ours_the_earlier_build_and_the_released_form_agree_and_stand_in_one_table(written: Path) -> None:
    rows = json.loads(written.read_text())["rows"]
    assert [row["method"] for row in rows] == ["T-SAE", "TemporalSAE"]
    for row in rows:
        others = {"earlier", "earlier, bfloat16", "released form"}
        assert row["trainers"].keys() == {"ours", "ours, bfloat16", *others}
        assert all(of["seconds"] > 0 for of in row["trainers"].values())
        worst = row["largest_relative_difference_of_losses"]
        assert worst["earlier"] == 0
        assert worst["released form"] < 1e-5
    lines = written.with_suffix(".md").read_text().splitlines()
    assert len(lines) == 2 + len(rows)
    assert {line.count("|") for line in lines} == {7}


def test_one_step_is_refused_because_the_first_makes_room() -> None:
    done = run("--small", "--steps", "1")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "--steps is 1" in done.stderr


def test_a_folder_that_is_no_checkout_is_refused(tmp_path: Path) -> None:
    done = run("--small", "--earlier", str(tmp_path))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "no checkout of this project" in done.stderr
