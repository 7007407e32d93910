"""Matryoshka BatchTopK SAE (Bussmann et al. 2025): BatchTopK whose groups reconstruct one after another.

Shapes: B tokens, D model width, F latents, G groups.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Self

import torch
from torch import Tensor, nn

from dictionary_learning.dictionaries.base import UNSET_THRESHOLD, state_sizes
from dictionary_learning.dictionaries.sparse import SparseCode
from dictionary_learning.errors import UserError
from dictionary_learning.trainers.batch_top_k import BatchTopKTrainer
from dictionary_learning.trainers.threshold import (
    ThresholdDictionary,
    Weights,
    group_ends,
    initial_decoder,
    with_defaults,
)
from dictionary_learning.trainers.trainer import whole_number


class MatryoshkaBatchTopKSAE(ThresholdDictionary):
    """Latents in groups, in index order; the first group is the "high-level" split.

    `active_groups` (all by default) limits inference to the first groups.
    """

    group_sizes: Tensor

    def __init__(
        self, activation_dim: int, dict_size: int, k: int, group_sizes: Sequence[int], seed: int = 0
    ) -> None:
        super().__init__()
        if sum(group_sizes) != dict_size:
            raise UserError(f"group sizes {list(group_sizes)} must add up to the {dict_size} latents.")
        self.activation_dim, self.dict_size = activation_dim, dict_size
        self.register_buffer("k", torch.tensor(k, dtype=torch.int32))
        self.register_buffer("threshold", torch.tensor(UNSET_THRESHOLD))
        self.register_buffer("group_sizes", torch.tensor(group_sizes))
        # a list beside the tensor, so that no step reads it from a device
        self._group_ends = group_ends(group_sizes)
        self.register_load_state_dict_post_hook(_read_group_ends)
        self.active_groups = len(group_sizes)
        W_dec_FD = initial_decoder(dict_size, activation_dim, seed)
        # W_enc [D, F] is stored by latent too: the sparse products gather rows of its transpose.
        self.W_enc = nn.Parameter(W_dec_FD.clone().T)
        self.b_enc = nn.Parameter(torch.zeros(dict_size))
        self.W_dec = nn.Parameter(W_dec_FD)
        self.b_dec = nn.Parameter(torch.zeros(activation_dim))

    def weights(self) -> Weights:
        return Weights(self.W_enc, self.b_enc, self.W_dec, self.b_dec)

    @property
    def group_ends(self) -> list[int]:
        return self._group_ends

    def splits(self) -> dict[str, slice]:
        """`high` is the first group, `low` all others."""
        if len(self.group_ends) < 2:
            return {}
        first = self.group_ends[0]
        return {"high": slice(0, first), "low": slice(first, self.dict_size)}

    def encode(self, x: Tensor, return_active: bool = False, use_threshold: bool = True) -> Any:
        encoded = super().encode(x, return_active, use_threshold)
        if self.active_groups == len(self.group_sizes):
            return encoded
        stop = self.group_ends[self.active_groups - 1] if self.active_groups else 0
        mask_F = torch.arange(self.dict_size, device=x.device) < stop
        if not return_active:
            return encoded * mask_F
        f, active_F, post_relu = encoded
        return f * mask_F, active_F & mask_F, post_relu

    def encode_entries(self, x_BD: Tensor) -> SparseCode:
        code = super().encode_entries(x_BD)
        if self.active_groups == len(self.group_sizes):
            return code
        stop = self.group_ends[self.active_groups - 1] if self.active_groups else 0
        return replace(code.columns(stop), n_cols=self.dict_size)

    def decoder_gradient(self) -> Tensor:
        assert self.W_dec.grad is not None
        return self.W_dec.grad

    @classmethod
    def from_state_dict(cls, state: dict[str, Tensor], config: dict[str, Any]) -> Self:
        state = with_defaults(state, config)
        shapes = {"W_enc": "DF", "b_enc": "F", "W_dec": "FD", "b_dec": "D"}
        sizes = state_sizes(
            cls.__name__, state, shapes | {"k": "", "threshold": "", "group_sizes": "G"}, config
        )
        group_sizes = state["group_sizes"].tolist()
        if (said := config.get("group_sizes")) and list(said) != group_sizes:
            raise UserError(
                f"group_sizes are {list(said)} in the config, and {group_sizes} in the weights: they do not "
                "belong together."
            )
        ae = cls(sizes["D"], sizes["F"], int(state["k"]), group_sizes)
        ae.load_state_dict(state)
        return ae


def _read_group_ends(dictionary: nn.Module, _: Any) -> None:
    """Take the groups from a state that was loaded."""
    assert isinstance(dictionary, MatryoshkaBatchTopKSAE)
    dictionary._group_ends = group_ends(dictionary.group_sizes.tolist())


class MatryoshkaBatchTopKTrainer(BatchTopKTrainer):
    """BatchTopK with one reconstruction loss a group.

    Args (beside those of `BatchTopKTrainer`):
        group_fractions: share of the latents in each group, in order; they sum to 1.
        group_weights: weight of each group's loss in the `code` form; 1 / G each when None.

    Raises:
        UserError: fractions that do not sum to 1, a group without latents, another number of weights.
    """

    ae: MatryoshkaBatchTopKSAE
    dictionary_class = MatryoshkaBatchTopKSAE

    def __init__(
        self,
        *,
        activation_dim: int,
        dict_size: int,
        group_fractions: Sequence[float] = (0.2, 0.8),
        group_weights: Sequence[float] | None = None,
        wandb_name: str = "MatryoshkaBatchTopKSAE",
        **options: Any,
    ) -> None:
        self.group_fractions = list(group_fractions)
        dict_size = whole_number("dict_size", dict_size)
        self.group_sizes = sizes_of_groups(self.group_fractions, dict_size)
        n_groups = len(self.group_sizes)
        self._group_weights = list(group_weights) if group_weights is not None else [1 / n_groups] * n_groups
        if len(self._group_weights) != n_groups:
            raise UserError(f"{len(self._group_weights)} group weights for {n_groups} groups: give one each.")
        super().__init__(activation_dim=activation_dim, dict_size=dict_size, wandb_name=wandb_name, **options)

    def _make_dictionary(self, activation_dim: int, dict_size: int) -> ThresholdDictionary:
        return MatryoshkaBatchTopKSAE(activation_dim, dict_size, self.k, self.group_sizes, self.seed)

    @property
    def group_weights(self) -> Sequence[float]:
        return self._group_weights

    @property
    def config(self) -> dict[str, Any]:
        return super().config | {
            "group_fractions": self.group_fractions,
            "group_weights": list(self.group_weights),
            "group_sizes": self.group_sizes,
        }


def sizes_of_groups(fractions: Sequence[float], dict_size: int) -> list[int]:
    """Latents in each group; rounding goes to the last one.

    Raises:
        UserError: the fractions do not sum to 1, or a group would be empty.
    """
    if not fractions or abs(sum(fractions) - 1) > 1e-6:
        raise UserError(f"group fractions {list(fractions)} sum to {sum(fractions):g} and must sum to 1.")
    sizes = [int(fraction * dict_size) for fraction in fractions[:-1]]
    sizes.append(dict_size - sum(sizes))
    if min(sizes) < 1:
        raise UserError(f"group fractions {list(fractions)} leave a group of {dict_size} latents empty.")
    return sizes
