"""What a run can ask of its dictionary and of its trainer; `architectures` says which of them has what.

Defaults are the T-SAE paper's setting for Pythia-160m (arXiv 2511.05541); where the paper is silent, the
released script's. `configs/*.yaml` says where each value comes from.
"""

from dataclasses import dataclass

from dictionary_learning.activations.options import PAIR_MODES
from dictionary_learning.command.devices import QUICKEST
from dictionary_learning.command.options import MOST_SEED, Checked, is_seed, option
from dictionary_learning.dictionaries.temporal_sizes import NOVEL_KINDS
from dictionary_learning.trainers.architectures import ARCHITECTURES

NEGATIVES = ("all", "other_texts")
STARTS = ("random", "recall")
BIAS_STARTS = ("zero", "mean")
BIAS_OF_START = {"random": "zero", "recall": "mean"}
# The paper names none, and at 1 cosines hardly move the loss (measured on the demo); the code has none.
TEMPERATURES = {"paper": 0.1, "code": 1.0}


@dataclass(frozen=True)
class DictionaryOptions(Checked):
    """The dictionary: its architecture, its size, and how sparse it is."""

    arch: str = option(
        "temporal", "architecture of the dictionary", group="dictionary", choices=tuple(ARCHITECTURES)
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

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("dict_size", "k"):
            self._require(getattr(self, name) > 0, name, "must be at least 1")
        self._require(self.sparsity_warmup_steps >= 0, "sparsity_warmup_steps", "must not be negative")
        for name in ("l1_penalty", "sparsity_penalty"):
            self._require(getattr(self, name) >= 0, name, "must not be negative")
        self._require(
            self.expansion_factor is None or self.expansion_factor > 0, "expansion_factor", "must be positive"
        )
        self._check_groups()

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


@dataclass(frozen=True)
class AttentionOptions(Checked):
    """The attention of a TemporalSAE, and its novel code."""

    n_heads: int = option(4, "attention heads", group="attention")
    n_attn_layers: int = option(
        1, "attention layers, each predicting what those before it left", group="attention"
    )
    bottleneck_factor: int = option(
        8, "keys and queries have the width of the atoms divided by this", group="attention"
    )
    value_rank: int | None = option(
        None,
        "dimensions of the values, of all heads together; as many as there are atoms, as in the paper, when "
        "left out",
        group="attention",
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

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(self.gamma_reg >= 0, "gamma_reg", "must not be negative")


@dataclass(frozen=True)
class TemporalTermOptions(Checked):
    """The temporal term of a T-SAE's loss; a `temperature` that is left out becomes that of the `form`."""

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
        "earlier token of a pair: the previous one, a random one of the same context, or a random one of the "
        "same sentence",
        group="temporal term",
        choices=PAIR_MODES,
    )
    max_offset: int | None = option(
        None,
        "how many tokens back a random earlier token may be; the whole context, or sentence, when left out",
        group="temporal term",
    )
    run_length: int = option(
        1,
        "r above 1 draws the pairs in runs of r + 1 adjacent tokens, each of which is encoded once; a run's "
        "pairs are no negatives of each other",
        group="temporal term",
    )
    negatives: str = option(
        "all",
        "negatives of a pair in the contrastive loss: all other pairs of the batch, or those of other texts "
        "(documents) alone; a pair without any then has no temporal loss",
        group="temporal term",
        choices=NEGATIVES,
    )
    pairs_per_text: int | None = option(
        None,
        "at most so many pairs of one text (document) in a batch; as they come when left out",
        group="temporal term",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(self.run_length >= 1, "run_length", "must be at least 1")
        self._require(
            self.run_length == 1 or (self.temporal and self.pair_mode == "previous"),
            "run_length",
            "is for pairs with the previous token: leave it out, or --no_temporal and --pair_mode",
        )
        self._require(
            self.negatives == "all" or (self.temporal and self.contrastive),
            "negatives",
            "is for the contrastive loss: leave it out, or --no_temporal and --no_contrastive",
        )
        self._require(
            self.pairs_per_text is None or self.temporal,
            "pairs_per_text",
            "needs pairs: leave it out, or --no_temporal",
        )
        self._require(
            self.pairs_per_text is None or self.pairs_per_text >= self.run_length,
            "pairs_per_text",
            f"must be at least {self.run_length}{', a run of pairs' if self.run_length > 1 else ''}",
        )
        self._require(self.temp_alpha >= 0, "temp_alpha", "must not be negative")
        self._require(self.temperature is None or self.temperature > 0, "temperature", "must be positive")
        self._require(
            self.max_offset is None or (self.max_offset > 0 and self.pair_mode != "previous"),
            "max_offset",
            "must be at least 1, and needs --pair_mode random or sentence",
        )
        if self.temperature is None:
            object.__setattr__(self, "temperature", TEMPERATURES[self.form])


@dataclass(frozen=True)
class TrainerOptions(Checked):
    """The steps of the optimiser, dead latents, and the inference threshold."""

    steps: int = option(
        200_000, "optimiser steps", group="training", spellings=("max_steps", "num_steps", "n_steps")
    )
    batch_size: int = option(
        8192,
        "pairs of tokens a step; without the temporal term single tokens, for attention contexts",
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
    bias_start: str | None = option(
        None,
        "first bias (attention): zero, as in the paper, or the mean of the first batch, which the predicted "
        "part then need not say; zero with --start random and the mean with recall when left out",
        choices=BIAS_STARTS,
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
        "dtype of the dense products in training (attention); weights are float32; auto is bfloat16 where "
        "the device multiplies it quicker",
        group="training",
        choices=(QUICKEST, "float32", "bfloat16"),
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
        "training tokens on which the inference threshold is set at the end, or all that there are; 0 keeps "
        "the moving average",
        group="training",
    )
    encoder_dtype: str = option(
        "float32",
        "dtype of the encoder's dense product, which finds what to keep; values are float32; on a CPU "
        "bfloat16 is a leave, taken where it is the quickest",
        group="training",
        choices=("float32", "bfloat16"),
    )
    tf32: bool = option(
        True,
        "on a CUDA card, look for what may be selected with TF32 products, which are quicker; what is "
        "selected of it has float32 values, and is ranked by them",
        group="training",
    )
    batch_topk: str = option(
        "global",
        "BatchTopK over the batch of all processes, or (local) over each one's own part",
        group="training",
        choices=("global", "local"),
    )
    seeds: tuple[int, ...] = option(
        (0,),
        "one dictionary a seed, all on the same batches (whose order is the first seed's)",
        group="training",
        spellings=("seed",),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("steps", "batch_size", "dead_tokens"):
            self._require(getattr(self, name) > 0, name, "must be at least 1")
        for name in ("threshold_start_step", "calibration_tokens", "auxk_alpha", "weight_decay"):
            self._require(getattr(self, name) >= 0, name, "must not be negative")
        self._require((self.warmup_steps or 0) >= 0, "warmup_steps", "must not be negative")
        self._require(self.lr is None or self.lr > 0, "lr", "must be positive, such as 3e-4")
        self._require(0 <= self.threshold_beta < 1, "threshold_beta", "must be at least 0 and below 1")
        self._require(
            self.decay_start is None or (self.warmup_steps or 0) <= self.decay_start < self.steps,
            "decay_start",
            f"must lie between warmup_steps ({self.warmup_steps}) and steps ({self.steps})",
        )
        self._require(
            len(self.seeds) > 0 and len(set(self.seeds)) == len(self.seeds),
            "seeds",
            "must differ from each other",
        )
        self._require(all(map(is_seed, self.seeds)), "seeds", f"must lie from 0 to {MOST_SEED}")
        self._require(self.atom_lr is None or self.atom_lr > 0, "atom_lr", "must be positive, such as 3e-2")
        self._require(0 <= self.lr_floor <= 1, "lr_floor", "must lie in [0, 1]: a share of the learning rate")
