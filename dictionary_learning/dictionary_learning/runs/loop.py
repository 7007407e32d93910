"""The training loop: several trainers on the same batches, saved so that it goes on where it was stopped."""

import copy
import math
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dictionary_learning.activations.sequences import Sequences
from dictionary_learning.command.interruption import Interrupted, Interruption
from dictionary_learning.command.progress import Progress, Speedometer, describe, say
from dictionary_learning.errors import UserError
from dictionary_learning.runs.folder import RunFolder
from dictionary_learning.runs.provenance import provenance
from dictionary_learning.runs.random_state import random_state, set_random_state
from dictionary_learning.runs.silent_groups import SilentGroups
from dictionary_learning.runs.source import Batch, Source
from dictionary_learning.runs.tracker import Tracker

NORM_TOKENS, NORM_BATCHES = 32_768, 16  # the norm factor is measured on whichever is less


class TrainingResult(NamedTuple):
    """What a run leaves in memory."""

    trainers: list[Any]
    steps_done: int
    norm_factor: float  # activations were divided by it; the saved weights work on raw ones


@dataclass
class Loop:
    """One call of `trainSAE`."""

    source: Source
    trainers: list[Any]
    steps: int
    run: RunFolder | None
    save_steps: frozenset[int]
    log_steps: int
    backup_steps: int
    calibration_tokens: int
    normalize: bool
    by_head: bool
    verbose: bool
    device: torch.device
    autocast_dtype: torch.dtype
    run_cfg: dict[str, Any]
    data_config: dict[str, Any]
    tracker: Tracker | None
    resume_hint: str

    done: int = 0
    tokens: int = 0
    seconds: float = 0.0  # of the sessions before this one
    saved_step: int | None = None
    norm_factor: float | None = None  # None: not measured yet
    last_batch: Batch | None = None

    def go(self, resume: bool) -> TrainingResult:
        if resume:
            self._restore()
        self.position = self.source.position
        self._began = time.monotonic()
        self._speed = Speedometer()
        self._groups = [
            SilentGroups(f"trainer_{i}", float(trainer.config.get("k") or 0))
            for i, trainer in enumerate(self.trainers)
        ]
        self._progress = Progress(self.steps, self.done)
        try:
            with Interruption() as interruption:
                try:
                    self._start(interruption, resume)
                    self._train(interruption)
                    self._finish(interruption)
                except Interrupted:
                    self._stop(interruption)
        except UserError:
            if self.run is not None:
                self.run.discard_unless_saved()
            raise
        finally:
            self._progress.close()
            if self.tracker is not None:
                self.tracker.finish()
        assert self.norm_factor is not None
        return TrainingResult(self.trainers, self.done, self.norm_factor)

    def _start(self, interruption: Interruption, resume: bool) -> None:
        """Read the first batch before anything is written, so that bad data leave nothing behind."""
        with interruption.waiting():
            if self.norm_factor is None:
                self.norm_factor = self._measure_norm() if self.normalize else 1.0
            if self.done < self.steps and not self.source.look_ahead(1, 1) and self.done == 0:
                raise UserError("the data gave not one batch: use more text or a smaller --batch_size.")
        if self.run is not None:
            if resume:
                self.run.cut_metrics(self.done)
                config = self.run.read_config()
                config.setdefault("resumed", []).append({"step": self.done, **provenance()})
            else:
                self.run.create()
                config = {**self.run_cfg, **provenance()}
            self.run.write_config(config)
            self._save_configs()
        if self.tracker is not None:
            self.tracker.start(self.run_cfg, self.run.path if self.run is not None else None)

    def _train(self, interruption: Interruption) -> None:
        while self.done < self.steps:
            with interruption.waiting():
                batch = self._read()
            if batch is None:
                say(
                    f"the data ran out after {self.done} of {self.steps} steps: training ends here, "
                    'and config.json says so under "steps_done".'
                )
                return
            self._step(batch)
            if self.done % self.log_steps == 0 or self.done == self.steps:
                self._log()
            if self.done in self.save_steps:
                self._save_weights(self.done)
            if self.done % self.backup_steps == 0 and self.done < self.steps:
                self._save_state()
            interruption.check()

    def _read(self) -> Batch | None:
        try:
            return self.source.read()
        except UserError as error:
            raise self._failure(str(error)) from error

    def _step(self, batch: Batch) -> None:
        x = self._prepare(batch)
        where = f"step {self.done} (batch {self.done} of the training data, counted from 0)"
        if not _is_finite(_activations(x)):
            raise self._failure(f"the activations of {where} hold NaN or infinity: try --lm_dtype float32.")
        for i, trainer in enumerate(self.trainers):
            try:
                with self._autocast():
                    loss = trainer.update(self.done, self._part(x, i))
            except UserError as error:
                raise self._failure(f"trainer_{i} stopped at {where}: {error}", i) from error
            if not math.isfinite(loss):
                raise self._failure(
                    f"the loss of trainer_{i} is {loss} at {where}: try a smaller --lr.", i + 1
                )
        self.done += 1
        self.tokens += len(batch)
        self.last_batch = batch
        self.position = self.source.position
        self._speed.step(self.done, self.tokens)
        self._progress.step()

    def _failure(self, sentence: str, trainers_ahead: int = 0) -> UserError:
        """The error that ends the run, after saving the last good state if it is still there.

        `trainers_ahead` have taken the failed step already; with any, memory holds no state to save.
        """
        if self.run is None or self.done == 0:
            return UserError(sentence)
        if not trainers_ahead and self.saved_step != self.done and self._weights_are_finite():
            self._save_state()
            self._save_weights()
            self._save_configs()
        saved = "nothing had been saved" if self.saved_step is None else f"step {self.saved_step} is safe"
        return UserError(f"{sentence.rstrip('.')}; training stopped, and in {self.run.path} {saved}.")

    def _finish(self, interruption: Interruption) -> None:
        """Save the state, then calibrate with the final weights and save what inference needs."""
        if self.saved_step != self.done:
            self._save_state()
        batches: list[Batch] = []
        with interruption.waiting():
            while sum(len(batch) for batch in batches) < self.calibration_tokens:
                batch = self._read()
                if batch is None:
                    break
                batches.append(batch)
        if self.calibration_tokens and not batches and self.last_batch is not None:
            batches = [self.last_batch]
        facts = [self._calibrate(i, batches) for i in range(len(self.trainers))]
        if self.run is not None:
            for i, trainer in enumerate(self.trainers):
                self.run.save_weights(i, self._folded(trainer))
            self._save_configs([{**own, "finished": True} for own in facts])

    def _stop(self, interruption: Interruption) -> None:
        """Save everything after a signal, say how to go on, and leave with the shell's code for it."""
        assert interruption.signal is not None
        if self.run is None or self.done == 0:
            if self.run is not None:
                self.run.discard_unless_saved()
            say("stopped before the first step: there is nothing to save.")
        else:
            if self.saved_step != self.done:
                self._save_state()
            if self.last_batch is not None:
                self._save_weights()
                self._save_configs()
            say(f"stopped after step {self.done} of {self.steps}; to go on: {self.resume_hint}")
        raise SystemExit(128 + interruption.signal)

    def _prepare(self, batch: Batch) -> Batch:
        assert self.norm_factor is not None
        x = batch.to(self.device, torch.float32)
        return x if self.norm_factor == 1.0 else x / self.norm_factor

    def _part(self, x: Batch, trainer: int) -> Batch:
        if isinstance(x, Sequences):
            return x if self.trainers[trainer].ae.reads_sequences else x.x_TD
        return x[..., trainer, :] if self.by_head else x

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.autocast_dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, self.autocast_dtype)

    def _measure_norm(self) -> float:
        """The factor s for which E‖x / s‖² = 1, from the first batches, which stay to be trained on."""
        total, n_rows = 0.0, 0
        for i, batch in enumerate(self.source.look_ahead(NORM_TOKENS, NORM_BATCHES)):
            x = _activations(batch).to(self.device, torch.float32)
            if not _is_finite(x):
                raise UserError(
                    f"the activations of batch {i} (counted from 0) hold NaN or infinity: "
                    "try --lm_dtype float32."
                )
            squared_norms = x.square().sum(-1)
            total += float(squared_norms.sum())
            n_rows += squared_norms.numel()
        if n_rows and not total:
            raise UserError(f"the first {n_rows} activations are all zero: try another --layer.")
        return math.sqrt(total / n_rows) if n_rows else 1.0

    def _calibrate(self, i: int, batches: list[Batch]) -> dict[str, float]:
        """Set trainer i's inference threshold on `batches`; returns facts about it for config.json.

        Thresholds are told in the units of raw activations, as they are in ae.pt.
        """
        if not batches:
            return {}
        facts = self.trainers[i].calibrate(self._part(self._prepare(batch), i) for batch in batches) or {}
        assert self.norm_factor is not None
        return {
            name: value * self.norm_factor if name.startswith("threshold") and value >= 0 else value
            for name, value in facts.items()
        }

    def _folded(self, trainer: Any) -> dict[str, Tensor]:
        """The weights as they work on raw activations, on the CPU; the trainer's own stay as they are."""
        ae = copy.deepcopy(trainer.ae)
        if self.norm_factor != 1.0:
            ae.scale_biases(self.norm_factor)
        return {name: tensor.detach().cpu() for name, tensor in ae.state_dict().items()}

    def _save_weights(self, step: int | None = None) -> None:
        """Write weights in the middle of a run, with the threshold that fits them on the last batch.

        The moving average would lag behind; the trainers themselves keep it.
        """
        if self.run is None:
            return
        assert self.last_batch is not None
        for i, trainer in enumerate(self.trainers):
            before = copy.deepcopy(trainer.ae.state_dict())
            if self.calibration_tokens:
                self._calibrate(i, [self.last_batch])
            self.run.save_weights(i, self._folded(trainer), step)
            trainer.ae.load_state_dict(before)

    def _save_configs(self, facts: Sequence[Mapping[str, Any]] | None = None) -> None:
        if self.run is None:
            return
        for i, trainer in enumerate(self.trainers):
            own = {**trainer.config, "norm_factor": self.norm_factor, "steps_done": self.done}
            if facts is not None:
                own.update(facts[i])
            self.run.save_trainer(i, {"trainer": own, "buffer": self.data_config})

    def _log(self) -> None:
        metrics = [trainer.metrics() for trainer in self.trainers]
        for groups, values in zip(self._groups, metrics, strict=True):
            groups.watch(values)
        speed = self._speed.measure(self.done, self.tokens)
        record: dict[str, Any] = {
            "step": self.done,
            "tokens": self.tokens,
            "seconds": round(self.seconds + time.monotonic() - self._began, 3),
            "tokens_per_second": round(speed.tokens, 1),
        }
        if self.source.epoch is not None:
            record["epoch"] = self.source.epoch
        record |= {f"trainer_{i}": values for i, values in enumerate(metrics)}
        if self.run is not None:
            self.run.append_metrics(record)
        if self.tracker is not None:
            self.tracker.log(record, self.done)
        self._progress.show(self.done, metrics[0], speed)
        if self.verbose:
            say(f"step {self.done}: {describe(metrics[0], speed.tokens)}")

    def _save_state(self) -> None:
        if self.run is None:
            return
        if not self._weights_are_finite():
            raise self._failure(
                f"the weights hold NaN or infinity after step {self.done}: try a smaller --lr."
            )
        self.run.save_state(
            {
                "step": self.done,
                "tokens": self.tokens,
                "seconds": self.seconds + time.monotonic() - self._began,
                "norm_factor": self.norm_factor,
                "position": self.position,
                "random": random_state(),
                "trainers": [trainer.state_dict() for trainer in self.trainers],
            }
        )
        self.saved_step = self.done

    def _weights_are_finite(self) -> bool:
        return all(
            bool(torch.isfinite(p).all()) for trainer in self.trainers for p in trainer.ae.parameters()
        )

    def _restore(self) -> None:
        """Take up the last saved state; a run that ended before its first save begins again."""
        assert self.run is not None
        self.run.read_config()
        state = self.run.load_state()
        if state is None:
            say(f"{self.run.path} ended before its first save: it starts again from the beginning.")
            return
        try:
            for trainer, own in zip(self.trainers, state["trainers"], strict=True):
                trainer.load_state_dict(own)
            self.done, self.tokens, self.seconds = state["step"], state["tokens"], state["seconds"]
            self.norm_factor = state["norm_factor"]
            self.source.seek(state["position"])
            set_random_state(state["random"])
        except (RuntimeError, KeyError, ValueError, TypeError, AttributeError) as error:
            if isinstance(error, UserError):
                raise
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UserError(
                f"{self.run.state_path} does not fit this run ({reason}): resume with the options it was "
                "started with."
            ) from error
        self.saved_step = self.done


def _activations(batch: Batch) -> Tensor:
    """All activations [..., D] of a batch."""
    return batch.x_TD if isinstance(batch, Sequences) else batch


def _is_finite(x: Tensor) -> bool:
    # a sum is finite only if every term is, and costs one pass without a mask
    return math.isfinite(float(x.sum())) or bool(torch.isfinite(x).all())
