"""Model, place and texts of a dictionary under the names that others have for them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dictionary_learning.errors import UserError
from dictionary_learning.language_model.places import Place

PUBLIC_NAMES = {"demo": "HuggingFaceTB/SmolLM2-135M-Instruct", "demo-gemma": "google/gemma-3-270m"}


def model_name(trainer: Mapping[str, Any]) -> str | None:
    """The language model under the name that everybody knows; of one in a folder, the folder's own name."""
    name = trainer.get("lm_name")
    if name in PUBLIC_NAMES:
        return PUBLIC_NAMES[name]
    return public_name(name)


def hook_name(config: Mapping[str, Any]) -> str | None:
    """The place that the dictionary of a run reads, as TransformerLens names it."""
    place = Place.of_run(config)
    return None if place is None else place.hook_name


def hf_hook_name(config: Mapping[str, Any]) -> str | None:
    """The module of transformers whose output that is, such as `model.layers.12`.

    None for what attention or MLP add, and where the language model's config cannot be had.
    """
    from dictionary_learning.language_model.sizes import module_path

    trainer, buffer = config.get("trainer") or {}, config.get("buffer") or {}
    place = Place.of_run(config)
    output = None if place is None or place.is_added else place.output
    model = trainer.get("lm_name") or buffer.get("model")
    if output is None or output.layer is None or model is None:
        return None
    try:
        return module_path(str(model), output.layer)
    except UserError:
        return None


def context_length(config: Mapping[str, Any]) -> int | None:
    """Tokens of a context in training, where the config of a run tells."""
    trainer, buffer = config.get("trainer") or {}, config.get("buffer") or {}
    return buffer.get("ctx_len") or buffer.get("context_length") or trainer.get("context_length")


def prepends_bos(config: Mapping[str, Any]) -> bool | None:
    """Whether a BOS stood in front of each context in training; None where that cannot be known.

    A run records it. Of an older one the tokenizer tells, if it can be had: `add_bos` alone only allows a BOS
    where the tokenizer puts one.
    """
    trainer, buffer = config.get("trainer") or {}, config.get("buffer") or {}
    if isinstance(buffer.get("bos"), bool):
        return buffer["bos"]
    model = trainer.get("lm_name") or buffer.get("model")
    if not buffer.get("add_bos", True) or model in (
        "demo",
        PUBLIC_NAMES["demo"],
    ):  # whose tokenizer puts none
        return False
    if model is None:
        return None
    from dictionary_learning.language_model.source import read_tokenizer
    from dictionary_learning.language_model.tokens import bos_id

    try:
        return bos_id(read_tokenizer(str(model))) is not None
    except UserError:
        return None


def public_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """A run's config without what only the machine of the training knows: devices and paths of folders."""
    trainer = {key: value for key, value in config["trainer"].items() if key != "device"}
    private = ("activations", "device")
    buffer = {key: value for key, value in (config.get("buffer") or {}).items() if key not in private}
    for part, key in ((trainer, "lm_name"), (buffer, "model"), (buffer, "dataset")):
        if key in part:
            part[key] = public_name(part[key])
    return {"trainer": trainer, "buffer": buffer}


def public_name(name: Any) -> Any:
    """The name of a model or a data set; of one in a folder of this machine the last part of its path."""
    is_path = isinstance(name, str) and bool(name) and (Path(name).is_absolute() or Path(name).exists())
    return Path(name).name if is_path else name
