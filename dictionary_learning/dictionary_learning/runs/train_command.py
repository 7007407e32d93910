"""What the training scripts share: from a command line to a trained run folder."""

import argparse
import os
import shlex
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from dictionary_learning.activations.options import DataOptions, from_anywhere
from dictionary_learning.command.devices import find_device
from dictionary_learning.command.files import check_writable
from dictionary_learning.command.options import Parser, add_options, build, preset_names, read_preset
from dictionary_learning.command.progress import say
from dictionary_learning.errors import UserError
from dictionary_learning.runs.config_file import read_run_config
from dictionary_learning.runs.folder import RunFolder
from dictionary_learning.runs.options import BATCH_TOP_K_FAMILY, ONLY_FOR, TrainOptions, differences, is_for

DEFAULT_PRESETS = {"attention": "gemma-2-2b"}  # of the others: pythia-160m
HUB_SECONDS = 5.0


def parser(description: str | None, architectures: Sequence[str]) -> Parser:
    """Flags for the options that any of `architectures` has; `--arch` where there are several."""
    made = Parser(description=description)
    made.add_argument(
        "--config",
        choices=preset_names(),
        help=f"preset whose values the other flags override (default: {_default_preset(architectures[0])})",
    )
    foreign = [name for name in ONLY_FOR if not any(is_for(name, arch) for arch in architectures)]
    add_options(made, TrainOptions, [*foreign, "temporal", "arch"])
    if len(architectures) > 1:
        made.add_argument(
            "--arch",
            choices=architectures,
            default=argparse.SUPPRESS,
            help=f"architecture of the dictionary (default: {architectures[0]})",
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
    run = _run_folder(options)
    if not options.resume:
        run.check_new()
    elif all(_is_finished(run.trainer(i)) for i in range(len(options.seeds))):
        say(f"{run.path} is finished already: there is nothing to go on with.")
        return
    check_writable(run.path)
    find_device(options.device)
    store = open_activations(options)
    if options.resume:
        _check_same_cache(run, store.config)
    train_on(store, options, preset)


def open_activations(options: TrainOptions, part: str = "train") -> Any:
    """The store of the activations that `options` ask for, from a cache or else from the language model.

    Raises:
        UserError: the cache, the texts or the model cannot be read.
    """
    if options.activations is not None:
        from dictionary_learning.activations.cache import ActivationCache

        return ActivationCache.open(options.activations).store(
            part, max_tokens=options.max_tokens, max_norm_ratio=options.max_norm_ratio, log=say
        )
    check_texts(options, part)

    from dictionary_learning.language_model import LanguageModel

    lm = LanguageModel.load(options.model, device=options.device, dtype=options.lm_dtype, layer=options.layer)
    lm.truncate(options.layer)
    return open_store(lm, options, part)


def open_store(lm: Any, options: DataOptions, part: str = "train") -> Any:
    """The store of the activations that `options` ask for, from the language model; nothing is read yet.

    Args:
        part: of the documents, "train", "eval" or "all".
    """
    from dictionary_learning.activations.live_store import ActivationStore

    return ActivationStore(
        lm,
        options.layer,
        lambda start: _open_texts(options, start, part),
        context_length=options.context_length,
        lm_batch_size=options.lm_batch_size,
        memory_bytes=options.memory_bytes,
        dtype=options.torch_store_dtype,
        max_norm_ratio=options.max_norm_ratio,
        max_tokens=options.max_tokens,
        document_tokens=options.document_tokens,
        log=say,
    )


def train_on(store: Any, options: TrainOptions, preset: str | None) -> None:
    """Train one dictionary a seed on the activations of a store, into the run's folder."""
    import torch

    from dictionary_learning.training import trainSAE

    options = replace(options, dict_size=options.latents(store.d_model))
    run = _run_folder(options)
    what, items = ("atoms", "contexts") if options.arch == "attention" else ("latents", "tokens")
    say(
        f"{options.arch}: {options.dict_size:,} {what} on layer {options.layer} of {options.model}, "
        f"{options.steps:,} steps of {options.batch_size:,} {items}, in {run.path}"
    )
    if _trains_on_pairs(options):
        data = store.pairs(
            options.batch_size, mode=options.pair_mode, max_offset=options.max_offset, seed=options.seeds[0]
        )
    elif options.arch == "attention":
        data = store.sequences(options.batch_size, seed=options.seeds[0])
    else:
        data = store.tokens(options.batch_size, seed=options.seeds[0])
    result = trainSAE(
        data,
        [trainer_config(options, store.d_model, seed) for seed in options.seeds],
        options.steps,
        use_wandb=options.use_wandb,
        wandb_entity=options.wandb_entity,
        wandb_project=options.wandb_project,
        save_steps=options.save_steps,
        save_dir=run.path,
        log_steps=options.log_steps,
        run_cfg={"preset": preset, "options": asdict(options)},
        normalize_activations=options.normalize,
        autocast_dtype=getattr(torch, options.autocast),
        backup_steps=options.resume_every,
        resume=options.resume,
        calibration_tokens=options.calibration_tokens,
        data_config=buffer_config(options, data.config),
        resume_hint=_resume_command(options),
    )
    say(f"{result.steps_done} steps done: {run.path}")


def new_options(
    flags: Mapping[str, Any], config: str | None, architectures: Sequence[str]
) -> tuple[TrainOptions, str | None]:
    """The options of a new run and its preset's name: defaults, then the preset, then the flags.

    Raises:
        UserError: options that do not go together, or the default run where it cannot work.
    """
    arch = flags.get("arch", architectures[0])
    _check_flags(flags, arch)
    if config is None and not {"model", "activations"} & flags.keys():
        config = _default_preset(arch)
        _require_gpu_and_hub(config)
    options = build(TrainOptions, {"arch": arch}, preset_values(config, arch), _cached(flags), flags)
    # a run can be resumed and evaluated from any folder
    options = replace(
        options,
        model=from_anywhere(options.model),
        dataset=from_anywhere(options.dataset),
        activations=options.activations and str(Path(options.activations).resolve()),
    )
    if options.run_name is None:
        options = replace(options, run_name=_default_name(config or Path(options.model).name, options))
    return options, config


def resumed_options(
    flags: Mapping[str, Any], config: str | None, architectures: Sequence[str]
) -> tuple[TrainOptions, str | None]:
    """The options and the preset's name that a run was started with.

    Raises:
        UserError: there is no such run, or flags ask for something else than it has.
    """
    if "run_name" not in flags and config is None:
        raise UserError("--resume needs the run's name: add --run_name (or the --config of the run).")
    arch = flags.get("arch", architectures[0])
    where = {name: flags[name] for name in ("run_name", "checkpoints_path", "seeds") if name in flags}
    asked = build(TrainOptions, {"arch": arch}, preset_values(config, arch), where)
    if asked.run_name is None:
        asked = replace(asked, run_name=_default_name(str(config), asked))
    run = _run_folder(asked)
    recorded = run.read_config()
    own, preset = recorded.get("options"), recorded.get("preset")
    if not isinstance(own, dict) or own.get("arch") not in architectures:
        raise UserError(f"{run.path} is no run of this script: resume it with the one it was started by.")
    _check_flags(flags, own["arch"])
    paths = {name: from_anywhere(flags[name]) for name in ("model", "dataset") if name in flags}
    if "activations" in flags and own.get("activations") is not None:
        # it may have been moved; whether it is the same one is found out when it is opened
        flags = {**flags, "activations": str(Path(flags["activations"]).resolve())}
        own = {**own, "activations": flags["activations"]}
    told = differences({**flags, **paths}, own)
    if config not in (None, preset):
        told.append(f"--config {config} (the run has {preset})")
    if told:
        raise UserError(
            f"{run.path} cannot be resumed with other options than its own: {', '.join(told)}; leave "
            "them out, or start another run with another --run_name."
        )
    return build(TrainOptions, own, flags, {"run_name": asked.run_name}), preset


def _cached(flags: Mapping[str, Any]) -> dict[str, Any]:
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
            f"{cache.path} holds the first {own['max_tokens']} text tokens, fewer than the --max_tokens"
            f" {flags['max_tokens']} that are asked for: lower it, or write a larger cache."
        )
    return own


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


def _check_flags(flags: Mapping[str, Any], arch: str) -> None:
    for name in flags:
        if not is_for(name, arch):
            raise UserError(
                f"--{name} means nothing for --arch {arch}, only for {', '.join(ONLY_FOR[name])}: "
                "leave it out."
            )


def preset_values(config: str | None, arch: str) -> dict[str, Any]:
    """The values of a preset that are meant for the architecture.

    Raises:
        UserError: the preset is for other architectures.
    """
    values = read_preset(config) if config is not None else {}
    own = values.pop("attention", None)
    for_attention_only = values.pop("architectures", None) == ["attention"]
    if config is not None and (own is None if arch == "attention" else for_attention_only):
        fitting = [name for name in preset_names() if _is_preset_for(name, arch)]
        raise UserError(f"the preset {config} is not for {arch}: choose one of {', '.join(fitting)}.")
    if arch == "attention":
        values = {name: value for name, value in values.items() if is_for(name, arch)} | (own or {})
    unknown = values.keys() - {field.name for field in fields(TrainOptions)}
    assert not unknown, f"preset {config} has unknown options {unknown}"
    if arch not in (*BATCH_TOP_K_FAMILY, "attention"):
        values.pop("lr", None)  # it is the T-SAE script's; the others bring their papers' own
    return values


def _is_preset_for(name: str, arch: str) -> bool:
    values = read_preset(name)
    return "attention" in values if arch == "attention" else values.get("architectures") != ["attention"]


def _default_name(config: str, options: TrainOptions) -> str:
    return f"{config}-{options.arch}-seed{'-'.join(map(str, options.seeds))}"


def _run_folder(options: TrainOptions) -> RunFolder:
    assert options.run_name is not None
    return RunFolder(Path(options.checkpoints_path) / options.run_name)


def _default_preset(arch: str) -> str:
    return DEFAULT_PRESETS.get(arch, "pythia-160m")


def _require_gpu_and_hub(config: str) -> None:
    """Training by default is the paper's: that wants a GPU, and a model and texts from the hub."""
    lacks = []
    if find_device().type == "cpu":
        lacks.append("a GPU")
    if not _hub_answers():
        lacks.append("the Hugging Face hub")
    if lacks:
        raise UserError(
            f"without --config the paper's run on {config} starts, and this machine lacks "
            f"{' and '.join(lacks)}: try --config demo, which needs neither."
        )


def _hub_answers() -> bool:
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return False
    endpoint = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    try:
        with urllib.request.urlopen(urllib.request.Request(endpoint, method="HEAD"), timeout=HUB_SECONDS):
            return True
    except urllib.error.HTTPError:
        return True
    except (OSError, ValueError):
        return False


def _open_texts(options: DataOptions, start: int, part: str = "train") -> Any:
    from dictionary_learning.texts.documents import DocumentStream

    return DocumentStream.open(
        options.dataset,
        text_field=options.text_field,
        split=options.split,
        subset=options.subset,
        part=part,
        eval_share=options.eval_share,
        start=start,
    )


def check_texts(options: DataOptions, part: str = "train") -> None:
    """Read one document, so that a wrong name or field is told before the model is loaded."""
    if next(_open_texts(options, 0, part), None) is None:
        raise UserError(
            f"{options.dataset} has no document to train on: lower --eval_share or give more text."
        )


def _trains_on_pairs(options: TrainOptions) -> bool:
    return options.arch == "temporal" and options.temporal


def _is_finished(trainer: Path) -> bool:
    """Whether the final weights of a trainer's folder are there."""
    path = trainer / "config.json"
    if not path.is_file() or not (trainer / "ae.pt").is_file():
        return False
    return bool(read_run_config(path)["trainer"].get("finished"))


def trainer_config(options: TrainOptions, d_model: int, seed: int) -> dict[str, Any]:
    """The trainer's class under "trainer", and its keyword arguments."""
    from dictionary_learning import trainers

    names = {
        "temporal": "TemporalMatryoshkaBatchTopKTrainer",
        "matryoshka": "MatryoshkaBatchTopKTrainer",
        "batch_top_k": "BatchTopKTrainer",
        "top_k": "TopKTrainer",
        "standard": "StandardTrainer",
        "jumprelu": "JumpReluTrainer",
        "gated": "GatedSAETrainer",
        "attention": "TemporalAttentionTrainer",
    }
    arch = options.arch
    dict_size = options.latents(d_model)
    config: dict[str, Any] = {
        "trainer": getattr(trainers, names[arch]),
        "steps": options.steps,
        "activation_dim": d_model,
        ("width" if arch == "attention" else "dict_size"): dict_size,
        "layer": options.layer,
        "lm_name": options.model,
        "lr": options.lr,
        "warmup_steps": options.warmup_steps,
        "dead_feature_threshold": options.dead_tokens,
        "seed": seed,
        "device": options.device,
        "wandb_name": options.run_name,
        "submodule_name": f"resid_post_layer_{options.layer}",
    }
    if arch != "attention":
        config["decay_start"] = options.decay_start
    if is_for("threshold_beta", arch):
        config |= {
            "k": options.k,
            "threshold_beta": options.threshold_beta,
            "threshold_start_step": options.threshold_start_step,
            "encoder_dtype": options.encoder_dtype,
        }
    if arch in BATCH_TOP_K_FAMILY:
        config["auxk_alpha"] = options.auxk_alpha
    elif arch == "attention":
        config |= {
            "n_heads": options.n_heads,
            "n_attn_layers": options.n_attn_layers,
            "bottleneck_factor": options.bottleneck_factor,
            "sae_diff_type": options.sae_diff_type,
            "tied_weights": options.tied_weights,
            "gamma_reg": options.gamma_reg,
            "weight_decay": options.weight_decay,
            "lr_floor": options.lr_floor,
            "atom_lr": options.atom_lr,
            "start": options.start,
            "context_length": options.context_length,
        }
    else:
        config["sparsity_warmup_steps"] = options.sparsity_warmup_steps
    if arch in ("temporal", "matryoshka"):
        config |= {
            "group_fractions": list(options.group_fractions),
            "group_weights": None if options.group_weights is None else list(options.group_weights),
            "form": options.form,
        }
    if arch == "temporal":
        config |= {
            "temporal": options.pair_mode[0] if options.temporal else False,
            "contrastive": options.contrastive,
            "temp_alpha": options.temp_alpha,
            "temperature": options.temperature,
        }
    if arch in ("standard", "gated"):
        config["l1_penalty"] = options.l1_penalty
    if arch == "standard":
        config["resample_steps"] = options.resample_steps
    if arch == "jumprelu":
        config |= {
            "target_l0": float(options.k),
            "sparsity_penalty": options.sparsity_penalty,
            "bandwidth": options.bandwidth,
        }
    return config


def buffer_config(options: TrainOptions, store: Mapping[str, Any]) -> dict[str, Any]:
    """What config.json records under "buffer": upstream's keys, and how to make these activations again."""
    names = (
        "model lm_dtype layer dataset subset split text_field eval_share context_length max_tokens "
        "document_tokens max_norm_ratio lm_batch_size memory store_dtype activations normalize"
    )
    return {**store, **{name: getattr(options, name) for name in names.split()}}


def _resume_command(options: TrainOptions) -> str:
    words = [Path(sys.executable).name, sys.argv[0], "--run_name", options.run_name or ""]
    if options.checkpoints_path != "runs":
        words += ["--checkpoints_path", options.checkpoints_path]
    return shlex.join([*words, "--resume"])
