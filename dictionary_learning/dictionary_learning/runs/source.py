"""The batches of a training run, with a look ahead and a way back to a position among them.

Several processes divide them. Data that say so by `division` have done it: by "rows", where each gives its
process's rows of the same batches, or by "documents", where each has batches of its own. Of all other data
every process reads the whole batch and takes its rows.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

from dictionary_learning import distributed
from dictionary_learning.activations.block import Contexts, TextPairs
from dictionary_learning.activations.sequences import Sequences
from dictionary_learning.command.progress import say
from dictionary_learning.errors import UserError

Batch = Tensor | TextPairs | Sequences


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

    @property
    def is_of_documents(self) -> bool:
        """Whether each process has batches of its own, and a position of its own among them."""
        return getattr(self.data, "division", None) == "documents"

    def _here(self) -> dict[str, Any]:
        state = self.data.state_dict() if self.can_rewind else None  # type: ignore[attr-defined]
        return {"n_read": self._n_read, "data": state}

    def _pull(self) -> Batch | None:
        batch = next(self._iterator, None)
        self._n_read += batch is not None
        while isinstance(batch, Tensor) and batch.shape[:1] == (0,) and not hasattr(self.data, "division"):
            batch = next(self._iterator, None)  # a filter may have left nothing of one
            self._n_read += batch is not None
        if batch is not None and not isinstance(batch, Tensor | TextPairs | Contexts | Sequences):
            raise UserError(
                f"the data gave a {type(batch).__name__} where a batch is a tensor of activations, [B, D] or "
                "for pairs [B, 2, D]: of a list or tuple take the tensor, as in (batch[0] for batch in "
                "loader), and of NumPy's torch.from_numpy(batch)."
            )
        if batch is not None and distributed.size() > 1 and not hasattr(self.data, "division"):
            batch = _rows_of_process(batch)
        return Sequences.of(batch.x_NLD, batch.mask_NL) if isinstance(batch, Contexts) else batch

    def read(self) -> Batch | None:
        """The next batch, None when there are no more."""
        batch = self._held.pop(0)[0] if self._held else self._pull()
        self.position = self._held[0][1] if self._held else self._here()
        return batch

    def peek(self) -> Batch | None:
        """The next batch, which stays to be read; None when there are no more."""
        return self._held[0][0] if self._held or self._hold() else None

    def look_ahead(self, n_tokens: int, n_batches: int) -> list[Batch]:
        """The next batches, which stay to be read: `n_tokens` rows of all processes, or `n_batches`."""
        n_found, batches = 0, list[Batch]()
        while len(batches) < n_batches and n_found < n_tokens:
            if not distributed.is_all(len(self._held) > len(batches) or self._hold()):
                break
            batches.append(self._held[len(batches)][0])
            n_found += distributed.total_count(n_tokens_of(batches[-1]))
        return batches

    def _hold(self) -> bool:
        """Read one more batch ahead, if there is one."""
        follows = self._here()
        batch = self._pull()
        if batch is not None:
            if isinstance(batch, Tensor) and not self.can_rewind:
                batch = batch.detach().clone()  # a generator may fill the same tensor with the next one
            self._held.append((batch, follows))
        return batch is not None

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

    def seek_any(self, positions: Sequence[Mapping[str, Any]]) -> None:
        """Go on where the processes were; another number of them begins the next pass over the documents."""
        if len(positions) == distributed.size():
            return self.seek(positions[distributed.rank()])
        last = max(positions, key=lambda position: position["data"]["epoch"])
        say(
            f"the run was saved by {len(positions)} processes, which had documents of their own; "
            f"{distributed.size()} now deal them out anew and begin another pass over the texts."
        )
        beginning = {"block": 0, "batch": 0, "start": [0, 0, 0], "document": None}
        self.seek({**last, "data": {**last["data"], **beginning, "epoch": last["data"]["epoch"] + 1}})


def n_tokens_of(batch: Batch) -> int:
    """The tokens of a batch; of pairs, and of runs of them, the current ones."""
    if not isinstance(batch, Sequences) and batch.ndim == 3:
        return len(batch) * (batch.shape[1] - 1)
    return len(batch)


def _rows_of_process(batch: Batch | Contexts) -> Batch | Contexts:
    """This process's rows, or texts, of a batch that all processes have read.

    Raises:
        UserError: there are fewer than processes.
    """
    n = (
        len(batch.length_N)
        if isinstance(batch, Sequences)
        else len(batch[0] if isinstance(batch, Contexts) else batch)
    )
    if n < distributed.size():
        raise UserError(
            f"a batch of {n} cannot be divided among {distributed.size()} processes: use larger batches, or "
            "fewer processes."
        )
    part = distributed.share(n)
    if isinstance(batch, Contexts):
        return batch.part(part)
    return batch.texts(part) if isinstance(batch, Sequences) else batch[part]
