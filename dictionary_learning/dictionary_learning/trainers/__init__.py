"""One file an architecture: its dictionary where that is not a classic, and its trainer.

`architectures` is the list of them, light enough for a `--help`; `options` holds what a run can ask of them.
The names here are imported when they are first used.
"""

from typing import TYPE_CHECKING

from dictionary_learning import lazy

if TYPE_CHECKING:
    from dictionary_learning.trainers.batch_top_k import BatchTopKSAE, BatchTopKTrainer
    from dictionary_learning.trainers.gdm import GatedSAETrainer
    from dictionary_learning.trainers.jumprelu import JumpReluTrainer
    from dictionary_learning.trainers.matryoshka_batch_top_k import (
        MatryoshkaBatchTopKSAE,
        MatryoshkaBatchTopKTrainer,
    )
    from dictionary_learning.trainers.standard import StandardTrainer, StandardTrainerAprilUpdate
    from dictionary_learning.trainers.temporal_attention import TemporalAttentionTrainer
    from dictionary_learning.trainers.temporal_sequence_top_k import (
        TemporalMatryoshkaBatchTopKSAE,
        TemporalMatryoshkaBatchTopKTrainer,
    )
    from dictionary_learning.trainers.top_k import AutoEncoderTopK, TopKTrainer
    from dictionary_learning.trainers.trainer import Trainer

__all__ = [
    "AutoEncoderTopK",
    "BatchTopKSAE",
    "BatchTopKTrainer",
    "GatedSAETrainer",
    "JumpReluTrainer",
    "MatryoshkaBatchTopKSAE",
    "MatryoshkaBatchTopKTrainer",
    "StandardTrainer",
    "StandardTrainerAprilUpdate",
    "TemporalAttentionTrainer",
    "TemporalMatryoshkaBatchTopKSAE",
    "TemporalMatryoshkaBatchTopKTrainer",
    "TopKTrainer",
    "Trainer",
]

__getattr__, __dir__ = lazy.names(
    __name__,
    {
        "batch_top_k": ("BatchTopKSAE", "BatchTopKTrainer"),
        "gdm": ("GatedSAETrainer",),
        "jumprelu": ("JumpReluTrainer",),
        "matryoshka_batch_top_k": ("MatryoshkaBatchTopKSAE", "MatryoshkaBatchTopKTrainer"),
        "standard": ("StandardTrainer", "StandardTrainerAprilUpdate"),
        "temporal_attention": ("TemporalAttentionTrainer",),
        "temporal_sequence_top_k": ("TemporalMatryoshkaBatchTopKSAE", "TemporalMatryoshkaBatchTopKTrainer"),
        "top_k": ("AutoEncoderTopK", "TopKTrainer"),
        "trainer": ("Trainer",),
    },
)
