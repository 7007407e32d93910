"""Runs of every kind of dictionary for the tiny language model, and experiments as modules."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import torch
from run_folders import save_run

from dictionary_learning.dictionaries.temporal_sae import TemporalSAE
from dictionary_learning.trainers.batch_top_k import BatchTopKSAE
from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKSAE
from dictionary_learning.trainers.threshold import ThresholdDictionary

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


def make_run(folder: Path, model: Path, *, kind: str = "grouped", width: int = 32, seed: int = 0) -> Path:
    """A run of a `grouped`, a `plain` or an `attention` dictionary of 96 latents for the tiny model."""
    torch.manual_seed(seed)
    if kind == "attention":
        sae = TemporalSAE(width, 48, n_heads=4, kval_topk=8, seed=seed)
        return save_run(folder, sae, model, LAYER, **sae.architecture)
    ae: ThresholdDictionary
    if kind == "grouped":
        ae = MatryoshkaBatchTopKSAE(width, 96, k=8, group_sizes=[32, 64], seed=seed)
    else:
        ae = BatchTopKSAE(width, 96, k=8, seed=seed)
    ae.threshold.fill_(0.3)
    return save_run(folder, ae, model, LAYER, k=8)
