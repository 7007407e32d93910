"""The options of a run that a command line asks for: a new run's, or those that a run was started with."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dictionary_learning.activations.options import from_anywhere, without_settled
from dictionary_learning.command.options import build, shown
from dictionary_learning.command.secrets import HIDDEN, scrub_values
from dictionary_learning.errors import UserError
from dictionary_learning.jobs.options import FREE_ON_RESUME, TrainOptions, differences
from dictionary_learning.jobs.presets import preset_values, require_gpu_and_hub
from dictionary_learning.remote.mirror import folder_at
from dictionary_learning.remote.path import settled
from dictionary_learning.runs.folder import RunFolder
from dictionary_learning.trainers.architectures import ARCHITECTURES, ONLY_FOR, is_for


def new_options(
    flags: Mapping[str, Any], config: str | None, architectures: Sequence[str], is_for_here: bool = True
) -> tuple[TrainOptions, str | None]:
    """The options of a new run and its preset's name: defaults, then the preset, then the flags.

    Args:
        is_for_here: settle what depends on the machine.

    Raises:
        UserError: options that do not go together, or the default run where it cannot work.
    """
    arch = flags.get("arch", architectures[0])
    _check_flags(flags, arch)
    if config is None and not {"model", "activations"} & flags.keys():
        config = ARCHITECTURES[arch].preset
        require_gpu_and_hub(config)
    preset = preset_values(config, arch)
    _check_schedule(flags, preset, config)
    of_cache = options_of_cache(flags)
    options = build(TrainOptions, {"arch": arch}, preset, of_cache, without_settled(flags, of_cache))
    options = options.settled() if is_for_here else options
    # a run can be resumed and evaluated from any folder
    options = replace(
        options,
        model=from_anywhere(options.model),
        dataset=from_anywhere(options.dataset),
        activations=options.activations and settled(options.activations),
        init_from=options.init_from and from_anywhere(options.init_from),
    )
    if options.run_name is None:
        options = replace(options, run_name=_default_name(config or Path(options.model).name, options))
    return options, config


def _check_schedule(flags: Mapping[str, Any], preset: Mapping[str, Any], config: str | None) -> None:
    """Refuse fewer steps than the schedule that a preset brings, with one that fits.

    Raises:
        UserError: names both flags, which belong together.
    """
    steps = flags.get("steps")
    brought = {name: preset[name] for name in ("warmup_steps", "decay_start") if preset.get(name)}
    brought = {name: value for name, value in brought.items() if name not in flags}
    if steps is None or steps < 1 or steps > brought.get("decay_start", 0):
        return  # a warm-up alone may be longer than a run
    share = steps / preset.get("steps", steps)
    fitting = " ".join(f"--{name} {int(value * share)}" for name, value in brought.items())
    told = " and ".join(f"--{name} {value}" for name, value in brought.items())
    raise UserError(
        f"--steps {steps} is too few for the {told} that --config {config} brings: add {fitting} (the same "
        "shares of the steps), or other values."
    )


def run_to_resume(flags: Mapping[str, Any], config: str | None, architectures: Sequence[str]) -> RunFolder:
    """The folder that `--resume` means.

    Raises:
        UserError: nothing names it.
    """
    if "run_name" not in flags and config is None:
        raise UserError("--resume needs the run's name: add --run_name (or the --config of the run).")
    arch = flags.get("arch", architectures[0])
    where = {name: flags[name] for name in ("run_name", "checkpoints_path", "seeds") if name in flags}
    asked = build(TrainOptions, {"arch": arch}, preset_values(config, arch), where)
    if asked.run_name is None:
        asked = replace(asked, run_name=_default_name(str(config), asked))
    return run_folder(asked)


def can_start(flags: Mapping[str, Any], config: str | None) -> bool:
    """Whether the flags say what to train, so that `--resume` may start a run that is not there yet."""
    return config is not None or bool({"model", "activations"} & flags.keys())


def resumed_options(
    run: RunFolder, flags: Mapping[str, Any], config: str | None, architectures: Sequence[str]
) -> tuple[TrainOptions, str | None]:
    """The options and the preset's name that a run was started with.

    Raises:
        UserError: there is no such run, or flags ask for something else than it has.
    """
    recorded = run.read_config()
    own, preset = _own_options(run, recorded.get("options")), recorded.get("preset")
    if not isinstance(own, dict) or own.get("arch") not in architectures:
        raise UserError(f"{run.path} is no run of this script: resume it with the one it was started by.")
    _check_flags(flags, own["arch"])
    flags = without_settled(flags, own)
    paths: dict[str, Any] = {
        name: from_anywhere(flags[name]) for name in ("model", "dataset") if name in flags
    }
    if "activations" in flags and own.get("activations") is not None:
        # it may have been moved; whether it is the same one is found out when it is opened
        flags = {**flags, "activations": settled(flags["activations"])}
        own = {**own, "activations": scrub_values(flags["activations"])}
    # recorded without its secrets, an option is compared without them, and the flag's value is used
    told = differences(scrub_values({**flags, **paths}), own)
    for name, value in own.items():
        if isinstance(value, str) and HIDDEN in value and name not in flags:
            raise UserError(
                f"--{name} of {run.path} was recorded as {value}, without its secret: give it again."
            )
    if config not in (None, preset):
        told.append(f"--config {config} (the run has {preset})")
    if told:
        raise UserError(
            f"{run.path} cannot be resumed with other options than its own: {', '.join(told)}; leave "
            "them out, or start another run with another --run_name."
        )
    return build(TrainOptions, own, flags, paths, {"run_name": run.path.name, "resume": True}), preset


def _own_options(run: RunFolder, recorded: Any) -> Any:
    """The options of a run: those that its last state was saved with, where config.yaml still agrees.

    Raises:
        UserError: config.yaml was changed since, or the state is damaged.
    """
    state = run.load_state()
    saved = (state or {}).get("options")
    if not saved:
        return recorded
    recorded = recorded if isinstance(recorded, dict) else {}
    # a cache may have been moved; what is in it is compared when it is opened
    fixed = {name: value for name, value in recorded.items() if name in saved and name != "activations"}
    told = [
        f"{name} {shown(value)} (the run was trained with {shown(saved[name])})"
        for name, value in fixed.items()
        if name not in FREE_ON_RESUME and shown(value) != shown(saved[name])
    ]
    if told:
        raise UserError(
            f"{run.config_path} was changed, and the run cannot go on with other options than its own: "
            f"{', '.join(told)}; put its own back, or start another run with another --run_name."
        )
    free = {name: value for name, value in recorded.items() if name in (*FREE_ON_RESUME, "activations")}
    return {**saved, **free}


def options_of_cache(flags: Mapping[str, Any]) -> dict[str, Any]:
    """What the cache of `--activations` says of its activations, under the names of options.

    Raises:
        UserError: there is no such cache, or flags ask for other activations.
    """
    if "activations" not in flags:
        return {}
    from dictionary_learning.activations.cache import ActivationCache

    cache = ActivationCache.open(flags["activations"])
    cache.check_complete("train")
    own = {**cache.options, "max_tokens": cache.parts["train"].max_tokens}
    cache.check(flags)
    if own["max_tokens"] is not None and (flags.get("max_tokens") or 0) > own["max_tokens"]:
        raise UserError(
            f"{cache.address} holds the first {own['max_tokens']} text tokens, fewer than the --max_tokens"
            f" {flags['max_tokens']} that are asked for: lower it, or write a larger cache."
        )
    return own


def _check_flags(flags: Mapping[str, Any], arch: str) -> None:
    for name in flags:
        if not is_for(name, arch):
            raise UserError(
                f"--{name} means nothing for --arch {arch}, only for {', '.join(ONLY_FOR[name])}: "
                "leave it out."
            )


def _default_name(config: str, options: TrainOptions) -> str:
    return f"{config}-{options.arch}-seed{'-'.join(map(str, options.seeds))}"


def run_folder(options: TrainOptions) -> RunFolder:
    """The folder of a run whose name is known."""
    assert options.run_name is not None
    return RunFolder(folder_at(options.checkpoints_path) / options.run_name)
