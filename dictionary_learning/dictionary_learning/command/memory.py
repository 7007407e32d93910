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
# Control groups: the limits of a container or of a scheduler's job. Which ones a process is in, and where.
_GROUPS, _GROUP_FOLDERS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
# Of each version: the limit, what is used of it, and what of that are files, which the kernel may drop.
_FILES_OF_GROUP = {
    2: ("memory.max", "memory.current", ("active_file", "inactive_file")),
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", ("total_active_file", "total_inactive_file")),
}
_NO_ROOM = ("DefaultCPUAllocator", "out of memory")  # in a RuntimeError of torch

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
    return f"{n_bytes:.3g} TB" if n_bytes < 999.5 else f"{n_bytes:.0f} TB"


def available_memory(device: "str | torch.device" = "cpu") -> int:
    """Bytes that this process can still allocate on a device.

    For the CPU the limits of control groups and of the process count, too, and of several processes that work
    together on a machine each has its share (`shared_among`).
    """
    import torch

    device = torch.device(device)
    if device.type not in ("cpu", "mps"):
        return torch.accelerator.get_memory_info(device)[0]
    return max(0, min([_free_here(), *(most - _private_bytes() for most in _most[-1:])]))


def _free_here() -> int:
    """Bytes that are free on this machine, within the limits of this process and of the groups it is in."""
    import psutil

    return min([psutil.virtual_memory().available, *_room_of_process(), *_room_of_groups()])


def _private_bytes() -> int:
    """What this process has allocated; files that it has mapped belong to all."""
    import psutil

    used = psutil.Process().memory_info()
    return int(used.rss - getattr(used, "shared", 0))


_most: list[int] = []
"""What this process may allocate in all, where it shares the machine."""


@contextmanager
def shared_among(n: int) -> Iterator[None]:
    """Within it this process may take the n-th part of what is free on the CPU at its beginning.

    Args:
        n: processes of this machine that begin it at the same time.
    """
    if n == 1:
        yield
        return
    _most.append(_free_here() // n + _private_bytes())
    try:
        yield
    finally:
        _most.pop()


def _room_of_process() -> Iterator[int]:
    """What a limit on the addresses of this process (`ulimit -v`) still allows, if there is one."""
    try:
        import resource
    except ImportError:
        return
    import psutil

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY:
        yield limit - psutil.Process().memory_info().vms


def _room_of_groups() -> Iterator[int]:
    """What each control group around this process still allows, of those that have a limit."""
    if not _GROUPS.is_file():
        return
    for line in _GROUPS.read_text().splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0":
            version, root = 2, _GROUP_FOLDERS
        elif "memory" in controllers.split(","):
            version, root = 1, _GROUP_FOLDERS / "memory"
        else:
            continue
        of_limit, of_usage, droppable = _FILES_OF_GROUP[version]
        inner = root / path.lstrip("/")
        # within a container its own group is the root, whatever the path says
        for folder in (inner, *inner.parents):
            if not folder.is_relative_to(root):
                break
            try:
                limit, used = ((folder / name).read_text().strip() for name in (of_limit, of_usage))
                numbers = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
            except OSError:
                continue
            if limit.isdigit():  # not "max"
                yield int(limit) - int(used) + sum(int(numbers.get(name, 0)) for name in droppable)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory could not be allocated, on whichever device."""
    text = str(error)
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(sign in text for sign in _NO_ROOM)
    )


def memory_for_data(device: "torch.device", held: int = 0) -> int:
    """Bytes that data may take on a device: all that is free on the CPU, half of it elsewhere.

    The other half is for what computes there: a dictionary with its optimiser, batches of a language model.

    Args:
        held: bytes that the data have there already.
    """
    free = available_memory(device) + held
    return free if device.type == "cpu" else free // 2
