"""Reading files of weights without running pickled code."""

import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dictionary_learning.errors import UserError


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
    if not isinstance(content, dict) or not content or not _are_tensors(content):
        raise UserError(f"{path} holds no weights: a dictionary of named tensors was expected.")
    return Checkpoint(dict(content), None if norm_factor is None else float(norm_factor), step)


def load_weights(path: str | Path) -> dict[str, Tensor]:
    """The named tensors of an `ae.pt` (either form), on the CPU.

    Raises:
        UserError: as `read_checkpoint`.
    """
    return read_checkpoint(path).weights


def _are_tensors(content: Mapping[Any, Any]) -> bool:
    return all(isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items())


def load_safely(path: str | Path, of_code: str = "only files of plain tensors are read.") -> Any:
    """`torch.load` onto the CPU that runs no code and explains a bad file in one sentence.

    Args:
        of_code: the remedy where the file holds code.

    Raises:
        UserError: the file is missing, cut short, damaged, or holds pickled code.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"there is no file {path}: check the path.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "GLOBAL" in str(error):
            raise UserError(f"{path} holds pickled code, which was not run: {of_code}") from None
        raise UserError(
            f"{path} is no file of plain tensors (pickled objects or damage): nothing in it was run."
        ) from None
    except (RuntimeError, EOFError, KeyError, ValueError, IndexError, AttributeError, TypeError):
        raise UserError(
            f"{path} is damaged or cut short: copy it again or take another checkpoint of the run."
        ) from None
