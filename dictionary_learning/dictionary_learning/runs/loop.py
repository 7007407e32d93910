"""The training loop: several trainers on the same batches, stopped only between two steps.

Several processes go through it side by side, each with its rows of the batches; the first one alone has the
run's folder.
"""

import math
import time
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch

from dictionary_learning import distributed
from dictionary_learning.command.devices import find_device
from dictionary_learning.command.interruption import Interrupted, Interruption
from dictionary_learning.command.progress import say
from dictionary_learning.errors import UserError
from dictionary_learning.runs.beginning import Beginning
from dictionary_learning.runs.folder import RunFolder
from dictionary_learning.runs.keeper import Keeper
from dictionary_learning.runs.log import Log
from dictionary_learning.runs.plan import Plan
from dictionary_learning.runs.scaling import Scaling
from dictionary_learning.runs.source import Batch, Source
from dictionary_learning.runs.state import State
from dictionary_learning.runs.turn import Turn, take_turn
from dictionary_learning.trainers.make import make_trainer


class TrainingResult(NamedTuple):
    """What a run leaves in memory."""

    trainers: list[Any]
    steps_done: int
    norm_factor: float  # activations were divided by it; the saved weights work on raw ones


def train(plan: Plan) -> TrainingResult:
    """Do what the plan says; the first process's caller holds the run's folder by `RunFolder.alone`.

    Raises:
        UserError: the run folder is taken, a trainer has no such option, activations or the loss are not
            finite, the disk is full.
        SystemExit: interrupted by Ctrl-C (130) or SIGTERM (143), after saving.
    """
    run = RunFolder(plan.folder) if plan.folder is not None and distributed.is_first() else None
    if run is not None and not plan.resume:
        run.check_new()
    trainers = [make_trainer(config) for config in plan.trainers]
    if not trainers:
        raise UserError("trainer_configs is empty: give at least one trainer.")
    return _Loop(plan, run, trainers).go()


class _Loop:
    """One run of a plan."""

    def __init__(self, plan: Plan, run: RunFolder | None, trainers: list[Any]) -> None:
        self.plan, self.trainers = plan, trainers
        self.source = Source(plan.data)
        of_trainer = next(trainers[0].ae.parameters()).device
        self.device = of_trainer if plan.device is None else find_device(plan.device)
        self.scaling = Scaling(self.device, plan.by_head)
        self.state = State()
        self.keeper = Keeper(plan, run, trainers, self.scaling, self.state)
        if plan.resume:
            self.keeper.restore(self.source)
        self.state.position = self.source.position
        self.state.is_of_documents = self.source.is_of_documents
        self.state.began = time.monotonic()
        self.log = Log(plan, run, trainers, self.source, self.state)

    def go(self) -> TrainingResult:
        try:
            with Interruption() as interruption:
                try:
                    self._start(interruption)
                    self._train(interruption)
                    self._finish(interruption)
                except Interrupted:
                    self._stop(interruption)
        except UserError:
            self.keeper.discard_unless_saved()
            raise
        finally:
            self.log.close()
        return TrainingResult(self.trainers, self.state.done, self.scaling.known_factor)

    def _start(self, interruption: Interruption) -> None:
        """Read the first batch before anything is written, so that bad data leave nothing behind."""
        state = self.state
        with _waiting(interruption):
            turn = self._turn(interruption)  # a fault of one process's first batch is told by all
            beginning = self.plan.beginning() if self.plan.beginning and state.done == 0 else None
            if self.scaling.factor is None:
                self._find_factor(beginning)
            if beginning is not None:
                for trainer in self.trainers:
                    beginning.set(trainer, self.scaling, self.source)
            if state.done < self.plan.steps and not turn.n_tokens and state.done == 0:
                raise UserError("the data gave not one batch: use more text or smaller batches.")
        self.keeper.begin()
        self.log.start()

    def _find_factor(self, beginning: Beginning | None) -> None:
        """The norm factor: measured, or that of the dictionary to begin with."""
        if not self.plan.normalize:
            self.scaling.factor = 1.0
        elif beginning is not None and beginning.norm_factor is not None:
            self.scaling.factor = beginning.norm_factor
        else:
            self.scaling.measure(self.source)

    def _train(self, interruption: Interruption) -> None:
        plan, state = self.plan, self.state
        while state.done < plan.steps:
            with _waiting(interruption):
                turn = self._turn(interruption)
            batch = self.source.read()
            if batch is None or not turn.n_tokens:
                self.log.finish()
                say(
                    f"the data ran out after {state.done} of {plan.steps} steps: training ends here, "
                    'and config.json says so under "steps_done".'
                )
                return
            self._step(batch, turn)
            if state.done == plan.steps:
                self.log.finish()
            if state.done in plan.save_steps:
                self.keeper.save_weights(state.done)
            if state.done % plan.backup_steps == 0 and state.done < plan.steps:
                self.keeper.save_state()
            if distributed.size() == 1:  # several agree on it in their next turn
                interruption.check()

    def _turn(self, interruption: Interruption) -> Turn:
        """What the next step is about; its batch stays to be read."""
        try:
            return take_turn(self.source, interruption, self.log.is_due(self.state.done + 1))
        except UserError as error:
            raise self.keeper.failure(str(error)) from error

    def _step(self, batch: Batch, turn: Turn) -> None:
        state = self.state
        x = self.scaling.scaled(batch)
        where = f"step {state.done} (batch {state.done} of the training data, counted from 0)"
        for i, trainer in enumerate(self.trainers):
            try:
                with self._autocast():
                    loss = self._advance(trainer, self.scaling.part(x, i, trainer), turn)
            except UserError as error:
                raise self.keeper.failure(f"trainer_{i} stopped at {where}: {error}", i) from error
            if loss is not None and not math.isfinite(loss):
                raise self.keeper.failure(
                    f"the loss of trainer_{i} is {loss} at {where}: try a smaller lr.", i + 1
                )
        state.done += 1
        state.tokens += turn.n_tokens
        state.last_batch = batch
        state.position = self.source.position
        self.log.step(turn.is_recorded)

    def _advance(self, trainer: Any, x: Batch, turn: Turn) -> float | None:
        """A step and its loss, which a device is waited for only where something is told of it or kept."""
        plan, done = self.plan, self.state.done + 1
        is_kept = done in plan.save_steps or done % plan.backup_steps == 0 or done == plan.steps
        if turn.is_recorded or is_kept or trainer.reads_freely:
            return trainer.update(self.state.done, x)
        trainer.advance(self.state.done, x)
        return None

    def _finish(self, interruption: Interruption) -> None:
        """Save the state, then calibrate with the final weights and save what inference needs."""
        self.keeper.save_state_once()
        is_asked = self.plan.calibration_tokens > 0
        is_needed = is_asked and any(trainer.needs_calibration for trainer in self.trainers)
        batches = self._calibration_batches(interruption) if is_needed else []
        facts = [
            self.scaling.calibrate(i, trainer, batches) if batches else {}
            for i, trainer in enumerate(self.trainers)
        ]
        self.keeper.save_result(facts)

    def _calibration_batches(self, interruption: Interruption) -> list[Batch]:
        """The next batches, or the last one where there are none."""
        batches: list[Batch] = []
        n_tokens = 0
        epoch = self.source.epoch
        with _waiting(interruption):
            while n_tokens < self.plan.calibration_tokens and not self._has_read_all_since(epoch):
                turn = self._turn(interruption)
                batch = self.source.read()
                if batch is None or not turn.n_tokens:
                    break
                batches.append(batch)
                n_tokens += turn.n_tokens
        last = self.state.last_batch
        return batches or ([] if last is None else [last])

    def _has_read_all_since(self, epoch: int | None) -> bool:
        """Whether all texts have been read since then; those that follow would be the same ones again."""
        if epoch is None or self.source.is_of_documents:  # those are each process's own
            return False
        # the epoch in which calibration begins may be near its end
        return (self.source.epoch or 0) > epoch + 1

    def _stop(self, interruption: Interruption) -> None:
        """Save everything after a signal, say how to go on, and leave with the shell's code for it."""
        assert interruption.signal is not None
        if self.plan.folder is None or self.state.done == 0:
            self.keeper.discard_unless_saved()
            say("stopped before the first step: there is nothing to save.")
        else:
            self.keeper.save_state_once()
            if self.state.last_batch is not None:
                self.keeper.save_weights()
                self.keeper.save_configs()
            say(
                f"stopped after step {self.state.done} of {self.plan.steps}; to go on: "
                f"{self.plan.resume_hint}"
            )
        raise SystemExit(128 + interruption.signal)

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.plan.autocast_dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, self.plan.autocast_dtype)


def _waiting(interruption: Interruption) -> AbstractContextManager[None]:
    """A single process is stopped while it waits for data; several stop together, in their turn."""
    return interruption.waiting() if distributed.size() == 1 else nullcontext()
