"""`TemporalSAE` under the name that users import it by."""

from dictionary_learning.dictionaries.attention import ContextAttention
from dictionary_learning.dictionaries.prediction import Prediction
from dictionary_learning.dictionaries.temporal_sae import TemporalSAE
from dictionary_learning.dictionaries.temporal_sizes import NOVEL_KINDS, check_sizes

__all__ = ["NOVEL_KINDS", "ContextAttention", "Prediction", "TemporalSAE", "check_sizes"]
