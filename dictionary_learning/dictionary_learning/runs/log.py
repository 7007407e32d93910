"""What is told of a run while it goes on: metrics.jsonl, a bar or lines, Weights & Biases."""

import time
from collections.abc import Sequence
from typing import Any

from dictionary_learning.command.progress import SECONDS_BETWEEN_LINES, Progress, Speedometer, describe, say
from dictionary_learning.runs.folder import RunFolder
from dictionary_learning.runs.plan import Plan
from dictionary_learning.runs.silent_groups import SilentGroups
from dictionary_learning.runs.source import Source
from dictionary_learning.runs.state import State


class Log:
    """The records of a run; it changes nothing of the run. Only a process that has the folder writes them."""

    def __init__(
        self, plan: Plan, run: RunFolder | None, trainers: Sequence[Any], source: Source, state: State
    ) -> None:
        self.plan, self.run, self.trainers, self.source, self.state = plan, run, trainers, source, state
        self._speed = Speedometer()
        self._groups = [
            SilentGroups(f"trainer_{i}", float(trainer.config.get("k") or 0))
            for i, trainer in enumerate(trainers)
        ]
        self._progress = Progress(plan.steps, state.done)
        self._recorded_step = state.done
        self._recorded_at = time.monotonic()

    def start(self) -> None:
        if self.plan.tracker is not None:
            self.plan.tracker.start(self.plan.run_config, self.run.path if self.run is not None else None)

    def is_due(self, done: int) -> bool:
        """Whether a step is recorded: the first one, every `log_steps`, and when time has passed."""
        waited = time.monotonic() - self._recorded_at
        return done == 1 or done % self.plan.log_steps == 0 or waited >= SECONDS_BETWEEN_LINES

    def step(self, is_recorded: bool) -> None:
        """A step was done."""
        self._speed.step(self.state.done, self.state.tokens)
        self._progress.step()
        if is_recorded:
            self._record()

    def finish(self) -> None:
        """There are no more steps: the last one is recorded, too."""
        if self._recorded_step != self.state.done:
            self._record()

    def _record(self) -> None:
        """Record the last step."""
        state = self.state
        self._recorded_step, self._recorded_at = state.done, time.monotonic()
        metrics = [trainer.metrics() for trainer in self.trainers]
        for groups, values in zip(self._groups, metrics, strict=True):
            groups.watch(values)
        speed = self._speed.measure(state.done, state.tokens)
        record: dict[str, Any] = {
            "step": state.done,
            "tokens": state.tokens,
            "seconds": round(state.seconds, 3),
            "tokens_per_second": round(speed.tokens, 1),
        }
        if self.source.epoch is not None:
            record["epoch"] = self.source.epoch
        record |= {f"trainer_{i}": values for i, values in enumerate(metrics)}
        if self.run is not None:
            self.run.append_metrics(record)
        if self.plan.tracker is not None:
            self.plan.tracker.log(record, state.done)
        self._progress.show(state.done, metrics[0], speed)
        if self.plan.verbose:
            say(f"step {state.done}: {describe(metrics[0], speed.tokens)}")

    def close(self) -> None:
        self._progress.close()
        if self.plan.tracker is not None:
            self.plan.tracker.finish()
