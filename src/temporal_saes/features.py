"""Texts to features: the one way from (texts, language model, layer, dictionary, chunk) to numbers.

    features = extract_features(texts, lm, layer, dictionary, chunk, context_length=128, choose=last_usable)
    features.x          # a row a chosen position
    features.text_N     # the text each row is from
    features.tokens[0]  # ids, character offsets and usable positions of the first text

Texts are tokenised as in training (context length, BOS); a longer text is cut off there. The
language model runs once over a text: its activations are kept in the cache folder, named by a hash
of the weights, the layer and the tokens, so that another dictionary or chunk starts from the disk.

Shapes: N chosen positions, L positions of one text, T positions of several texts in a row, D model
width, F latents of the chunk.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from dictionary_learning.command.files import save_atomically
from dictionary_learning.command.progress import say
from dictionary_learning.dictionaries.base import Dictionary, check_width, chunk_slice
from dictionary_learning.errors import UserError
from dictionary_learning.language_model import LanguageModel
from dictionary_learning.texts.demo_assets import cache_folder

SHARD_TEXTS = 128  # texts in one cache file, and in memory at a time
CODE_BYTES = 2**27  # of one dense block of latents
_TOKENIZE_TEXTS = 1024


class Tokens(NamedTuple):
    """One text as the language model reads it."""

    ids_L: np.ndarray  # int32, special tokens included
    offsets: list[tuple[int, int]]  # characters [start, end) of each token
    usable_L: np.ndarray  # bool: neither special nor a norm outlier


Choose = Callable[[int, Tokens], Sequence[int] | np.ndarray]


@dataclass(frozen=True)
class Features:
    """Features of N chosen positions, ordered by text and position."""

    x: sparse.csr_array | np.ndarray
    """[N, F] float32: latents as a sparse array, dense activations as an array."""
    text_N: np.ndarray
    """Index of the text each row is from."""
    position_N: np.ndarray
    """Position of the row's token in `tokens[text].ids_L`."""
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
    layer: int,
    dictionary: Dictionary | None,
    chunk: int = 2,
    *,
    context_length: int,
    choose: Choose = every_usable,
    max_norm_ratio: float | None = 10.0,
    add_bos: bool = True,
    lm_batch_size: int = 16,
    cache: bool = True,
    log: Callable[[str], None] = say,
) -> Features:
    """Features of chosen positions of texts.

    Args:
        dictionary: works on raw activations; None gives the dense activations themselves.
        chunk: 0 the high-level split, 1 the rest, 2 all latents.
        context_length: tokens of a text that are read, special ones included.
        choose: the positions wanted of a text, from its index and its tokens: usable ones, in order.
        max_norm_ratio: a position whose norm is more than so many times the median (of the text
            tokens among the first `SHARD_TEXTS` texts) is not usable; None keeps all.
        add_bos: read the BOS that the tokenizer puts in front of a text, as in training.
        lm_batch_size: texts the language model reads at a time; they are sorted by length.
        cache: keep the activations on disk, and use those that are there.
        log: gets one line on what the language model has to do.

    Raises:
        UserError: the layer, the width of the dictionary or the chunk does not fit, or an activation
            is not finite.
    """
    columns = None
    if dictionary is not None:
        check_width(dictionary, lm)
        columns = chunk_slice(dictionary, chunk)
    shards = _read_shards(
        texts, lm, layer, context_length, max_norm_ratio, add_bos, lm_batch_size, cache, log
    )
    tokens: list[Tokens] = []
    blocks, text_indices, positions = [], [], []
    n_text_tokens = n_usable = 0
    for shard in shards:
        n_text_tokens += shard.n_text_tokens
        chosen_T: list[int] = []  # rows of x_TD
        start = 0
        for index, text_tokens in enumerate(shard.tokens, start=len(tokens)):
            n_usable += int(text_tokens.usable_L.sum())
            chosen = np.asarray(choose(index, text_tokens), dtype=np.int64)
            assert (np.diff(chosen) > 0).all(), f"positions of text {index} are not in order"
            assert text_tokens.usable_L[chosen].all(), f"a position of text {index} is not usable"
            text_indices += [index] * len(chosen)
            positions += chosen.tolist()
            chosen_T += (start + chosen).tolist()
            start += len(text_tokens.ids_L)
        lengths = [len(text_tokens.ids_L) for text_tokens in shard.tokens]
        usable_T = np.concatenate([text_tokens.usable_L for text_tokens in shard.tokens])
        chosen = np.asarray(chosen_T, dtype=np.int64)
        blocks.append(_encode(shard.x_TD, lengths, usable_T, chosen, dictionary, columns))
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
    layer: int,
    *,
    context_length: int,
    max_norm_ratio: float | None = 10.0,
    add_bos: bool = True,
    lm_batch_size: int = 16,
    cache: bool = True,
    log: Callable[[str], None] = say,
) -> Iterator[TextActivations]:
    """The texts one after another, for what needs a whole text at a time; `encode_text` gives its codes.

    Arguments and errors as `extract_features`; no more than `SHARD_TEXTS` texts are in memory.
    """
    shards = _read_shards(
        texts, lm, layer, context_length, max_norm_ratio, add_bos, lm_batch_size, cache, log
    )
    for shard in shards:
        lengths = [len(tokens.ids_L) for tokens in shard.tokens]
        for tokens, x_LD in zip(shard.tokens, shard.x_TD.split(lengths), strict=True):
            yield TextActivations(tokens, x_LD)


class _Shard(NamedTuple):
    """A few texts in a row."""

    tokens: list[Tokens]
    x_TD: Tensor
    n_text_tokens: int  # usable ones and norm outliers


def _read_shards(
    texts: Sequence[str],
    lm: LanguageModel,
    layer: int,
    context_length: int,
    max_norm_ratio: float | None,
    add_bos: bool,
    lm_batch_size: int,
    cache: bool,
    log: Callable[[str], None],
) -> Iterator[_Shard]:
    lm.check_layer(layer)
    encoded = list(_tokenize(texts, lm, context_length, add_bos))
    source = _Activations(lm, layer, lm_batch_size, cache, log)
    limit = None
    for first, x_TD in source.shards([ids_L for ids_L, _, _ in encoded]):
        shard = encoded[first : first + SHARD_TEXTS]
        norm_T = x_TD.float().norm(dim=-1)
        is_text_T = np.concatenate([is_text_L for _, _, is_text_L in shard])
        if not bool(torch.isfinite(norm_T[torch.from_numpy(is_text_T)]).all()):
            raise UserError(
                f"the activations of layer {layer} of {lm.name} are not finite in texts {first} to "
                f"{first + len(shard) - 1}: load the model in float32 or choose another layer."
            )
        if limit is None:
            limit = _norm_limit(norm_T.numpy()[is_text_T], max_norm_ratio)
        usable_T = is_text_T & (norm_T.numpy() <= limit)
        ends = np.cumsum([len(ids_L) for ids_L, _, _ in shard])
        tokens = [
            Tokens(ids_L, offsets, usable_L)
            for (ids_L, offsets, _), usable_L in zip(shard, np.split(usable_T, ends[:-1]), strict=True)
        ]
        yield _Shard(tokens, x_TD, int(is_text_T.sum()))


def _norm_limit(norm_T: np.ndarray, max_norm_ratio: float | None) -> float:
    if max_norm_ratio is None or norm_T.size == 0:
        return np.inf
    return max_norm_ratio * float(np.median(norm_T))


def _tokenize(
    texts: Sequence[str], lm: LanguageModel, context_length: int, add_bos: bool
) -> Iterator[tuple[np.ndarray, list[tuple[int, int]], np.ndarray]]:
    """Ids (int32), character offsets, and whether it is text (not special), of every token of a text."""
    for first in range(0, len(texts), _TOKENIZE_TEXTS):
        some = list(texts[first : first + _TOKENIZE_TEXTS])
        encoding = lm.tokenize(some, context_length, offsets=True)
        is_text_BL = lm.text_mask(encoding.tokens_BL, encoding.mask_BL).numpy()
        ids_BL = encoding.tokens_BL.to(torch.int32).numpy()
        assert encoding.offsets is not None
        for row, offsets in enumerate(encoding.offsets):
            has_bos = len(offsets) > 0 and ids_BL[row, 0] == lm.bos_id
            some_L = slice(int(has_bos and not add_bos), len(offsets))
            yield ids_BL[row, some_L], offsets[some_L], is_text_BL[row, some_L]


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
    if dictionary.reads_sequences:
        codes = _codes_in_context(x_TD, lengths, usable_T, chosen_T, dictionary)
    else:
        codes = _codes(x_TD, chosen_T, dictionary)
    with torch.no_grad():
        parts = [_to_csr(f_nF[:, columns]) for f_nF in codes]
    return _stack(parts, columns.stop - columns.start, dense=False)


def _codes(x_TD: Tensor, chosen_T: np.ndarray, dictionary: Dictionary) -> Iterator[Tensor]:
    """Codes of the chosen positions; a code is a function of its own token, so the rest is left out."""
    weight = next(dictionary.parameters())
    rows = max(1, CODE_BYTES // (weight.itemsize * dictionary.dict_size))
    for some_n in torch.from_numpy(chosen_T).split(rows):
        yield dictionary.encode(x_TD[some_n].to(weight.device, weight.dtype))


def _codes_in_context(
    x_TD: Tensor, lengths: list[int], usable_T: np.ndarray, chosen_T: np.ndarray, dictionary: Dictionary
) -> Iterator[Tensor]:
    """Codes of the chosen positions, each text encoded whole and by itself."""
    start = 0
    for length in lengths:
        chosen = chosen_T[(chosen_T >= start) & (chosen_T < start + length)] - start
        if chosen.size:
            usable_L = usable_T[start : start + length]
            f_uF = encode_text(dictionary, x_TD[start : start + length], usable_L)
            rank_n = np.cumsum(usable_L)[chosen] - 1
            yield f_uF[torch.from_numpy(rank_n).to(f_uF.device)]
        start += length


@torch.no_grad()
def encode_text(dictionary: Dictionary, x_LD: Tensor, usable_L: np.ndarray) -> Tensor:
    """Codes [u, F] of the u usable positions of one text, which is encoded whole and by itself.

    A dictionary that reads sequences sees the usable positions one behind another, as in training
    (`dictionary_learning.activations.sequences`): an attention sink is no context.
    """
    weight = next(dictionary.parameters())
    x_uD = x_LD[torch.from_numpy(usable_L)].to(weight.device, weight.dtype)
    return dictionary.encode(x_uD[None])[0] if dictionary.reads_sequences else dictionary.encode(x_uD)


def _to_csr(f_nF: Tensor) -> sparse.csr_array:
    """The same numbers, sparse, in float32 on the CPU; zeros are found where the codes are."""
    row, column = f_nF.nonzero(as_tuple=True)
    values = f_nF[row, column].float().cpu().numpy()
    if not np.isfinite(values).all():
        raise UserError("the dictionary gives latents that are not finite: its weights are damaged.")
    counts = np.bincount(row.cpu().numpy(), minlength=len(f_nF))
    indptr = np.concatenate([[0], np.cumsum(counts)])
    return sparse.csr_array((values, column.cpu().numpy().astype(np.int32), indptr), shape=tuple(f_nF.shape))


def _stack(blocks: list, n_columns: int, *, dense: bool) -> sparse.csr_array | np.ndarray:
    if dense:
        return np.concatenate([np.zeros((0, n_columns), dtype=np.float32), *blocks])
    empty = sparse.csr_array((0, n_columns), dtype=np.float32)
    return sparse.csr_array(sparse.vstack([empty, *blocks], format="csr"))


# --- activations, once a text ---


class _Activations:
    """Residual activations of texts, from the cache or from the language model."""

    def __init__(
        self, lm: LanguageModel, layer: int, batch_size: int, cache: bool, log: Callable[[str], None]
    ) -> None:
        self.lm, self.layer, self.batch_size, self.log = lm, layer, batch_size, log
        self.folder = cache_folder() / "activations" if cache else None
        self.identity = weights_identity(lm, layer) if cache else ""

    def shards(self, ids: Sequence[np.ndarray]) -> Iterator[tuple[int, Tensor]]:
        """The first text and the activations [T, D] of each `SHARD_TEXTS` texts, one after another."""
        from tqdm import tqdm

        groups = [ids[i : i + SHARD_TEXTS] for i in range(0, len(ids), SHARD_TEXTS)]
        self._announce(groups)
        with tqdm(
            total=len(ids), desc=f"layer {self.layer}", unit=" texts", dynamic_ncols=True, disable=None
        ) as bar:
            for number, group in enumerate(groups):
                x_TD = self._cached(group)
                if x_TD is None:
                    x_TD = self._record(group)
                    if bool(torch.isfinite(x_TD).all()):
                        self._keep(group, x_TD)
                bar.update(len(group))
                yield number * SHARD_TEXTS, x_TD

    def _announce(self, groups: list[Sequence[np.ndarray]]) -> None:
        missing = [group for group in groups if not (self.folder and self._path(group).is_file())]
        if missing:
            n_tokens = sum(len(ids_L) for group in missing for ids_L in group)
            size = n_tokens * self.lm.d_model * self.lm.dtype.itemsize
            place = f", kept in {self.folder} ({size / 1e6:,.0f} MB)" if self.folder else ""
            self.log(
                f"running {self.lm.name} to layer {self.layer} over {sum(map(len, missing)):,} texts, "
                f"{n_tokens:,} tokens{place}"
            )

    def _path(self, group: Sequence[np.ndarray]) -> Path:
        assert self.folder is not None
        digest = hashlib.sha256(self.identity.encode())
        for ids_L in group:
            digest.update(len(ids_L).to_bytes(4, "little") + ids_L.astype("<i4").tobytes())
        return self.folder / f"{digest.hexdigest()[:32]}.safetensors"

    def _cached(self, group: Sequence[np.ndarray]) -> Tensor | None:
        if self.folder is None or not self._path(group).is_file():
            return None
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            x_TD = load_file(self._path(group))["x_TD"]
        except (SafetensorError, KeyError):
            return None
        return x_TD if x_TD.shape == (sum(map(len, group)), self.lm.d_model) else None

    def _keep(self, group: Sequence[np.ndarray], x_TD: Tensor) -> None:
        if self.folder is None:
            return
        from safetensors.torch import save

        save_atomically(self._path(group), lambda file: file.write(save({"x_TD": x_TD})))

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
            x_BLD = self.lm.record(tokens_BL, mask_BL, self.layer).cpu()
            for row, i in enumerate(batch):
                x_TD[starts[i] : starts[i + 1]] = x_BLD[row, : len(group[i])]
        return x_TD


def weights_identity(lm: LanguageModel, layer: int) -> str:
    """A hash of what decides a layer's activations: config, dtype, and a sample of the weights up to it.

    The same model in another folder has the same identity, a fine-tuned one under the same name
    another.
    """
    config = lm.model.config.to_dict()
    for key in ("_name_or_path", "transformers_version", "torch_dtype", "dtype"):
        config.pop(key, None)
    digest = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode())
    digest.update(f"layer {layer} {lm.dtype}".encode())
    for module in (lm.model.get_input_embeddings(), *lm.layers[: layer + 1]):
        for name, weight in module.named_parameters():
            flat = weight.detach().flatten()
            sample = flat[:: max(1, flat.numel() // 1000)].float().cpu().numpy()
            digest.update(f"{name} {tuple(weight.shape)}".encode() + sample.tobytes())
    return digest.hexdigest()
