"""The dictionaries that keep what exceeds one threshold: BatchTopK and its variants.

Shapes: D model width, F latents.
"""

import itertools
import math
import threading
import weakref
from abc import abstractmethod
from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dictionary_learning import distributed
from dictionary_learning.dictionaries.base import UNSET_THRESHOLD, Dictionary
from dictionary_learning.dictionaries.sparse import SparseCode, batch_topk, on_cpu
from dictionary_learning.dictionaries.tiles import entries_above
from dictionary_learning.errors import UserError
from dictionary_learning.selection.quickest import TIMED_FROM
from dictionary_learning.selection.search import Search
from dictionary_learning.trainers.trainer import unit_norm_rows_

# Entries are searched for among so many tokens at least, where at most one latent in so many is kept.
SEARCHED_FROM, SEARCHED_TO = 256, 32
_searches = threading.local()  # a search keeps memory that it writes to
ROOM = 4  # tokens differ in how many latents they need: so many times the mean is room enough


class Weights(NamedTuple):
    """The parameters in the orientation of the formulas, whatever their names on disk."""

    W_enc_DF: Tensor
    b_enc_F: Tensor
    W_dec_FD: Tensor
    b_dec_D: Tensor


class ThresholdDictionary(Dictionary):
    """relu((x - b_dec) W_enc + b_enc), then BatchTopK in training and a fixed threshold in inference.

    Buffers: `k` int32, `threshold` float32 (-1 while unset: then inference is a plain ReLU SAE).
    """

    k: Tensor
    threshold: Tensor
    token_top_k: bool = False
    """In inference keep the k largest latents of each token, whatever the threshold is."""
    has_inference_threshold: bool = True
    """Whether inference uses a threshold where nothing else is asked for."""

    _k_read: tuple[Tensor, int, int] | None = None

    @property
    def n_kept(self) -> int:
        """`k` as a number, read from its tensor only when that has changed."""
        version = _version(self.k)
        if version is None:
            return int(self.k)
        if self._k_read is None or self._k_read[0] is not self.k or self._k_read[1] != version:
            self._k_read = (self.k, version, int(self.k))
        return self._k_read[2]

    @abstractmethod
    def weights(self) -> Weights:
        """Views of the parameters."""

    @abstractmethod
    def decoder_gradient(self) -> Tensor:
        """The gradient of W_dec after a backward pass, as a view [F, D]."""

    @property
    def infers_with_threshold(self) -> bool:
        """Whether a code depends on the threshold, and its L0 therefore on the texts."""
        return self.has_inference_threshold and not self.token_top_k

    @property
    def group_ends(self) -> list[int]:
        """Where each group of latents ends; one group by default."""
        return [self.dict_size]

    def encode(self, x: Tensor, return_active: bool = False, use_threshold: bool = True) -> Any:
        """Latents [..., F] of activations [..., D].

        Args:
            return_active: also return the mask [F] of latents that fire and the codes before selection.
            use_threshold: False selects by BatchTopK over all tokens given, as in training.
        """
        post_relu = self.before_selection(x)
        if use_threshold and self.token_top_k:
            f = largest_of_each_token(post_relu, self.n_kept)
        elif use_threshold:
            f = post_relu * (post_relu > self.threshold)
        else:
            flat = post_relu.reshape(-1)
            kept = batch_topk(flat, self.n_kept * (flat.numel() // self.dict_size))
            f = torch.zeros_like(flat).index_put((kept,), flat[kept]).view_as(post_relu)
        if return_active:
            return f, (f != 0).reshape(-1, self.dict_size).any(0), post_relu
        return f

    def encode_entries(self, x_BD: Tensor) -> SparseCode:
        if not self.infers_with_threshold:
            return super().encode_entries(x_BD)
        W_enc_DF, b_enc_F, _, b_dec_D = self.weights()
        centred_BD = self.taken(x_BD, W_enc_DF) - b_dec_D
        is_searched = self._is_searched(centred_BD, W_enc_DF, self.n_kept) and float(self.threshold) > 0
        search = self._search() if is_searched else None
        if search is None:
            return entries_above(centred_BD, W_enc_DF, b_enc_F, self.threshold.clamp(min=0))
        with torch.no_grad():
            found = search.above(centred_BD, float(self.threshold))
        return SparseCode(found.pre_N, found.row_N, found.col_N, len(x_BD), self.dict_size)

    @torch.no_grad()
    def largest(self, x_BD: Tensor, k: int) -> Tensor:
        """Values of the k B largest entries of this process's tokens, and maybe of some more."""
        W_enc_DF, _, _, b_dec_D = self.weights()
        centred_BD = self.taken(x_BD, W_enc_DF) - b_dec_D
        search = self._search() if self._is_searched(centred_BD, W_enc_DF, k) else None
        if search is None:
            post_relu = self.before_selection(x_BD).flatten()
            return post_relu[batch_topk(post_relu, k * len(x_BD))]
        with distributed.alone():
            entries, _ = search.largest(centred_BD, [range(len(x_BD))], k, k * len(x_BD))
        return entries.pre_N.relu()

    def _is_searched(self, x_BD: Tensor, W_enc_DF: Tensor, k: int) -> bool:
        """Whether k entries a token are so few that a search takes less than a whole product.

        What is found, and its values, are those of a float32 product either way.
        """
        if not on_cpu(x_BD) or not x_BD.dtype == W_enc_DF.dtype == torch.float32:
            return False
        is_large = len(x_BD) >= SEARCHED_FROM and W_enc_DF.numel() >= TIMED_FROM
        return is_large and SEARCHED_TO * k <= self.dict_size

    def _search(self) -> Search | None:
        """This thread's search among the weights as they are now, prepared again only when they have changed.

        None where one of them is not finite: it would leave the search without bounds for every latent.
        """
        W_enc_DF, b_enc_F = (weight.detach() for weight in self.weights()[:2])
        # quicker than to look at each number; and what is written through `.data` has no new version
        sums = [float(weight.sum()) for weight in (W_enc_DF, b_enc_F)]
        if not all(map(math.isfinite, sums)):
            return None
        state = [(weight.data_ptr(), _version(weight)) for weight in (W_enc_DF, b_enc_F)]
        prepared = _searches.__dict__.setdefault("of", weakref.WeakKeyDictionary())
        if self not in prepared or prepared[self][0] != (sums, state):
            search = Search()
            with torch.no_grad():
                search.set_weights(W_enc_DF.T.contiguous(), b_enc_F)
            prepared[self] = ((sums, state), search)
        found: Search = prepared[self][1]
        return found

    def before_selection(self, x: Tensor) -> Tensor:
        """relu((x - b_dec) W_enc + b_enc) [..., F] of activations [..., D]."""
        W_enc_DF, b_enc_F, _, b_dec_D = self.weights()
        return torch.relu((self.taken(x, W_enc_DF) - b_dec_D) @ W_enc_DF + b_enc_F)

    def decode(self, f: Tensor) -> Tensor:
        """Reconstructed activations [..., D] of latents [..., F]."""
        _, _, W_dec_FD, b_dec_D = self.weights()
        return f @ W_dec_FD + b_dec_D

    def decoder_directions(self) -> Tensor:
        return self.weights().W_dec_FD

    @torch.no_grad()
    def scale_biases(self, scale: float) -> None:
        """Turn the dictionary for x into the one for `scale * x`; an unset threshold stays unset."""
        weights = self.weights()
        weights.b_enc_F.mul_(scale)
        weights.b_dec_D.mul_(scale)
        if self.threshold >= 0:
            self.threshold.mul_(scale)


def _version(tensor: Tensor) -> int | None:
    """How often a tensor was written to; None for one of `torch.inference_mode`, which does not count."""
    return None if tensor.is_inference() else tensor._version


def largest_of_each_token(post_relu: Tensor, k: int) -> Tensor:
    """The same codes [..., F] with the k largest latents of each token kept."""
    top = post_relu.topk(k, dim=-1, sorted=False)
    return torch.zeros_like(post_relu).scatter(-1, top.indices, top.values)


class Calibration(NamedTuple):
    """A threshold, and what it makes of the tokens that it was set on."""

    threshold: float
    l0: float
    tokens: int


@torch.no_grad()
def find_threshold(
    dictionary: ThresholdDictionary, batches: Iterable[Tensor], target_l0: int
) -> Calibration | None:
    """The threshold at which the mean L0 of a dictionary is `target_l0`; the dictionary stays as it is.

    It lies between the last value that is to be kept and the next one, over all tokens of all processes.

    Args:
        batches: activations [B, D] of this process, on the dictionary's device.

    Returns:
        None where no more latents are above 0 than are to be kept, so that no threshold is needed.
    """
    largest = [torch.empty(0, device=next(dictionary.parameters()).device)]  # a process may have no token
    n_tokens = 0
    for x_BD in batches:
        largest.append(dictionary.largest(x_BD, ROOM * target_l0))
        n_tokens += len(x_BD)
    return threshold_between(torch.cat(largest), target_l0, n_tokens)


@torch.no_grad()
def threshold_between(values_N: Tensor, target_l0: int, n_tokens: int) -> Calibration | None:
    """The threshold above which `target_l0` positive values a token lie, over all processes.

    Args:
        values_N: the largest values of this process's `n_tokens` tokens.
    """
    n_tokens = distributed.total_count(n_tokens)
    n_keep = target_l0 * n_tokens
    values_N = values_N[values_N > 0].float()
    if n_keep == 0 or distributed.total_count(len(values_N)) <= n_keep:
        return None
    last, following = (_smallest_of_largest(values_N, n) for n in (n_keep, n_keep + 1))
    threshold = torch.stack([last, following]).mean()
    n_above = distributed.total_count(int((values_N > threshold).sum()))
    return Calibration(float(threshold), n_above / n_tokens, n_tokens)


def _smallest_of_largest(values_N: Tensor, n: int) -> Tensor:
    """The n-th largest of all processes' values."""
    kept_N = values_N[distributed.keep_largest(values_N, n)]
    here = kept_N.min() if len(kept_N) else values_N.new_tensor(math.inf)
    return distributed.smallest(here)


def initial_decoder(dict_size: int, activation_dim: int, seed: int) -> Tensor:
    """Rows of norm 1 [F, D] in Kaiming-uniform directions."""
    W_dec_FD = torch.empty(dict_size, activation_dim)
    nn.init.kaiming_uniform_(W_dec_FD, generator=torch.Generator().manual_seed(seed))
    unit_norm_rows_(W_dec_FD)
    return W_dec_FD


def with_defaults(state: dict[str, Tensor], config: dict[str, Any]) -> dict[str, Tensor]:
    """The state of a file whose `k` or `threshold` is missing (older files), completed.

    Raises:
        UserError: the config has another `k`.
    """
    said = config.get("k")
    if said and "k" in state and state["k"].ndim == 0 and int(state["k"]) != said:
        raise UserError(
            f"k is {said} in the config, and {int(state['k'])} in the weights: they do not belong together."
        )
    completed = {
        "k": torch.tensor(int(config.get("k") or 0), dtype=torch.int32),
        "threshold": torch.tensor(UNSET_THRESHOLD),
        **state,
    }
    completed["k"] = torch.as_tensor(completed["k"], dtype=torch.int32)
    return completed


def group_ends(sizes: Iterable[int]) -> list[int]:
    """Running sums of group sizes."""
    return list(itertools.accumulate(sizes))
