"""What the figures of an evaluation mean, and the form in which each is written down."""

from typing import Any

from dictionary_learning.smoothness import METRICS

MASKS = (
    "text tokens: padding, special tokens and tokens of outlying norm are left out, and keep their own "
    "activation in the language model; in a split, x̂ is reconstructed from the split's latents alone"
)

FORMULAS = {
    "nmse": "Σ‖x - x̂‖² / Σ‖x‖², over all tokens",
    "fve_global": "1 - Σ‖x - x̂‖² / Σ‖x - mean x‖², over all tokens: against the mean, which earns nothing",
    "fve_context_mean": "mean over contexts of 1 - Var(x - x̂) / Var(x), each over the context's tokens and "
    "summed over dimensions (as in the papers): an error that a context's tokens share does not count",
    "cosine": "mean over tokens of cos(x, x̂); a direction that all tokens share raises it",
    "cosine_centred": "Σ (x - m)·(x̂ - m) / √(Σ‖x - m‖² Σ‖x̂ - m‖²), over all tokens together, with m = mean x",
    "l2": "mean over tokens of ‖x - x̂‖₂",
    "l2_ratio": "mean over tokens of ‖x̂‖₂ / ‖x‖₂",
    "relative_bias": "Σ‖x̂‖² / Σ x·x̂, over all tokens; below 1 the reconstruction is too short",
    "l0": "mean over tokens of the number of latents that are not zero",
    "l0_context": "mean over contexts of the number of latents that are not zero at any token",
    "l1": "mean over tokens of Σ|f|",
    "alive": "share of the latents that are not zero at any token",
    "norm_share": "Σ‖p‖₂ / Σ over splits of Σ‖p‖₂, where p is what the split's latents add to x̂",
    "energy_share": "the same with ‖p‖²",
    "cosine_of_parts": "mean over tokens of cos(p, p'), for two splits",
    "loss_clean": "mean over predictions of a next token of its cross-entropy, in nats",
    "loss_reconstructed": "the same with x̂ in place of x",
    "loss_ablated": "the same with zero in place of x",
    "loss_recovered": "(ablated - reconstructed) / (ablated - clean), where ablated is above clean",
    **{f"smoothness_{metric}": f"mean over contexts; see smoothness.py: {metric}" for metric in METRICS},
}

Measure = dict[str, Any]


def measure(value: float | None, *, left_out: int = 0, **number: int) -> Measure:
    """A value, None where it is undefined, with the number of cases in it and of those left out."""
    return {"value": value, **number, "left_out": left_out}


def share(above: float, below: float) -> float | None:
    """The quotient; None of nothing."""
    return above / below if below else None
