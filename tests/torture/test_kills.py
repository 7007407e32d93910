"""Commands killed at a file operation: the same command, typed again, ends as an unbroken one ends.

A minute's share runs with the other tests; `scripts/torture.sh` kills at every operation (KILLS: how many).
"""

import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from kills import End, killed, places
from toy_runs import make_run

from dictionary_learning import cache_activations, train_baseline
from dictionary_learning.dictionaries.weights_file import load_weights
from temporal_saes.browser import command as dashboard


def again(main: Callable[[list[str]], object], argv: list[str], cwd: Path) -> End:
    """The same command once more, to its end."""
    end = killed(main, argv, None, cwd)
    assert end.code == 0, f"the same command ended with {end.code}:\n{end.said}"
    return end


@pytest.fixture(scope="module")
def flags(tiny_lm_folder: Path, tiny_corpus: Path) -> list[str]:
    words = f"--model {tiny_lm_folder} --dataset {tiny_corpus} --layer 2 --device cpu --context_length 32"
    return [*words.split(), "--memory", "20MB", "--max_tokens", "3000"]


@pytest.fixture(scope="module")
def training(flags: list[str]) -> list[str]:
    sizes = "--arch batch_top_k --run_name r --checkpoints_path runs --batch_size 32 --dict_size 64 --k 4"
    more = "--steps 12 --warmup_steps 2 --threshold_start_step 3 --log_steps 4 --resume_every 4"
    return [*flags, *sizes.split(), *more.split(), "--calibration_tokens", "256", "--save_fractions", "0.5"]


def browsing(run: Path, corpus: Path) -> list[str]:
    words = f"--run_name {run} --dataset {corpus} --device cpu --no_cache --max_tokens 300"
    return [*words.split(), "--output_dir", "site", "--latents"]


@pytest.fixture(scope="module", autouse=True)
def everything_is_loaded(
    flags: list[str],
    training: list[str],
    tiny_lm_folder: Path,
    tiny_corpus: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """What the commands import while they run is here before they are forked: a second less for each."""
    with contextlib.chdir(tmp_path_factory.mktemp("loaded")):
        train_baseline.main(training)
        cache_activations.main([*flags, "--activations", "cache"])
        dashboard.main([*browsing(make_run(Path("run"), tiny_lm_folder), tiny_corpus), "3"])


def test_a_killed_training_ends_with_the_weights_of_an_unbroken_one(
    training: list[str], tmp_path: Path
) -> None:
    (tmp_path / "whole").mkdir()
    unbroken = killed(train_baseline.main, training, None, tmp_path / "whole")
    assert unbroken.code == 0, unbroken.said
    right = load_weights(tmp_path / "whole/runs/r/trainer_0/ae.pt")
    for at in places(unbroken.operations, seed=1):
        cwd = tmp_path / f"at{at}"
        cwd.mkdir()
        assert killed(train_baseline.main, training, at, cwd).code == -9
        again(train_baseline.main, [*training, "--resume"], cwd)
        found = load_weights(cwd / "runs/r/trainer_0/ae.pt")
        assert all(torch.equal(found[name], right[name]) for name in right), f"other weights, killed at {at}"
        left = [path.name for path in (cwd / "runs/r").rglob(".*")]
        assert left == [], f"killed at {at}, left over: {left}"


def test_a_killed_cache_ends_with_the_shards_of_an_unbroken_one(flags: list[str], tmp_path: Path) -> None:
    argv: list[Any] = [*flags, "--activations", "cache"]
    (tmp_path / "whole").mkdir()
    unbroken = killed(cache_activations.main, argv, None, tmp_path / "whole")
    assert unbroken.code == 0, unbroken.said

    def shards(cwd: Path) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (cwd / "cache").glob("*.safetensors")}

    right = shards(tmp_path / "whole")
    for at in places(unbroken.operations, seed=2):
        cwd = tmp_path / f"at{at}"
        cwd.mkdir()
        assert killed(cache_activations.main, argv, at, cwd).code == -9
        again(cache_activations.main, argv, cwd)
        assert shards(cwd) == right, f"other shards, killed at {at}"


@pytest.fixture
def browser(tiny_lm_folder: Path, tiny_corpus: Path, tmp_path: Path) -> list[str]:
    return browsing(make_run(tmp_path / "run", tiny_lm_folder), tiny_corpus)


def data_files(site: Path) -> dict[str, bytes]:
    """The files that index.html needs; none are asked of a browser that is not there."""
    needed = {path.name: path.read_bytes() for path in (site / "data").glob("*.js")}
    assert (site / "index.html").is_file() == bool(needed) == (site / "browser.json").is_file()
    return needed


def test_a_killed_browser_is_there_whole_or_not_at_all(browser: list[str], tmp_path: Path) -> None:
    argv = [*browser, "3"]
    (tmp_path / "whole").mkdir()
    unbroken = killed(dashboard.main, argv, None, tmp_path / "whole")
    assert unbroken.code == 0, unbroken.said
    right = data_files(tmp_path / "whole" / "site")
    for at in places(unbroken.operations, seed=3):
        cwd = tmp_path / f"at{at}"
        cwd.mkdir()
        assert killed(dashboard.main, argv, at, cwd).code == -9
        assert data_files(cwd / "site") in ({}, right), f"half a browser, killed at {at}"
        again(dashboard.main, argv, cwd)
        assert data_files(cwd / "site") == right
        assert [path.name for path in cwd.iterdir()] == ["site"], f"left over, killed at {at}"


def test_a_browser_killed_while_it_replaces_another_is_one_of_both(
    browser: list[str], tmp_path: Path
) -> None:
    argv = [*browser, "95", "--overwrite"]

    def begin(name: str) -> Path:
        (tmp_path / name).mkdir()
        shutil.copytree(tmp_path / "first" / "site", tmp_path / name / "site")
        return tmp_path / name

    (tmp_path / "first").mkdir()
    assert killed(dashboard.main, [*browser, "3"], None, tmp_path / "first").code == 0
    old = data_files(tmp_path / "first" / "site")
    unbroken = killed(dashboard.main, argv, None, begin("whole"))
    assert unbroken.code == 0, unbroken.said
    new = data_files(tmp_path / "whole" / "site")
    for at in places(unbroken.operations, seed=4):
        cwd = begin(f"at{at}")
        assert killed(dashboard.main, argv, at, cwd).code == -9
        assert data_files(cwd / "site") in ({}, old, new), f"half a browser, killed at {at}"
        again(dashboard.main, argv, cwd)
        assert data_files(cwd / "site") == new
        assert [path.name for path in cwd.iterdir()] == ["site"], f"left over, killed at {at}"
