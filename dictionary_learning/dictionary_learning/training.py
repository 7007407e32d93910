"""`trainSAE`: several trainers on the same batches, in one run folder.

A batch is a tensor of activations, or `Sequences`: whole texts, for a dictionary that reads them.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from dictionary_learning import distributed
from dictionary_learning.activations.block import Contexts
from dictionary_learning.errors import UserError
from dictionary_learning.runs.folder import RunFolder
from dictionary_learning.runs.loop import TrainingResult, train
from dictionary_learning.runs.plan import Plan
from dictionary_learning.runs.source import Batch
from dictionary_learning.runs.tracker import Tracker
from dictionary_learning.trainers.trainer import whole_number


def trainSAE(
    data: Iterable[Batch | Contexts],
    trainer_configs: Sequence[Mapping[str, Any]],
    steps: int,
    use_wandb: bool = False,
    wandb_entity: str = "",
    wandb_project: str = "",
    save_steps: Sequence[int] | None = None,
    save_dir: str | Path | None = None,
    log_steps: int | None = None,
    activations_split_by_head: bool = False,
    transcoder: bool = False,
    run_cfg: Mapping[str, Any] | None = None,
    normalize_activations: bool = False,
    verbose: bool = False,
    device: str | torch.device | None = None,
    autocast_dtype: torch.dtype = torch.float32,
    backup_steps: int | None = None,
    *,
    resume: bool = False,
    calibration_tokens: int = 65_536,
    data_config: Mapping[str, Any] | None = None,
    resume_hint: str = "call trainSAE again with resume=True",
) -> TrainingResult:
    """Train dictionaries, one per entry of `trainer_configs`, on the same batches.

    Under several processes (an initialised `torch.distributed`) all of them call it with the same arguments.
    Each takes its rows of every batch, and the weights are those of one process; the first one writes.

    The first seventeen arguments are those of dictionary_learning.

    Args:
        data: gives batches [B, ...] of activations, or of whole contexts (of which a trainer of single
            tokens gets the usable tokens); with `state_dict`/`load_state_dict` it can be
            rewound, otherwise a resumed run reads the batches it has seen once more and drops them.
            Empty batches are passed over.
        trainer_configs: each has the class under "trainer" and that class's keyword arguments;
            "dead_feature_threshold" (tokens) is set on the trainer that was made.
        steps: batches to train on.
        save_steps: numbers of done steps after which checkpoints/ae_<step>.pt is written.
        save_dir: the run folder, which must be new or empty unless `resume`; None saves nothing.
        log_steps: steps between two records in metrics.jsonl, where the first and the last step, and one
            every half minute, are recorded besides; None records no others.
        activations_split_by_head: batches are [..., heads, D] and trainer i sees head i.
        run_cfg: recorded in config.yaml (and wandb) as what the run was asked for.
        normalize_activations: divide activations by one factor so that E‖x‖² = 1, and fold that
            factor into every saved file.
        verbose: print each record, too.
        autocast_dtype: run the updates under autocast to this dtype; float32 runs them as they are.
        backup_steps: steps between two saves of the resume state; None saves it at the end only.
        resume: go on from the last saved state in `save_dir`, from the beginning if there is none.
        calibration_tokens: training tokens on which inference thresholds are set at the end, or all that
            there are where `data` count their epochs; 0 keeps what training left.
        data_config: recorded under "buffer" in config.json; `data.config` where it is None.
        resume_hint: how to go on, printed when the run is interrupted.

    Raises:
        UserError: the run folder is taken or another process trains in it, a trainer has no such option,
            no step is asked for, activations or the loss are not finite, the disk is full.
        SystemExit: interrupted by Ctrl-C (130) or SIGTERM (143), after saving.
    """
    if isinstance(trainer_configs, Mapping):
        raise UserError("trainer_configs is the config of one trainer: put it into a list, [config].")
    if transcoder:
        raise UserError("transcoder=True is not possible: no trainer here learns one layer from another.")
    if resume and save_dir is None:
        raise UserError("resume=True needs save_dir: there is no folder to go on from.")
    steps = whole_number("steps", steps)
    if steps < 1:
        raise UserError(f"steps is {steps}, and must be at least 1.")
    if data_config is None:
        data_config = getattr(data, "config", None)
    plan = Plan(
        data=data,
        trainers=trainer_configs,
        steps=steps,
        normalize=normalize_activations,
        calibration_tokens=calibration_tokens,
        folder=save_dir,
        resume=resume,
        resume_hint=resume_hint,
        backup_steps=backup_steps or steps,
        log_steps=log_steps or steps,
        by_head=activations_split_by_head,
        device=device,
        autocast_dtype=autocast_dtype,
        save_steps=frozenset(save_steps or ()),
        verbose=verbose,
        run_config=dict(run_cfg or {}),
        data_config=dict(data_config or {}),
        tracker=Tracker(wandb_entity, wandb_project) if use_wandb else None,
    )
    is_ours = save_dir is not None and distributed.is_first()
    with RunFolder(str(save_dir)).alone() if is_ours else nullcontext():
        return train(plan)
