"""`--lm_dtype auto` and `--autocast auto`: settled where a run or a cache begins, and recorded as settled."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from dictionary_learning import (
    cache_activations,
    eval_temporal,
    train_attention,
    train_baseline,
    train_temporal,
)
from dictionary_learning.activations.cache import ActivationCache
from dictionary_learning.command import devices
from dictionary_learning.errors import UserError
from dictionary_learning.jobs import plan_command


@pytest.fixture
def quickest(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Says which dtype the machine multiplies quickest."""

    def set_quickest(dtype: str) -> None:
        takes = {"float32": 1.0, "bfloat16": 0.5 if dtype == "bfloat16" else 5.0}
        monkeypatch.setattr(devices, "times_as_long", lambda name, kind="cpu": takes[name])

    return set_quickest


@pytest.fixture
def data(
    tiny_lm_folder: Path, tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    monkeypatch.chdir(tmp_path)
    place = {"model": tiny_lm_folder, "dataset": tiny_corpus, "layer": 2, "device": "cpu"}
    return {**place, "context_length": 32, "memory": "20MB", "max_tokens": 2000, "lm_dtype": "auto"}


SIZES = {"dict_size": 64, "k": 4, "steps": 4, "warmup_steps": 1, "lr": 0.001, "calibration_tokens": 256}


def typed(options: dict[str, Any]) -> list[str]:
    return [word for name, value in options.items() for word in (f"--{name}", str(value))]


def recorded(run: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The options of a run, and what its dictionary says of the activations."""
    options = yaml.safe_load(Path("runs", run, "config.yaml").read_text())["options"]
    return options, json.loads(Path("runs", run, "trainer_0/config.json").read_text())["buffer"]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_run_records_what_the_machine_chose_and_goes_on_with_it_elsewhere(data, quickest, dtype, capsys):
    quickest(dtype)
    train_temporal.main(typed({**data, **SIZES, "batch_size": 32, "run_name": "one"}))
    options, buffer = recorded("one")
    assert (options["lm_dtype"], buffer["lm_dtype"]) == (dtype, dtype)
    elsewhere = "bfloat16" if dtype == "float32" else "float32"
    quickest(elsewhere)
    capsys.readouterr()
    train_temporal.main(["--run_name", "one", "--resume", "--lm_dtype", "auto"])
    assert "finished already" in capsys.readouterr().err
    eval_temporal.main(typed({"run_name": "one", "device": "cpu", "lm_dtype": "auto"}))
    results = json.loads(Path("runs/one/trainer_0/eval_results.json").read_text())
    assert results["setting"]["lm_dtype"] == elsewhere


def test_a_cache_says_the_dtype_wherever_it_was_written(data, quickest, capsys):
    quickest("bfloat16")
    cache_activations.main(typed({**data, "activations": "cache"}))
    assert ActivationCache.open("cache").options["lm_dtype"] == "bfloat16"
    quickest("float32")
    capsys.readouterr()
    cache_activations.main(typed({**data, "activations": "cache"}))
    assert "there is nothing to do" in capsys.readouterr().err
    cached = {"activations": "cache", "lm_dtype": "auto", "device": "cpu", **SIZES}
    train_baseline.main(typed({**cached, "arch": "top_k", "batch_size": 32, "run_name": "two"}))
    options, buffer = recorded("two")
    assert (options["lm_dtype"], buffer["lm_dtype"]) == ("bfloat16", "bfloat16")
    attention = {"n_heads": 2, "bottleneck_factor": 4, "batch_size": 4, "autocast": "auto"}
    train_attention.main(typed({**cached, **attention, "run_name": "three"}))
    assert recorded("three")[0]["autocast"] == "float32"


def test_a_device_that_is_not_there_is_named_by_its_own_flag(data):
    with pytest.raises(UserError, match="--lm_device cuda:7 does not exist"):
        train_temporal.main(typed({**data, **SIZES, "batch_size": 32, "lm_device": "cuda:7"}))
    with pytest.raises(UserError, match="--device cuda:8 does not exist"):
        train_temporal.main(typed({**data, **SIZES, "batch_size": 32, "device": "cuda:8"}))


def test_a_plan_for_other_machines_does_not_ask_this_one(data, quickest):
    quickest("float32")
    asked = {
        "config": "demo",
        "model": str(data["model"]),
        "layer": 2,
        "plan": "h100",
        "dict_size": 64,
        "k": 4,
    }
    on_h100 = plan_command.told(asked, ["temporal"])
    assert on_h100 == plan_command.told({**asked, "lm_dtype": "bfloat16"}, ["temporal"])
    assert on_h100 != plan_command.told({**asked, "lm_dtype": "float32"}, ["temporal"])
