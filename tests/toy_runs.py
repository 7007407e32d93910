"""Runs of every kind of dictionary for the tiny language model, and experiments as modules."""

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import torch
from modules import load_module
from run_folders import save_run

from dictionary_learning.dictionaries.temporal_sae import TemporalSAE
from dictionary_learning.trainers.batch_top_k import BatchTopKSAE
from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKSAE
from dictionary_learning.trainers.threshold import ThresholdDictionary

LAYER = 2
KINDS = ("grouped", "plain", "attention")
EXPERIMENTS = Path(__file__).parents[1] / "src" / "experiments"


def load_script(name: str) -> ModuleType:
    """An experiment as a module, to call its `main`."""
    return load_module(EXPERIMENTS / f"{name}.py")


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


def make_runs(folder: Path, model: Path, kinds: Sequence[str] = KINDS) -> Path:
    """A folder with a run of each kind, which is its name."""
    for kind in kinds:
        make_run(folder / kind, model, kind=kind)
    return folder


JUDGES = "Every judge overrules a criminal statute. The federal tribunal upholds the verdict."


def passage_files(folder: Path, *texts: str) -> list[str]:
    """Texts as files, for --passages."""
    paths = [folder / f"passage{i}.txt" for i in range(len(texts))]
    for path, text in zip(paths, texts, strict=True):
        path.write_text(text)
    return list(map(str, paths))
