"""The one place that chooses a device, and the number format in which it multiplies quickest."""

import functools
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from dictionary_learning.command.progress import say
from dictionary_learning.errors import UserError

if TYPE_CHECKING:
    import torch


SPREAD = "auto"
"""In place of a language model's device: spread over all devices that there are."""
QUICKEST = "auto"
"""In place of a dtype: bfloat16 where the device multiplies it quicker than float32, else float32."""

ROUNDS = 3
TIMED = (64, 512, 512)  # rows, inputs and outputs of the product that tells how quick a format is
CLEARLY_QUICKER, SLOW = 0.8, 3.0  # of the time in float32; with its own instructions a format takes half


def find_device(device: "str | torch.device | None" = None, flag: str = "--device") -> "torch.device":
    """The device that was asked for, or the best there is: CUDA, then MPS, then CPU.

    Args:
        flag: what it was asked for with, for the message.

    Raises:
        UserError: the device does not exist on this machine or is not a device's name.
    """
    import torch

    if device is None:
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        found = torch.device(device)
    except RuntimeError:
        raise UserError(f"{flag} {device!r} is not a device: use cpu, cuda, cuda:0 or mps.") from None
    n_present = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if (found.index or 0) >= n_present.get(found.type, 0):
        raise UserError(f"{flag} {found} does not exist on this machine: leave the flag out or use cpu.")
    return found


@contextmanager
def own_defaults() -> Iterator[None]:
    """Within it a tensor of which nothing is said is float32 and on the CPU, and an ordinary one.

    That is what is meant everywhere here, and not what a caller has set: `torch.set_default_device("cuda")`,
    `torch.set_default_dtype(torch.bfloat16)`, `torch.inference_mode()`. Also a decorator.
    """
    import torch

    dtype = torch.get_default_dtype()
    with ExitStack() as stack:
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        if dtype != torch.float32:
            torch.set_default_dtype(torch.float32)
            stack.callback(torch.set_default_dtype, dtype)
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
        yield


def with_own_defaults(cls: type, *methods: str) -> None:
    """Let the methods that a class itself defines run with `own_defaults`."""
    for name in vars(cls).keys() & set(methods):
        setattr(cls, name, own_defaults()(vars(cls)[name]))


def dtype_for(name: str, device: "str | torch.device | None" = None, flag: str = "--device") -> str:
    """The dtype of that name; for `QUICKEST` the quicker one of bfloat16 and float32 on the device.

    Args:
        device, flag: as for `find_device`; `SPREAD` is the best there is.

    Raises:
        UserError: as `find_device`.
    """
    if name != QUICKEST:
        return name
    kind = find_device(None if device == SPREAD else device, flag).type
    return _agreed.get(kind) or _quicker(kind)


def _quicker(kind: str) -> str:
    return "bfloat16" if times_as_long("bfloat16", kind) < CLEARLY_QUICKER else "float32"


_agreed: dict[str, str] = {}
"""What `QUICKEST` is on a kind of device for processes that work together."""


@contextmanager
def agreed(of_first: Callable[[dict[str, str]], dict[str, str]]) -> Iterator[None]:
    """Within it all processes take the first one's dtypes: what each times by itself may differ.

    Args:
        of_first: gives the first process's value, in every process.
    """
    _agreed.update(of_first({kind: _quicker(kind) for kind in {"cpu", find_device().type}}))
    try:
        yield
    finally:
        _agreed.clear()


def tell_if_slow(dtype: str, device: "torch.device", flag: str) -> None:
    """Say so where products in this dtype take much longer than in float32: many processors lack them."""
    from dictionary_learning import distributed

    times = times_as_long(dtype, device.type) if distributed.is_first() else 1.0
    if times > SLOW:
        say(
            f"products in {dtype} take {times:.0f} times as long as in float32 on this {device.type}:"
            f" {flag} float32 is quicker."
        )


def multiplies(dtype: str) -> bool:
    """Whether this CPU multiplies in this dtype about as quickly as in float32."""
    return times_as_long(dtype) <= SLOW


@functools.lru_cache
def times_as_long(dtype: str, kind: str = "cpu") -> float:
    """What a product in a dtype takes of the time in float32: timed once on a CPU, assumed elsewhere."""
    import torch
    import torch.nn.functional as F

    if dtype == "float32" or kind == "mps":
        return 1.0
    if kind == "cuda":
        return 0.5 if dtype == "float16" or torch.cuda.is_bf16_supported(including_emulation=False) else 1.0
    n_rows, n_in, n_out = TIMED
    x_TI, W_OI = torch.ones(n_rows, n_in), torch.ones(n_out, n_in)
    low = x_TI.to(getattr(torch, dtype)), W_OI.to(getattr(torch, dtype))
    with torch.inference_mode():
        seconds = seconds_of({"float32": lambda: F.linear(x_TI, W_OI), dtype: lambda: F.linear(*low)})
    return seconds.get(dtype, float("inf")) / seconds["float32"]


def seconds_of(candidates: Mapping[str, Callable[[], object]], rounds: int = ROUNDS) -> dict[str, float]:
    """Seconds of the processor that each candidate takes on one thread at its best; they take turns.

    Not those of a clock: on a busy machine the quickest would be the one that nothing interrupted. And not of
    several threads, which count as work that they wait for each other. A candidate that this build of
    PyTorch, or this processor, does not have is left out.
    """
    import torch

    seconds: dict[str, float] = {}
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for round_number in range(rounds + 1):
            for name, run in candidates.items():
                began = time.thread_time()
                try:
                    run()
                except (AttributeError, RuntimeError):
                    continue
                took = time.thread_time() - began
                if round_number:  # the first one makes room
                    seconds[name] = min(took, seconds.get(name, took))
    finally:
        torch.set_num_threads(n_threads)
    return seconds
