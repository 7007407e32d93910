"""A shard: one block of an activation cache, a safetensors file that is filled in place and read by mapping.

T positions, C contexts, D model width. In the file:

    starts [C + 1], documents [C], positions [C], numbers [C]   int64, as in `contexts.PackedTokens`
    norm [T]      float32, the length of each activation; 0 where it is not there yet
    tokens [T]    int32
    x [T, D]      float32 or bfloat16
    text [T]      bool, false for special tokens

Which positions are usable follows from `text` and `norm` (`block.Block.of`), so that another norm filter does
not need another cache.

A shard is made at its full length before the language model runs, so a disk that becomes full cannot stop it
in the middle, and its activations go straight to their place: neither a killed process nor an interrupted one
loses what the model has computed. It has the ending `.part` until all of it is there.
"""

import hashlib
import json
import math
import mmap
import os
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from dictionary_learning.activations.contexts import PackedTokens
from dictionary_learning.command.files import FULL_DISK, naming
from dictionary_learning.errors import UserError

_DTYPES = {
    "I64": torch.int64,
    "F32": torch.float32,
    "I32": torch.int32,
    "BF16": torch.bfloat16,
    "BOOL": torch.bool,
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
# The parts of `PackedTokens`, in its order.
_PACKED = ("tokens", "text", "starts", "documents", "positions", "numbers")
# The data begin at a multiple of this; with the widest numbers first every tensor is aligned.
_ALIGNMENT = 64
# Norms are summed in another order when they are checked; a page that is not on the disk is far off.
_NORM_TOLERANCE = 1e-2
_CHECKED_ROWS = 4096
_NO_SHARD = (ValueError, KeyError, IndexError, TypeError, AttributeError)

Layout = dict[str, tuple[torch.dtype, tuple[int, ...]]]


class Shard(NamedTuple):
    """The content of a shard, mapped into memory and not to be written to."""

    packed: PackedTokens
    x_TD: Tensor
    norm_T: Tensor


def shard_bytes(n_positions: int, n_contexts: int, d_model: int, dtype: torch.dtype) -> int:
    """The length of a shard's file, but for its header of some hundred bytes."""
    return _data_bytes(_layout(n_positions, n_contexts, d_model, dtype))


def read_shard(path: Path) -> Shard:
    """Map a shard into memory.

    Raises:
        UserError: the file is not there, or no shard.
    """
    try:
        return map_shard(path)
    except FileNotFoundError:
        raise UserError(f"{path} is missing.") from None


def map_shard(path: Path) -> Shard:
    """As `read_shard`.

    Raises:
        FileNotFoundError: the file is not there.
        UserError: it is no shard.
    """
    try:
        with open(path, "rb") as file:
            memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        layout, first = _read_header(memory)
    except _NO_SHARD:
        raise UserError(f"{path} is damaged: it does not begin as a shard does.") from None
    tensors = _tensors(memory, layout, first)
    return Shard(PackedTokens(*(tensors[name] for name in _PACKED)), tensors["x"], tensors["norm"])


class ShardInProgress:
    """A shard that the language model is filling.

    Several processes of a machine may fill one: the first of them begins it, the others join it.

    Attributes:
        packed: its texts.
        x_TD, norm_T: where activations and their norms go; what is written there is in the file.
    """

    def __init__(
        self,
        path: Path,
        packed: PackedTokens,
        d_model: int,
        dtype: torch.dtype,
        facts: Mapping[str, str],
    ) -> None:
        """Go on with `path` + ".part" if it is of the same texts, otherwise begin it.

        Args:
            facts: kept in the file's header; a file with other facts is begun again.

        Raises:
            OSError: the disk is full.
        """
        assert sys.byteorder == "little", "safetensors files are little-endian"
        self.path = path
        self.part = self.part_of(path)
        self.packed = packed
        layout = _layout(len(packed.tokens_T), len(packed.document_C), d_model, dtype)
        header = _header(layout, facts)
        size = len(header) + _data_bytes(layout)
        is_new = not _starts_with(self.part, header, size)
        if is_new:
            _allocate(self.part, size)
        with open(self.part, "r+b") as file:
            self._memory = mmap.mmap(file.fileno(), size)
        tensors = _tensors(self._memory, layout, len(header))
        texts = dict(zip(_PACKED, packed, strict=True))
        if is_new or not all(torch.equal(tensors[name], texts[name]) for name in _PACKED):
            self._memory[: len(header)] = bytes(len(header))
            tensors["norm"].zero_()
            for name, tensor in texts.items():
                tensors[name].copy_(tensor)
            self._memory.flush()
            self._memory[: len(header)] = header  # only now is it a shard
        self.x_TD, self.norm_T = tensors["x"], tensors["norm"]
        if not is_new:
            self._drop_unwritten()

    @classmethod
    def join(cls, path: Path) -> Self:
        """One that another process of this machine has begun, and may be filling.

        Raises:
            UserError: it is not there, or no shard.
        """
        shard = cls.__new__(cls)
        shard.path, shard.part = path, cls.part_of(path)
        try:
            with open(shard.part, "r+b") as file:
                shard._memory = mmap.mmap(file.fileno(), 0)
            layout, first = _read_header(shard._memory)
        except (OSError, *_NO_SHARD) as error:
            raise UserError(
                f"{shard.part} was begun by another process of this machine and cannot be read here"
                f" ({error}): give a folder that all processes have with --activations."
            ) from None
        tensors = _tensors(shard._memory, layout, first)
        shard.packed = PackedTokens(*(tensors[name] for name in _PACKED))
        shard.x_TD, shard.norm_T = tensors["x"], tensors["norm"]
        return shard

    @staticmethod
    def part_of(path: Path) -> Path:
        """The name of a shard while it is not full."""
        return path.with_name(f"{path.name}.part")

    def flush(self) -> None:
        """Have everything that was written on the disk."""
        with naming(self.part), open(self.part, "rb") as file:
            self._memory.flush()
            os.fsync(file.fileno())

    def finish(self) -> str:
        """Give the full shard its name; its SHA-256.

        After this the tensors are not to be used any more.
        """
        self.flush()
        digest = file_sha256(self.part)
        os.replace(self.part, self.path)
        return digest

    def _drop_unwritten(self) -> None:
        """Take back norms whose activations did not reach the disk when the machine went down."""
        for first in range(0, len(self.norm_T), _CHECKED_ROWS):
            rows = slice(first, first + _CHECKED_ROWS)
            norm_n = self.norm_T[rows]
            found_n = torch.linalg.vector_norm(self.x_TD[rows], dim=1, dtype=torch.float32)
            norm_n[~((found_n - norm_n).abs() <= _NORM_TOLERANCE * norm_n)] = 0


def file_sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _layout(n_positions: int, n_contexts: int, d_model: int, dtype: torch.dtype) -> Layout:
    return {
        "starts": (torch.int64, (n_contexts + 1,)),
        "documents": (torch.int64, (n_contexts,)),
        "positions": (torch.int64, (n_contexts,)),
        "numbers": (torch.int64, (n_contexts,)),
        "norm": (torch.float32, (n_positions,)),
        "tokens": (torch.int32, (n_positions,)),
        "x": (dtype, (n_positions, d_model)),
        "text": (torch.bool, (n_positions,)),
    }


def _data_bytes(layout: Layout) -> int:
    return sum(dtype.itemsize * math.prod(shape) for dtype, shape in layout.values())


def _entries(layout: Layout) -> dict[str, Any]:
    """The tensors as a header describes them."""
    entries = {}
    end = 0
    for name, (dtype, shape) in layout.items():
        begin, end = end, end + dtype.itemsize * math.prod(shape)
        entries[name] = {"dtype": _NAMES[dtype], "shape": list(shape), "data_offsets": [begin, end]}
    return entries


def _header(layout: Layout, facts: Mapping[str, str]) -> bytes:
    text = json.dumps({"__metadata__": dict(facts), **_entries(layout)}, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % _ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


def _read_header(memory: mmap.mmap) -> tuple[Layout, int]:
    """What is in a file, and where the data begin.

    Raises:
        _NO_SHARD: not what a shard holds.
    """
    first = 8 + int.from_bytes(memory[:8], "little")
    content = json.loads(memory[8:first])
    content.pop("__metadata__", None)
    n_positions, d_model = content["x"]["shape"]
    (n_contexts,) = content["documents"]["shape"]
    layout = _layout(n_positions, n_contexts, d_model, _DTYPES[content["x"]["dtype"]])
    if content != _entries(layout) or len(memory) != first + _data_bytes(layout):
        raise ValueError("other tensors")
    return layout, first


def _tensors(memory: mmap.mmap, layout: Layout, first: int) -> dict[str, Tensor]:
    """Views of a mapped file whose data begin at `first`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about a mapping that is not to be written to
        data = torch.frombuffer(memory, dtype=torch.uint8, offset=first)
    tensors = {}
    for name, entry in _entries(layout).items():
        begin, end = entry["data_offsets"]
        dtype, shape = layout[name]
        tensors[name] = data[begin:end].view(dtype).view(shape)
    return tensors


def _allocate(path: Path, size: int) -> None:
    """A file of zeros that has its place on the disk.

    Raises:
        OSError: there is no such place.
    """
    try:
        with naming(path), open(path, "wb") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, size)
            except (AttributeError, OSError) as error:
                if getattr(error, "errno", None) in FULL_DISK:
                    raise
                for begin in range(0, size, 2**20):  # a system that cannot do it at once
                    file.write(bytes(min(2**20, size - begin)))
    except OSError:
        path.unlink(missing_ok=True)
        raise


def _starts_with(path: Path, header: bytes, size: int) -> bool:
    if not path.is_file() or path.stat().st_size != size:
        return False
    with open(path, "rb") as file:
        return file.read(len(header)) == header
