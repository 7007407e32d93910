"""Run folders with random dictionaries, written by hand in the format of the training scripts."""

import json
from pathlib import Path
from typing import Any

import torch

from dictionary_learning.dictionaries.base import Dictionary


def save_run(folder: Path, dictionary: Dictionary, model: Path, layer: int, **config: Any) -> Path:
    """A run of one dictionary, trained on contexts of 48 tokens; its folder."""
    trainer = folder / "trainer_0"
    trainer.mkdir(parents=True)
    plain = {
        "dict_class": type(dictionary).__name__,
        "activation_dim": dictionary.activation_dim,
        "dict_size": dictionary.dict_size,
        "layer": layer,
        "lm_name": str(model),
    }
    buffer = {"ctx_len": 48, "max_norm_ratio": 10.0}
    (trainer / "config.json").write_text(json.dumps({"trainer": plain | config, "buffer": buffer}))
    torch.save(dictionary.state_dict(), trainer / "ae.pt")
    return folder
