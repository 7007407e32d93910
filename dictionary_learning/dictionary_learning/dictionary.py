"""The dictionaries under the name that the dictionary_learning library gives their module."""

from dictionary_learning.dictionaries.base import Dictionary, chunk_slice
from dictionary_learning.dictionaries.classics import (
    AutoEncoder,
    AutoEncoderNew,
    GatedAutoEncoder,
    JumpReluAutoEncoder,
)

__all__ = [
    "AutoEncoder",
    "AutoEncoderNew",
    "Dictionary",
    "GatedAutoEncoder",
    "JumpReluAutoEncoder",
    "chunk_slice",
]
