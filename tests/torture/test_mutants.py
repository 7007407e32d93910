"""Damaged files: every reader ends in one sentence with the file's name, or reads what was there before.

A minute's share runs with the other tests; `scripts/torture.sh` runs thousands (TORTURE: mutants a target).
"""

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from every_dictionary import CONFIG, make
from mutants import mutants
from run_folders import save_run
from torch import Tensor

from dictionary_learning.errors import UserError
from dictionary_learning.exchange import run_folder, saelens
from dictionary_learning.texts.documents import DocumentStream
from dictionary_learning.utils import load_dictionary

N = int(os.environ.get("TORTURE", "12"))
SECONDS = 20


class Target(NamedTuple):
    """A folder, the files in it that are damaged, and who reads it."""

    make: Callable[[Path], None]
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


TARGETS = {
    "run": Target(write_run, ("config.json", "ae.pt"), weights, exact=("ae.pt",)),
    "run of the library": Target(write_plain_run, ("trainer_0/config.json", "trainer_0/ae.pt"), weights),
    "saelens": Target(write_saelens, ("cfg.json", "sae_weights.safetensors"), weights),
    "released": Target(write_released, ("conf.yaml", "latest_ckpt.safetensors"), weights),
    "jsonl": Target(write_lines, ("train.jsonl",), documents),
    "csv": Target(write_table, ("train.csv",), documents),
    "parquet": Target(write_parquet, ("train.parquet",), documents),
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
