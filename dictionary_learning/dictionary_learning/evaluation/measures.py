"""How good a dictionary is: reconstruction, sparsity, smoothness, and what it costs the language model.

Every figure is made from sums over the whole evaluation set in float64, divided once, and comes with
its formula and with how many tokens (contexts, predictions) are in it. What is undefined is None.

Shapes: N contexts of a batch, L positions, T tokens of one context, n usable tokens of a batch, D model
width, F latents.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from dictionary_learning.activations.block import Contexts
from dictionary_learning.activations.sequences import Sequences
from dictionary_learning.dictionaries.base import Dictionary, check_width
from dictionary_learning.errors import UserError
from dictionary_learning.language_model import LanguageModel
from dictionary_learning.language_model.cross_entropy import CrossEntropy
from dictionary_learning.language_model.places import Place
from dictionary_learning.smoothness import METRICS, SmoothnessMean, smoothness

MASKS = (
    "text tokens: padding, special tokens and tokens of outlying norm are left out, and keep their own "
    "activation in the language model; in a split, x̂ is reconstructed from the split's latents alone"
)

FORMULAS = {
    "nmse": "Σ‖x - x̂‖² / Σ‖x‖², over all tokens",
    "fve_global": "1 - Σ‖x - x̂‖² / Σ‖x - mean x‖², over all tokens: against the mean, which earns nothing",
    "fve_context_mean": "mean over contexts of 1 - Var(x - x̂) / Var(x), each over the context's tokens and "
    "summed over dimensions (as in the papers)",
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
    "loss_recovered": "(ablated - reconstructed) / (ablated - clean)",
    **{f"smoothness_{metric}": f"mean over contexts; see smoothness.py: {metric}" for metric in METRICS},
}

Measure = dict[str, Any]


@torch.no_grad()
def evaluate(
    dictionary: Dictionary,
    contexts: Iterable[Contexts],
    *,
    lm: LanguageModel | None = None,
    layer: int | Place | None = None,
    loss_tokens: int | None = None,
    memory_bytes: int = 2**29,
    watch_loss: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Evaluate a dictionary on contexts of raw activations.

    Args:
        dictionary: works on raw activations; its device and dtype are used.
        contexts: batches of whole contexts, such as `ActivationStore.contexts` gives them. A dictionary
            that reads sequences sees the usable tokens of each one behind another (`sequences.py`).
        lm: the language model the activations are from; without one there is no cross-entropy.
        layer: the decoder layer after which they were recorded, or the place in one.
        loss_tokens: cross-entropy ends with the batch that reaches so many usable tokens; None takes all.
        memory_bytes: for dense codes and for logits, each; at least one context is done at a time.
        watch_loss: gets the number of tokens whose cross-entropy is known, as it grows.

    Returns:
        `measures`: {"all" or split: {name: {"value", "formula", "tokens" (or "contexts", or
        "predictions"), "left_out"}}} with the names of `FORMULAS`; `tokens`, `contexts`, `masks`; and
        the flat keys of dictionary_learning's eval_results.json.

    Raises:
        UserError: the dictionary has another width than the activations, there is no usable token, or
            the dictionary gives numbers that are not finite.
    """
    assert (lm is None) == (layer is None), "cross-entropy is measured with a language model and a layer"
    if lm is not None:
        check_width(dictionary, lm)
    dictionary.eval()
    splits = {"all": slice(0, dictionary.dict_size), **dictionary.splits()}
    reconstruction = {name: _Reconstruction() for name in splits}
    activity = _Activity(dictionary.dict_size)
    parts = _Parts(list(dictionary.splits()))
    smooth = SmoothnessMean()
    loss = None
    if lm is not None and layer is not None:
        loss = CrossEntropy(lm, layer, memory_bytes, watch_loss)
    longest = 0
    for batch in _in_memory(contexts, dictionary, memory_bytes):
        longest = max(longest, batch.mask_NL.shape[1])
        x_nD, x_hat_nD, f_nF = _codes(dictionary, batch)
        counts = batch.mask_NL.sum(1).tolist()
        reconstruction["all"].add(x_nD, x_hat_nD, counts)
        of_split = {name: _decode_alone(dictionary, f_nF, part) for name, part in dictionary.splits().items()}
        for name, x_hat_of_split_nD in of_split.items():
            reconstruction[name].add(x_nD, x_hat_of_split_nD, counts)
        if of_split:
            nothing_1D = dictionary.decode(f_nF.new_zeros(1, f_nF.shape[1]))
            parts.add([x_hat_of_split_nD - nothing_1D for x_hat_of_split_nD in of_split.values()])
        activity.add(f_nF, counts)
        for f_TF, x_TD in zip(f_nF.split(counts), x_nD.split(counts), strict=True):
            smooth.add(smoothness(f_TF, x_TD, dictionary.splits()))
        if loss is not None and (loss_tokens is None or loss.tokens < loss_tokens):
            x_hat_NLD = x_hat_nD.new_zeros(*batch.mask_NL.shape, x_hat_nD.shape[1])
            x_hat_NLD[batch.mask_NL.to(x_hat_NLD.device)] = x_hat_nD
            loss.add(batch.tokens_NL, batch.mask_NL, x_hat_NLD)
    if not activity.tokens:
        raise UserError("there is no usable token to evaluate on: give more text.")

    measures: dict[str, dict[str, Measure]] = {}
    for name, part in splits.items():
        measures[name] = reconstruction[name].measures() | activity.measures(part) | parts.measures(name)
        for metric, mean in smooth.mean()[name].items():
            measures[name][f"smoothness_{metric}"] = _measure(
                mean.value, contexts=mean.texts, left_out=mean.left_out
            )
    if loss is not None:
        for key, value in loss.means().items():
            measures["all"][key] = _measure(value, predictions=loss.predictions)
    for found in measures.values():
        for key, measure in found.items():
            measure["formula"] = FORMULAS[key]
    return {
        "tokens": activity.tokens,
        "contexts": activity.contexts,
        "masks": MASKS,
        "measures": measures,
    } | flat_keys(measures, activity.contexts, longest)


def _in_memory(contexts: Iterable[Contexts], dictionary: Dictionary, memory_bytes: int) -> Iterator[Contexts]:
    """The same contexts in batches whose dense codes fit; rows without a usable token are dropped."""
    # encoding holds about four dense codes at a time
    positions = memory_bytes // (4 * 4 * dictionary.dict_size)
    for batch in contexts:
        used_N = batch.mask_NL.any(1).nonzero().flatten()
        for some in used_N.split(max(1, positions // batch.mask_NL.shape[1])):
            if not len(some):
                continue
            mask_NL = batch.mask_NL[some]
            length = int(mask_NL.any(0).nonzero().max()) + 1
            yield Contexts(
                batch.x_NLD[some, :length],
                mask_NL[:, :length],
                batch.tokens_NL[some, :length],
                batch.document_N[some],
            )


def _codes(dictionary: Dictionary, batch: Contexts) -> tuple[Tensor, Tensor, Tensor]:
    """Activations, reconstructions and codes of the usable tokens, context after context."""
    weight = next(dictionary.parameters())
    x_NLD = batch.x_NLD.to(weight.device, weight.dtype)
    mask_NL = batch.mask_NL.to(weight.device)
    x_nD = x_NLD[mask_NL]
    if x_nD.shape[1] != dictionary.activation_dim:
        raise UserError(
            f"the dictionary takes activations of width {dictionary.activation_dim}, and these have width "
            f"{x_nD.shape[1]}: choose the model and layer that it was trained on."
        )
    if dictionary.reads_sequences:
        texts = Sequences.of(x_NLD, mask_NL)
        x_hat_nD, f_nF = map(texts.tokens, dictionary(texts.padded(), output_features=True))
    else:
        x_hat_nD, f_nF = dictionary(x_nD, output_features=True)
    if not bool(torch.isfinite(x_hat_nD).all()):
        raise UserError(
            "the dictionary gives reconstructions that are not finite: its weights are damaged, or it was "
            "trained on another model or layer."
        )
    return x_nD, x_hat_nD, f_nF


def _decode_alone(dictionary: Dictionary, f_nF: Tensor, part: slice) -> Tensor:
    """The reconstruction from the latents of one split."""
    only_nF = torch.zeros_like(f_nF)
    only_nF[:, part] = f_nF[:, part]
    return dictionary.decode(only_nF)


class _Reconstruction:
    """Sums over x and one reconstruction of it."""

    def __init__(self) -> None:
        self.tokens = 0
        self.sum_D: Tensor | float = 0.0
        self.sum_hat_D: Tensor | float = 0.0
        self.square = self.error_square = 0.0
        self.l2 = self.x_hat_square = self.dot = 0.0
        self.cosine, self.cosine_tokens = 0.0, 0
        self.l2_ratio, self.l2_ratio_tokens = 0.0, 0
        self.context_fve, self.contexts, self.contexts_left_out = 0.0, 0, 0

    def add(self, x_nD: Tensor, x_hat_nD: Tensor, counts: list[int]) -> None:
        """
        Args:
            counts: tokens of each context, in order.
        """
        x_nD, x_hat_nD = _double(x_nD), _double(x_hat_nD)
        error_nD = x_nD - x_hat_nD
        norm_n, norm_hat_n = x_nD.norm(dim=1), x_hat_nD.norm(dim=1)
        dot_n = (x_nD * x_hat_nD).sum(1)
        self.tokens += len(x_nD)
        self.sum_D = self.sum_D + x_nD.sum(0)
        self.sum_hat_D = self.sum_hat_D + x_hat_nD.sum(0)
        self.square += norm_n.square().sum().item()
        self.error_square += error_nD.square().sum().item()
        self.l2 += error_nD.norm(dim=1).sum().item()
        self.x_hat_square += norm_hat_n.square().sum().item()
        self.dot += dot_n.sum().item()
        long_n = norm_n > 0
        self.l2_ratio += (norm_hat_n[long_n] / norm_n[long_n]).sum().item()
        self.l2_ratio_tokens += int(long_n.sum())
        both_n = long_n & (norm_hat_n > 0)
        self.cosine += (dot_n[both_n] / (norm_n[both_n] * norm_hat_n[both_n])).sum().item()
        self.cosine_tokens += int(both_n.sum())
        for x_TD, error_TD in zip(x_nD.split(counts), error_nD.split(counts), strict=True):
            variance = (x_TD - x_TD.mean(0)).square().sum().item()
            if variance > 0:
                left = (error_TD - error_TD.mean(0)).square().sum().item()
                self.context_fve += 1 - left / variance
                self.contexts += 1
            else:
                self.contexts_left_out += 1

    def measures(self) -> dict[str, Measure]:
        n = self.tokens
        mean_D = torch.as_tensor(self.sum_D) / n
        variation = self.square - n * mean_D.square().sum().item()
        left_out = n - self.l2_ratio_tokens
        return {
            "nmse": _measure(_share(self.error_square, self.square), tokens=n),
            "fve_global": _measure(_share(variation - self.error_square, variation), tokens=n),
            "fve_context_mean": _measure(
                _share(self.context_fve, self.contexts),
                contexts=self.contexts,
                left_out=self.contexts_left_out,
            ),
            "cosine": _measure(
                _share(self.cosine, self.cosine_tokens),
                tokens=self.cosine_tokens,
                left_out=n - self.cosine_tokens,
            ),
            "cosine_centred": _measure(self._cosine_centred(mean_D, variation), tokens=n),
            "l2": _measure(self.l2 / n, tokens=n),
            "l2_ratio": _measure(
                _share(self.l2_ratio, self.l2_ratio_tokens), tokens=self.l2_ratio_tokens, left_out=left_out
            ),
            "relative_bias": _measure(_share(self.x_hat_square, self.dot), tokens=n),
        }

    def _cosine_centred(self, mean_D: Tensor, variation: float) -> float | None:
        """The cosine of all x and x̂ less the mean of x, from sums over x and x̂.

        Args:
            variation: Σ‖x - mean x‖².
        """
        n, mean_square = self.tokens, mean_D.square().sum().item()
        mean_dot_hat = (mean_D * torch.as_tensor(self.sum_hat_D)).sum().item()
        dot = self.dot - mean_dot_hat  # the mean of x takes nothing from Σ x less itself
        hat_variation = self.x_hat_square - 2 * mean_dot_hat + n * mean_square
        # what is left of sums that cancel is rounding, and has no direction
        if variation <= 1e-12 * self.square or hat_variation <= 1e-12 * (self.x_hat_square + n * mean_square):
            return None
        return dot / math.sqrt(variation * hat_variation)


class _Parts:
    """Sums over what each split adds to the reconstruction."""

    def __init__(self, splits: list[str]) -> None:
        self.splits = splits
        self.norm = dict.fromkeys(splits, 0.0)
        self.energy = dict.fromkeys(splits, 0.0)
        self.tokens = 0
        self.cosine, self.cosine_tokens = 0.0, 0

    def add(self, parts: list[Tensor]) -> None:
        """
        Args:
            parts: [n, D] of each split.
        """
        parts = [_double(part_nD) for part_nD in parts]
        norms = [part_nD.norm(dim=1) for part_nD in parts]
        self.tokens += len(parts[0])
        for name, norm_n in zip(self.splits, norms, strict=True):
            self.norm[name] += norm_n.sum().item()
            self.energy[name] += norm_n.square().sum().item()
        if len(parts) == 2:
            long_n = norms[0] * norms[1] > 0
            dot_n = (parts[0] * parts[1]).sum(1)[long_n]
            self.cosine += (dot_n / (norms[0] * norms[1])[long_n]).sum().item()
            self.cosine_tokens += int(long_n.sum())

    def measures(self, name: str) -> dict[str, Measure]:
        if name in self.splits:
            return {
                "norm_share": _measure(_share(self.norm[name], sum(self.norm.values())), tokens=self.tokens),
                "energy_share": _measure(
                    _share(self.energy[name], sum(self.energy.values())), tokens=self.tokens
                ),
            }
        if len(self.splits) != 2:
            return {}
        return {
            "cosine_of_parts": _measure(
                _share(self.cosine, self.cosine_tokens),
                tokens=self.cosine_tokens,
                left_out=self.tokens - self.cosine_tokens,
            )
        }


class _Activity:
    """Which latents fire, and how many."""

    def __init__(self, dict_size: int) -> None:
        self.tokens = self.contexts = 0
        self.tokens_fired_F = torch.zeros(dict_size, dtype=torch.int64)
        self.contexts_fired_F = torch.zeros(dict_size, dtype=torch.int64)
        self.sum_F = torch.zeros(dict_size, dtype=torch.float64)

    def add(self, f_nF: Tensor, counts: list[int]) -> None:
        fired_nF = f_nF != 0
        self.tokens += len(f_nF)
        self.contexts += len(counts)
        self.tokens_fired_F += fired_nF.sum(0).cpu()
        self.sum_F += f_nF.abs().sum(0).cpu().double()
        for fired_TF in fired_nF.split(counts):
            self.contexts_fired_F += fired_TF.any(0).cpu()

    def measures(self, part: slice) -> dict[str, Measure]:
        """Of the latents in `part`; every sum over tokens is a sum over latents of sums over tokens."""
        n, contexts = self.tokens, self.contexts
        fired = self.tokens_fired_F[part]
        return {
            "l0": _measure(int(fired.sum()) / n, tokens=n),
            "l0_context": _measure(int(self.contexts_fired_F[part].sum()) / contexts, contexts=contexts),
            "l1": _measure(self.sum_F[part].sum().item() / n, tokens=n),
            "alive": _measure(_share(int((fired > 0).sum()), len(fired)), tokens=n),
        }


def _double(tensor: Tensor) -> Tensor:
    """float64, on the CPU where the device has none."""
    return (tensor.cpu() if tensor.device.type == "mps" else tensor).double()


def _share(above: float, below: float) -> float | None:
    return above / below if below else None


def _measure(value: float | None, *, left_out: int = 0, **number: int) -> Measure:
    return {"value": value, **number, "left_out": left_out}


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
