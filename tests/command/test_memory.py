"""How much memory there is to take: of the machine, within a job's limits, among several processes."""

import mmap
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import torch

from dictionary_learning.command import memory
from dictionary_learning.command.files import sentence
from dictionary_learning.command.memory import available_memory, memory_for_data, shared_among

MB = 10**6


def group(folder: Path, limit: int | str, used: int, dropped: int = 0, version: int = 2) -> None:
    """What the kernel shows of a control group."""
    folder.mkdir(parents=True, exist_ok=True)
    names = ("max", "current") if version == 2 else ("limit_in_bytes", "usage_in_bytes")
    for name, value in zip(names, (limit, used), strict=True):
        (folder / f"memory.{name}").write_text(f"{value}\n")
    prefix = "total_" if version == 1 else ""
    (folder / "memory.stat").write_text(f"anon 5\n{prefix}inactive_file {dropped}\n{prefix}active_file 0\n")


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A process in the job 7 of a scheduler, which shows the groups of the whole machine."""
    (tmp_path / "cgroup").write_text("4:cpu,memory:/slurm/job_7/step_0\n1:name=systemd:/x\n0::/slurm/job_7\n")
    monkeypatch.setattr(memory, "_GROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(memory, "_GROUP_FOLDERS", tmp_path / "fs")
    return tmp_path / "fs"


@pytest.mark.parametrize(
    ("version", "folder"),
    [(2, ""), (2, "slurm/job_7"), (2, "slurm"), (1, "memory"), (1, "memory/slurm/job_7")],
)
def test_what_a_job_has_used_of_its_limit_is_not_available(version: int, folder: str, groups: Path) -> None:
    before = available_memory()
    group(groups / folder, 30 * MB, 25 * MB, dropped=2 * MB, version=version)
    assert available_memory() == 7 * MB  # 30 - (25 - 2)
    group(groups / folder, "max", 25 * MB, version=version)
    assert available_memory() > before / 2


def test_the_group_that_allows_least_decides_and_another_job_s_does_not_count(groups: Path) -> None:
    group(groups / "slurm" / "job_7", 30 * MB, 10 * MB)
    group(groups / "slurm", 50 * MB, 45 * MB)
    group(groups / "slurm" / "job_8", MB, 0)
    assert available_memory() == 5 * MB
    group(groups / "slurm", 50 * MB, 60 * MB)
    assert available_memory() == 0


@contextmanager
def addresses(more: int) -> Iterator[None]:
    """This process may have so many bytes of addresses more."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + more, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def test_a_limit_of_the_process_counts_and_what_exceeds_it_is_one_sentence() -> None:
    with addresses(500 * MB):
        assert 400 * MB < available_memory() <= 500 * MB
        with pytest.raises(RuntimeError) as error:
            torch.empty(6000 * MB, dtype=torch.uint8)  # more than memory that other tests have freed
    assert "there is not enough memory" in sentence(error.value)
    assert "6000000000 bytes" in sentence(error.value)
    assert "not enough memory (MemoryError)" in sentence(MemoryError())
    assert not sentence(RuntimeError("shapes do not match"))


def test_processes_of_one_machine_share_what_is_free_when_they_begin(groups: Path) -> None:
    group(groups, 8000 * MB, 0)
    assert available_memory() > 7000 * MB
    with shared_among(80):
        assert available_memory() == pytest.approx(100 * MB, abs=10 * MB)
        # straight from the system, as memory that other tests have freed would be taken again
        with mmap.mmap(-1, 60 * MB, flags=mmap.MAP_PRIVATE) as held:
            held.write(bytes(len(held)))
            # less for what this one has taken, and none the less for what the others have
            group(groups, 8000 * MB, 7000 * MB)
            assert available_memory() == pytest.approx(40 * MB, abs=10 * MB)
            assert memory_for_data(torch.device("cpu"), len(held)) == pytest.approx(100 * MB, abs=10 * MB)
    with shared_among(1):
        assert available_memory() > 900 * MB
