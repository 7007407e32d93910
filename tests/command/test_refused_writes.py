"""A file that the system refuses to write, as behind a limit on its size or on a disk with errors."""

import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from caches import refused

from dictionary_learning.activations import shard
from dictionary_learning.command.files import save_tensors, save_text
from dictionary_learning.runs.folder import RunFolder


@contextmanager
def files_of_at_most(n_bytes: int) -> Iterator[None]:
    """What `ulimit -f` does; other reasons why writing fails (EIO, ESTALE) come without a name as well."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def metrics(path: Path) -> None:
    RunFolder(path.parent).append_metrics({"step": 1, "note": "x" * 10_000})


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("config.yaml", lambda path: save_text(path, "x" * 10_000)),
        ("state.pt", lambda path: save_tensors(path, {"W_dec": torch.ones(10_000)})),
        ("metrics.jsonl", metrics),
        ("train-00000.safetensors.part", lambda path: shard._allocate(path, 10_000)),
    ],
)
def test_a_file_that_cannot_be_written_is_named_in_one_sentence(
    name: str, write: Callable[[Path], object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / name

    def command() -> None:
        with files_of_at_most(5_000):
            write(path)

    assert f"{path} cannot be used (File too large): check the path" in refused(capsys, command)
    assert [left.name for left in tmp_path.iterdir()] in ([], ["metrics.jsonl"])
