"""Load a dictionary from a run, and small helpers under the names that dictionary_learning gives them.

dictionary, config = load_dictionary("runs/demo")
"""

from collections.abc import Iterator
from typing import Any

from torch import nn

from dictionary_learning.dictionaries.base import check_width
from dictionary_learning.exchange.loading import (
    DICTIONARIES,
    TRAINERS,
    Run,
    find_run,
    is_released,
    is_saelens,
    load_dictionary,
    trainer_folder,
    weights_path,
    weights_sha256,
)

__all__ = [
    "DICTIONARIES",
    "TRAINERS",
    "Run",
    "check_width",
    "find_run",
    "get_submodule",
    "hf_dataset_to_generator",
    "is_released",
    "is_saelens",
    "load_dictionary",
    "trainer_folder",
    "weights_path",
    "weights_sha256",
]


def get_submodule(model: Any, layer: int) -> nn.Module:
    """Decoder layer `layer` (from 0) of a language model: ours, a transformers or an nnsight one.

    Raises:
        UserError: the model has no such layer.
    """
    from dictionary_learning.language_model import LanguageModel
    from dictionary_learning.language_model.decoder_layers import (
        find_decoder_layers,
        is_of_nnsight,
        unwrapped,
    )
    from dictionary_learning.language_model.source import check_layer

    if isinstance(model, LanguageModel):
        return model.layers[model.check_layer(layer)]
    path, layers = find_decoder_layers(unwrapped(model))
    check_layer(type(model).__name__, layer, len(layers))
    submodule = model if is_of_nnsight(model) else unwrapped(model)
    for name in path.split("."):
        submodule = getattr(submodule, name)
    return submodule[layer]


def hf_dataset_to_generator(
    dataset_name: str, split: str = "train", streaming: bool = True, text_field: str = "text"
) -> Iterator[str]:
    """The texts of a data set: a hub name, a local file, or "demo".

    `streaming` is there for the sake of the call; nothing is downloaded as a whole in any case.

    Raises:
        UserError: the data set or its text field is not there.
    """
    from dictionary_learning.texts.documents import DocumentStream

    stream = DocumentStream.open(dataset_name, split=split, text_field=text_field, part="all")
    return (document.text for document in stream)
