"""One dictionary of every class, with no bias or threshold at zero.

Shapes: D 6 model width, F 12 latents, K 3, where a test does not say otherwise.
"""

from typing import Any

import torch
from torch import Tensor

from dictionary_learning.dictionaries.classics import (
    AutoEncoder,
    AutoEncoderNew,
    GatedAutoEncoder,
    JumpReluAutoEncoder,
)
from dictionary_learning.dictionaries.temporal_sae import TemporalSAE
from dictionary_learning.trainers.batch_top_k import BatchTopKSAE
from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKSAE
from dictionary_learning.trainers.temporal_sequence_top_k import TemporalMatryoshkaBatchTopKSAE
from dictionary_learning.trainers.top_k import AutoEncoderTopK

D, F, K = 6, 12, 3
CONFIG = {
    "trainer": {"lm_name": "EleutherAI/pythia-160m", "layer": 8, "steps": 5, "device": "cuda:3"},
    "buffer": {"ctx_len": 128, "dataset": "some/texts", "activations": "/home/me/cache", "add_bos": False},
}
KINDS = (
    *("tsae", "matryoshka", "batchtopk", "topk", "relu", "relu_new", "gated", "jumprelu"),
    *("temporal", "untied", "low_rank"),
)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def make(kind: str, D: int = D, F: int = F, K: int = K) -> Any:
    """A dictionary of that kind, ready for use."""
    made = {
        "tsae": lambda: TemporalMatryoshkaBatchTopKSAE(D, F, K, [F // 4, F - F // 4]),
        "matryoshka": lambda: MatryoshkaBatchTopKSAE(D, F, K, [F // 4, F // 3, F - F // 4 - F // 3]),
        "batchtopk": lambda: BatchTopKSAE(D, F, K),
        "topk": lambda: AutoEncoderTopK(D, F, K),
        "relu": lambda: AutoEncoder(D, F),
        "relu_new": lambda: AutoEncoderNew(D, F),
        "gated": lambda: GatedAutoEncoder(D, F),
        "jumprelu": lambda: JumpReluAutoEncoder(D, F),
        "temporal": lambda: TemporalSAE(D, F, n_heads=2, kval_topk=K, bottleneck_factor=2),
        "low_rank": lambda: TemporalSAE(D, F, 2, kval_topk=K, bottleneck_factor=2, value_rank=F // 2),
        "untied": lambda: TemporalSAE(D, F, 2, sae_diff_type="relu", tied_weights=False, n_attn_layers=2),
    }[kind]()
    with torch.no_grad():
        for i, (name, parameter) in enumerate(made.named_parameters()):
            if parameter.ndim == 1 or name == "b":
                parameter.copy_(0.1 * normal(*parameter.shape, seed=i))
        if hasattr(made, "threshold"):
            made.threshold.copy_(made.threshold.abs() if made.threshold.ndim else torch.tensor(0.25))
        if isinstance(made, TemporalSAE):
            made.scaling_factor.fill_(0.029)
    return made.eval()
