"""Every option of a training run, once: flags, presets and config.yaml all come from here.

Defaults are the T-SAE paper's setting for Pythia-160m (arXiv 2511.05541); where the paper is
silent, the released script's. `configs/*.yaml` says where each value comes from.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from dictionary_learning.activations.options import DataOptions, shown
from dictionary_learning.command.options import option
from dictionary_learning.dictionaries.temporal_sizes import NOVEL_KINDS, check_sizes
from dictionary_learning.errors import UserError
from dictionary_learning.trainers.recall_start import STARTS

BATCH_TOP_K_FAMILY = ("temporal", "matryoshka", "batch_top_k", "top_k")
GROUPED = ("temporal", "matryoshka")
SINGLE_TOKENS = (*BATCH_TOP_K_FAMILY, "standard", "jumprelu", "gated")  # temporal: in pairs
ARCHITECTURES = (*SINGLE_TOKENS, "attention")

# Options that only some architectures have; all others are for every architecture.
ONLY_FOR = {
    "k": (*BATCH_TOP_K_FAMILY, "jumprelu", "attention"),
    "group_fractions": GROUPED,
    "group_weights": GROUPED,
    "temporal": ("temporal",),
    "contrastive": ("temporal",),
    "temp_alpha": ("temporal",),
    "temperature": ("temporal",),
    "pair_mode": ("temporal",),
    "max_offset": ("temporal",),
    "form": GROUPED,
    "auxk_alpha": BATCH_TOP_K_FAMILY,
    "threshold_beta": (*BATCH_TOP_K_FAMILY, "attention"),
    "threshold_start_step": (*BATCH_TOP_K_FAMILY, "attention"),
    "encoder_dtype": (*BATCH_TOP_K_FAMILY, "attention"),
    "l1_penalty": ("standard", "gated"),
    "resample_steps": ("standard",),
    "sparsity_warmup_steps": ("standard", "jumprelu", "gated"),
    "sparsity_penalty": ("jumprelu",),
    "bandwidth": ("jumprelu",),
    "decay_start": SINGLE_TOKENS,
    **dict.fromkeys(
        (
            *("n_heads", "n_attn_layers", "bottleneck_factor", "sae_diff_type", "tied_weights", "gamma_reg"),
            *("weight_decay", "lr_floor", "autocast", "atom_lr", "start"),
        ),
        ("attention",),
    ),
}

# What may differ when a run is resumed: where it is, what is told about it, and on which device.
FREE_ON_RESUME = {
    *("checkpoints_path", "run_name", "resume", "resume_every", "log_steps", "device"),
    *("use_wandb", "wandb_project", "wandb_entity"),
}

# For the T-SAE the released script's; the others are their papers'.
LEARNING_RATES = dict.fromkeys(BATCH_TOP_K_FAMILY, 3e-4) | {
    **{"standard": 1e-3, "jumprelu": 7e-5, "gated": 5e-5, "attention": 1e-3}
}
WARMUP_STEPS = dict.fromkeys(SINGLE_TOKENS, 1000) | {"attention": 200}
# The paper names none, and at 1 cosines hardly move the loss (measured on the demo); the code has none.
TEMPERATURES = {"paper": 0.1, "code": 1.0}

# The seven checkpoints of the original script, as shares of the steps.
ORIGINAL_SAVE_FRACTIONS = (0.001, 0.00316, 0.01, 0.0316, 0.1, 0.316, 1.0)


@dataclass(frozen=True)
class TrainOptions(DataOptions):
    """What a run trains, on what, and what it keeps.

    `lr` and `temperature` that are left out become what the architecture and the form bring.

    Raises:
        UserError: a value that cannot work, with the remedy.
    """

    # activations
    activations: str | None = option(
        None,
        "folder that cache_activations wrote, in place of running the language model; options that describe "
        "activations are the cache's",
        group="activations",
    )
    normalize: bool = option(
        True,
        "scale activations to unit mean square norm for training; saved weights work on raw ones",
        group="activations",
        spellings=("normalize_activations",),
    )

    # dictionary
    arch: str = option(
        "temporal", "architecture of the dictionary", group="dictionary", choices=ARCHITECTURES
    )
    dict_size: int = option(
        16_384,
        "latents (attention: atoms, each a predicted and a novel latent)",
        group="dictionary",
        spellings=("width", "dictionary_size"),
    )
    expansion_factor: float | None = option(
        None,
        "latents as a multiple of the model's width, in place of --dict_size",
        group="dictionary",
    )
    k: int = option(
        20,
        "latents a token, on average (jumprelu: the L0 aimed at; attention: atoms of the novel code)",
        group="dictionary",
        spellings=("kval_topk",),
    )
    group_fractions: tuple[float, ...] = option(
        (0.2, 0.8),
        "share of the latents in each group, high-level first; they sum to 1",
        group="dictionary",
    )
    group_weights: tuple[float, ...] | None = option(
        None, "weight of each group's reconstruction (form code); equal when left out", group="dictionary"
    )
    l1_penalty: float = option(0.1, "strength of the L1 term (standard, gated)", group="dictionary")
    resample_steps: int | None = option(
        None, "replace silent latents every so many steps (standard)", group="dictionary"
    )
    sparsity_warmup_steps: int = option(
        2000,
        "steps over which the penalty grows to its strength (standard, jumprelu, gated)",
        group="dictionary",
    )
    sparsity_penalty: float = option(1.0, "strength of the L0 term (jumprelu)", group="dictionary")
    bandwidth: float = option(
        0.001, "width of the kernel that gives thresholds their gradient (jumprelu)", group="dictionary"
    )

    # attention
    n_heads: int = option(4, "attention heads", group="attention")
    n_attn_layers: int = option(
        1, "attention layers, each predicting what those before it left", group="attention"
    )
    bottleneck_factor: int = option(
        8, "keys and queries have the width of the atoms divided by this", group="attention"
    )
    sae_diff_type: str = option(
        "topk",
        "how the novel code is selected: topk (k a token), batchtopk (k on average), relu, nullify (none)",
        group="attention",
        choices=NOVEL_KINDS,
    )
    tied_weights: bool = option(
        True, "read codes with the atoms themselves, not with a matrix of their own", group="attention"
    )
    gamma_reg: float = option(
        0.0, "strength of the mean norm of novel codes in the loss, with relu", group="attention"
    )

    # temporal term
    temporal: bool = option(
        True, "hold the first group steady over tokens; off trains on single tokens", group="temporal term"
    )
    contrastive: bool = option(
        True, "contrastive loss; off takes the L1 similarity loss", group="temporal term"
    )
    temp_alpha: float = option(1.0, "strength of the temporal term", group="temporal term")
    form: str = option(
        "paper",
        "losses as the paper gives them (groups summed, cosine contrast) or as the released code does "
        "(groups averaged, dot product)",
        group="temporal term",
        choices=("paper", "code"),
        spellings=("temporal_form",),
    )
    temperature: float | None = option(
        None,
        "temperature of the contrastive loss; 0.1 with form paper and 1 with form code when left out",
        group="temporal term",
    )
    pair_mode: str = option(
        "previous",
        "earlier token of a pair: the previous one, or a random one of the same context",
        group="temporal term",
        choices=("previous", "random"),
    )
    max_offset: int | None = option(
        None,
        "how many tokens back a random earlier token may be; the whole context when left out",
        group="temporal term",
    )

    # training
    steps: int = option(
        200_000, "optimiser steps", group="training", spellings=("max_steps", "num_steps", "n_steps")
    )
    batch_size: int = option(
        8192,
        "pairs (or tokens; attention: contexts) a step",
        group="training",
        spellings=("sae_batch_size", "out_batch_size"),
    )
    lr: float | None = option(
        None,
        "learning rate of Adam; the architecture's own when left out",
        group="training",
        spellings=("learning_rate",),
    )
    warmup_steps: int | None = option(
        None,
        "steps over which the learning rate grows from 0; 1000 (attention: 200) when left out",
        group="training",
        spellings=("warmup",),
    )
    decay_start: int | None = option(
        None, "step from which the learning rate falls to 0 at the end", group="training"
    )
    atom_lr: float | None = option(
        None,
        "learning rate of the atoms and the bias (attention); that of the rest when left out",
        group="training",
    )
    start: str = option(
        "random",
        "first weights (attention): random, or recall, which short runs need; lr and atom_lr are then shares "
        "of each parameter's first root mean square",
        choices=STARTS,
        group="training",
    )
    lr_floor: float = option(
        0.9,
        "share of the learning rate that its cosine ends with (attention)",
        group="training",
    )
    weight_decay: float = option(1e-4, "weight decay of AdamW (attention)", group="training")
    autocast: str = option(
        "float32",
        "dtype of the dense products in training (attention); weights are float32",
        group="training",
        choices=("float32", "bfloat16"),
    )
    auxk_alpha: float = option(
        1 / 32, "strength of the AuxK term, which revives dead latents", group="training"
    )
    dead_tokens: int = option(
        10_000_000,
        "tokens without firing after which a latent is dead",
        group="training",
        spellings=("dead_feature_threshold",),
    )
    threshold_beta: float = option(
        0.999, "decay of the moving average of the inference threshold", group="training"
    )
    threshold_start_step: int = option(1000, "step at which that moving average starts", group="training")
    calibration_tokens: int = option(
        65_536,
        "training tokens on which the inference threshold is set at the end; 0 keeps the moving average",
        group="training",
    )
    encoder_dtype: str = option(
        "float32", "dtype of the encoder's dense product", group="training", choices=("float32", "bfloat16")
    )
    seeds: tuple[int, ...] = option(
        (0,),
        "one dictionary a seed, all on the same batches (whose order is the first seed's)",
        group="training",
        spellings=("seed",),
    )

    # run
    run_name: str | None = option(
        None, "folder of the run; made from preset, architecture and seeds when left out", group="run"
    )
    checkpoints_path: str = option(
        "runs", "folder that holds the runs", group="run", spellings=("save_path", "save_dir")
    )
    resume: bool = option(False, "go on with the run, with the options it has", group="run")
    resume_every: int = option(
        1000,
        "steps between two saves of the full state, for --resume",
        group="run",
        spellings=("backup_steps",),
    )
    save_fractions: tuple[float, ...] = option(
        (), "keep a checkpoint at each of these shares of the steps, such as 0.1 0.5", group="run"
    )
    save_checkpoints: bool = option(
        False, "keep the original's seven checkpoints, log-spaced from 0.1 % to the end", group="run"
    )
    log_steps: int = option(
        100, "steps between two lines of metrics.jsonl", group="run", spellings=("log_every",)
    )
    use_wandb: bool = option(False, "log to Weights & Biases, too", group="run", spellings=("wandb",))
    wandb_project: str = option("temporal-saes", "its project", group="run")
    wandb_entity: str = option("", "its team or user", group="run")

    def __post_init__(self) -> None:
        if self.warmup_steps is None:
            object.__setattr__(self, "warmup_steps", WARMUP_STEPS[self.arch])
        assert self.warmup_steps is not None
        super().__post_init__()
        for name in (
            "dict_size",
            "k",
            "steps",
            "batch_size",
            "resume_every",
            "log_steps",
            "dead_tokens",
        ):
            self._require(getattr(self, name) > 0, name, "must be at least 1")
        for name in (
            "warmup_steps",
            "threshold_start_step",
            "calibration_tokens",
            "sparsity_warmup_steps",
        ):
            self._require(getattr(self, name) >= 0, name, "must not be negative")
        for name in (
            *("temp_alpha", "auxk_alpha", "l1_penalty", "sparsity_penalty", "gamma_reg", "weight_decay"),
        ):
            self._require(getattr(self, name) >= 0, name, "must not be negative")
        self._require(self.lr is None or self.lr > 0, "lr", "must be positive, such as 3e-4")
        self._require(self.temperature is None or self.temperature > 0, "temperature", "must be positive")
        self._require(0 <= self.threshold_beta < 1, "threshold_beta", "must be at least 0 and below 1")
        self._require(
            self.max_tokens is None or self.max_tokens >= self.batch_size,
            "max_tokens",
            f"must be at least one batch ({self.batch_size})",
        )
        self._require(
            self.expansion_factor is None or self.expansion_factor > 0, "expansion_factor", "must be positive"
        )
        self._require(
            self.decay_start is None or self.warmup_steps <= self.decay_start < self.steps,
            "decay_start",
            f"must lie between warmup_steps ({self.warmup_steps}) and steps ({self.steps})",
        )
        self._require(
            self.max_offset is None or (self.max_offset > 0 and self.pair_mode == "random"),
            "max_offset",
            "must be at least 1, and needs --pair_mode random",
        )
        self._require(
            len(self.seeds) > 0 and len(set(self.seeds)) == len(self.seeds),
            "seeds",
            "must differ from each other",
        )
        self._require(
            all(0 < share <= 1 for share in self.save_fractions), "save_fractions", "must lie in (0, 1]"
        )
        self._require(
            self.run_name is None or (bool(self.run_name) and self.run_name not in (".", "..")),
            "run_name",
            "must be the name of a folder",
        )
        self._check_groups()
        self._require(self.atom_lr is None or self.atom_lr > 0, "atom_lr", "must be positive, such as 3e-2")
        self._require(0 <= self.lr_floor <= 1, "lr_floor", "must lie in [0, 1]: a share of the learning rate")
        if self.lr is None:
            object.__setattr__(self, "lr", LEARNING_RATES[self.arch])
        if self.temperature is None:
            object.__setattr__(self, "temperature", TEMPERATURES[self.form])
        if self.expansion_factor is None:
            self.latents(d_model=0)

    def _check_groups(self) -> None:
        fractions, weights = self.group_fractions, self.group_weights
        total = sum(fractions)
        self._require(
            len(fractions) > 0 and min(fractions, default=0) > 0, "group_fractions", "must all be positive"
        )
        self._require(
            abs(total - 1) < 1e-6, "group_fractions", f"must sum to 1 (it sums to {total:g}), such as 0.2 0.8"
        )
        self._require(
            weights is None or len(weights) == len(fractions),
            "group_weights",
            f"must be one weight for each of the {len(fractions)} groups",
        )

    def latents(self, d_model: int) -> int:
        """The number of latents on a model of width `d_model`.

        Raises:
            UserError: k is larger than that.
        """
        n = self.dict_size if self.expansion_factor is None else int(self.expansion_factor * d_model)
        if self.k > n and self.arch in ONLY_FOR["k"]:
            raise UserError(f"--k is {self.k}, and must not be larger than the {n} latents: lower it.")
        if self.arch == "attention":
            k, kind = self.k, self.sae_diff_type
            check_sizes(n, self.n_heads, self.bottleneck_factor, self.n_attn_layers, kind, k)
        return n

    @property
    def save_steps(self) -> list[int]:
        """The numbers of done steps at which a checkpoint is kept."""
        shares = (*self.save_fractions, *(ORIGINAL_SAVE_FRACTIONS if self.save_checkpoints else ()))
        return sorted({max(1, round(share * self.steps)) for share in shares})


def is_for(name: str, arch: str) -> bool:
    """Whether the option `name` means anything for the architecture."""
    return arch in ONLY_FOR.get(name, ARCHITECTURES)


def differences(options: Mapping[str, Any], recorded: Mapping[str, Any]) -> list[str]:
    """`--k 30 (the run has 20)` for each option that may not change on resuming and differs."""
    names = {field.name for field in fields(TrainOptions)} - FREE_ON_RESUME
    return [
        f"--{name} {shown(value)} (the run has {shown(recorded.get(name))})"
        for name, value in options.items()
        if name in names and shown(value) != shown(recorded.get(name))
    ]
