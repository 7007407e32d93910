"""One file an architecture: its dictionary where that is not a classic, and its trainer."""

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
