"""Activations of texts, from the cache on disk or from the language model, which runs once over a text.

    for some, x_TD in RecordedActivations(lm, layer, reading).shards(ids): ...  # of texts[some]

What is kept is named by a hash of the weights, the place and the tokens, so that another dictionary or chunk
starts from the disk. A file that is not what was written is made again, and where the disk refuses, the
language model runs without it: a cache never decides a number, nor whether there is one.

Shapes: L positions of one text, T positions of several texts in a row, D model width, B texts of a batch.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dictionary_learning.command.files import cache_folder, check_writable, save_atomically
from dictionary_learning.command.lock import if_free, in_turn
from dictionary_learning.command.progress import LoopProgress, n_of, say
from dictionary_learning.errors import UserError
from dictionary_learning.language_model import LanguageModel, Place
from dictionary_learning.language_model.fingerprint import remembered_fingerprint
from dictionary_learning.language_model.text_codes import MEDIAN_TEXTS
from temporal_saes.reading import Reading

SHARD_TEXTS = MEDIAN_TEXTS  # texts in one cache file, and in memory at a time


class RecordedActivations:
    """Activations of texts, from the cache or from the language model."""

    def __init__(
        self, lm: LanguageModel, layer: int | Place, reading: Reading, log: Callable[[str], None] = say
    ) -> None:
        """Args: log: gets one line on what the language model has to do, and on a cache that fails."""
        self.lm, self.batch_size, self.log = lm, reading.lm_batch_size, log
        self.place = lm.check_place(layer)
        self.folder = cache_folder() / "activations" if reading.cache else None
        self.keeps = True
        self.identity = weights_identity(lm, self.place) if reading.cache else ""

    def shards(
        self, ids: Sequence[np.ndarray], every: tuple[int, int] = (0, 1)
    ) -> Iterator[tuple[slice, Tensor]]:
        """Which texts, and their activations [T, D], `SHARD_TEXTS` texts after another.

        Args:
            every: (r, n) gives only the shards whose number leaves the rest r when divided by n.
        """
        groups = [ids[i : i + SHARD_TEXTS] for i in range(0, len(ids), SHARD_TEXTS)]
        own = range(every[0], len(groups), every[1])
        self._announce([groups[number] for number in own])
        n_texts = sum(len(groups[number]) for number in own)
        with LoopProgress(n_texts, str(self.place), "texts") as progress:
            for at, number in enumerate(own):
                with progress.piece(n=len(groups[number])):
                    x_TD = self._taken([groups[i] for i in own[at:]])
                yield slice(number * SHARD_TEXTS, (number + 1) * SHARD_TEXTS), x_TD

    def _taken(self, groups: Sequence[Sequence[np.ndarray]]) -> Tensor:
        """Activations of the first group: from the disk, or else from the language model.

        While another process records it, this one records a later group, which spares the other that one.
        """
        first, *later = groups
        while True:
            x_TD = self._cached(first)
            if x_TD is None:
                x_TD = self._recorded_if_free(first)
            if x_TD is not None:
                return x_TD
            missing = (group for group in later if not os.path.isfile(self._path(group)))
            if all(self._recorded_if_free(group) is None for group in missing):
                with in_turn(self._path(first)):
                    pass

    def _recorded_if_free(self, group: Sequence[np.ndarray]) -> Tensor | None:
        """What the language model gives, kept on the disk; None where another process is at work on it."""
        if self.folder is None or not self.keeps:
            return self._record(group)
        with ExitStack() as stack:
            try:
                is_free = stack.enter_context(if_free(self._path(group)))
            except OSError:  # a folder without locks
                is_free = True
            if not is_free:
                return None
            x_TD = self._cached(group)  # another process may have ended just now
            if x_TD is None:
                x_TD = self._record(group)
                if bool(torch.isfinite(x_TD).all()):
                    self._keep(group, x_TD)
            return x_TD

    def _announce(self, groups: list[Sequence[np.ndarray]]) -> None:
        missing = [group for group in groups if not (self.folder and os.path.isfile(self._path(group)))]
        if missing:
            self._check_folder()
            n_tokens = sum(len(ids_L) for group in missing for ids_L in group)
            size = n_tokens * self.lm.d_model * self.lm.dtype.itemsize
            kept = f", kept in {self.folder} ({size / 1e6:,.0f} MB)" if self.folder and self.keeps else ""
            self.log(
                f"running {self.lm.name} to {self.place} over {n_of(sum(map(len, missing)), 'text')}, "
                f"{n_tokens:,} tokens{kept}"
            )

    def _check_folder(self) -> None:
        if self.folder is not None:
            try:
                check_writable(self.folder, "TEMPORAL_SAES_CACHE")
            except UserError as error:
                self._go_without(str(error))

    def _go_without(self, reason: str) -> None:
        """Keep nothing more, and say it once."""
        if self.keeps:
            self.keeps = False
            self.log(f"activations are not kept on the disk: {reason}")

    def _path(self, group: Sequence[np.ndarray]) -> Path:
        assert self.folder is not None
        digest = hashlib.sha256(self.identity.encode())
        for ids_L in group:
            digest.update(len(ids_L).to_bytes(4, "little") + ids_L.astype("<i4").tobytes())
        return self.folder / f"{digest.hexdigest()[:32]}.safetensors"

    def _cached(self, group: Sequence[np.ndarray]) -> Tensor | None:
        """What is kept of a group; None where nothing is, or it is not what was written."""
        if self.folder is None or not os.path.isfile(path := self._path(group)):
            return None
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, "pt") as file:
                # a copy: a tensor of the file itself would change with it
                x_TD, said = file.get_tensor("x_TD").clone(), (file.metadata() or {}).get("sha256")
            problem = None if said == _sha256(path.stem, x_TD) else "is damaged"
            if x_TD.shape != (sum(map(len, group)), self.lm.d_model) or x_TD.dtype != self.lm.dtype:
                problem = "holds something else"
            elif not bool(torch.isfinite(x_TD).all()):
                problem = "holds numbers that are not finite"
        except SafetensorError:
            problem = "is damaged"
        except OSError as error:
            problem = f"cannot be read ({error.strerror})"
        if problem is None:
            return x_TD
        self.log(f"{path} {problem}: it is removed and made again.")
        try:
            path.unlink(missing_ok=True)  # another process may have been first
        except OSError as error:
            self._go_without(f"{path} cannot be removed ({error.strerror}).")
        return None

    def _keep(self, group: Sequence[np.ndarray], x_TD: Tensor) -> None:
        if self.folder is None or not self.keeps:
            return
        from safetensors.torch import save

        path = self._path(group)
        try:
            content = save({"x_TD": x_TD}, {"sha256": _sha256(path.stem, x_TD)})
            save_atomically(path, lambda file: file.write(content))
        except OSError as error:
            self._go_without(f"{path} cannot be written ({error.strerror}).")
        except UserError as error:  # the disk is full
            self._go_without(str(error))

    def _record(self, group: Sequence[np.ndarray]) -> Tensor:
        """The language model over the texts of a group, sorted by length so that little is padding."""
        starts = np.concatenate([[0], np.cumsum([len(ids_L) for ids_L in group])]).tolist()
        x_TD = torch.empty(starts[-1], self.lm.d_model, dtype=self.lm.dtype)
        by_length = sorted((i for i in range(len(group)) if len(group[i])), key=lambda i: len(group[i]))
        for first in range(0, len(by_length), self.batch_size):
            batch = by_length[first : first + self.batch_size]
            tokens_BL = torch.zeros(len(batch), len(group[batch[-1]]), dtype=torch.long)
            mask_BL = torch.zeros_like(tokens_BL, dtype=torch.bool)
            for row, i in enumerate(batch):
                tokens_BL[row, : len(group[i])] = torch.from_numpy(group[i]).long()
                mask_BL[row, : len(group[i])] = True
            x_BLD = self.lm.record(tokens_BL, mask_BL, self.place).cpu()
            for row, i in enumerate(batch):
                x_TD[starts[i] : starts[i + 1]] = x_BLD[row, : len(group[i])]
        return x_TD


def weights_identity(lm: LanguageModel, layer: int | Place) -> str:
    """A hash of what decides the activations of a place: config, dtype, and all weights up to its layer.

    The same model in another folder has the same identity, a fine-tuned one under the same name
    another, and so has one that was changed in memory.
    """
    config = lm.model.config.to_dict()
    for key in ("_name_or_path", "transformers_version", "torch_dtype", "dtype"):
        config.pop(key, None)
    digest = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode())
    place = lm.check_place(layer)
    assert place.layer is not None
    site = f" {place.site}" if place.is_added else ""  # what was kept before there were sites still counts
    digest.update(f"layer {place.layer}{site} {lm.dtype} {remembered_fingerprint(lm, place.layer)}".encode())
    return digest.hexdigest()


def _sha256(name: str, x_TD: Tensor) -> str:
    """Of the activations and the file's name, so that those of other texts are told apart."""
    digest = hashlib.sha256(f"{name} {x_TD.dtype} {tuple(x_TD.shape)}".encode())
    digest.update(x_TD.contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()
