"""One file an architecture: its dictionary where that is not a classic, and its trainer.

In come batches of activations; out come trained weights and an inference threshold.

architectures             the list of them, light enough for a `--help`
options                   what a run can ask of them
make                      a trainer from its options, with unknown ones told
trainer                   what every trainer is, and the pieces that several use
threshold                 what the dictionaries of the BatchTopK family are
batch_top_k               BatchTopK, on which its variants build
top_k                     the same with as many latents for every token
matryoshka_batch_top_k    groups of latents that reconstruct one after another
temporal_sequence_top_k   the T-SAE: Matryoshka with a term that holds the first group steady
losses                    the losses of these, as the papers write them
dense                     the step of the trainers whose sparsity comes from a penalty
standard gdm jumprelu     an L1 penalty, gates, and learned thresholds
temporal_attention        the TemporalSAE of predicted and novel codes
recall_start              weights to start one from

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
