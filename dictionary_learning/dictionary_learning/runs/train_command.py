"""What the training scripts share: from a command line to a trained run folder."""

import argparse
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dictionary_learning.command.devices import find_device
from dictionary_learning.command.files import check_writable
from dictionary_learning.command.options import Parser, add_options, preset_names
from dictionary_learning.command.progress import say
from dictionary_learning.dictionaries.config_file import read_run_config
from dictionary_learning.errors import UserError
from dictionary_learning.runs.data import batches, buffer_config, open_activations
from dictionary_learning.runs.folder import RunFolder
from dictionary_learning.runs.options import TrainOptions
from dictionary_learning.runs.request import new_options, resumed_options, run_folder
from dictionary_learning.runs.tracker import Tracker
from dictionary_learning.trainers.architectures import ARCHITECTURES, ONLY_FOR, is_for

if TYPE_CHECKING:
    from dictionary_learning.activations.store import Store


def parser(description: str | None, architectures: Sequence[str]) -> Parser:
    """Flags for the options that any of `architectures` has; `--arch` where there are several."""
    made = Parser(description=description)
    default = ARCHITECTURES[architectures[0]]
    made.add_argument(
        "--config",
        choices=preset_names(),
        help=f"preset whose values the other flags override (default: {default.preset})",
    )
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


def train(typed: Mapping[str, Any], architectures: Sequence[str]) -> None:
    """Train what the flags in `typed` ask for; everything is checked before the model's weights are read.

    Args:
        architectures: those the script trains, the default first.

    Raises:
        UserError: options, data, model or folder that cannot work.
        SystemExit: interrupted (130 or 143), after saving.
    """
    flags = {name: value for name, value in typed.items() if name != "config"}
    resolve = resumed_options if flags.get("resume") else new_options
    options, preset = resolve(flags, typed.get("config"), architectures)
    run = run_folder(options)
    if not options.resume:
        run.check_new()
    elif all(_is_finished(run.trainer(i)) for i in range(len(options.seeds))):
        say(f"{run.path} is finished already: there is nothing to go on with.")
        return
    check_writable(run.path, "--checkpoints_path")
    find_device(options.device)
    store = open_activations(options)
    if options.resume:
        _check_same_cache(run, store.config)
    train_on(store, options, preset)


def train_on(store: "Store", options: TrainOptions, preset: str | None) -> None:
    """Train one dictionary a seed on the activations of a store, into the run's folder."""
    import torch

    from dictionary_learning.runs.loop import train
    from dictionary_learning.runs.plan import Plan

    options = replace(options, dict_size=options.latents(store.d_model))
    run = run_folder(options)
    what, items = ("atoms", "contexts") if options.arch == "attention" else ("latents", "tokens")
    say(
        f"{options.arch}: {options.dict_size:,} {what} on layer {options.layer} of {options.model}, "
        f"{options.steps:,} steps of {options.batch_size:,} {items}, in {run.path}"
    )
    data = batches(store, options)
    result = train(
        Plan(
            data=data,
            trainers=[trainer_config(options, store.d_model, seed) for seed in options.seeds],
            steps=options.steps,
            folder=run.path,
            resume=options.resume,
            resume_hint=_resume_command(options),
            normalize=options.normalize,
            autocast_dtype=getattr(torch, options.autocast),
            calibration_tokens=options.calibration_tokens,
            save_steps=frozenset(options.save_steps),
            log_steps=options.log_steps,
            backup_steps=options.resume_every,
            run_config={"preset": preset, "options": asdict(options)},
            data_config=buffer_config(options, data.config),
            tracker=Tracker(options.wandb_entity, options.wandb_project) if options.use_wandb else None,
        )
    )
    say(f"{result.steps_done} steps done: {run.path}")


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
        "submodule_name": f"resid_post_layer_{options.layer}",
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


def _is_finished(trainer: Path) -> bool:
    """Whether the final weights of a trainer's folder are there."""
    path = trainer / "config.json"
    if not path.is_file() or not (trainer / "ae.pt").is_file():
        return False
    return bool(read_run_config(path)["trainer"].get("finished"))


def _resume_command(options: TrainOptions) -> str:
    words = [Path(sys.executable).name, sys.argv[0], "--run_name", options.run_name or ""]
    if options.checkpoints_path != "runs":
        words += ["--checkpoints_path", options.checkpoints_path]
    return shlex.join([*words, "--resume"])
