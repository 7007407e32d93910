"""A training run in one object: what it reads, what it trains on it, and what it keeps."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from dictionary_learning.activations.block import Contexts
from dictionary_learning.runs.beginning import Beginning
from dictionary_learning.runs.source import Batch
from dictionary_learning.runs.tracker import Tracker


@dataclass(frozen=True)
class Plan:
    """What `loop.train` does; `trainSAE` fills it for its callers, `train_command` for the command line.

    Attributes:
        data: the batches; see `trainSAE`.
        trainers: each the class under "trainer" and its keyword arguments; see `trainSAE`.
        steps: batches to train on.
        normalize: divide activations by one factor so that E‖x‖² = 1.
        by_head: batches are [..., heads, D] and trainer i sees head i.
        device: of the batches; that of the first trainer when None.
        autocast_dtype: float32 runs the updates as they are.
        calibration_tokens: on which inference thresholds are set at the end; 0 keeps what training left.
        folder: of the run; None saves nothing.
        resume: go on from the last state that was saved there.
        resume_hint: how to go on, told when the run is interrupted.
        save_steps: numbers of done steps after which weights are kept.
        backup_steps, log_steps: steps between two saves of the full state, and between two records; the
            first and the last step are recorded besides, and one when half a minute has passed.
        verbose: print each record, too.
        run_config, data_config: recorded in config.yaml, and under "buffer" in config.json.
        tracker: Weights & Biases.
        beginning: gives the dictionary whose weights are the first ones; None begins anew.
    """

    data: Iterable[Batch | Contexts]
    trainers: Sequence[Mapping[str, Any]]
    steps: int
    normalize: bool
    calibration_tokens: int
    folder: str | Path | None
    resume: bool
    resume_hint: str
    backup_steps: int
    log_steps: int
    by_head: bool = False
    device: str | torch.device | None = None
    autocast_dtype: torch.dtype = torch.float32
    save_steps: frozenset[int] = frozenset()
    verbose: bool = False
    run_config: Mapping[str, Any] = field(default_factory=dict)
    data_config: Mapping[str, Any] = field(default_factory=dict)
    tracker: Tracker | None = None
    beginning: Callable[[], Beginning] | None = None
