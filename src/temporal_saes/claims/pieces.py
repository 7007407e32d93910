"""The work of the claims as commands that are done once; stopped, it goes on with what is missing."""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dictionary_learning.command.files import save_text
from dictionary_learning.errors import UserError
from temporal_saes.claims.experiments import EXPERIMENTS
from temporal_saes.claims.methods import BASELINE, CONTROLS, METHODS, NARROW, run_name, trained
from temporal_saes.claims.readings import THRESHOLD

BATCH = 2048  # pairs or tokens a step
CONTEXTS = 8  # contexts a step of a TemporalSAE


@dataclass(frozen=True)
class Plan:
    """What is trained and measured.

    Attributes:
        runs: the folder of everything.
        config: preset of the model and the texts.
        narrow_latents: of the baselines of a TemporalSAE, as many as the preset gives that.
        document_tokens: of a longer document, only so many tokens, spread over it.
        dict_size: latents of the others; the preset's when None.
        extra: flags of the recording.
        probe_flags: flags of the probes.
    """

    runs: Path
    config: str
    dataset: str
    methods: tuple[str, ...]
    budgets: tuple[int, ...]
    seeds: int
    k: int
    max_tokens: int
    eval_tokens: int
    context_length: int
    narrow_latents: int
    document_tokens: int = 1_000_000
    dict_size: int | None = None
    experiments: tuple[str, ...] = tuple(EXPERIMENTS)
    extra: tuple[str, ...] = ()
    probe_flags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, known in (("methods", METHODS), ("experiments", EXPERIMENTS)):
            for asked in getattr(self, name):
                if asked not in known:
                    raise UserError(f"{asked!r} is none of the {name}: choose among {', '.join(known)}.")
        if min(self.budgets) < 10 * BATCH:
            raise UserError(f"--budgets {min(self.budgets)} is less than ten steps of {BATCH:,}: give more.")
        if self.seeds < 1:
            raise UserError(f"--seeds {self.seeds} trains nothing: give 1 or more; intervals need 2.")


@dataclass(frozen=True)
class Piece:
    """One command."""

    name: str
    command: tuple[str, ...]  # of temporal-saes

    def is_done(self, runs: Path) -> bool:
        """Whether this very command came to its end."""
        try:
            return self._mark(runs).read_text(encoding="utf-8") == self._text()
        except OSError:
            return False

    def run(self, runs: Path) -> None:
        """Raises UserError where the command fails; its own sentence stands above."""
        resume: tuple[str, ...] = ()
        if self.command[0].startswith("train") and (runs / self.name / "config.yaml").is_file():
            resume = ("--resume",)
        if call(*self.command, *resume):
            raise UserError(f"stopped at {self.name}: run the same command again when that is mended.")
        save_text(self._mark(runs), self._text())

    def _mark(self, runs: Path) -> Path:
        return runs / "done" / f"{self.name}.txt"

    def _text(self) -> str:
        return json.dumps(self.command) + "\n"


def call(*command: str) -> int:
    """Run a command of temporal-saes in a process of its own; its exit code."""
    return subprocess.run([sys.executable, "-m", "temporal_saes", *command]).returncode


def pieces(plan: Plan) -> Iterator[Piece]:
    """All the work, short trainings first, so that there is a whole table as early as can be."""
    cache = str(plan.runs / "activations")
    record = ["cache", "--config", plan.config, "--activations", cache, "--max_tokens", str(plan.max_tokens)]
    record += ["--document_tokens", str(plan.document_tokens), "--parts", "train", "eval"]
    record += ["--eval_tokens", str(plan.eval_tokens)]
    yield Piece("activations", (*record, *plan.extra))
    with_controls = [name for name in plan.experiments if EXPERIMENTS[name].reads_controls]
    if with_controls:
        yield Piece("controls", ("controls", "--activations", cache, "--checkpoints_path", str(plan.runs)))
    for number, budget in enumerate(sorted(plan.budgets)):
        for method in plan.methods:
            yield Piece(run_name(method, budget), _training(plan, method, budget, cache))
        if number == 0:
            # a run has to be there, which says where the language model is read
            yield from _of_the_untrained(plan, with_controls)
        for seed in range(plan.seeds):
            yield from _measurements(plan, budget, seed, cache)
        yield from _of_all_seeds(plan, budget)


def _of_the_untrained(plan: Plan, with_controls: Sequence[str]) -> Iterator[Piece]:
    """The language model's own activations, and means of them."""
    for name in plan.experiments:
        if EXPERIMENTS[name].reads_activations:
            yield _experiment(plan, name, ["--run_name", BASELINE, *_place(plan)], f"{name}-{BASELINE}")
    for name in with_controls:
        who = ["--compare", *(f"{control}:0" for control in CONTROLS)]
        yield _experiment(plan, name, who, f"{name}-controls")


def _training(plan: Plan, method: str, budget: int, cache: str) -> tuple[str, ...]:
    made = METHODS[method]
    batch = CONTEXTS * plan.context_length if made.script == "train-attention" else BATCH
    steps = max(2, round(budget / batch))
    command = [made.script, "--config", plan.config, *made.flags, "--activations", cache]
    command += ["--run_name", run_name(method, budget), "--checkpoints_path", str(plan.runs)]
    command += ["--steps", str(steps), "--warmup_steps", str(max(1, min(50, steps // 8)))]
    command += ["--seeds", *map(str, range(plan.seeds)), "--k", str(plan.k)]
    if made.script != "train-attention":
        command += ["--decay_start", str(steps * 4 // 5), "--threshold_start_step", str(steps // 4)]
        if plan.dict_size is not None:
            command += ["--dict_size", str(plan.dict_size)]
    if method in NARROW:
        command += ["--dict_size", str(plan.narrow_latents)]
    return tuple(command)


def _measurements(plan: Plan, budget: int, seed: int, cache: str) -> Iterator[Piece]:
    """One seed of all methods at one budget: the same L0, then the evaluation, then the experiments."""
    where = ["--checkpoints_path", str(plan.runs), "--trainer", str(seed)]
    texts = ["--activations", cache, "--max_tokens", str(plan.eval_tokens)]
    for with_threshold in (True, False):
        methods = [name for name in plan.methods if METHODS[name].has_threshold == with_threshold]
        if not methods:
            continue
        runs = [run_name(method, budget) for method in methods]
        kind = "threshold" if with_threshold else "own"
        threshold = ["--threshold", THRESHOLD] if with_threshold else []
        if with_threshold:
            for run in runs:
                held_out = ("--dataset", plan.dataset, "--part", "eval", "--name", THRESHOLD)
                command = ("calibrate", "--run_name", run, *where, *texts, *held_out)
                yield Piece(f"calibrate-{run}-{seed}", command)
        evaluate = ("eval", "--compare" if len(runs) > 1 else "--run_name", *runs, *where, *texts, *threshold)
        yield Piece(f"eval-{budget}-{kind}-{seed}", (*evaluate, "--no_lm_loss"))
        for name in plan.experiments:
            subjects = _subjects(name, methods, budget)
            if subjects and not EXPERIMENTS[name].reads_all_seeds:
                who = ["--compare", *subjects, "--trainer", str(seed), *threshold]
                yield _experiment(plan, name, who, f"{name}-{budget}-{kind}-{seed}")


def _of_all_seeds(plan: Plan, budget: int) -> Iterator[Piece]:
    """The experiments that read all seeds of a run by themselves."""
    methods = [name for name in plan.methods if METHODS[name].has_threshold]
    for name in plan.experiments:
        subjects = _subjects(name, methods, budget)
        if subjects and EXPERIMENTS[name].reads_all_seeds:
            who = ["--compare", *subjects, "--threshold", THRESHOLD]
            yield _experiment(plan, name, who, f"{name}-{budget}")


def _subjects(name: str, methods: Sequence[str], budget: int) -> list[str]:
    """What an experiment is asked of, among these methods."""
    asked = (subject.split(":") for subject in EXPERIMENTS[name].subjects)
    return [f"{run_name(method, budget)}:{chunk}" for method, chunk in asked if method in methods]


def _experiment(plan: Plan, name: str, who: Sequence[str], piece: str) -> Piece:
    made = EXPERIMENTS[name]
    flags = plan.probe_flags if name == "probing" else made.flags
    return Piece(piece, (made.command, *who, "--checkpoints_path", str(plan.runs), *flags))


def _place(plan: Plan) -> list[str]:
    """Where the language model is read for experiments on its own activations: as the first run."""
    from dictionary_learning.command.files import read_json

    for method in plan.methods:
        for budget in plan.budgets:
            if trained(plan.runs, method, budget, 1):
                config = read_json(plan.runs / run_name(method, budget) / "trainer_0" / "config.json")
                trainer, buffer = config["trainer"], config["buffer"]
                length = buffer.get("context_length") or buffer.get("ctx_len")
                place = ["--model", str(trainer["lm_name"]), "--layer", str(trainer["layer"])]
                place += ["--lm_dtype", str(buffer.get("lm_dtype") or "float32")]
                return [*place, "--context_length", str(length)]
    return []
