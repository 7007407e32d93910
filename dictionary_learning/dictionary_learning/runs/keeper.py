"""What a run saves, so that it can be used and gone on with, and how it is restored.

All processes of a run call the same functions; the first one alone has the folder, and writes.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from dictionary_learning import distributed
from dictionary_learning.command.progress import say
from dictionary_learning.command.secrets import scrub_values
from dictionary_learning.errors import UserError
from dictionary_learning.runs.folder import RunFolder, plain
from dictionary_learning.runs.plan import Plan
from dictionary_learning.runs.provenance import provenance
from dictionary_learning.runs.random_state import random_state, set_random_state
from dictionary_learning.runs.scaling import Scaling
from dictionary_learning.runs.source import Source
from dictionary_learning.runs.state import State

# What may differ when a run is resumed: where it runs, what it is called, and how long it goes on.
FREE_OF_A_TRAINER = {"device", "trainer_class", "lm_name", "wandb_name", "submodule_name", "steps"}


class Keeper:
    """Saves a run's configs, weights and full states; a plan without a folder saves nothing.

    Attributes:
        saved_step: steps done at the last full state; None before the first.
    """

    def __init__(
        self, plan: Plan, run: RunFolder | None, trainers: Sequence[Any], scaling: Scaling, state: State
    ) -> None:
        self.plan, self.run, self.trainers, self.scaling, self.state = plan, run, trainers, scaling, state
        self.saved_step: int | None = None

    def begin(self) -> None:
        """Make the folder of a new run, or note in config.yaml that it goes on."""
        if self.run is None:
            return
        made = {**provenance(), "processes": distributed.size()}
        if self.plan.resume:
            self.run.cut_metrics(self.state.done)
            config = self.run.read_config()
            config.setdefault("resumed", []).append({"step": self.state.done, **made})
        else:
            self.run.create()
            config = {**self.plan.run_config, **made}
        self.run.write_config(config)
        self.save_configs()

    def discard_unless_saved(self) -> None:
        """Remove the folder that `begin` made when no state was saved in it."""
        if self.run is not None:
            self.run.discard_unless_saved()

    def save_state(self) -> None:
        """Write the full state.

        Raises:
            UserError: weights that are not finite; the last state stays.
        """
        if self.plan.folder is None:
            return
        if not self._weights_are_finite():
            raise self.failure(
                f"the weights hold NaN or infinity after step {self.state.done}: try a smaller lr."
            )
        self._check_same_weights()
        positions = self._positions()
        if self.run is not None:
            self.run.save_state(
                {
                    "step": self.state.done,
                    "tokens": self.state.tokens,
                    "seconds": self.state.seconds,
                    "norm_factor": self.scaling.factor,
                    "position": self.state.position,
                    **positions,
                    "random": random_state(),
                    # told apart from a config.yaml or from configs that somebody changed meanwhile
                    "options": scrub_values(plain(self.plan.run_config.get("options") or {})),
                    "configs": [plain(trainer.config) for trainer in self.trainers],
                    "trainers": [trainer.state_dict() for trainer in self.trainers],
                }
            )
        self.saved_step = self.state.done

    def _positions(self) -> dict[str, Any]:
        """Where each process is among its own batches, if it has batches of its own."""
        if distributed.size() == 1 or not self.state.is_of_documents:
            return {}
        return {"positions": distributed.values_of_all(self.state.position)}

    def _check_same_weights(self) -> None:
        """Every process takes the same steps; what a broken machine makes of them is not saved.

        Raises:
            UserError: the weights of the processes have come apart.
        """
        sums = [float(p.detach().double().sum()) for t in self.trainers for p in t.ae.parameters()]
        if any(other != sums for other in distributed.values_of_all(sums)):
            raise UserError(
                f"the processes' weights are no longer the same after step {self.state.done}: use machines "
                "of one kind and one version of torch, and go on from the last save with --resume."
            )

    def save_state_once(self) -> None:
        """Write the full state, unless it is written already."""
        if self.saved_step != self.state.done:
            self.save_state()

    def save_weights(self, step: int | None = None) -> None:
        """Write weights in the middle of a run, with the threshold that fits them on the last batch.

        The moving average would lag behind; the trainers themselves keep it.
        """
        if self.plan.folder is None:
            return
        assert self.state.last_batch is not None
        for i, trainer in enumerate(self.trainers):
            before = copy.deepcopy(trainer.ae.state_dict())
            if self.plan.calibration_tokens:
                self.scaling.calibrate(i, trainer, [self.state.last_batch])
            if self.run is not None:
                self.run.save_weights(i, self.scaling.folded(trainer), step)
            trainer.ae.load_state_dict(before)

    def save_result(self, facts: Sequence[Mapping[str, Any]]) -> None:
        """Write the final weights, and what was found out about them."""
        if self.run is None:
            return
        for i, trainer in enumerate(self.trainers):
            self.run.save_weights(i, self.scaling.folded(trainer))
        self.save_configs([{**own, "finished": True} for own in facts])

    def save_configs(self, facts: Sequence[Mapping[str, Any]] | None = None) -> None:
        if self.run is None:
            return
        for i, trainer in enumerate(self.trainers):
            own = {
                **trainer.config,
                **trainer.facts,
                "norm_factor": self.scaling.factor,
                "steps_done": self.state.done,
            }
            if facts is not None:
                own.update(facts[i])
            self.run.save_trainer(i, {"trainer": own, "buffer": self.plan.data_config})

    def failure(self, sentence: str, trainers_ahead: int = 0) -> UserError:
        """The error that ends the run, after saving the last good state if it is still there.

        `trainers_ahead` have taken the failed step already; with any, memory holds no state to save.
        """
        if self.plan.folder is None or self.state.done == 0:
            return UserError(sentence)
        if not trainers_ahead and self.saved_step != self.state.done and self._weights_are_finite():
            self.save_state()
            self.save_weights()
            self.save_configs()
        saved = "nothing had been saved" if self.saved_step is None else f"step {self.saved_step} is safe"
        return UserError(f"{sentence.rstrip('.')}; training stopped, and in {self.plan.folder} {saved}.")

    def restore(self, source: Source) -> None:
        """Take up the last saved state; a run that ended before its first save begins again.

        Raises:
            UserError: there is no run, or its state does not fit the plan.
        """
        saved = None
        if self.run is not None:
            self.run.read_config()
            saved = self.run.load_state()
            self._check_configs((saved or {}).get("configs") or ())
        saved = distributed.state_of_first(saved)
        if saved is None:
            say(f"{self.plan.folder} ended before its first save: it starts again from the beginning.")
            return
        state = self.state
        try:
            for trainer, own in zip(self.trainers, saved["trainers"], strict=True):
                trainer.load_state_dict(own)
            state.done, state.tokens, state.seconds_before = saved["step"], saved["tokens"], saved["seconds"]
            self.scaling.factor = saved["norm_factor"]
            if source.is_of_documents:
                source.seek_any(saved.get("positions") or [saved["position"]])
            else:
                source.seek(saved["position"])
            set_random_state(saved["random"])
        except (RuntimeError, KeyError, ValueError, TypeError, AttributeError) as error:
            if isinstance(error, UserError):
                raise
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UserError(
                f"the state in {self.plan.folder} does not fit this run ({reason}): resume with the options "
                "it was started with."
            ) from error
        self.saved_step = state.done

    def _check_configs(self, saved: Sequence[Mapping[str, Any]]) -> None:
        """Refuse trainers with other options than those that the state was saved with."""
        assert self.run is not None
        for i, (trainer, before) in enumerate(zip(self.trainers, saved, strict=False)):
            now = plain(trainer.config)
            for name in now.keys() & before.keys() - FREE_OF_A_TRAINER:
                if now[name] != before[name]:
                    raise UserError(
                        f"{self.run.state_path} does not fit this run: {name} of trainer_{i} is {now[name]}, "
                        f"and was {before[name]} when it was saved; resume with the options it was started "
                        "with."
                    )

    def _weights_are_finite(self) -> bool:
        return all(
            bool(torch.isfinite(p).all()) for trainer in self.trainers for p in trainer.ae.parameters()
        )
