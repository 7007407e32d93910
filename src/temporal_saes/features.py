"""Texts to features: the one way from (texts, language model, layer, dictionary, chunk) to numbers.

    features = extract_features(texts, lm, layer, Reading(128), dictionary, chunk, choose=last_usable)
    features.x          # a row a chosen position
    features.text_N     # the text each row is from
    features.tokens[0]  # ids, character offsets and usable positions of the first text
    extract_features(texts, lm, layer, reading, dictionary, chunk, spans=sentences)  # a row a span: means

Texts are tokenised as in training, which a `Reading` says. The language model runs once over a text
(`recorded_activations`), so that another dictionary or chunk starts from the disk.

Shapes: N chosen positions or spans, L positions of one text, T positions of several texts in a row, D model
width, F latents of the chunk.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from dictionary_learning import distributed
from dictionary_learning.command.progress import say
from dictionary_learning.dictionaries.base import Dictionary, check_width, chunk_slice
from dictionary_learning.dictionaries.sparse import SparseCode
from dictionary_learning.errors import UserError
from dictionary_learning.language_model import LanguageModel, Place
from dictionary_learning.language_model.text_codes import encode_tokens, norm_limit
from dictionary_learning.texts.spans import Spans, is_inside
from temporal_saes.pooling import span_means
from temporal_saes.reading import Reading
from temporal_saes.recorded_activations import RecordedActivations
from temporal_saes.sparsity import count, count_entries

CODE_BYTES = 2**27  # of one dense block of latents
_TOKENIZE_TEXTS = 1024


Turns = Sequence[Spans | None] | None
"""Of each text the characters that somebody said, of a chat; None where all is text."""


class Tokens(NamedTuple):
    """One text as the language model reads it."""

    ids_L: np.ndarray  # int32, special tokens included
    offsets: list[tuple[int, int]]  # characters [start, end) of each token
    usable_L: np.ndarray  # bool: neither special nor a norm outlier


Choose = Callable[[int, Tokens], Sequence[int] | np.ndarray]
SpansOf = Callable[[int, Tokens], Sequence[np.ndarray]]
"""The positions of each span of a text, from its index and its tokens: usable ones, one at least."""


@dataclass(frozen=True)
class Features:
    """Features of N chosen positions or spans, ordered by text and position."""

    x: sparse.csr_array | np.ndarray
    """[N, F] float32: latents as a sparse array, dense activations as an array."""
    text_N: np.ndarray
    """Index of the text each row is from."""
    position_N: np.ndarray
    """Position of the row's token, or of its span's last one, in `tokens[text].ids_L`."""
    tokens: list[Tokens]
    """Every text's tokens, also of texts without a chosen position."""
    outlier_share: float
    """Share of text tokens that the norm filter took out."""


def every_usable(text: int, tokens: Tokens) -> np.ndarray:
    """Choose all usable positions."""
    return np.flatnonzero(tokens.usable_L)


def last_usable(text: int, tokens: Tokens) -> np.ndarray:
    """Choose the last usable position; none if there is none."""
    return np.flatnonzero(tokens.usable_L)[-1:]


def extract_features(
    texts: Sequence[str],
    lm: LanguageModel,
    layer: int | Place,
    reading: Reading,
    dictionary: Dictionary | None,
    chunk: int = 2,
    *,
    choose: Choose = every_usable,
    spans: SpansOf | None = None,
    averages_first: bool = False,
    turns: Turns = None,
    log: Callable[[str], None] = say,
) -> Features:
    """Features of chosen positions of texts, or their means over spans.

    Args:
        layer: a decoder layer, or a place in one.
        reading: how the texts are read; the median of its norm filter is that of the text tokens of the
            first shard of texts.
        dictionary: works on raw activations; None gives the dense activations themselves.
        chunk: 0 the high-level split, 1 the rest, 2 all latents.
        choose: the positions wanted of a text, from its index and its tokens: usable ones, in order.
        spans: in place of `choose`, the spans over which features are averaged.
        averages_first: encode the mean of a span's activations, for a dictionary that was trained on such
            means, in place of averaging its tokens' codes.
        turns: of each text the characters that somebody said, of a chat; tokens beside them are not usable.
        log: gets one line on what the language model has to do.

    Raises:
        UserError: the layer, the width of the dictionary or the chunk does not fit, or an activation
            is not finite.
    """
    columns = None
    if dictionary is not None:
        check_width(dictionary, lm)
        columns = chunk_slice(dictionary, chunk)
    tokens: list[Tokens] = []
    blocks: list[Any] = []
    text_indices: list[int] = []
    positions: list[int] = []
    n_text_tokens = n_usable = 0
    for shard in _read_shards(texts, lm, layer, reading, log, turns=turns):
        n_text_tokens += shard.n_text_tokens
        chosen_T: list[int] = []  # rows of x_TD
        lengths_n: list[int] = []  # of the spans
        start = 0
        for index, text_tokens in enumerate(shard.tokens, start=len(tokens)):
            n_usable += int(text_tokens.usable_L.sum())
            found = [np.asarray(choose(index, text_tokens))] if spans is None else spans(index, text_tokens)
            chosen = np.concatenate([np.empty(0, dtype=np.int64), *found]).astype(np.int64)
            ends = chosen.tolist() if spans is None else [int(span[-1]) for span in found]
            text_indices += [index] * len(ends)
            positions += ends
            lengths_n += map(len, found)
            assert all((np.diff(span) > 0).all() for span in found), f"text {index} is not in order"
            assert text_tokens.usable_L[chosen].all(), f"a position of text {index} is not usable"
            chosen_T += (start + chosen).tolist()
            start += len(text_tokens.ids_L)
        lengths = [len(text_tokens.ids_L) for text_tokens in shard.tokens]
        usable_T = np.concatenate([text_tokens.usable_L for text_tokens in shard.tokens])
        chosen, x_TD = np.asarray(chosen_T, dtype=np.int64), shard.x_TD
        if averages_first and spans is not None:
            assert dictionary is None or not dictionary.reads_sequences, "a span is no token of a sequence"
            x_TD = torch.from_numpy(span_means(x_TD[torch.from_numpy(chosen)].float().numpy(), lengths_n))
            chosen = np.arange(len(lengths_n))
        block = _encode(x_TD, lengths, usable_T, chosen, dictionary, columns)
        blocks.append(block if spans is None or averages_first else span_means(block, lengths_n))
        tokens += shard.tokens
    n_columns = lm.d_model if columns is None else columns.stop - columns.start
    return Features(
        x=_stack(blocks, n_columns, dense=dictionary is None),
        text_N=np.asarray(text_indices, dtype=np.int64),
        position_N=np.asarray(positions, dtype=np.int64),
        tokens=tokens,
        outlier_share=1 - n_usable / n_text_tokens if n_text_tokens else 0.0,
    )


def readable(text: str, tokens: Tokens) -> np.ndarray:
    """Usable positions [n] of tokens with at least one character that is not white space.

    Args:
        text: what `tokens.offsets` are of.
    """
    usable = np.flatnonzero(tokens.usable_L)
    return np.array([i for i in usable if text[slice(*tokens.offsets[i])].strip()], dtype=np.int64)


class TextActivations(NamedTuple):
    """One text as a layer of the language model sees it, every position of it."""

    tokens: Tokens
    x_LD: Tensor  # in the model's dtype, on the CPU


def read_activations(
    texts: Sequence[str],
    lm: LanguageModel,
    layer: int | Place,
    reading: Reading,
    *,
    turns: Turns = None,
    log: Callable[[str], None] = say,
) -> Iterator[TextActivations]:
    """The texts one after another, for what needs a whole text at a time; `encode_text` gives its codes.

    Arguments and errors as `extract_features`; no more than a shard of texts is in memory.
    """
    for shard in _read_shards(texts, lm, layer, reading, log, turns=turns):
        yield from (one for _, one in _texts_of(shard))


def read_dealt(
    texts: Sequence[str],
    lm: LanguageModel,
    layer: int | Place,
    reading: Reading,
    *,
    log: Callable[[str], None] = say,
) -> Iterator[list[tuple[int, TextActivations]]]:
    """As `read_activations`, a shard at a time with the texts' numbers; of several processes each has some.

    They are dealt out by the shard, so each is read exactly as one process reads it.
    """
    for shard in _read_shards(texts, lm, layer, reading, log, is_dealt=True):
        yield list(_texts_of(shard))


class _Shard(NamedTuple):
    """A few texts in a row."""

    first: int  # number of the first one
    tokens: list[Tokens]
    x_TD: Tensor
    n_text_tokens: int  # usable ones and norm outliers


def _texts_of(shard: _Shard) -> Iterator[tuple[int, TextActivations]]:
    """Each text of a shard, with its number."""
    lengths = [len(tokens.ids_L) for tokens in shard.tokens]
    texts = zip(shard.tokens, shard.x_TD.split(lengths), strict=True)
    return ((number, TextActivations(*one)) for number, one in enumerate(texts, start=shard.first))


def _read_shards(
    texts: Sequence[str],
    lm: LanguageModel,
    layer: int | Place,
    reading: Reading,
    log: Callable[[str], None],
    is_dealt: bool = False,
    turns: Turns = None,
) -> Iterator[_Shard]:
    place = lm.check_place(layer)
    encoded = list(_tokenize(texts, lm, reading, turns))
    source = RecordedActivations(lm, place, reading, log)
    limit = None
    every = (distributed.rank(), distributed.size()) if is_dealt else (0, 1)
    for some, x_TD in source.shards([ids_L for ids_L, _, _ in encoded], every):
        shard = encoded[some]
        norm_T = x_TD.float().norm(dim=-1)
        is_text_T = np.concatenate([is_text_L for _, _, is_text_L in shard])
        if limit is None:
            limit = norm_limit(norm_T.numpy()[is_text_T], reading.max_norm_ratio)
            limit = distributed.value_of_first(limit) if is_dealt else limit
        if not bool(torch.isfinite(norm_T[torch.from_numpy(is_text_T)]).all()):
            raise UserError(
                f"the activations of {place} of {lm.name} are not finite in texts {some.start} to "
                f"{some.start + len(shard) - 1}: load the model in float32 or choose another layer."
            )
        usable_T = is_text_T & (norm_T.numpy() <= limit)
        ends = np.cumsum([len(ids_L) for ids_L, _, _ in shard])
        tokens = [
            Tokens(ids_L, offsets, usable_L)
            for (ids_L, offsets, _), usable_L in zip(shard, np.split(usable_T, ends[:-1]), strict=True)
        ]
        yield _Shard(some.start, tokens, x_TD, int(is_text_T.sum()))
    if limit is None and is_dealt:
        distributed.value_of_first(limit)  # the others ask, and this process had nothing to read


def _tokenize(
    texts: Sequence[str], lm: LanguageModel, reading: Reading, turns: Turns
) -> Iterator[tuple[np.ndarray, list[tuple[int, int]], np.ndarray]]:
    """Ids (int32), character offsets, and whether it is text, of every token of a text.

    Text is neither special nor, in a chat, beside what somebody said.
    """
    for first in range(0, len(texts), _TOKENIZE_TEXTS):
        some = list(texts[first : first + _TOKENIZE_TEXTS])
        encoding = lm.tokenize(some, reading.context_length, offsets=True)
        is_text_BL = lm.text_mask(encoding.tokens_BL, encoding.mask_BL).numpy()
        ids_BL = encoding.tokens_BL.to(torch.int32).numpy()
        assert encoding.offsets is not None
        for row, offsets in enumerate(encoding.offsets):
            has_bos = len(offsets) > 0 and ids_BL[row, 0] == lm.bos_id
            some_L = slice(int(has_bos and not reading.add_bos), len(offsets))
            is_text_L = is_text_BL[row, some_L]
            said = None if turns is None else turns[first + row]
            if said is not None:
                is_text_L &= np.array([is_inside(token, said) for token in offsets[some_L]], dtype=bool)
            yield ids_BL[row, some_L], offsets[some_L], is_text_L


def _encode(
    x_TD: Tensor,
    lengths: list[int],
    usable_T: np.ndarray,
    chosen_T: np.ndarray,
    dictionary: Dictionary | None,
    columns: slice | None,
) -> sparse.csr_array | np.ndarray:
    """Features [n, F] of the positions `chosen_T` of texts of these lengths in a row."""
    if dictionary is None or columns is None:
        return x_TD[torch.from_numpy(chosen_T)].float().numpy()
    if not dictionary.reads_sequences:
        return encode_each(dictionary, x_TD[torch.from_numpy(chosen_T)], columns)
    with torch.no_grad():
        codes = _codes_in_context(x_TD, lengths, usable_T, chosen_T, dictionary)
        parts = [_to_csr(SparseCode.of(f_nF), columns) for f_nF in codes]
    return _stack(parts, columns.stop - columns.start, dense=False)


@torch.no_grad()
def encode_each(dictionary: Dictionary, x_nD: Tensor, columns: slice) -> sparse.csr_array:
    """Codes [n, F] of tokens, each by itself: the dictionary finds their entries, and makes no dense ones.

    Args:
        columns: the latents of the chunk.

    Raises:
        UserError: a code is not finite.
    """
    weight = next(dictionary.parameters())
    parts: list[sparse.csr_array] = []
    for x_BD in x_nD.split(max(1, CODE_BYTES // (weight.itemsize * dictionary.dict_size))):
        x_BD = x_BD.to(weight.device, weight.dtype)
        if not parts:  # NaN exceeds no threshold, so it is no entry: damaged weights show in a whole code
            _check_finite(dictionary.encode(x_BD[:1]))
        code = dictionary.encode_entries(x_BD)
        count_entries(dictionary, code)
        parts.append(_to_csr(code, columns))
    return _stack(parts, columns.stop - columns.start, dense=False)


def _codes_in_context(
    x_TD: Tensor, lengths: list[int], usable_T: np.ndarray, chosen_T: np.ndarray, dictionary: Dictionary
) -> Iterator[Tensor]:
    """Codes of the chosen positions, each text encoded whole and by itself."""
    start = 0
    for length in lengths:
        chosen = chosen_T[(chosen_T >= start) & (chosen_T < start + length)] - start
        if chosen.size:
            usable_L = usable_T[start : start + length]
            f_uF = count(dictionary, encode_text(dictionary, x_TD[start : start + length], usable_L))
            rank_n = np.cumsum(usable_L)[chosen] - 1
            yield f_uF[torch.from_numpy(rank_n).to(f_uF.device)]
        start += length


@torch.no_grad()
def encode_text(dictionary: Dictionary, x_LD: Tensor, usable_L: np.ndarray) -> Tensor:
    """Codes [u, F] of the u usable positions of one text, which is encoded whole and by itself.

    A dictionary that reads sequences sees the usable positions one behind another, as in training
    (`dictionary_learning.activations.sequences`): an attention sink is no context.
    """
    return encode_tokens(dictionary, x_LD[torch.from_numpy(usable_L)])


def _check_finite(values: Tensor) -> None:
    if not bool(torch.isfinite(values).all()):
        raise UserError("the dictionary gives latents that are not finite: its weights are damaged.")


def _to_csr(code: SparseCode, columns: slice) -> sparse.csr_array:
    """The same numbers of some latents, sparse, in float32 on the CPU."""
    _check_finite(code.values_N)
    value, row, column = (of_N.cpu().numpy() for of_N in (code.values_N.float(), code.row_N, code.col_N))
    kept = (value != 0) & (column >= columns.start) & (column < columns.stop)
    counts = np.bincount(row[kept], minlength=code.n_rows)
    indptr = np.concatenate([[0], np.cumsum(counts)])
    index = (column[kept] - columns.start).astype(np.int32)
    return sparse.csr_array((value[kept], index, indptr), shape=(code.n_rows, columns.stop - columns.start))


def _stack(blocks: list, n_columns: int, *, dense: bool) -> sparse.csr_array | np.ndarray:
    if dense:
        return np.concatenate([np.zeros((0, n_columns), dtype=np.float32), *blocks])
    empty = sparse.csr_array((0, n_columns), dtype=np.float32)
    return sparse.csr_array(sparse.vstack([empty, *blocks], format="csr"))
