"""What the training scripts share: from a command line to a trained run folder."""

import argparse
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dictionary_learning.command import program
from dictionary_learning.command.devices import find_device, tell_if_slow
from dictionary_learning.command.extras import need
from dictionary_learning.command.lock import is_ours_alone
from dictionary_learning.command.options import Parser, add_options, build, preset_names
from dictionary_learning.command.processes import (
    add_timeout,
    check_alike,
    is_first,
    n_processes,
    n_restarts,
    together,
    told_shares,
)
from dictionary_learning.command.progress import n_of, say
from dictionary_learning.command.secrets import scrub_values
from dictionary_learning.dictionaries.config_file import read_run_config
from dictionary_learning.errors import UserError
from dictionary_learning.jobs import plan_command
from dictionary_learning.jobs.begin import Load, begin_with, told
from dictionary_learning.jobs.data import (
    batch_unit,
    batches,
    buffer_config,
    check_devices,
    check_pairs_per_text,
    open_activations,
    overlapped,
)
from dictionary_learning.jobs.options import TrainOptions, differences
from dictionary_learning.jobs.request import (
    can_start,
    new_options,
    resumed_options,
    run_folder,
    run_to_resume,
)
from dictionary_learning.runs.folder import RunFolder
from dictionary_learning.runs.provenance import versions
from dictionary_learning.runs.tracker import Tracker
from dictionary_learning.trainers.architectures import ARCHITECTURES, ONLY_FOR, is_for

if TYPE_CHECKING:
    from dictionary_learning.activations.batches import Batches
    from dictionary_learning.activations.store import Store
    from dictionary_learning.runs.beginning import Beginning
    from dictionary_learning.runs.plan import Plan


def parser(description: str | None, architectures: Sequence[str]) -> Parser:
    """Flags for the options that any of `architectures` has; `--arch` where there are several."""
    made = Parser(description=description)
    default = ARCHITECTURES[architectures[0]]
    made.add_argument(
        "--config",
        choices=preset_names(),
        help=f"preset whose values the other flags override (default: {default.preset})",
    )
    add_timeout(made)
    made.add_argument(
        "--sweep",
        default=argparse.SUPPRESS,
        metavar="FILE",
        help="YAML with a grid of options, such as k: [10, 20, 40]: a run for each of its points, the "
        "language model once for all",
    )
    plan_command.add_flags(made)
    foreign = [name for name in ONLY_FOR if not any(is_for(name, arch) for arch in architectures)]
    add_options(made, TrainOptions, [*foreign, "temporal", "arch"])
    if len(architectures) > 1:
        made.add_argument(
            "--arch",
            choices=architectures,
            default=argparse.SUPPRESS,
            help=f"architecture of the dictionary (default: {default.name})",
        )
    if "temporal" in architectures:
        made.add_argument(
            "--temporal",
            "--no_temporal",
            dest="temporal",
            action=_Temporal,
            nargs="?",
            default=argparse.SUPPRESS,
            choices=["p", "r", "previous", "random"],
            help="hold the first group steady over tokens (default: True); p and r, the original's values, "
            "also set --pair_mode",
        )
    return made


class _Temporal(argparse.Action):
    """`--temporal`, `--no_temporal`, and the original's `--temporal p` and `--temporal r`."""

    def __call__(self, parser, namespace, values, option_string=None):  # type: ignore[no-untyped-def]
        namespace.temporal = option_string != "--no_temporal"
        if values is not None:
            namespace.pair_mode = "random" if values.startswith("r") else "previous"


def train(typed: Mapping[str, Any], architectures: Sequence[str], load: Load) -> None:
    """Train what the flags in `typed` ask for; everything is checked before the model's weights are read.

    Under torchrun the processes train together. The first one has the folder, and says what they train.

    Args:
        architectures: those the script trains, the default first.
        load: gives the dictionary of --init_from.

    Raises:
        UserError: options, data, model or folder that cannot work.
        SystemExit: interrupted (130 or 143), after saving.
    """
    typed = dict(typed)
    with together(typed.pop("timeout")):
        check_alike({"flags": scrub_values(dict(typed)), "versions": versions()})
        train_run(typed, architectures, load)


def train_run(typed: Mapping[str, Any], architectures: Sequence[str], load: Load) -> None:
    """Train a run, in every process that works `together`.

    Raises:
        UserError, SystemExit: as `train`.
    """
    if is_first():
        _train_first(typed, architectures, load)
    else:
        options, preset = _from_first(None, None)
        _train(None, options, preset, load)


def _from_first(options: TrainOptions | None, preset: str | None) -> tuple[TrainOptions, str | None]:
    """The first process's options and preset, in every process."""
    if n_processes() == 1:
        assert options is not None
        return options, preset
    from dictionary_learning import distributed

    told = distributed.value_of_first(None if options is None else [asdict(options), preset])
    return (build(TrainOptions, told[0]), told[1]) if options is None else (options, preset)


def _train_first(typed: Mapping[str, Any], architectures: Sequence[str], load: Load) -> None:
    """Train in the run's folder, which no other process may have."""
    flags = {name: value for name, value in typed.items() if name != "config"}
    config = typed.get("config")
    if flags.get("resume"):
        run = run_to_resume(flags, config, architectures)
        with run.alone():
            options, preset = _resumed(run, flags, config, architectures)
            options.check_processes()
            _train(run, *_from_first(options, preset), load)
    else:
        options, preset = new_options(flags, config, architectures)
        options.check_processes()
        run = run_folder(options)
        with run.alone(is_new=n_restarts() == 0):
            if _is_killed_start(run, options) or _is_started_again(run, options):
                options = replace(options, resume=True)
            else:
                run.check_new()
            _train(run, *_from_first(options, preset), load)


def _resumed(
    run: RunFolder, flags: Mapping[str, Any], config: str | None, architectures: Sequence[str]
) -> tuple[TrainOptions, str | None]:
    """The options and the preset's name of the run in the folder; of a new one where there is none yet.

    Raises:
        UserError: there is no run and the flags do not say what to train, or they do not fit the run.
    """
    if not is_ours_alone(run.path) or not can_start(flags, config):
        return resumed_options(run, flags, config, architectures)
    say(f"no run has begun in {run.path} yet: it starts from the beginning.")
    return new_options({**flags, "resume": False}, config, architectures)


def _is_killed_start(run: RunFolder, options: TrainOptions) -> bool:
    """Whether the same command was killed in the folder before it saved anything."""
    return run.is_unsaved() and _is_of(run, options)


def _is_started_again(run: RunFolder, options: TrainOptions) -> bool:
    """Whether torchrun has started this command again (`--max_restarts`) after one of its processes died."""
    return n_restarts() > 0 and run.config_path.is_file() and _is_of(run, options)


def _is_of(run: RunFolder, options: TrainOptions) -> bool:
    """Whether a run has these options."""
    asked = asdict(options)
    if options.expansion_factor is not None:
        del asked["dict_size"]  # the run has the number that came of it
    own = run.read_config().get("options")
    return isinstance(own, dict) and not differences(scrub_values(asked), own)


def _train(run: RunFolder | None, options: TrainOptions, preset: str | None, load: Load) -> None:
    """Train what was resolved; the first process holds the folder, and has it as `run`."""
    if _all_say(run is None or _has_something_to_do(run, options)):
        _train_in(run, options, preset, load)


def _all_say(answer: bool) -> bool:
    """Whether every process's answer is yes."""
    if n_processes() == 1:
        return answer
    from dictionary_learning import distributed

    return distributed.is_all(answer)


def _has_something_to_do(run: RunFolder, options: TrainOptions) -> bool:
    if options.resume and is_finished(run, options):
        say(f"{run.path} is finished already: there is nothing to go on with.")
        return False
    return True


def _train_in(run: RunFolder | None, options: TrainOptions, preset: str | None, load: Load) -> None:
    check_devices(options)
    if options.expansion_factor is None:
        options.check_memory()
    if options.use_wandb:
        need("wandb", "records in Weights & Biases (--use_wandb)")
    check_pairs_per_text(options)
    beginning = begin_with(options, load)
    store = open_activations(options)
    check_alike({"activations": store.identity})
    if options.resume and run is not None:
        _check_same_cache(run, store.config)
    train_on(store, options, preset, beginning)


def train_on(
    store: "Store",
    options: TrainOptions,
    preset: str | None,
    beginning: "Callable[[], Beginning] | None" = None,
) -> None:
    """Train one dictionary a seed on the activations of a store, into the run's folder.

    Args:
        beginning: gives the dictionary whose weights are the first ones.
    """
    from dictionary_learning.runs.loop import train

    options.check_memory(store.d_model)
    options = replace(options, dict_size=options.latents(store.d_model))
    run = run_folder(options)
    what = "atoms" if options.arch == "attention" else "latents"
    say(
        f"{options.arch}: {options.dict_size:,} {what} on {options.place} of {options.model}, "
        f"{n_of(options.steps, 'step')} of {options.batch_size:,} {batch_unit(options)}{_divided(options)}, "
        f"in {run.path}"
    )
    tell_if_slow(options.autocast, find_device(options.device), "--autocast")
    with overlapped(store, options) as blocks:
        result = train(_plan(batches(blocks, options), store.d_model, options, preset, beginning))
    say(f"{n_of(result.steps_done, 'step')} done: {run.path}")


def _plan(
    data: "Batches",
    d_model: int,
    options: TrainOptions,
    preset: str | None,
    beginning: "Callable[[], Beginning] | None",
) -> "Plan":
    """The run on these batches."""
    import torch

    from dictionary_learning.runs.plan import Plan

    return Plan(
        data=data,
        trainers=[trainer_config(options, d_model, seed) for seed in options.seeds],
        steps=options.steps,
        folder=run_folder(options).path,
        resume=options.resume,
        resume_hint=_resume_command(options),
        normalize=options.normalize,
        autocast_dtype=getattr(torch, options.autocast),
        calibration_tokens=options.calibration_tokens,
        save_steps=frozenset(options.save_steps),
        log_steps=options.log_steps,
        backup_steps=options.resume_every,
        run_config={"preset": preset, "options": asdict(options), **told(options, d_model, beginning)},
        data_config=buffer_config(options, data.config),
        tracker=_tracker(options),
        beginning=beginning,
    )


def _tracker(options: TrainOptions) -> Tracker | None:
    if not (options.use_wandb and is_first()):
        return None
    return Tracker(options.wandb_entity, options.wandb_project)


def _divided(options: TrainOptions) -> str:
    """` (8 processes x 1,024)`; nothing for one process."""
    n = n_processes()
    return f" ({told_shares(options.batch_size, n, options.run_length)})" if n > 1 else ""


def trainer_config(options: TrainOptions, d_model: int, seed: int) -> dict[str, Any]:
    """The trainer's class under "trainer", and its keyword arguments."""
    architecture = options.architecture
    return {
        "trainer": architecture.trainer_class(),
        "steps": options.steps,
        "activation_dim": d_model,
        "layer": options.layer,
        "lm_name": options.model,
        "lr": options.lr,
        "warmup_steps": options.warmup_steps,
        "dead_feature_threshold": options.dead_tokens,
        "seed": seed,
        "device": options.device,
        "wandb_name": options.run_name,
        "submodule_name": options.place.submodule_name,
        **architecture.arguments(options, options.latents(d_model)),
    }


def _check_same_cache(run: RunFolder, data_config: Mapping[str, Any]) -> None:
    """Raise a UserError where a run would be resumed on another cache than it was started on."""
    path = run.trainer(0) / "config.json"
    if not path.is_file():
        return
    before = (read_run_config(path).get("buffer") or {}).get("cache_sha256")
    if before != data_config.get("cache_sha256"):
        raise UserError(
            f"the activations that {run.path} was started on have been written anew since then: restore them,"
            " or start another run with another --run_name."
        )


def is_finished(run: RunFolder, options: TrainOptions) -> bool:
    """Whether the final weights of all dictionaries of a run are there."""
    return all(_has_final_weights(run.trainer(i)) for i in range(len(options.seeds)))


def _has_final_weights(trainer: Path) -> bool:
    path = trainer / "config.json"
    if not path.is_file() or not (trainer / "ae.pt").is_file():
        return False
    return bool(read_run_config(path)["trainer"].get("finished"))


def _resume_command(options: TrainOptions) -> str:
    words = [*program.words(), "--run_name", options.run_name or ""]
    if options.checkpoints_path != "runs":
        words += ["--checkpoints_path", options.checkpoints_path]
    return shlex.join([*words, "--resume"])
