"""TopK SAEs (Gao et al. 2024, arXiv 2406.04093): BatchTopK with the same number of latents for every token.

Shapes: B tokens, D model width, F latents, K latents kept a token.
"""

import math
from typing import Any

import torch
from torch import Tensor

from dictionary_learning import distributed
from dictionary_learning.dictionaries.sparse import CANDIDATE_MARGIN, Encoder
from dictionary_learning.trainers.batch_top_k import BatchTopKSAE, BatchTopKTrainer
from dictionary_learning.trainers.threshold import ThresholdDictionary, largest_of_each_token


class AutoEncoderTopK(BatchTopKSAE):
    """relu(W_enc (x - b_dec) + b_enc) with the `k` largest latents of each token kept.

    On disk it is a `BatchTopKSAE`; unlike there, inference selects as training does, and the
    threshold is an option for when a latent must not depend on the others.
    """

    has_inference_threshold = False

    def encode(self, x: Tensor, return_active: bool = False, use_threshold: bool = False) -> Any:
        """Latents [..., F] of activations [..., D].

        Args:
            return_active: also return the mask [F] of latents that fire and the codes before selection.
            use_threshold: True keeps what exceeds `threshold` instead of the k largest.
        """
        if use_threshold:
            return super().encode(x, return_active, use_threshold=True)
        post_relu = self.before_selection(x)
        f = largest_of_each_token(post_relu, int(self.k))
        if return_active:
            return f, (f != 0).reshape(-1, self.dict_size).any(0), post_relu
        return f


class TokenTopKEncoder(Encoder):
    """The sparse encoder with the largest latents of each token, instead of the batch, kept."""

    def _select(
        self, pre_BF: Tensor, parts: int, k: int, centred_BD: Tensor, W_enc_FD: Tensor, b_enc_F: Tensor
    ) -> Tensor:
        n_tokens, n_latents = pre_BF.shape
        start_B1 = torch.arange(n_tokens, device=pre_BF.device).unsqueeze(1) * n_latents
        if self.product_dtype == torch.float32:
            return (pre_BF.topk(k, dim=1).indices + start_B1).flatten().sort().values
        # The product's rounding may exchange neighbours in rank: choose among some more in float32.
        n_candidates = min(math.ceil(k * CANDIDATE_MARGIN), n_latents)
        index_BC = (pre_BF.topk(n_candidates, dim=1).indices + start_B1).sort(dim=1).values
        exact_N = self._values(index_BC.flatten(), centred_BD, W_enc_FD, b_enc_F).values_N
        kept_BK = exact_N.view(n_tokens, n_candidates).topk(k, dim=1).indices
        return index_BC.gather(1, kept_BK).flatten().sort().values


class TopKTrainer(BatchTopKTrainer):
    """BatchTopK's loss, AuxK and update with a top-k of each token (sections 2.3, 2.4 and appendix A).

    The inference threshold, which inference does without by default, is the moving average of the
    mean over tokens of the smallest latent kept.
    """

    dictionary_class = AutoEncoderTopK

    def __init__(self, *, wandb_name: str = "AutoEncoderTopK", **options: Any) -> None:
        super().__init__(wandb_name=wandb_name, **options)
        self._encoder = TokenTopKEncoder(self._encoder.product_dtype)

    def _make_dictionary(self, activation_dim: int, dict_size: int) -> ThresholdDictionary:
        return AutoEncoderTopK(activation_dim, dict_size, self.k, self.seed)

    def _smallest_kept(self, values_N: Tensor) -> Tensor:
        """The mean over tokens of the smallest positive value of each token's code."""
        values_BK = values_N.view(-1, self.current_k)
        smallest_B = values_BK.where(values_BK > 0, math.inf).amin(1)
        is_on_B = smallest_B.isfinite()
        return distributed.total(smallest_B[is_on_B].sum()) / distributed.total(is_on_B.sum())
