"""Files of weights: written whole, read so that no code runs, no damage passes and numbers are numbers."""

import errno
import math
import pickle
import struct
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dictionary_learning.command.checksums import check_checksum, save_with_checksum
from dictionary_learning.errors import UserError

COUNTS = ("k", "group_sizes")  # every other tensor of a dictionary holds floating-point numbers
_ZIP = b"PK\x03\x04"
_DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError),
    *(RuntimeError, KeyError, ValueError, IndexError, AttributeError, TypeError, OverflowError),
)


class Checkpoint(NamedTuple):
    """What an `ae.pt` holds."""

    weights: dict[str, Tensor]
    norm_factor: float | None  # not None: the weights work on x / norm_factor, it is not folded in yet
    step: int | None


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read an `ae.pt` in either of its forms, on the CPU, without running pickled code.

    The plain form is a state dict. The backup form, which dictionary_learning writes over the same
    name while a run is going, is `{"step", "ae", "optimizer", "config", "norm_factor"}`; its
    weights work on scaled activations.

    Raises:
        UserError: the file is missing, damaged, holds code, or holds something else than weights.
    """
    content = load_safely(path)
    step = norm_factor = None
    if isinstance(content, dict) and isinstance(content.get("ae"), dict):
        step, norm_factor = content.get("step"), content.get("norm_factor")
        content = content["ae"]
    weights = _checked(path, content, "a dictionary of named tensors was expected.")
    if norm_factor is not None and not _is_scale(norm_factor):
        raise UserError(
            f"norm_factor in {path} is {norm_factor!r}, and must be a positive number: take another "
            "checkpoint of the run."
        )
    return Checkpoint(weights, None if norm_factor is None else float(norm_factor), step)


def save_weights(path: str | Path, weights: Mapping[str, Tensor]) -> None:
    """Write a state dict whole or not at all, with its checksum beside it.

    Raises:
        UserError: the disk is full.
    """
    save_with_checksum(path, lambda file: torch.save(dict(weights), file))


def load_weights(path: str | Path) -> dict[str, Tensor]:
    """The named tensors of an `ae.pt` (either form), on the CPU.

    Raises:
        UserError: as `read_checkpoint`.
    """
    return read_checkpoint(path).weights


def read_state_dict(path: str | Path, under: str, of_code: str) -> dict[str, Tensor]:
    """The named tensors of a `.pt`, bare or under the key `under`, on the CPU.

    Args:
        of_code: the remedy where the file holds code.

    Raises:
        UserError: as `load_safely`, or the file holds something else than weights.
    """
    content = load_safely(path, of_code)
    if isinstance(content, dict) and isinstance(content.get(under), dict):
        content = content[under]
    return _checked(path, content, f'named tensors, bare or under "{under}", were expected.')


def read_safetensors(path: str | Path) -> dict[str, Tensor]:
    """The named tensors of a `.safetensors`, on the CPU.

    Raises:
        UserError: the file is damaged, or holds something else than weights.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state = load_file(path)
    except (SafetensorError, OSError, *_DAMAGE) as error:
        raise UserError(f"{path} is damaged or cut short ({error}): copy it again.") from error
    check_checksum(path)
    return _checked(path, state, "named tensors were expected.")


def load_safely(path: str | Path, of_code: str = "only files of plain tensors are read.") -> Any:
    """`torch.load` onto the CPU that runs no code and explains a bad file in one sentence.

    torch itself does not compare the checksums that its files hold; here they are.

    Args:
        of_code: the remedy where the file holds code.

    Raises:
        UserError: the file is missing, cut short, damaged, replaced, or holds pickled code.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"there is no file {path}: check the path.")
    damaged = UserError(
        f"{path} is damaged or cut short: copy it again or take another checkpoint of the run."
    )
    try:
        if not _is_sound(path):
            raise damaged
        check_checksum(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except UserError:
        raise
    except pickle.UnpicklingError as error:
        if "GLOBAL" in str(error):
            raise UserError(f"{path} holds pickled code, which was not run: {of_code}") from None
        raise UserError(
            f"{path} is no file of plain tensors (pickled objects or damage): nothing in it was run."
        ) from None
    except OSError as error:
        if error.errno not in (errno.EINVAL, None):  # what torch says of a file that ends too early
            raise
        raise damaged from None
    except _DAMAGE:
        raise damaged from None


def _is_sound(path: Path) -> bool:
    """Whether each part of a file of torch has the checksum (CRC) that stands beside it in the file."""
    with path.open("rb") as file:
        if file.read(len(_ZIP)) != _ZIP:
            return True  # the form before torch 1.6, which has none
    with zipfile.ZipFile(path) as archive:
        return archive.testzip() is None


def _is_scale(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and math.isfinite(value) and value > 0


def _checked(path: str | Path, content: Any, expected: str) -> dict[str, Tensor]:
    """The content of a file of weights, if it is weights.

    Raises:
        UserError: it is not; or a tensor holds NaN or infinity, or another kind of number than it should.
    """
    if not isinstance(content, Mapping) or not content or not _are_tensors(content):
        raise UserError(f"{path} holds no weights: {expected}")
    for name, tensor in content.items():
        if tensor.layout != torch.strided or tensor.is_quantized:
            raise UserError(f"{name} in {path} is a sparse or quantised tensor: save it as a plain one.")
        is_count = name in COUNTS and not tensor.is_complex()
        if not tensor.is_floating_point() and not (is_count and tensor.dtype != torch.bool):
            raise UserError(
                f"{name} in {path} is of {str(tensor.dtype).removeprefix('torch.')}, where floating-point "
                "numbers belong: it is no dictionary's, or was damaged when it was converted."
            )
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise UserError(
                f"{name} in {path} holds NaN or infinite numbers: take another checkpoint of the run, or "
                "train it again."
            )
        if is_count and tensor.is_floating_point() and not torch.equal(tensor, tensor.round()):
            raise UserError(f"{name} in {path} holds {tensor.tolist()}, where whole numbers belong.")
    return dict(content)


def _are_tensors(content: Mapping[Any, Any]) -> bool:
    return all(isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items())
