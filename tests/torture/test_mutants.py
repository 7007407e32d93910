"""Damaged files: every reader ends in one sentence with the file's name, or reads what was there before.

A minute's share runs with the other tests; `scripts/torture.sh` runs thousands (TORTURE: mutants a target).
"""

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from every_dictionary import CONFIG, make
from mutants import mutants
from run_folders import save_run
from torch import Tensor

from dictionary_learning.errors import UserError
from dictionary_learning.exchange import run_folder, saelens
from dictionary_learning.language_model import Place
from dictionary_learning.runs.folder import RunFolder
from dictionary_learning.texts.documents import DocumentStream
from dictionary_learning.utils import load_dictionary
from temporal_saes.experiment.results import finished, save_json
from temporal_saes.method_table.results import read_results
from temporal_saes.method_table.table import table
from temporal_saes.recorded_activations import RecordedActivations
from temporal_saes.report.run_files import RunFiles

N = int(os.environ.get("TORTURE", "15"))
SECONDS = 20


class Target(NamedTuple):
    """A folder, the files in it that are damaged, and who reads it."""

    make: Callable[[Path], object]
    files: tuple[str, ...]
    read: Callable[[Path], Any]
    exact: tuple[str, ...] = ()
    """Files whose content has a checksum: what is read of a damaged one is what was there, or nothing."""


def weights(folder: Path) -> dict[str, Tensor]:
    return load_dictionary(folder, "cpu")[0].state_dict()


def documents(folder: Path) -> list[str]:
    return [document.text for document in DocumentStream.open(str(folder), part="all")]


def write_run(folder: Path) -> None:
    run_folder.write(make("tsae"), CONFIG, folder)


def write_plain_run(folder: Path) -> None:
    save_run(folder, make("tsae"), Path("tiny"), 2, k=3)


def write_saelens(folder: Path) -> None:
    saelens.write(make("batchtopk"), CONFIG, folder)


def write_released(folder: Path) -> None:
    from dictionary_learning.exchange import released_folder

    released_folder.save(make("temporal"), folder)


def write_lines(folder: Path) -> None:
    folder.mkdir()
    lines = [json.dumps({"text": f"Page {i}: boats leave the harbour.", "n": i}) for i in range(20)]
    (folder / "train.jsonl").write_text("\n".join(lines), encoding="utf-8")


def write_table(folder: Path) -> None:
    folder.mkdir()
    lines = [f'"Page {i}: boats, and more boats.",{i}' for i in range(20)]
    (folder / "train.csv").write_text("\n".join(["text,n", *lines]), encoding="utf-8")


def write_parquet(folder: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    folder.mkdir()
    table = pyarrow.table({"text": [f"Page {i}: boats leave the harbour." for i in range(200)]})
    parquet.write_table(table, folder / "train.parquet", write_page_checksum=True)


class Recorded(RecordedActivations):
    """Activations of two texts, of no language model."""

    IDS = (np.arange(5, dtype=np.int32), np.arange(3, dtype=np.int32))

    def __init__(self, folder: Path) -> None:
        self.lm = SimpleNamespace(name="m", d_model=4, dtype=torch.float32)  # type: ignore[assignment]
        self.place, self.folder, self.identity, self.keeps = Place(0), folder, "m", True
        self.log = lambda line: None

    def _record(self, group: Any) -> Tensor:
        return torch.arange(32).reshape(8, 4) / 7

    @classmethod
    def file_name(cls) -> str:
        return cls(Path())._path(cls.IDS).name


def activations(folder: Path) -> dict[str, Tensor]:
    ((_, x_TD),) = Recorded(folder).shards(Recorded.IDS)
    return {"x_TD": x_TD}


QUESTION = {"options": {"dataset": "demo", "k": ["10"]}, "weights_sha256": "0" * 64, "texts_sha256": "1" * 64}


def write_result(folder: Path) -> None:
    accuracy = [{"k": k, "mean": 0.5, "low": 0.4, "high": 0.6, "values": [0.4, 0.6]} for k in (10, "all")]
    subject = {"run_name": "tsae", "chunk": 0, "split": "high", "context_length": 128}
    subject |= {"dict_class": "BatchTopKSAE", "trainer_folder": "trainer_0"}
    result = {
        "experiment": "probing",
        **QUESTION,
        "subject": subject,
        "name": "tsae:0",
        "tasks": {"semantics": {"accuracy": accuracy, "chance": 0.1, "majority": 0.2}},
        "provenance": {"started": "2026-01-01"},
    }
    save_json(folder / "probing" / "demo_chunk0", result, indent=2)


def written_table(folder: Path) -> str:
    return table(read_results(folder))


def answer(folder: Path) -> str:
    return json.dumps(finished(folder / "probing" / "demo_chunk0", QUESTION))


def write_log(folder: Path) -> None:
    (folder / "trainer_0").mkdir(parents=True)
    (folder / "trainer_0" / "config.json").write_text('{"trainer": {"dict_class": "BatchTopKSAE"}}')
    run = RunFolder(folder)
    for step in range(10, 60, 10):
        run.append_metrics({"step": step, "trainer_0": {"loss": 4 / step, "l0": 4.0}})


def curves(folder: Path) -> list[Any]:
    run = RunFiles.read(folder.parent, folder.name)
    return [(name, *run.curve(name)) for name in sorted(run.logged())]


TARGETS = {
    "run": Target(write_run, ("config.json", "ae.pt"), weights, exact=("ae.pt",)),
    "run of the library": Target(write_plain_run, ("trainer_0/config.json", "trainer_0/ae.pt"), weights),
    "saelens": Target(write_saelens, ("cfg.json", "sae_weights.safetensors"), weights),
    "released": Target(write_released, ("conf.yaml", "latest_ckpt.safetensors"), weights),
    "jsonl": Target(write_lines, ("train.jsonl",), documents),
    "csv": Target(write_table, ("train.csv",), documents),
    "parquet": Target(write_parquet, ("train.parquet",), documents),
    "recorded activations": Target(
        activations, (Recorded.file_name(),), activations, exact=(Recorded.file_name(),)
    ),
    "result in the table": Target(write_result, ("probing/demo_chunk0.json",), written_table),
    "result of a comparison": Target(write_result, ("probing/demo_chunk0.json",), answer),
    "log in the report": Target(write_log, ("metrics.jsonl", "trainer_0/config.json"), curves),
}


@contextmanager
def within(seconds: int) -> Iterator[None]:
    """A reader that never ends fails the test instead of hanging it."""

    def stop(*_: object) -> None:
        raise TimeoutError(f"still reading after {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def equal(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    return one == other


FILES = [(name, file) for name, target in TARGETS.items() for file in target.files]


@pytest.mark.parametrize(("name", "file"), FILES)
def test_a_damaged_file_is_one_sentence_or_read_as_it_was(name: str, file: str, tmp_path: Path) -> None:
    target = TARGETS[name]
    folder = tmp_path / "folder"
    target.make(folder)
    path = folder / file
    whole = path.read_bytes()
    right = target.read(folder)
    for mutant in mutants(whole, seed=N, n=N):
        path.write_bytes(mutant.content)
        try:
            with within(SECONDS):
                found = target.read(folder)
        except UserError as error:
            said = str(error)
            assert "\n" not in said.strip(), mutant.what
            assert path.name in said or str(folder) in said, f"{mutant.what}: {said}"
        except Exception as error:
            pytest.fail(f"{mutant.what}: {type(error).__name__}: {error}")
        else:
            assert file not in target.exact or equal(found, right), f"{mutant.what}: other weights"
    path.write_bytes(whole)
    assert equal(target.read(folder), right)
