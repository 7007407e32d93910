"""What the process does with memory that it frees."""

import ctypes
import gc
import os
import platform
import subprocess
import sys

import pytest

from dictionary_learning.command.memory import keep_freed_memory, uncollected

FREED = """
import resource
from dictionary_learning.command.memory import keep_freed_memory
keep_freed_memory()
import torch

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

for _ in range(3):
    torch.ones(10, 2**20)
before = faults()
for _ in range(5):
    torch.ones(10, 2**20)
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the switch is one of glibc's")
def test_memory_that_was_freed_is_used_again_without_asking_the_system():
    # a command that ran in this process has asked for large pages, and a child would, too
    plain = {name: value for name, value in os.environ.items() if name != "THP_MEM_ALLOC_ENABLE"}
    done = subprocess.run(
        [sys.executable, "-c", FREED], env=plain, capture_output=True, text=True, check=True
    )
    n_pages = 5 * 40 * 2**20 // os.sysconf("SC_PAGE_SIZE")  # each of which the system gives anew without it
    assert int(done.stdout) * 10 < n_pages


def test_a_c_library_without_the_switch_changes_nothing(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    monkeypatch.setattr(sys, "platform", "linux")
    keep_freed_memory()


@pytest.mark.parametrize("was_on", [True, False])
def test_rubbish_is_looked_for_as_before_once_what_stays_is_there(was_on):
    before = gc.isenabled()
    (gc.enable if was_on else gc.disable)()
    try:
        with pytest.raises(KeyError), uncollected():
            raise KeyError
        assert gc.isenabled() == was_on
        with uncollected():
            assert not gc.isenabled()
            stays = [[] for _ in range(1000)]
        assert gc.get_freeze_count() >= len(stays)
        assert gc.isenabled() == was_on
    finally:
        gc.unfreeze()
        (gc.enable if before else gc.disable)()
