"""The dictionaries that are scored, trained through the one training loop."""

from dataclasses import asdict
from typing import Any

from dictionary_learning.command.options import build
from dictionary_learning.dictionaries.base import Dictionary
from dictionary_learning.jobs.data import batches
from dictionary_learning.jobs.options import TrainOptions
from dictionary_learning.jobs.train_command import trainer_config
from dictionary_learning.training import trainSAE
from temporal_saes.toy.options import ToyOptions
from temporal_saes.toy.store import ToyStore

_ARCH = {"tsae": "temporal", "tsae_strength_0": "temporal", "tfa": "attention"}


def train(method: str, store: ToyStore, options: ToyOptions, k: int, seed: int) -> Dictionary:
    """A dictionary that is ready for use on raw activations.

    Args:
        method: one of `METHODS`.
        k: latents a token, on average.
    """
    asked = train_options(method, options, k, seed)
    result = trainSAE(
        batches(store, asked),
        [trainer_config(asked, store.d_model, seed)],
        asked.steps,
        normalize_activations=True,
        device=options.device,
        run_cfg={"toy": asdict(options)},
    )
    dictionary: Dictionary = result.trainers[0].ae.eval().requires_grad_(False)
    if result.norm_factor != 1.0:
        dictionary.scale_biases(result.norm_factor)
    return dictionary


def train_options(method: str, options: ToyOptions, k: int, seed: int) -> TrainOptions:
    """What a training run is asked; what is not said here is as for a language model."""
    arch = _ARCH.get(method, method)
    sizes: dict[str, Any] = {
        "arch": arch,
        "model": "toy",
        "layer": 0,
        "dict_size": options.dict_size,
        "k": k,
        "steps": options.steps,
        "seeds": (seed,),
        "device": options.device,
        "batch_size": options.batch_tokens,
        "context_length": options.length,
        "threshold_start_step": options.steps // 4,
    }
    if arch == "attention":
        return build(
            TrainOptions,
            sizes
            | {
                "batch_size": options.batch_tokens // options.length,
                **{"start": "recall", "lr": options.tfa_lr, "atom_lr": options.tfa_atom_lr},
                **{"lr_floor": 0.1, "weight_decay": 0.0, "warmup_steps": options.steps // 30},
                **{"n_heads": 1, "bottleneck_factor": 2},
            },
        )
    sizes |= {"lr": options.lr, "warmup_steps": options.steps // 20, "decay_start": options.steps * 4 // 5}
    sizes |= {"dead_tokens": 50 * options.batch_tokens}
    if arch in ("temporal", "matryoshka"):
        sizes |= {"group_fractions": (options.high_share, 1 - options.high_share)}
    if arch == "temporal":
        sizes |= {"temp_alpha": options.temp_alpha if method == "tsae" else 0.0}
    return build(TrainOptions, sizes)
