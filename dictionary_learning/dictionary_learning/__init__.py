"""Train and load sparse dictionaries of language model activations.

The names here are imported when they are first used, so that `import dictionary_learning` costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

from dictionary_learning.dictionaries import loader

if TYPE_CHECKING:
    from dictionary_learning.activations.live_store import ActivationStore
    from dictionary_learning.buffer import ActivationBuffer
    from dictionary_learning.dictionaries.base import Dictionary
    from dictionary_learning.dictionaries.classics import (
        AutoEncoder,
        AutoEncoderNew,
        GatedAutoEncoder,
        JumpReluAutoEncoder,
    )
    from dictionary_learning.dictionaries.temporal_sae import TemporalSAE
    from dictionary_learning.errors import UserError
    from dictionary_learning.language_model import LanguageModel
    from dictionary_learning.training import trainSAE
    from dictionary_learning.utils import load_dictionary

__all__ = [
    "ActivationBuffer",
    "ActivationStore",
    "AutoEncoder",
    "AutoEncoderNew",
    "Dictionary",
    "GatedAutoEncoder",
    "JumpReluAutoEncoder",
    "LanguageModel",
    "TemporalSAE",
    "UserError",
    "load_dictionary",
    "trainSAE",
]

_MODULES = {
    "ActivationBuffer": "buffer",
    "ActivationStore": "activations.live_store",
    "LanguageModel": "language_model",
    "TemporalSAE": "temporal_sae",
    "UserError": "errors",
    "load_dictionary": "utils",
    "trainSAE": "training",
}


def _load(*arguments: Any, **named: Any) -> Any:
    return importlib.import_module(f"{__name__}.exchange.loading").load_dictionary(*arguments, **named)


loader.load = _load


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{_MODULES.get(name, 'dictionary')}")
    return getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
