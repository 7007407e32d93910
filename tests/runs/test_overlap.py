"""Training while the next block is read, from the command line: the same bits as one after the other."""

import re
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from stopping import stop_at

from dictionary_learning import train_attention, train_temporal
from dictionary_learning.dictionaries.weights_file import load_weights
from dictionary_learning.jobs.data import _overlaps
from dictionary_learning.jobs.options import TrainOptions
from dictionary_learning.runs.folder import RunFolder

RECORD = "dictionary_learning.language_model.LanguageModel.record_several"


@pytest.fixture(scope="module")
def flags(tiny_lm_folder: Path, tiny_corpus: Path) -> list[str]:
    """A run over three blocks, epoch after epoch."""
    words = f"--model {tiny_lm_folder} --dataset {tiny_corpus} --layer 2 --device cpu --context_length 32"
    sizes = "--memory 300KB --lm_batch_size 4 --dict_size 64 --k 4 --steps 120 --warmup_steps 5"
    return [*words.split(), *sizes.split(), "--log_steps", "20", "--resume_every", "50"]


@pytest.fixture(scope="module")
def pairs(flags: list[str]) -> list[str]:
    more = "--batch_size 64 --threshold_start_step 5 --calibration_tokens 512 --save_fractions 0.5"
    return [*flags, *more.split()]


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[name], b[name]) for name in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def check_same(whole: RunFolder, other: RunFolder, but: str = "seconds") -> None:
    """The weights, every number of the state but times and names, and the records."""
    for path in whole.trainer(0).rglob("*.pt"):
        assert same(load_weights(path), load_weights(other.path / path.relative_to(whole.path))), path
    states = [run.load_state() for run in (whole, other)]
    for state in states:
        assert state is not None
        assert state["position"]["data"]["block"] > 0 or state["position"]["data"]["epoch"] > 0
        for name in {"seconds", "options", but}:
            del state[name]
        for config in state["configs"]:
            del config["wandb_name"]
    assert same(*states)
    timed = {"seconds", "tokens_per_second"}
    records = [
        [{key: value for key, value in record.items() if key not in timed} for record in run.read_metrics()]
        for run in (whole, other)
    ]
    by_step = [
        {record["step"]: record for record in of_run if record["step"] % 20 == 0} for of_run in records
    ]
    assert by_step[0] == by_step[1]


def test_a_run_with_overlap_has_the_bits_of_one_without(pairs: list[str], tmp_path: Path) -> None:
    place = ["--checkpoints_path", str(tmp_path), "--run_name"]
    train_temporal.main([*pairs, *place, "alone", "--no_overlap"])
    train_temporal.main([*pairs, *place, "ahead", "--overlap"])
    check_same(RunFolder(tmp_path / "alone"), RunFolder(tmp_path / "ahead"))
    assert RunFolder(tmp_path / "ahead").read_config()["options"]["overlap"] is True


def test_so_has_one_on_whole_texts(flags: list[str], tmp_path: Path) -> None:
    # as many blocks as in 120 steps of pairs, in fewer steps
    sizes = ["--batch_size", "8", "--n_heads", "2", "--bottleneck_factor", "4", "--steps", "40"]
    place = ["--resume_every", "20", "--checkpoints_path", str(tmp_path), "--run_name"]
    train_attention.main([*flags, *sizes, *place, "alone"])
    train_attention.main([*flags, *sizes, *place, "ahead", "--overlap"])
    check_same(RunFolder(tmp_path / "alone"), RunFolder(tmp_path / "ahead"))


def test_a_run_that_is_stopped_while_a_block_is_read_goes_on_exactly(
    pairs: list[str], tmp_path: Path
) -> None:
    place = ["--checkpoints_path", str(tmp_path), "--run_name"]
    train_temporal.main([*pairs, *place, "whole", "--no_overlap"])
    cut = RunFolder(tmp_path / "cut")
    here = ["train_temporal", "--checkpoints_path", ".", "--run_name", "cut"]
    # in a batch of the language model behind those of the first block, whose number the tokens tell
    code, said = stop_at(40, RECORD, signal.SIGINT, *here, *pairs, "--overlap", cwd=tmp_path)
    assert code == 130, said
    assert re.search(r"stopped after step \d+ of 120; to go on", said), said
    state = cut.load_state()
    assert state is not None
    assert 0 < state["step"] < 120
    # killed on the way, and then to the end, with and without
    code, said = stop_at(20, RECORD, signal.SIGKILL, *here, "--resume", "--overlap", cwd=tmp_path)
    assert code == -signal.SIGKILL, said
    train_temporal.main([*place, "cut", "--resume", "--no_overlap"])
    # another process began with other random states, which nothing here draws from
    check_same(RunFolder(tmp_path / "whole"), cut, but="random")


def test_overlap_is_on_where_the_language_model_has_a_device_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def found(device: str | None, flag: str = "") -> torch.device:
        return torch.device(device or "cpu")

    monkeypatch.setattr("dictionary_learning.jobs.data.find_device", found)

    def on(**options: Any) -> bool:
        return _overlaps(TrainOptions(run_name="r", **options))

    assert not on(device="cpu")
    assert not on(device="mps")
    assert not on(device="cpu", lm_device="cpu")
    assert on(device="cuda")
    assert on(device="cpu", lm_device="mps")
    assert on(device="cuda:1", lm_device="cuda:0")
    assert not on(device="cuda", overlap=False)
    assert on(device="cpu", overlap=True)
    assert not on(device="cuda", activations="cache")
