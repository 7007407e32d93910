"""--sweep under torchrun: whole members dealt out to the processes, or each member trained by all of them."""

import re
from pathlib import Path

import pytest
import torch
from torchrun import torchrun

from dictionary_learning import train_baseline
from dictionary_learning.dictionaries.weights_file import load_weights
from dictionary_learning.errors import UserError
from dictionary_learning.runs.folder import RunFolder


@pytest.fixture(scope="module")
def flags(tiny_lm_folder: Path, tiny_corpus: Path) -> list[str]:
    """Members that are trained on a cache of four shards, which the sweep writes first."""
    words = f"--model {tiny_lm_folder} --dataset {tiny_corpus} --layer 2 --device cpu --context_length 32"
    sizes = "--dict_size 64 --k 4 --steps 12 --batch_size 32 --warmup_steps 2 --log_steps 4 --memory 200KB"
    return [*words.split(), *sizes.split(), "--max_tokens", "3000", "--calibration_tokens", "256"]


def written(folder: Path, text: str) -> list[str]:
    path = folder / "grid.yaml"
    path.write_text(text, encoding="utf-8")
    return ["--sweep", str(path)]


def place(folder: str) -> list[str]:
    return ["--checkpoints_path", folder, "--run_name", "s"]


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_weights(run / "trainer_0/ae.pt")


def test_each_process_trains_whole_members_and_one_that_fails_is_told(
    flags: list[str], tmp_path: Path
) -> None:
    grid = written(tmp_path, "lr: [1e-3, 1e38, 2e-3, 3e-3]")
    with pytest.raises(UserError, match="1 of 4 members failed"):
        train_baseline.main([*flags, *grid, *place(str(tmp_path / "one"))])
    done = torchrun(2, "train_baseline", *flags, *grid, *place("two"), cwd=tmp_path)
    assert done.code != 0
    assert "2 processes: each process trains whole members" in done.said
    assert len(done.errors) == 1
    assert "1 of 4 members failed, and the others are finished; lr1e+38: " in done.errors[0]
    assert "| lr1e+38 (failed) |" in done.said
    for name in ("lr0.001", "lr0.002", "lr0.003"):
        assert f"| {name} | 12 |" in done.said
        one, two = weights(tmp_path / f"one/s-{name}"), weights(tmp_path / f"two/s-{name}")
        assert all(torch.equal(one[key], two[key]) for key in one)
        config = RunFolder(tmp_path / f"two/s-{name}").read_config()
        assert config["processes"] == 1
        assert "resumed" not in config


def test_one_member_is_trained_by_all_processes(flags: list[str], tmp_path: Path) -> None:
    grid = written(tmp_path, "lr: [1e-3]")
    train_baseline.main([*flags, *grid, *place(str(tmp_path / "one"))])
    done = torchrun(2, "train_baseline", *flags, *grid, *place("two"), cwd=tmp_path)
    assert done.code == 0, done.said
    assert "2 processes: all processes train each member together" in done.said
    assert re.search(r"12 steps of 32 tokens \(2 processes x 16\)", done.said)
    one, two = weights(tmp_path / "one/s-lr0.001"), weights(tmp_path / "two/s-lr0.001")
    for key in one:
        torch.testing.assert_close(one[key], two[key], atol=1e-5, rtol=0)
