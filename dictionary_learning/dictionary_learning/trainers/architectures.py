"""The architectures, one entry each: all that a run has to know of one before torch is loaded.

    ARCHITECTURES["jumprelu"].options        # what it has and not every architecture
    ARCHITECTURES["jumprelu"].learning_rate  # of its paper

A new architecture is a file with its trainer, an entry here, and its options in `options`.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dictionary_learning.dictionaries.temporal_sizes import check_sizes
from dictionary_learning.errors import UserError

Arguments = dict[str, Any]


def _check_k(options: Any, n_latents: int) -> None:
    if options.k > n_latents:
        raise UserError(f"--k is {options.k}, and must not be larger than the {n_latents} latents: lower it.")


def _check_attention(options: Any, n_latents: int) -> None:
    _check_k(options, n_latents)
    check_sizes(
        n_latents,
        options.n_heads,
        options.bottleneck_factor,
        options.n_attn_layers,
        options.sae_diff_type,
        options.k,
        options.value_rank,
    )


def _check_nothing(options: Any, n_latents: int) -> None:
    pass


@dataclass(frozen=True)
class Architecture:
    """One architecture.

    Attributes:
        name: what `--arch` calls it.
        trainer: the dotted name of its trainer's class.
        options: of a run's options, those that it has and not every architecture.
        arguments: the trainer's own keyword arguments, of the options and the number of latents.
        check: raises a UserError where the options and the number of latents do not go together.
        learning_rate, warmup_steps: where they are left out.
        preset: where neither a preset nor a model is given.
    """

    name: str
    trainer: str
    options: frozenset[str]
    arguments: Callable[[Any, int], Arguments]
    check: Callable[[Any, int], None] = _check_k
    learning_rate: float = 3e-4  # the released script's for the T-SAE; the others are their papers'
    warmup_steps: int = 1000
    preset: str = "pythia-160m"

    def trainer_class(self) -> Any:
        module, _, name = self.trainer.rpartition(".")
        return getattr(importlib.import_module(module), name)


# --- the arguments of the trainers ---


def _single_tokens(options: Any, n_latents: int) -> Arguments:
    return {"dict_size": n_latents, "decay_start": options.decay_start}


def _threshold(options: Any) -> Arguments:
    return {
        "k": options.k,
        "threshold_beta": options.threshold_beta,
        "threshold_start_step": options.threshold_start_step,
        "encoder_dtype": options.encoder_dtype,
        "tf32": options.tf32,
        "batch_topk": options.batch_topk,
    }


def _batch_top_k(options: Any, n_latents: int) -> Arguments:
    return {
        **_single_tokens(options, n_latents),
        **_threshold(options),
        "auxk_alpha": options.auxk_alpha,
    }


def _matryoshka(options: Any, n_latents: int) -> Arguments:
    return {
        **_batch_top_k(options, n_latents),
        "group_fractions": list(options.group_fractions),
        "group_weights": None if options.group_weights is None else list(options.group_weights),
        "form": options.form,
    }


def _temporal(options: Any, n_latents: int) -> Arguments:
    return {
        **_matryoshka(options, n_latents),
        "temporal": options.pair_mode[0] if options.temporal else False,
        "contrastive": options.contrastive,
        "temp_alpha": options.temp_alpha,
        "temperature": options.temperature,
        "run_length": options.run_length,
        "negatives": options.negatives,
    }


def _gated(options: Any, n_latents: int) -> Arguments:
    return {
        **_single_tokens(options, n_latents),
        "sparsity_warmup_steps": options.sparsity_warmup_steps,
        "l1_penalty": options.l1_penalty,
    }


def _standard(options: Any, n_latents: int) -> Arguments:
    return {**_gated(options, n_latents), "resample_steps": options.resample_steps}


def _jumprelu(options: Any, n_latents: int) -> Arguments:
    return {
        **_single_tokens(options, n_latents),
        "sparsity_warmup_steps": options.sparsity_warmup_steps,
        "target_l0": float(options.k),
        "sparsity_penalty": options.sparsity_penalty,
        "bandwidth": options.bandwidth,
    }


def _attention(options: Any, n_latents: int) -> Arguments:
    return {
        **_threshold(options),
        "width": n_latents,
        "n_heads": options.n_heads,
        "n_attn_layers": options.n_attn_layers,
        "bottleneck_factor": options.bottleneck_factor,
        "value_rank": options.value_rank,
        "sae_diff_type": options.sae_diff_type,
        "tied_weights": options.tied_weights,
        "gamma_reg": options.gamma_reg,
        "weight_decay": options.weight_decay,
        "lr_floor": options.lr_floor,
        "atom_lr": options.atom_lr,
        "start": options.start,
        "bias_start": options.bias_start,
        "context_length": options.context_length,
    }


# --- the list ---

_TRAINERS = "dictionary_learning.trainers"
_OF_THRESHOLD = frozenset(
    {"k", "threshold_beta", "threshold_start_step", "encoder_dtype", "tf32", "batch_topk"}
)
_OF_BATCH_TOP_K = _OF_THRESHOLD | {"auxk_alpha", "decay_start"}
_OF_GROUPS = frozenset({"group_fractions", "group_weights", "form"})
_OF_PENALTY = frozenset({"sparsity_warmup_steps", "decay_start"})

_ALL = (
    Architecture(
        "temporal",
        f"{_TRAINERS}.temporal_sequence_top_k.TemporalMatryoshkaBatchTopKTrainer",
        _OF_BATCH_TOP_K
        | _OF_GROUPS
        | {"temporal", "contrastive", "temp_alpha", "temperature"}
        | {"pair_mode", "max_offset", "run_length", "negatives", "pairs_per_text"},
        _temporal,
    ),
    Architecture(
        "matryoshka",
        f"{_TRAINERS}.matryoshka_batch_top_k.MatryoshkaBatchTopKTrainer",
        _OF_BATCH_TOP_K | _OF_GROUPS,
        _matryoshka,
    ),
    Architecture("batch_top_k", f"{_TRAINERS}.batch_top_k.BatchTopKTrainer", _OF_BATCH_TOP_K, _batch_top_k),
    Architecture("top_k", f"{_TRAINERS}.top_k.TopKTrainer", _OF_BATCH_TOP_K, _batch_top_k),
    Architecture(
        "standard",
        f"{_TRAINERS}.standard.StandardTrainer",
        _OF_PENALTY | {"l1_penalty", "resample_steps"},
        _standard,
        check=_check_nothing,
        learning_rate=1e-3,
    ),
    Architecture(
        "jumprelu",
        f"{_TRAINERS}.jumprelu.JumpReluTrainer",
        _OF_PENALTY | {"k", "sparsity_penalty", "bandwidth"},
        _jumprelu,
        learning_rate=7e-5,
    ),
    Architecture(
        "gated",
        f"{_TRAINERS}.gdm.GatedSAETrainer",
        _OF_PENALTY | {"l1_penalty"},
        _gated,
        check=_check_nothing,
        learning_rate=5e-5,
    ),
    Architecture(
        "attention",
        f"{_TRAINERS}.temporal_attention.TemporalAttentionTrainer",
        _OF_THRESHOLD
        | {"n_heads", "n_attn_layers", "bottleneck_factor", "value_rank"}
        | {"sae_diff_type", "tied_weights", "gamma_reg"}
        | {"weight_decay", "lr_floor", "autocast", "atom_lr", "start", "bias_start"},
        _attention,
        check=_check_attention,
        learning_rate=1e-3,
        warmup_steps=200,
        preset="gemma-2-2b",
    ),
)
ARCHITECTURES = {architecture.name: architecture for architecture in _ALL}
BATCH_TOP_K_FAMILY = ("temporal", "matryoshka", "batch_top_k", "top_k")
GROUPED = ("temporal", "matryoshka")
ONLY_FOR = {
    option: tuple(architecture.name for architecture in _ALL if option in architecture.options)
    for option in sorted(frozenset().union(*(architecture.options for architecture in _ALL)))
}
"""The options that only some architectures have, each with these; all others are for every architecture."""


def is_for(option: str, arch: str) -> bool:
    """Whether an option of a run means anything for the architecture."""
    return arch in ONLY_FOR.get(option, ARCHITECTURES)
