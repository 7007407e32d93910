"""TopK SAEs (Gao et al. 2024, arXiv 2406.04093): BatchTopK with the same number of latents for every token.

Shapes: B tokens, D model width, F latents, K latents kept a token.
"""

import math
from typing import Any

from torch import Tensor

from dictionary_learning import distributed
from dictionary_learning.selection.encoder import TokenTopKEncoder
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
        f = largest_of_each_token(post_relu, self.n_kept)
        if return_active:
            return f, (f != 0).reshape(-1, self.dict_size).any(0), post_relu
        return f


class TopKTrainer(BatchTopKTrainer):
    """BatchTopK's loss, AuxK and update with a top-k of each token (sections 2.3, 2.4 and appendix A).

    The inference threshold, which inference does without by default, is the moving average of the
    mean over tokens of the smallest latent kept.
    """

    dictionary_class = AutoEncoderTopK

    def __init__(self, *, wandb_name: str = "AutoEncoderTopK", **options: Any) -> None:
        super().__init__(wandb_name=wandb_name, **options)
        self._encoder = TokenTopKEncoder(self._encoder.product_dtype, tf32=self.tf32)

    def _make_dictionary(self, activation_dim: int, dict_size: int) -> ThresholdDictionary:
        return AutoEncoderTopK(activation_dim, dict_size, self.k, self.seed)

    def _smallest_kept(self, values_N: Tensor) -> Tensor:
        """The mean over tokens of the smallest positive value of each token's code."""
        values_BK = values_N.view(-1, self.current_k)
        smallest_B = values_BK.where(values_BK > 0, math.inf).amin(1)
        is_on_B = smallest_B < math.inf
        return distributed.total((smallest_B.nan_to_num(posinf=0) * is_on_B).sum()) / distributed.total(
            is_on_B.sum()
        )
