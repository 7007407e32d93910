"""The files that Neuronpedia takes, from the pass that a feature browser is made of.

    write_neuronpedia(folder, facts, shown, place, words, tokenizer, settings, bundle.add)

Two forms of the same latents, and a third one of the first (`browser.bundle`):

    <source>/batch-<n>.json, skipped_indexes.json, run_settings.json, as SAEDashboard 0.8 writes them
    upload/features-<n>.json    bodies of POST /api/feature/upload-batch

A dead latent has no activation to show: it is in `skipped_indexes.json` and in no form. Correlations
with single neurons and features are not computed, so those lists are empty; `neuron_alignment` is of the
decoder direction. `bin_contains` is the share of all tokens whose activation is in the bin: exact at the
edges of the histogram's bins, in proportion between them.

Nothing is sent from here: `temporal_saes.upload` does that.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dictionary_learning.command.files import save_text
from dictionary_learning.language_model.token_text import token_texts
from temporal_saes.latents.examples import Example
from temporal_saes.latents.facts import LatentFacts, Ranked

PER_BATCH = 128  # latents of one file; the most that the server takes at a time
MAX_LOGITS, MAX_EXPLANATION, MAX_TOKENS = 20, 512, 1024
N_ALIGNED = 3
DIGITS = 3


class Place(NamedTuple):
    """Where on Neuronpedia the latents belong."""

    model: str
    """Its id there, such as gemma-2-2b."""
    layer: int
    set_name: str
    dataset: str
    hook: str | None
    """What TransformerLens calls the place that the dictionary reads."""

    @property
    def source(self) -> str:
        """Id of the source: `<layer>-<set>`."""
        return f"{self.layer}-{self.set_name}"


class Words(NamedTuple):
    """What latents are said to mean, and by whom."""

    explanations: Mapping[int, str]
    method: str
    model: str
    creator: str
    """Who is named as the maker of the set."""


def write_neuronpedia(
    folder: Path,
    facts: LatentFacts,
    shown: Sequence[int],
    place: Place,
    words: Words,
    tokenizer: Any,
    settings: Mapping[str, Any],
    watch: Callable[[int, Sequence[Mapping[str, Any]]], None],
) -> None:
    """Write both forms into a new folder.

    Args:
        shown: latents of the chunk.
        settings: kept as `run_settings.json`.
        watch: is given the number and the features of each batch.
    """
    texts = _Texts(tokenizer)
    alive = [latent for latent in shown if facts.examples.count_F[latent]]
    batches = folder / place.source
    for number, some in enumerate(_batches(alive)):
        content = batch(facts, some, place, texts)
        _save(batches / f"batch-{number}.json", content)
        watch(number, content["features"])
        _save(folder / "upload" / f"features-{number}.json", upload(facts, some, place, words, texts))
    skipped = sorted(facts.first + latent for latent in set(range(facts.n_latents)) - set(alive))
    _save(
        batches / "skipped_indexes.json",
        {
            "model_id": place.model,
            "layer": str(place.layer),
            "sae_set": place.set_name,
            "log_sparsity": None,
            "skipped_indexes": skipped,
        },
    )
    _save(batches / "run_settings.json", dict(settings))


class _Texts:
    """Texts of tokens, each asked for once."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._text: dict[int, str] = {}

    def __call__(self, ids: Iterable[int]) -> list[str]:
        numbers = [int(i) for i in ids]
        new = [i for i in dict.fromkeys(numbers) if i not in self._text]
        # PostgreSQL, which Neuronpedia keeps them in, has no text with a NUL
        readable = [text.replace("\0", "␀") for text in token_texts(self._tokenizer, new)]
        self._text.update(zip(new, readable, strict=True))
        return [self._text[i] for i in numbers]


def _batches(latents: Sequence[int]) -> Iterator[Sequence[int]]:
    for first in range(0, len(latents), PER_BATCH):
        yield latents[first : first + PER_BATCH]


def _save(path: Path, content: Any) -> None:
    save_text(path, json.dumps(content, ensure_ascii=False, allow_nan=False) + "\n")


def _rounded(values: Any) -> list[float]:
    return [round(float(value), DIGITS) for value in values]


# --- as SAEDashboard writes them ---


def batch(facts: LatentFacts, latents: Sequence[int], place: Place, texts: _Texts) -> dict[str, Any]:
    """One `batch-<n>.json`."""
    return {
        "model_id": place.model,
        "layer": place.layer,
        "sae_set": place.set_name,
        "sae_id_suffix": None,
        "features": [_feature(facts, latent, place, texts) for latent in latents],
    }


def _feature(facts: LatentFacts, latent: int, place: Place, texts: _Texts) -> dict[str, Any]:
    examples = facts.examples
    direction_D = facts.directions_FD[latent]
    aligned = np.argsort(-np.abs(direction_D), kind="stable")[:N_ALIGNED]
    width = (facts.logit_range_F2[latent, 1] - facts.logit_range_F2[latent, 0]) / facts.logits_FH.shape[1]
    bars = np.arange(facts.logits_FH.shape[1]) + 0.5
    counts_B, edges_B = examples.histogram_FB[latent], examples.edges_FB[latent]
    n_bins = int(np.flatnonzero(counts_B)[-1]) + 1
    lengths = np.diff(examples.start_C)
    return {
        "feature_index": facts.first + latent,
        "neuron_alignment_indices": aligned.tolist(),
        "neuron_alignment_values": _rounded(direction_D[aligned]),
        "neuron_alignment_l1": _rounded(np.abs(direction_D[aligned]) / max(np.abs(direction_D).sum(), 1e-12)),
        "correlated_neurons_indices": [],
        "correlated_neurons_l1": [],
        "correlated_neurons_pearson": [],
        "correlated_features_indices": [],
        "correlated_features_l1": [],
        "correlated_features_pearson": [],
        "neg_str": texts(facts.suppressed.indices_FK[latent]),
        "neg_values": _rounded(facts.suppressed.values_FK[latent]),
        "pos_str": texts(facts.promoted.indices_FK[latent]),
        "pos_values": _rounded(facts.promoted.values_FK[latent]),
        "frac_nonzero": float(examples.density_F[latent]),
        "freq_hist_data_bar_values": _rounded((edges_B[:n_bins] + edges_B[1 : n_bins + 1]) / 2),
        "freq_hist_data_bar_heights": counts_B[:n_bins].tolist(),
        "logits_hist_data_bar_heights": facts.logits_FH[latent].tolist(),
        "logits_hist_data_bar_values": _rounded(facts.logit_range_F2[latent, 0] + bars * width),
        "n_prompts_total": examples.n_contexts,
        "n_tokens_in_prompt": int(lengths.max()),
        "dataset": place.dataset,
        "decoder_weights_dist": [],  # of attention heads, which a residual stream has none of
        "activations": list(_activations(facts, latent, texts)),
        "vector": _rounded_vector(direction_D),
    }


def _rounded_vector(direction_D: np.ndarray) -> list[float]:
    return [float(f"{value:.6g}") for value in direction_D]


def _activations(facts: LatentFacts, latent: int, texts: _Texts) -> Iterator[dict[str, Any]]:
    """The strongest, with the bin by which SAEDashboard marks them, then the bins of the range from above."""
    examples = facts.examples
    maximum = float(examples.maximum_F[latent])
    for example in examples.top(latent, examples.strongest.k):
        yield _activation(example, -1.0, maximum, -1.0, texts)
    shares = bin_shares(facts, latent)
    n = examples.n_quantiles
    for part, some in reversed(list(enumerate(examples.quantiles(latent)))):
        for example in some:
            yield _activation(example, part * maximum / n, (part + 1) * maximum / n, shares[part], texts)


def _activation(
    example: Example, bin_min: float, bin_max: float, bin_contains: float, texts: _Texts
) -> dict[str, Any]:
    tokens, values, peak = _window(example)
    return {
        "bin_min": bin_min,
        "bin_max": bin_max,
        "bin_contains": bin_contains,
        "tokens": texts(tokens),
        "values": _rounded(values),
        "qualifying_token_index": peak,
    }


def _window(example: Example) -> tuple[list[int], list[float], int]:
    """Tokens, activations and place of the peak, cut to as many tokens as the server takes."""
    first = max(0, min(example.peak - MAX_TOKENS // 2, len(example.tokens) - MAX_TOKENS))
    inside = slice(first, first + MAX_TOKENS)
    return example.tokens[inside], example.activations[inside], example.peak - first


def bin_shares(facts: LatentFacts, latent: int) -> list[float]:
    """The share of all tokens whose activation lies in each equal part of the range, the weakest first."""
    examples = facts.examples
    below_B = np.concatenate([[0], np.cumsum(examples.histogram_FB[latent])])
    edges = np.linspace(0, float(examples.maximum_F[latent]), examples.n_quantiles + 1)
    below = np.interp(edges, examples.edges_FB[latent], below_B)
    below[-1] = below_B[-1]
    return (np.diff(below) / max(examples.n_tokens, 1)).tolist()


# --- as the server takes them ---


def upload(
    facts: LatentFacts, latents: Sequence[int], place: Place, words: Words, texts: _Texts
) -> dict[str, Any]:
    """One body of `POST /api/feature/upload-batch`."""
    assert len(latents) <= PER_BATCH
    return {
        "modelId": place.model,
        "source": place.source,
        "features": [_uploaded(facts, latent, words, texts) for latent in latents],
    }


def _uploaded(facts: LatentFacts, latent: int, words: Words, texts: _Texts) -> dict[str, Any]:
    examples = facts.examples
    said = words.explanations.get(facts.first + latent, "")
    maximum = float(examples.maximum_F[latent])
    # the strongest have the whole range for their bin
    activations = [
        _uploaded_activation(example, 0.0, maximum, float(examples.density_F[latent]), texts)
        for example in examples.top(latent, examples.strongest.k)
    ]
    shares = bin_shares(facts, latent)
    n = examples.n_quantiles
    for part, some in reversed(list(enumerate(examples.quantiles(latent)))):
        activations += [
            _uploaded_activation(example, part * maximum / n, (part + 1) * maximum / n, shares[part], texts)
            for example in some
        ]
    explanation = {"text": said[:MAX_EXPLANATION], "methodName": words.method, "modelName": words.model}
    return {
        "index": facts.first + latent,
        "density": float(examples.density_F[latent]),
        "topLogits": _logits(facts.promoted, latent, texts),
        "bottomLogits": _logits(facts.suppressed, latent, texts),
        "explanations": [explanation] if said else [],
        "activations": activations,
    }


def _logits(ranked: Ranked, latent: int, texts: _Texts) -> list[dict[str, Any]]:
    tokens, values = texts(ranked.indices_FK[latent]), _rounded(ranked.values_FK[latent])
    pairs = zip(tokens[:MAX_LOGITS], values[:MAX_LOGITS], strict=True)
    return [{"token": token, "value": value} for token, value in pairs]


def _uploaded_activation(
    example: Example, low: float, high: float, share: float, texts: _Texts
) -> dict[str, Any]:
    tokens, values, _ = _window(example)
    return {
        "tokens": texts(tokens),
        "values": _rounded(values),
        "quantileMin": low,
        "quantileMax": high,
        "quantileFraction": share,
    }
