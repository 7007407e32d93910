"""Memory: amounts of it, read from a flag, written for a person, asked of the machine; and how it is kept."""

import ctypes
import gc
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from dictionary_learning.errors import UserError

if TYPE_CHECKING:
    import torch

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_BINARY_UNITS = {"KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}
# What a container may use, where there is one (control groups, version 2 and 1).
_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


# of glibc's `mallopt`, and how much memory that is free may stay with the process
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_KEPT = 2**30


def keep_freed_memory() -> None:
    """Let this process hold on to memory that it frees, up to a gibibyte, and ask for it in large pages.

    A tensor of tens of megabytes is else taken from the system anew at each step, page by page, each of which
    the kernel fills with zeros: a tenth of a training step at 16,384 latents. Where the C library is another,
    or refuses, nothing changes. To be called before PyTorch is imported, which reads its switch for large
    pages once.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    if sys.platform != "linux":
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return
    mallopt(_MMAP_THRESHOLD, _KEPT)
    mallopt(_TRIM_THRESHOLD, _KEPT)


@contextmanager
def uncollected() -> Iterator[None]:
    """Inside the block Python looks for no rubbish; what lives at its end is never looked through again.

    For what stays as long as the process, as imported modules do: a fifth of the time in which thousands of
    them are imported goes into looking through them.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        if was_on:
            gc.enable()


def parse_bytes(amount: str | int) -> int:
    """Bytes in "4GB" (10**9), "4GiB" (2**30), "512 M" or a plain number.

    Raises:
        UserError: that is no amount of memory, or none at all.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*([KMGT]I?)?B?\s*", str(amount), re.IGNORECASE)
    n_bytes = 0
    if match:
        unit = (match[2] or "").upper()
        n_bytes = int(float(match[1]) * {**_UNITS, **_BINARY_UNITS}[unit])
    if n_bytes <= 0:
        raise UserError(f"{amount!r} is no amount of memory: write it like 4GB, 512MiB or 4000000000.")
    return n_bytes


def format_bytes(n_bytes: float) -> str:
    """Bytes with three digits and a decimal unit, as `parse_bytes` reads them: "537 MB"."""
    for unit in ("B", "KB", "MB", "GB"):
        if n_bytes < 999.5:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.3g} TB"


def available_memory(device: "str | torch.device" = "cpu") -> int:
    """Bytes that can still be allocated on a device; for the CPU a container's limit counts, too."""
    import torch

    device = torch.device(device)
    if device.type not in ("cpu", "mps"):
        return torch.accelerator.get_memory_info(device)[0]
    import psutil

    available = psutil.virtual_memory().available
    for path in map(Path, _LIMITS):
        if path.is_file() and (limit := path.read_text().strip()).isdigit():
            available = min(available, int(limit))
    return available


def memory_for_data(device: "torch.device", held: int = 0) -> int:
    """Bytes that data may take on a device: all that is free on the CPU, half of it elsewhere.

    The other half is for what computes there: a dictionary with its optimiser, batches of a language model.

    Args:
        held: bytes that the data have there already.
    """
    free = available_memory(device) + held
    return free if device.type == "cpu" else free // 2
