"""Run folders with random dictionaries, written by hand in the format of the training scripts."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import torch

from dictionary_learning.temporal_sae import TemporalSAE
from dictionary_learning.trainers.batch_top_k import BatchTopKSAE
from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKSAE

LAYER = 2
EXPERIMENTS = Path(__file__).parents[1] / "src" / "experiments"


def load_script(name: str) -> ModuleType:
    """An experiment as a module, to call its `main`."""
    spec = importlib.util.spec_from_file_location(f"{name}_script", EXPERIMENTS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


def make_run(
    folder: Path,
    model: Path,
    *,
    kind: str = "grouped",
    width: int = 32,
    context_length: int = 96,
    seed: int = 0,
) -> Path:
    """A run of a `grouped`, a `plain` or an `attention` dictionary of 96 latents for the tiny model."""
    torch.manual_seed(seed)
    if kind == "attention":
        ae = TemporalSAE(width, 48, n_heads=4, kval_topk=8, seed=seed)
        architecture = ae.architecture
    else:
        if kind == "grouped":
            ae = MatryoshkaBatchTopKSAE(width, 96, k=8, group_sizes=[32, 64], seed=seed)
        else:
            ae = BatchTopKSAE(width, 96, k=8, seed=seed)
        ae.threshold.fill_(0.3)
        architecture = {"k": 8}
    trainer = folder / "trainer_0"
    trainer.mkdir(parents=True)
    config = {
        "trainer": {
            "dict_class": type(ae).__name__,
            "activation_dim": width,
            "dict_size": 96,
            "layer": LAYER,
            "lm_name": str(model),
            **architecture,
        },
        "buffer": {"ctx_len": context_length, "max_norm_ratio": 10.0},
    }
    (trainer / "config.json").write_text(json.dumps(config))
    torch.save(ae.state_dict(), trainer / "ae.pt")
    return folder
