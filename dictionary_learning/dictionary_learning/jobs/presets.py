"""What a preset gives an architecture, and whether this machine can do what the default one asks."""

import os
from dataclasses import fields
from typing import Any

from dictionary_learning.command.devices import find_device
from dictionary_learning.command.options import preset_names, read_preset
from dictionary_learning.errors import UserError
from dictionary_learning.jobs.options import TrainOptions
from dictionary_learning.trainers.architectures import BATCH_TOP_K_FAMILY, is_for

HUB_SECONDS = 5.0


def preset_values(config: str | None, arch: str) -> dict[str, Any]:
    """The values of a preset that are meant for the architecture.

    Raises:
        UserError: the preset is for other architectures.
    """
    values = read_preset(config) if config is not None else {}
    own = values.pop("attention", None)
    for_attention_only = values.pop("architectures", None) == ["attention"]
    if config is not None and (own is None if arch == "attention" else for_attention_only):
        fitting = [name for name in preset_names() if is_preset_for(name, arch)]
        raise UserError(f"the preset {config} is not for {arch}: choose one of {', '.join(fitting)}.")
    if arch == "attention":
        values = {name: value for name, value in values.items() if is_for(name, arch)} | (own or {})
    unknown = values.keys() - {field.name for field in fields(TrainOptions)}
    assert not unknown, f"preset {config} has unknown options {unknown}"
    if arch not in (*BATCH_TOP_K_FAMILY, "attention"):
        values.pop("lr", None)  # it is the T-SAE script's; the others bring their papers' own
    return values


def is_preset_for(name: str, arch: str) -> bool:
    """Whether a preset has values for the architecture."""
    values = read_preset(name)
    return "attention" in values if arch == "attention" else values.get("architectures") != ["attention"]


def require_gpu_and_hub(config: str) -> None:
    """Refuse the default run where it cannot work: it is the paper's, with a model and texts from the hub.

    Raises:
        UserError: this machine lacks a GPU or the hub.
    """
    lacks = []
    if find_device().type == "cpu":
        lacks.append("a GPU")
    if not _hub_answers():
        lacks.append("the Hugging Face hub")
    if lacks:
        raise UserError(
            f"without --config the paper's run on {config} starts, and this machine lacks "
            f"{' and '.join(lacks)}: try --config demo, which needs neither."
        )


def _hub_answers() -> bool:
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return False
    import urllib.error
    import urllib.request

    endpoint = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    try:
        with urllib.request.urlopen(urllib.request.Request(endpoint, method="HEAD"), timeout=HUB_SECONDS):
            return True
    except urllib.error.HTTPError:
        return True
    except (OSError, ValueError):
        return False
