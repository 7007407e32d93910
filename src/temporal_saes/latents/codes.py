"""Codes of whole contexts, sparse and a chunk at a time: what one pass over a corpus reads.

    for codes in codes_of_texts(read_activations(texts, lm, layer, ...), dictionary, columns): ...
    for codes in codes_of_store(ActivationCache.open(folder).store("eval"), dictionary, columns): ...

A value that is not above 0 is no activation: the predicted code of a TemporalSAE has some below 0.

Shapes: C contexts, T positions of all of them one behind another, L of one, F latents of the chunk,
u usable positions of one context.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from dictionary_learning.activations.store import Store
from dictionary_learning.dictionaries.base import Dictionary
from dictionary_learning.errors import UserError
from temporal_saes.features import TextActivations, encode_text
from temporal_saes.sparsity import count

CHUNK_TOKENS = 16_384
Watch = Callable[[Tensor, Tensor], None]
"""Sees the codes [u, F] and the activations [u, D] of one context after another."""


class CodesOfContexts(NamedTuple):
    """Some contexts with all their tokens and codes."""

    tokens_T: np.ndarray  # int32, special tokens included
    usable_T: np.ndarray  # bool: neither special nor a norm outlier
    start_C: np.ndarray  # int64 [C + 1]: first row of each context, and the end
    codes_TF: sparse.csr_array  # float32, above 0; rows that are not usable are empty


class _Chunk:
    """Contexts that wait until there are enough of them."""

    def __init__(self, n_latents: int) -> None:
        self.n_latents = n_latents
        self.clear()

    def clear(self) -> None:
        self.n_tokens = 0
        self.tokens: list[np.ndarray] = []
        self.usable: list[np.ndarray] = []
        self.rows: list[np.ndarray] = []
        self.columns: list[np.ndarray] = []
        self.values: list[np.ndarray] = []

    def add(self, tokens_L: np.ndarray, usable_L: np.ndarray, f_uF: np.ndarray) -> None:
        if not np.isfinite(f_uF).all():
            raise UserError("the dictionary gives latents that are not finite: its weights are damaged.")
        rank_N, column_N = np.nonzero(f_uF > 0)
        self.rows.append(self.n_tokens + np.flatnonzero(usable_L)[rank_N])
        self.columns.append(column_N)
        self.values.append(f_uF[rank_N, column_N])
        self.tokens.append(tokens_L)
        self.usable.append(usable_L)
        self.n_tokens += len(tokens_L)

    def take(self) -> CodesOfContexts:
        rows_N = np.concatenate(self.rows)
        per_row_T = np.bincount(rows_N, minlength=self.n_tokens)
        codes_TF = sparse.csr_array(
            (
                np.concatenate(self.values).astype(np.float32),
                np.concatenate(self.columns).astype(np.int32),
                np.concatenate([[0], np.cumsum(per_row_T)]),
            ),
            shape=(self.n_tokens, self.n_latents),
        )
        codes = CodesOfContexts(
            np.concatenate(self.tokens).astype(np.int32),
            np.concatenate(self.usable),
            np.concatenate([[0], np.cumsum([len(tokens_L) for tokens_L in self.tokens])]),
            codes_TF,
        )
        self.clear()
        return codes


def codes_of_texts(
    activations: Iterable[TextActivations],
    dictionary: Dictionary,
    columns: slice,
    *,
    chunk_tokens: int = CHUNK_TOKENS,
    watch: Watch | None = None,
) -> Iterator[CodesOfContexts]:
    """Codes of texts, each encoded whole and by itself, a text a context.

    Args:
        columns: the latents of the chunk.
        chunk_tokens: positions that are handed on together, at least; whole contexts.

    Raises:
        UserError: a code is not finite.
    """
    contexts = ((text.tokens.ids_L, text.tokens.usable_L, text.x_LD) for text in activations)
    yield from _chunks(contexts, dictionary, columns, chunk_tokens, watch)


def codes_of_store(
    store: Store,
    dictionary: Dictionary,
    columns: slice,
    *,
    chunk_tokens: int = CHUNK_TOKENS,
    watch: Watch | None = None,
) -> Iterator[CodesOfContexts]:
    """Codes of the contexts of a store, such as an activation cache; as `codes_of_texts`.

    Special tokens behind a context's last usable one are cut off, as a store pads with any.
    """
    yield from _chunks(_contexts(store), dictionary, columns, chunk_tokens, watch)


_Context = tuple[np.ndarray, np.ndarray, Tensor]  # tokens [L], usable [L], activations [L, D]


def _contexts(store: Store) -> Iterator[_Context]:
    for batch in store.contexts(16):
        for x_LD, mask_L, tokens_L in zip(
            batch.x_NLD.cpu(), batch.mask_NL.cpu().numpy(), batch.tokens_NL.cpu().numpy(), strict=True
        ):
            length = int(np.flatnonzero(mask_L)[-1]) + 1
            yield tokens_L[:length], mask_L[:length], x_LD[:length]


def _chunks(
    contexts: Iterable[_Context],
    dictionary: Dictionary,
    columns: slice,
    chunk_tokens: int,
    watch: Watch | None,
) -> Iterator[CodesOfContexts]:
    chunk = _Chunk(columns.stop - columns.start)
    for tokens_L, usable_L, x_LD in contexts:
        if not usable_L.any():
            continue
        f_uF = count(dictionary, encode_text(dictionary, x_LD, usable_L))[:, columns]
        chunk.add(tokens_L, usable_L, f_uF.float().cpu().numpy())
        if watch is not None:
            watch(f_uF, x_LD[torch.from_numpy(usable_L)])
        if chunk.n_tokens >= chunk_tokens:
            yield chunk.take()
    if chunk.n_tokens:
        yield chunk.take()
