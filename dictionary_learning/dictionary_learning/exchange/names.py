"""The place in a language model that a dictionary reads, as TransformerLens and our configs name it."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

DEMO_MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
_RESIDUAL = re.compile(r"blocks\.(\d+)\.hook_resid_(pre|post)")


def model_name(trainer: Mapping[str, Any]) -> str | None:
    """The language model under the name that everybody knows; of one in a folder, the folder's own name."""
    name = trainer.get("lm_name")
    if name == "demo":
        return DEMO_MODEL
    return Path(str(name)).name if _is_path(name) else name


def hook_name(trainer: Mapping[str, Any]) -> str | None:
    """The TransformerLens hook with the output of the decoder layer that was recorded."""
    layer = trainer.get("layer")
    return trainer.get("hook_name") or (None if layer is None else f"blocks.{layer}.hook_resid_post")


def layer_of(hook: str | None) -> int | None:
    """The decoder layer whose output a hook sees; None where it sees something else."""
    match = _RESIDUAL.fullmatch(hook or "")
    if match is None:
        return None
    layer = int(match[1]) - (match[2] == "pre")
    return layer if layer >= 0 else None


def context_length(config: Mapping[str, Any]) -> int | None:
    """Tokens of a context in training, where the config of a run tells."""
    trainer, buffer = config.get("trainer") or {}, config.get("buffer") or {}
    return buffer.get("ctx_len") or buffer.get("context_length") or trainer.get("context_length")


def prepends_bos(config: Mapping[str, Any]) -> bool:
    """Whether a BOS stood in front of each context in training; the demo's model has none."""
    trainer, buffer = config.get("trainer") or {}, config.get("buffer") or {}
    return bool(buffer.get("add_bos", True)) and trainer.get("lm_name") != "demo"


def public_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """A run's config without what only the machine of the training knows: devices and paths of folders."""
    trainer = {key: value for key, value in config["trainer"].items() if key != "device"}
    private = ("activations", "device")
    buffer = {key: value for key, value in (config.get("buffer") or {}).items() if key not in private}
    for part, key in ((trainer, "lm_name"), (buffer, "model"), (buffer, "dataset")):
        if _is_path(part.get(key)):
            part[key] = Path(part[key]).name
    return {"trainer": trainer, "buffer": buffer}


def _is_path(name: Any) -> bool:
    return isinstance(name, str) and bool(name) and (Path(name).is_absolute() or Path(name).exists())
