"""Activations that were harvested elsewhere, as somebody's own script leaves them: arrays, read by rows.

    harvest = Harvest.open(Path("harvest"))
    for span in harvest.spans(256):
        harvest.x_of(span), harvest.tokens_of(span)

Shapes: N rows, L positions of one, T positions of all, D model width; c positions of one context.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dictionary_learning.errors import UserError

NAMES = {
    "x": ("activations", "hidden_states", "states", "x"),
    "tokens": ("tokens", "input_ids", "token_ids"),
    "mask": ("mask", "attention_mask"),
    "documents": ("documents", "document_ids"),
}


class _Array:
    """An array on disk that is read by rows: of a .npy file, or of a .safetensors file."""

    def __init__(self, path: Path, name: str | None = None) -> None:
        self.path, self._slice = path, None
        if name is None:
            try:
                self._data = np.load(path, mmap_mode="r", allow_pickle=False)
            except (ValueError, OSError, EOFError) as error:
                raise UserError(
                    f"{path} is no array of numbers, or damaged ({error}): copy it again."
                ) from error
            self.shape = tuple(self._data.shape)
        else:
            from safetensors import safe_open

            self._file = safe_open(str(path), framework="pt")
            self._slice = self._file.get_slice(name)
            self.shape = tuple(self._slice.get_shape())

    def rows(self, first: int, stop: int) -> Tensor:
        if self._slice is not None:
            return self._slice[first:stop]
        return torch.from_numpy(np.ascontiguousarray(self._data[first:stop]))


class Span(NamedTuple):
    """A context: some positions of a row, or of a flat array."""

    row: int
    """Of [N, L]; 0 of a flat array."""
    first: int
    stop: int
    document: int
    """63 bits."""
    number: int
    """Of the context in its document."""


@dataclass(frozen=True)
class Harvest:
    """Activations with their tokens: [N, L, D] and [N, L], or flat [T, D] and [T] with documents [T].

    Attributes:
        mask: False for padding; everything counts where it is left out.
        documents: which document each row, or each position of a flat array, is of.
    """

    path: Path
    x: _Array
    tokens: Tensor
    mask: Tensor
    documents: Tensor | None

    @property
    def is_flat(self) -> bool:
        return len(self.x.shape) == 2

    @property
    def d_model(self) -> int:
        return self.x.shape[-1]

    @classmethod
    def open(cls, path: Path) -> "Harvest":
        """A folder of .npy files, or one .safetensors file, with arrays of the names in `NAMES`.

        Raises:
            UserError: something is missing, or the shapes do not go together.
        """
        found = {what: _find(path, names) for what, names in NAMES.items()}
        for what in ("x", "tokens"):
            if found[what] is None:
                raise UserError(
                    f"{path} has no {NAMES[what][0]} (or {', '.join(NAMES[what][1:])}): give a folder with "
                    ".npy files of these names, or a .safetensors file with them in it."
                )
        x, tokens = found["x"], found["tokens"]
        assert x is not None
        assert tokens is not None
        if len(x.shape) not in (2, 3) or tokens.shape != x.shape[:-1] or not all(x.shape):
            raise UserError(
                f"{path} has activations of shape {list(x.shape)} and tokens of shape {list(tokens.shape)}: "
                "[N, L, D] and [N, L], or [T, D] and [T], were expected."
            )
        mask, documents = found["mask"], found["documents"]
        if mask is not None and mask.shape != tokens.shape:
            raise UserError(
                f"{path} has a mask of shape {list(mask.shape)}, and tokens {list(tokens.shape)}."
            )
        if documents is None and len(x.shape) == 2:
            raise UserError(
                f"{path} has activations [T, D] in a row, and nothing says where a document ends: add "
                "documents [T], a whole number for each position."
            )
        if documents is not None and documents.shape != tokens.shape[:1]:
            raise UserError(
                f"{path} has documents of shape {list(documents.shape)}, and {tokens.shape[0]} were expected."
            )
        tokens_all = _whole(path, "tokens", tokens)
        return cls(
            path,
            x,
            tokens_all,
            torch.ones(tokens.shape, dtype=torch.bool) if mask is None else mask.rows(0, mask.shape[0]) != 0,
            None if documents is None else _whole(path, "documents", documents),
        )

    def spans(self, context_length: int) -> Iterator[Span]:
        """The contexts in their order; padding at both ends is in none."""
        if self.is_flat:
            yield from self._flat_spans(context_length)
            return
        count: dict[int, int] = {}
        for row in range(len(self.tokens)):
            inside = self.mask[row].nonzero().flatten().tolist()
            if not inside:
                continue
            first, stop = inside[0], inside[-1] + 1
            if self.documents is None:
                document = _id(self.tokens[row, first:stop].numpy().tobytes())
            else:
                document = _id(str(int(self.documents[row])).encode())
            number = count.get(document, 0)
            count[document] = number + 1
            yield Span(row, first, stop, document, number)

    def _flat_spans(self, context_length: int) -> Iterator[Span]:
        assert self.documents is not None
        ends = (self.documents.diff() != 0).nonzero().flatten() + 1
        edges = [0, *ends.tolist(), len(self.documents)]
        for start, end in pairwise(edges):
            document = _id(str(int(self.documents[start])).encode())
            for number, first in enumerate(range(start, end, context_length)):
                yield Span(0, first, min(first + context_length, end), document, number)

    def x_of(self, span: Span) -> Tensor:
        """The activations [c, D] of a context, as they are on disk."""
        if self.is_flat:
            return self.x.rows(span.first, span.stop)
        return self.x.rows(span.row, span.row + 1)[0, span.first : span.stop]

    def tokens_of(self, span: Span) -> tuple[Tensor, Tensor]:
        """Tokens [c] (int32) and mask [c] of a context."""
        inside = slice(span.first, span.stop)
        tokens, mask = (
            (self.tokens, self.mask) if self.is_flat else (self.tokens[span.row], self.mask[span.row])
        )
        return tokens[inside].to(torch.int32), mask[inside]


def _find(path: Path, names: Sequence[str]) -> _Array | None:
    """The array of one of these names."""
    if path.is_dir():
        file = next((path / f"{name}.npy" for name in names if (path / f"{name}.npy").is_file()), None)
        return None if file is None else _Array(file)
    if path.suffix != ".safetensors" or not path.is_file():
        raise UserError(f"there is no folder and no .safetensors file {path}: check --harvest.")
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            there = set(file.keys())
    except SafetensorError as error:
        raise UserError(f"{path} is damaged or cut short ({error}): copy it again.") from error
    name = next((name for name in names if name in there), None)
    return None if name is None else _Array(path, name)


def _whole(path: Path, what: str, array: _Array) -> Tensor:
    """The array as whole numbers."""
    values = array.rows(0, array.shape[0])
    if values.is_floating_point() or values.is_complex() or values.dtype == torch.bool:
        raise UserError(f"{what} in {path} are {values.dtype}, and must be whole numbers.")
    if int(values.min()) < 0:
        raise UserError(f"{what} in {path} has {int(values.min())}, and must not be negative.")
    return values.long()


def _id(data: bytes) -> int:
    """63 bits that stand for a document, evenly spread, as `texts.documents.document_id`."""
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big") >> 1
