"""The batches of a training run, with a look ahead and a way back to a position among them."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from torch import Tensor

from dictionary_learning.activations.block import Contexts
from dictionary_learning.activations.sequences import Sequences
from dictionary_learning.command.progress import say

Batch = Tensor | Sequences


class Source:
    """The batches, with a look ahead and a way back to a position among them."""

    def __init__(self, data: Iterable[Batch | Contexts]) -> None:
        self.data = data
        self._iterator: Iterator[Batch | Contexts] = iter(data)
        self._held: list[tuple[Batch, dict[str, Any]]] = []  # batches read ahead, each with where it follows
        self._n_read = 0
        self.position = self._here()  # what the next batch follows

    @property
    def can_rewind(self) -> bool:
        return hasattr(self.data, "load_state_dict") and hasattr(self.data, "state_dict")

    @property
    def epoch(self) -> int | None:
        return getattr(self.data, "epoch", None)

    def _here(self) -> dict[str, Any]:
        state = self.data.state_dict() if self.can_rewind else None  # type: ignore[attr-defined]
        return {"n_read": self._n_read, "data": state}

    def _pull(self) -> Batch | None:
        batch = next(self._iterator, None)
        self._n_read += batch is not None
        return Sequences.of(batch.x_NLD, batch.mask_NL) if isinstance(batch, Contexts) else batch

    def read(self) -> Batch | None:
        """The next batch, None when there are no more."""
        batch = self._held.pop(0)[0] if self._held else self._pull()
        self.position = self._held[0][1] if self._held else self._here()
        return batch

    def look_ahead(self, n_tokens: int, n_batches: int) -> list[Batch]:
        """The next batches, until they have `n_tokens` rows or are `n_batches`; they stay to be read."""
        while len(self._held) < n_batches and sum(len(batch) for batch, _ in self._held) < n_tokens:
            follows = self._here()
            batch = self._pull()
            if batch is None:
                break
            self._held.append((batch, follows))
        return [batch for batch, _ in self._held]

    def seek(self, position: Mapping[str, Any]) -> None:
        if self.can_rewind:
            self.data.load_state_dict(position["data"])  # type: ignore[attr-defined]
            self._iterator = iter(self.data)
            self._n_read = position["n_read"]
        elif position["n_read"]:
            say("these data cannot be rewound: reading again the batches that the run has seen.")
            while self._n_read < position["n_read"] and self._pull() is not None:
                pass
        self.position = self._here()
