"""The one place that chooses a device."""

from typing import TYPE_CHECKING

from dictionary_learning.errors import UserError

if TYPE_CHECKING:
    import torch


SPREAD = "auto"
"""In place of a language model's device: spread over all devices that there are."""


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
