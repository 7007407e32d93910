"""The figures under the names that the dictionary_learning library gives them in its eval_results.json."""

from collections.abc import Mapping
from typing import Any

from dictionary_learning.evaluation.formulas import Measure

# dictionary_learning's key: ours; <split> is "high" where its key ends in _h, "low" for _l
_FLAT = {
    "l2_loss": "l2",
    "l1_loss": "l1",
    "l0": "l0",
    "sequence_l0": "l0_context",
    "frac_variance_explained": "fve_context_mean",
    "cossim": "cosine",
    "l2_ratio": "l2_ratio",
    "relative_reconstruction_bias": "relative_bias",
    "loss_original": "loss_clean",
    "loss_reconstructed": "loss_reconstructed",
    "loss_zero": "loss_ablated",
    "frac_recovered": "loss_recovered",
    "frac_alive": "alive",
}
_ENDINGS = {"all": "tot", "high": "h", "low": "l"}
_FLAT_SMOOTHNESS = {
    "smoothness_tv": "total_variation",
    "lipschitz_cont": "lipschitz",
    "fft": "fourier",
    "wavelet": "wavelet",
    "multiscale": "multiscale",
}


def flat_keys(
    measures: Mapping[str, Mapping[str, Measure]], contexts: int, context_length: int
) -> dict[str, Any]:
    """The keys that dictionary_learning writes to eval_results.json, as far as they were measured."""
    flat: dict[str, Any] = {
        key: measures["all"][name]["value"] for key, name in _FLAT.items() if name in measures["all"]
    }
    for split in measures:
        ending = _ENDINGS.get(split, split)
        for key, metric in _FLAT_SMOOTHNESS.items():
            flat[f"{key}_{ending}"] = measures[split][f"smoothness_{metric}"]["value"]
        if split != "all":
            flat[f"frac_variance_explained_{split}"] = measures[split]["fve_context_mean"]["value"]
    flat["hyperparameters"] = {"n_inputs": contexts, "context_length": context_length}
    return flat
