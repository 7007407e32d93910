"""What a figure was measured on."""

import os
import platform
import time
from pathlib import Path

import psutil
import torch


def machine_facts() -> dict[str, object]:
    """Processor, cores, threads and versions, for the results file."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text().splitlines()
        name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
    return {
        "processor": name,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "vector_width": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


class Others:
    """How many cores other processes have kept busy since this was made: 0 on a machine with nothing else."""

    def __init__(self) -> None:
        self._began, self._busy, self._own = time.perf_counter(), _busy_seconds(), _own_seconds()

    def cores(self) -> float:
        theirs = _busy_seconds() - self._busy - (_own_seconds() - self._own)
        return round(max(0.0, theirs / (time.perf_counter() - self._began)), 2)


def _busy_seconds() -> float:
    times = psutil.cpu_times()
    return times.user + times.nice + times.system


def _own_seconds() -> float:
    times = psutil.Process().cpu_times()
    return times.user + times.system + times.children_user + times.children_system
