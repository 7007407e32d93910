"""Atomic saves, safe loads, run folders, and what a run records about itself."""

import errno
import os
import pickle
import random
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
import torch
import yaml

from dictionary_learning.command import files
from dictionary_learning.command.files import check_writable, save_atomically, save_tensors
from dictionary_learning.command.secrets import scrub
from dictionary_learning.dictionaries.weights_file import load_weights, read_checkpoint
from dictionary_learning.errors import UserError
from dictionary_learning.runs.folder import RunFolder
from dictionary_learning.runs.provenance import provenance
from dictionary_learning.runs.random_state import random_state, set_random_state


class RunsCode:
    """Unpickling this makes a file called `pwned` in the folder it was told."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.folder / "pwned"),)


def test_weights_come_back_as_they_were_saved(tmp_path: Path) -> None:
    weights = {"W_enc": torch.randn(3, 5), "k": torch.tensor(4, dtype=torch.int32)}
    save_tensors(tmp_path / "ae.pt", weights)
    loaded = load_weights(tmp_path / "ae.pt")
    assert loaded.keys() == weights.keys()
    assert all(torch.equal(loaded[name], weights[name]) for name in weights)
    assert [path.name for path in tmp_path.iterdir()] == ["ae.pt"]


def test_the_backup_form_is_known_by_its_ae_key_and_keeps_its_norm_factor(tmp_path: Path) -> None:
    weights = {"b_dec": torch.ones(2)}
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.ones(2))]).state_dict()
    backup = {"step": 7, "ae": weights, "optimizer": optimizer, "config": {"k": 2}, "norm_factor": 3.5}
    torch.save(backup, tmp_path / "ae.pt")
    assert torch.equal(load_weights(tmp_path / "ae.pt")["b_dec"], weights["b_dec"])
    assert read_checkpoint(tmp_path / "ae.pt")[1:] == (3.5, 7)


def write_cut_file(path: Path) -> None:
    torch.save({"b_dec": torch.ones(1000)}, path)
    path.write_bytes(path.read_bytes()[:1500])


def write_pickle_with_code(path: Path) -> None:
    torch.save({"b_dec": RunsCode(path.parent)}, path)


def write_plain_pickle_with_code(path: Path) -> None:
    path.write_bytes(pickle.dumps({"b_dec": RunsCode(path.parent)}))


@pytest.mark.parametrize(
    ("write", "sentence"),
    [
        (lambda path: None, "there is no file"),
        (write_cut_file, "damaged or cut short"),
        (lambda path: path.write_bytes(b""), "damaged or cut short"),
        (lambda path: path.write_text("hello"), "damaged or cut short"),
        (write_pickle_with_code, "code, which was not run"),
        (write_plain_pickle_with_code, "nothing in it was run"),
        (lambda path: torch.save([torch.ones(2)], path), "holds no weights"),
        (lambda path: torch.save({"a": 1}, path), "holds no weights"),
        (lambda path: torch.save({}, path), "holds no weights"),
    ],
)
def test_a_file_that_holds_no_weights_gets_one_sentence(tmp_path: Path, write: Any, sentence: str) -> None:
    path = tmp_path / "ae.pt"
    write(path)
    with pytest.raises(UserError, match=sentence) as raised:
        load_weights(path)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
    ],
)
def test_a_full_disk_leaves_the_old_file_and_no_other(tmp_path: Path, error: OSError) -> None:
    path = tmp_path / "ae.pt"
    path.write_text("old")

    def write(file: BinaryIO) -> None:
        file.write(b"half")
        raise error

    with pytest.raises(UserError, match=r"the disk is full.*untouched.*--resume"):
        save_atomically(path, write)
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["ae.pt"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_recognised_through_the_zip_writer_of_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def torch_says(*_: object) -> None:
        torch.save({"b_dec": torch.ones(100_000)}, "/dev/full")

    with pytest.raises(RuntimeError, match="inline_container"):
        torch_says()
    free = files.shutil.disk_usage(tmp_path)._replace(free=0)
    monkeypatch.setattr(files.shutil, "disk_usage", lambda _: free)
    with pytest.raises(UserError, match="the disk is full"):
        save_atomically(tmp_path / "ae.pt", torch_says)

    def torch_writes_to_our_file(*_: object) -> None:
        with open("/dev/full", "wb") as full:
            torch.save({"b_dec": torch.ones(100_000)}, full)

    with pytest.raises(UserError, match="the disk is full"):
        save_atomically(tmp_path / "ae.pt", torch_writes_to_our_file)
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_the_writer_passes_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        save_atomically(tmp_path / "ae.pt", lambda file: file.write(b"x" * (1 // 0)))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_told_before_anything_is_made(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(UserError, match="is a file, not a folder: choose another --x"):
        check_writable(tmp_path / "runs" / "demo", "--x")
    check_writable(tmp_path / "new" / "folders", "--x")
    assert not (tmp_path / "new").exists()


def test_a_run_folder_refuses_to_write_over_another_run(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "demo")
    run.create()
    run.write_config({"k": 20})
    with pytest.raises(UserError, match=r"not empty.*--resume.*--run_name"):
        RunFolder(tmp_path / "demo").create()


def test_a_failed_start_leaves_nothing_but_a_saved_state_stays(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "demo")
    run.create()
    run.write_config({"k": 20})
    run.save_state({"step": 3})
    run.discard_unless_saved()
    assert run.load_state() == {"step": 3}
    run.state_path.unlink()
    RunFolder(tmp_path / "demo").discard_unless_saved()  # not made by this object
    assert run.path.exists()
    run.discard_unless_saved()
    assert not run.path.exists()


def test_metrics_are_cut_at_the_resumed_step_and_never_repeat(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "demo")
    run.create()
    for step in (10, 20, 30):
        run.append_metrics({"step": step, "trainer_0": {"loss": float("nan") if step == 10 else 1.5}})
    with open(run.metrics_path, "a") as file:
        file.write('{"step": 40, "tra')  # a crash cut this line short
    run.cut_metrics(20)
    run.append_metrics({"step": 30})
    assert run.read_metrics() == [
        {"step": 10, "trainer_0": {"loss": None}},
        {"step": 20, "trainer_0": {"loss": 1.5}},
        {"step": 30},
    ]


def test_a_config_comes_back_from_yaml_in_plain_types(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "demo")
    run.create()
    run.write_config({"seeds": (0, 1), "path": Path("x"), "lr": 3e-4, "n": np.int64(3), "none": None})
    assert run.read_config() == {"seeds": [0, 1], "path": "x", "lr": 3e-4, "n": 3, "none": None}
    run.config_path.write_text("a: [")
    with pytest.raises(UserError, match="damaged"):
        run.read_config()
    with pytest.raises(UserError, match="there is no run"):
        RunFolder(tmp_path / "other").read_config()


def test_random_generators_go_on_where_they_were_saved(tmp_path: Path) -> None:
    torch.manual_seed(3)
    save_tensors(tmp_path / "state.pt", random_state())
    expected = torch.rand(3).tolist(), np.random.rand(3).tolist(), random.random(), random.gauss(0, 1)
    set_random_state(torch.load(tmp_path / "state.pt", weights_only=True))
    assert (
        torch.rand(3).tolist(),
        np.random.rand(3).tolist(),
        random.random(),
        random.gauss(0, 1),
    ) == expected


def test_a_command_line_is_recorded_without_its_secrets() -> None:
    secret = "hf_" + "a1B2" * 8
    words = ["train.py", "--hf_token", secret, "--api_key=abc", "--max_tokens", "5", "--k", "20"]
    words += [f"--dataset=https://me:pass@host/{secret}", "0" * 40, "--note", secret]
    assert scrub(words) == [
        *["train.py", "--hf_token", "***", "--api_key=***", "--max_tokens", "5", "--k", "20"],
        *["--dataset=https://***@host/***", "***", "--note", "***"],
    ]


def test_provenance_names_versions_machine_and_command() -> None:
    facts = provenance()
    assert facts["versions"]["torch"] == torch.__version__
    assert facts["machine"]["cores"] == os.cpu_count()
    assert {"command", "started", "git_revision"} <= facts.keys()
    assert yaml.safe_load(yaml.safe_dump(facts)) == facts
