"""The cache of latents that delphi's explainers and scorers read, from the pass that a browser is made of.

    latents/<module>/<first>_<last>.safetensors    locations [N, 3] (row, position, latent - first),
                                                   activations [N], tokens [rows, ROW]
    latents/<module>/config.json

as eai-delphi 0.1.3 writes and reads it (`LatentDataset(folder / "latents", ...)`). As delphi does with its
own texts, contexts are put one behind another and cut into rows of `ROW` tokens, so an example may run from
one text into the next; each text was encoded by itself. What is left behind the last whole row is left out.
Activations are float32, where delphi rounds its own to float16.
"""

import json
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np

from dictionary_learning.command.files import save_atomically, save_text
from temporal_saes.latents.codes import CodesOfContexts

ROW = 256  # tokens; examples are of 32 there, which has to divide it
N_SPLITS = 5


class DelphiCache:
    """What is kept of the chunks that go by: every token, and every code above 0."""

    def __init__(self, first: int, n_latents: int) -> None:
        """`first` is the number in the whole dictionary of the first latent that is read."""
        self.first, self.n_latents = first, n_latents
        self._tokens: list[np.ndarray] = []
        self._places: list[np.ndarray] = []
        self._latents: list[np.ndarray] = []
        self._values: list[np.ndarray] = []
        self._n_tokens = 0

    def watching(self, chunks: Iterable[CodesOfContexts]) -> Iterator[CodesOfContexts]:
        """The chunks as they are."""
        for codes in chunks:
            entries = codes.codes_TF.tocoo()
            self._places.append(self._n_tokens + entries.coords[0].astype(np.int64))
            self._latents.append(entries.coords[1].astype(np.int32))
            self._values.append(entries.data.astype(np.float32))
            self._tokens.append(codes.tokens_T)
            self._n_tokens += len(codes.tokens_T)
            yield codes

    def write(self, folder: Path, module: str, model: str, dataset: str) -> None:
        """Write the files of one module below `folder`.

        Args:
            module: what delphi calls the place, such as layers.12.
            model: the language model, whose tokenizer delphi loads.
            dataset: recorded.
        """
        from safetensors.numpy import save

        n_rows = self._n_tokens // ROW
        tokens_RW = _joined(self._tokens, np.int64)[: n_rows * ROW].reshape(n_rows, ROW)
        place_N, latent_N = _joined(self._places, np.int64), _joined(self._latents, np.int32)
        value_N = _joined(self._values, np.float32)
        edges = np.linspace(0, self.n_latents, min(N_SPLITS, self.n_latents) + 1).astype(int)
        for start, end in pairwise(edges):
            is_here_N = (latent_N >= start) & (latent_N < end) & (place_N < n_rows * ROW)
            place_M = place_N[is_here_N]
            content = {
                "locations": np.stack(
                    [place_M // ROW, place_M % ROW, latent_N[is_here_N] - start], axis=1
                ).astype(np.uint32),
                "activations": value_N[is_here_N],
                "tokens": tokens_RW,
            }
            name = f"{self.first + start}_{self.first + end - 1}.safetensors"
            _save(folder / "latents" / module / name, save(content))
        config = {
            "dataset_repo": dataset,
            "dataset_split": "",
            "dataset_name": "",
            "dataset_column": "text",
            "batch_size": 1,
            "cache_ctx_len": ROW,
            "n_tokens": n_rows * ROW,
            "n_splits": len(edges) - 1,
            "model_name": model,
        }
        save_text(folder / "latents" / module / "config.json", json.dumps(config, indent=1) + "\n")


def _save(path: Path, content: bytes) -> None:
    save_atomically(path, lambda file: file.write(content))


def _joined(parts: list[np.ndarray], dtype: type) -> np.ndarray:
    return np.concatenate([np.zeros(0, dtype=dtype), *parts]).astype(dtype)
