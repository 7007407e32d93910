"""Train and load sparse dictionaries of language model activations.

The names here are imported when they are first used, so that `import dictionary_learning` costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

from dictionary_learning import lazy
from dictionary_learning.dictionaries import loader

if TYPE_CHECKING:
    from dictionary_learning.activations.cache import ActivationCache
    from dictionary_learning.activations.live_store import ActivationStore
    from dictionary_learning.buffer import ActivationBuffer
    from dictionary_learning.dictionary import (
        AutoEncoder,
        AutoEncoderNew,
        Dictionary,
        GatedAutoEncoder,
        JumpReluAutoEncoder,
    )
    from dictionary_learning.errors import UserError
    from dictionary_learning.evaluation import evaluate
    from dictionary_learning.language_model import LanguageModel
    from dictionary_learning.temporal_sae import TemporalSAE
    from dictionary_learning.trainers import (
        TemporalMatryoshkaBatchTopKSAE,
        TemporalMatryoshkaBatchTopKTrainer,
    )
    from dictionary_learning.training import trainSAE
    from dictionary_learning.utils import load_dictionary

__all__ = [
    "ActivationBuffer",
    "ActivationCache",
    "ActivationStore",
    "AutoEncoder",
    "AutoEncoderNew",
    "Dictionary",
    "GatedAutoEncoder",
    "JumpReluAutoEncoder",
    "LanguageModel",
    "TemporalMatryoshkaBatchTopKSAE",
    "TemporalMatryoshkaBatchTopKTrainer",
    "TemporalSAE",
    "UserError",
    "evaluate",
    "load_dictionary",
    "trainSAE",
]

__getattr__, __dir__ = lazy.names(
    __name__,
    {
        "activations.cache": ("ActivationCache",),
        "activations.live_store": ("ActivationStore",),
        "buffer": ("ActivationBuffer",),
        "dictionary": (
            "AutoEncoder",
            "AutoEncoderNew",
            "Dictionary",
            "GatedAutoEncoder",
            "JumpReluAutoEncoder",
        ),
        "errors": ("UserError",),
        "evaluation": ("evaluate",),
        "language_model": ("LanguageModel",),
        "temporal_sae": ("TemporalSAE",),
        "trainers": ("TemporalMatryoshkaBatchTopKSAE", "TemporalMatryoshkaBatchTopKTrainer"),
        "training": ("trainSAE",),
        "utils": ("load_dictionary",),
    },
)


def _load(*arguments: Any, **named: Any) -> Any:
    return importlib.import_module(f"{__name__}.exchange.loading").load_dictionary(*arguments, **named)


loader.load = _load
