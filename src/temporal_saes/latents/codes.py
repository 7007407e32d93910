"""Codes of whole contexts, sparse and a chunk at a time: what one pass over a corpus reads.

    for codes in codes_of_texts(texts, lm, place, reading, dictionary, columns): ...
    for codes in codes_of_store(ActivationCache.open(folder).store("eval"), dictionary, columns): ...

Of several processes each encodes some of the contexts, and the first one is given all of them, in the chunks
that it would make alone (`dealt`).

A value that is not above 0 is no activation: the predicted code of a TemporalSAE has some below 0.

Shapes: C contexts, T positions of all of them one behind another, L of one, F latents of the chunk,
u usable positions of one context, N codes above 0.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from dictionary_learning import distributed
from dictionary_learning.activations.store import Store
from dictionary_learning.dictionaries.base import Dictionary
from dictionary_learning.errors import UserError
from dictionary_learning.language_model import LanguageModel, Place
from temporal_saes.features import encode_each, encode_text, read_dealt
from temporal_saes.latents.dealt import Coded, in_order
from temporal_saes.reading import Reading
from temporal_saes.sparsity import count

CHUNK_TOKENS = 16_384
STORE_CONTEXTS = 16  # of a store, at a time


class Watch(Protocol):
    """Sees the codes [u, F] and the activations [u, D] of one context after another."""

    def measure(self, f_uF: Tensor, x_uD: Tensor) -> tuple[np.ndarray, ...]:
        """What it makes of one context."""

    def add(self, measured: tuple[np.ndarray, ...]) -> None:
        """Take that in, in the order of the contexts."""


class CodesOfContexts(NamedTuple):
    """Some contexts with all their tokens and codes."""

    tokens_T: np.ndarray  # int32, special tokens included
    usable_T: np.ndarray  # bool: neither special nor a norm outlier
    start_C: np.ndarray  # int64 [C + 1]: first row of each context, and the end
    codes_TF: sparse.csr_array  # float32, above 0; rows that are not usable are empty
    document_C: np.ndarray  # int64: the number of the text that a context is, or its document's id in a store


def select(codes: CodesOfContexts, which_C: np.ndarray) -> CodesOfContexts:
    """Only some contexts, in their order."""
    length_C = np.diff(codes.start_C)
    keep_T = np.repeat(which_C, length_C)
    start_C = np.concatenate([[0], np.cumsum(length_C[which_C])])
    return CodesOfContexts(
        codes.tokens_T[keep_T],
        codes.usable_T[keep_T],
        start_C,
        sparse.csr_array(codes.codes_TF[keep_T]),
        codes.document_C[which_C],
    )


def join(chunks: list[CodesOfContexts]) -> CodesOfContexts:
    """Chunks as one."""
    ends = np.cumsum([chunk.start_C[-1] for chunk in chunks])
    starts = [chunk.start_C[1:] + end - chunk.start_C[-1] for chunk, end in zip(chunks, ends, strict=True)]
    return CodesOfContexts(
        np.concatenate([chunk.tokens_T for chunk in chunks]),
        np.concatenate([chunk.usable_T for chunk in chunks]),
        np.concatenate([[0], *starts]),
        sparse.csr_array(sparse.vstack([chunk.codes_TF for chunk in chunks], format="csr")),
        np.concatenate([chunk.document_C for chunk in chunks]),
    )


class _Chunk:
    """Contexts that wait until there are enough of them."""

    def __init__(self, n_latents: int) -> None:
        self.n_latents = n_latents
        self.clear()

    def clear(self) -> None:
        self.n_tokens = 0
        self.documents: list[int] = []
        self.tokens: list[np.ndarray] = []
        self.usable: list[np.ndarray] = []
        self.rows: list[np.ndarray] = []
        self.columns: list[np.ndarray] = []
        self.values: list[np.ndarray] = []

    def add(self, coded: Coded) -> None:
        self.documents.append(coded.document)
        self.rows.append(self.n_tokens + coded.position_N)
        self.columns.append(coded.column_N)
        self.values.append(coded.value_N)
        self.tokens.append(coded.tokens_L)
        self.usable.append(coded.usable_L)
        self.n_tokens += len(coded.tokens_L)

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
            np.array(self.documents, dtype=np.int64),
        )
        self.clear()
        return codes


def codes_of_texts(
    texts: Sequence[str],
    lm: LanguageModel,
    place: int | Place,
    reading: Reading,
    dictionary: Dictionary,
    columns: slice,
    *,
    chunk_tokens: int = CHUNK_TOKENS,
    watch: Watch | None = None,
) -> Iterator[CodesOfContexts]:
    """Codes of texts, each encoded whole and by itself, a text a context.

    Args:
        place: of the language model, which the dictionary reads; as for `read_activations`.
        columns: the latents of the chunk.
        chunk_tokens: positions that are handed on together, at least; whole contexts.

    Raises:
        UserError: as `read_activations`, or a code is not finite.
    """
    groups = (
        [(number, number, text.tokens.ids_L, text.tokens.usable_L, text.x_LD) for number, text in shard]
        for shard in read_dealt(texts, lm, place, reading)
    )
    yield from _chunks(groups, dictionary, columns, chunk_tokens, watch)


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
    yield from _chunks(_groups(store), dictionary, columns, chunk_tokens, watch)


# number, document, tokens [L], usable [L], activations [L, D]
_Context = tuple[int, int, np.ndarray, np.ndarray, Tensor]
# what is encoded together: the same contexts whatever number of processes there are
_Group = list[_Context]


def _groups(store: Store) -> Iterator[_Group]:
    every = (distributed.rank(), distributed.size())
    for number, _, batch in store.numbered_contexts(STORE_CONTEXTS, every):
        masks_NL, tokens_NL = batch.mask_NL.cpu().numpy(), batch.tokens_NL.cpu().numpy()
        group = []
        for i, (x_LD, mask_L, tokens_L, document) in enumerate(
            zip(batch.x_NLD.cpu(), masks_NL, tokens_NL, batch.document_N.tolist(), strict=True)
        ):
            length = int(np.flatnonzero(mask_L)[-1]) + 1
            rows = slice(0, length)
            number_of_all = number * STORE_CONTEXTS + i
            group.append((number_of_all, document, tokens_L[rows], mask_L[rows], x_LD[rows]))
        yield group


def _chunks(
    groups: Iterable[_Group],
    dictionary: Dictionary,
    columns: slice,
    chunk_tokens: int,
    watch: Watch | None,
) -> Iterator[CodesOfContexts]:
    chunk = _Chunk(columns.stop - columns.start)
    for coded in in_order(_encoded(groups, dictionary, columns, watch)):
        chunk.add(coded)
        if watch is not None:
            watch.add(coded.measured)
        if chunk.n_tokens >= chunk_tokens:
            yield chunk.take()
    if chunk.n_tokens:
        yield chunk.take()


def _encoded(
    groups: Iterable[_Group], dictionary: Dictionary, columns: slice, watch: Watch | None
) -> Iterator[Coded]:
    """The contexts that have a usable position."""
    for group in groups:
        usable = [context for context in group if context[3].any()]
        if dictionary.reads_sequences or watch is not None:
            yield from (_encoded_whole(context, dictionary, columns, watch) for context in usable)
        elif usable:
            yield from _encoded_together(usable, dictionary, columns)


def _encoded_whole(context: _Context, dictionary: Dictionary, columns: slice, watch: Watch | None) -> Coded:
    """A context whose tokens may depend on each other, with its dense codes for whoever watches."""
    number, document, tokens_L, usable_L, x_LD = context
    f_uF = count(dictionary, encode_text(dictionary, x_LD, usable_L))[:, columns]
    f = f_uF.float().cpu().numpy()
    if not np.isfinite(f).all():
        raise UserError("the dictionary gives latents that are not finite: its weights are damaged.")
    rank_N, column_N = np.nonzero(f > 0)
    measured = () if watch is None else watch.measure(f_uF, x_LD[torch.from_numpy(usable_L)])
    position_N = np.flatnonzero(usable_L)[rank_N].astype(np.int32)
    value_N = f[rank_N, column_N]
    column_N = column_N.astype(np.int32)
    return Coded(number, document, tokens_L, usable_L, position_N, column_N, value_N, measured)


def _encoded_together(group: _Group, dictionary: Dictionary, columns: slice) -> Iterator[Coded]:
    """Contexts whose tokens each have a code of their own, from the entries of all."""
    x_nD = torch.cat([x_LD[torch.from_numpy(usable_L)] for *_, usable_L, x_LD in group])
    f_nF = encode_each(dictionary, x_nD, columns)
    start = 0
    for number, document, tokens_L, usable_L, _ in group:
        position_u = np.flatnonzero(usable_L).astype(np.int32)
        f_uF = f_nF[start : start + len(position_u)].tocoo()
        start += len(position_u)
        is_on_N = f_uF.data > 0
        rank_N, column_N = (of_N[is_on_N] for of_N in f_uF.coords)
        codes = position_u[rank_N], column_N.astype(np.int32), f_uF.data[is_on_N]
        yield Coded(number, document, tokens_L, usable_L, *codes, ())
