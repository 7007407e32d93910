"""What each latent of a dictionary does on a corpus, in one pass, and which words it pushes for.

    table = tabulate(texts, read_activations(...), dictionary, chunk_slice(dictionary, 0))
    table.maximum_F[5], table.strongest(5, texts)
    choose_latents(table, "domain", 10, seed=0)
    top_tokens(lm, dictionary.decoder_directions()[[5]], 10)

Latents are numbered within the chunk here; `table.first` is the number of the first one in the dictionary.

Shapes: N texts, u usable tokens of one text, D model width, F latents of the chunk, C classes,
S strongest places, K directions, V vocabulary, E width of the unembedding.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dictionary_learning.dictionaries.base import Dictionary
from dictionary_learning.language_model import LanguageModel
from temporal_saes.features import TextActivations, Tokens, encode_text
from temporal_saes.labelled.data import LabelledText
from temporal_saes.pages.text_latents import Snippet, snippet
from temporal_saes.sparsity import count

N_STRONGEST = 5
MIN_TOKENS = 10  # at which a latent fires; the maximum of a rarer one says little


@dataclass(frozen=True)
class LatentTable:
    """Every latent of a chunk over a corpus of labelled texts."""

    first: int
    """The dictionary's number of the first latent."""
    maximum_F: np.ndarray
    """Largest activation."""
    count_F: np.ndarray
    """Tokens at which it fires."""
    n_tokens: int
    classes: list[str]
    difference_CF: np.ndarray
    """Mean activation over the tokens of a class minus that over the rest."""
    median_norm: float
    """Of the activations that the dictionary reads."""
    strongest_FS: np.ndarray
    """Largest activation in each of the texts where it is largest, descending; 0 where it does not fire."""
    text_FS: np.ndarray
    position_FS: np.ndarray
    tokens: list[Tokens]

    @property
    def n_latents(self) -> int:
        return len(self.maximum_F)

    def selectivity_CF(self) -> np.ndarray:
        """`difference_CF` in units of each latent's maximum; 0 for those that never fire."""
        fires_F = self.maximum_F > 0
        return np.where(fires_F, self.difference_CF / np.where(fires_F, self.maximum_F, 1), 0)

    def target(self, latent: int) -> str:
        """The class in which a latent is more active than elsewhere, most so."""
        return self.classes[int(np.argmax(self.difference_CF[:, latent]))]

    def strongest(self, latent: int, texts: Sequence[LabelledText]) -> list[Snippet]:
        """The strongest token of each of the texts where the latent is strongest."""
        found = []
        places = zip(self.strongest_FS[latent], self.text_FS[latent], self.position_FS[latent], strict=True)
        for value, text, position in places:
            if value > 0:
                start, stop = self.tokens[text].offsets[position]
                found.append(snippet(texts[text].text, start, stop, float(value)))
        return found


@torch.no_grad()
def tabulate(
    texts: Sequence[LabelledText],
    activations: Iterable[TextActivations],
    dictionary: Dictionary,
    columns: slice,
) -> LatentTable:
    """Run a dictionary over the activations of texts, each seen once and then let go.

    Args:
        activations: of the texts, in their order.
        columns: the latents of the chunk.
    """
    classes = sorted({text.label for text in texts})
    sums: _Sums | None = None
    norms, tokens = [], []
    for index, (text, one) in enumerate(zip(texts, activations, strict=True)):
        tokens.append(one.tokens)
        if not one.tokens.usable_L.any():
            continue
        norms.append(one.x_LD[torch.from_numpy(one.tokens.usable_L)].float().norm(dim=-1).cpu())
        every_uF = count(dictionary, encode_text(dictionary, one.x_LD, one.tokens.usable_L))
        f_uF = every_uF[:, columns].float()
        if sums is None:
            sums = _Sums(len(classes), f_uF)
        sums.add(f_uF, index, classes.index(text.label), np.flatnonzero(one.tokens.usable_L))
    assert sums is not None, "a corpus without a token"
    order_FS = sums.value_FS.argsort(dim=1, descending=True)
    n_C1 = sums.tokens_C[:, None]
    total_F, n_tokens = sums.sum_CF.sum(0), int(sums.tokens_C.sum())
    rest_CF = (total_F - sums.sum_CF) / (n_tokens - n_C1).clamp(min=1)
    return LatentTable(
        first=columns.start,
        maximum_F=sums.value_FS.amax(1).cpu().numpy(),
        count_F=sums.count_F.cpu().numpy(),
        n_tokens=n_tokens,
        classes=classes,
        difference_CF=(sums.sum_CF / n_C1.clamp(min=1) - rest_CF).cpu().numpy(),
        median_norm=float(torch.cat(norms).median()),
        strongest_FS=sums.value_FS.gather(1, order_FS).cpu().numpy(),
        text_FS=sums.text_FS.gather(1, order_FS).cpu().numpy(),
        position_FS=sums.position_FS.gather(1, order_FS).cpu().numpy(),
        tokens=tokens,
    )


class _Sums:
    """What is kept of the texts that went by."""

    def __init__(self, n_classes: int, like_uF: Tensor) -> None:
        size = like_uF.shape[1]
        self.count_F = like_uF.new_zeros(size, dtype=torch.long)
        self.sum_CF = like_uF.new_zeros(n_classes, size)
        self.tokens_C = like_uF.new_zeros(n_classes)
        self.value_FS = like_uF.new_zeros(size, N_STRONGEST)
        self.text_FS = self.count_F.new_zeros(size, N_STRONGEST)
        self.position_FS = self.count_F.new_zeros(size, N_STRONGEST)

    def add(self, f_uF: Tensor, text: int, label: int, position_u: np.ndarray) -> None:
        self.count_F += (f_uF != 0).sum(0)
        self.sum_CF[label] += f_uF.sum(0)
        self.tokens_C[label] += len(f_uF)
        best_F, where_F = f_uF.max(0)
        # the weakest of the places kept so far makes room
        weakest_F, slot_F = self.value_FS.min(1)
        better = (best_F > weakest_F).nonzero()[:, 0]
        place = better, slot_F[better]
        self.value_FS[place] = best_F[better]
        self.text_FS[place] = text
        positions = torch.from_numpy(position_u).to(where_F.device)
        self.position_FS[place] = positions[where_F[better]]


def choose_latents(table: LatentTable, rule: str, n: int, seed: int) -> list[int]:
    """Latents of the chunk that fire at `MIN_TOKENS` tokens or more, by a rule.

    domain: the classes take turns, those with a more selective latent first; each takes the latent whose
    mean activation there exceeds that elsewhere most, in units of its maximum. random: drawn at random.
    active: those that fire at most tokens.

    Returns:
        n of them, or fewer where the rule finds no more.
    """
    alive = np.flatnonzero(table.count_F >= MIN_TOKENS)
    if rule == "random":
        return np.random.default_rng(seed).permutation(alive)[:n].tolist()
    if rule == "active":
        return alive[np.argsort(-table.count_F[alive], kind="stable")][:n].tolist()
    assert rule == "domain", rule
    selectivity_CA = table.selectivity_CF()[:, alive]
    ranked_CA = np.argsort(-selectivity_CA, axis=1, kind="stable")
    chosen: list[int] = []
    # of every class the best one, then of every class the second best, ...
    for round_C in ranked_CA.T:
        strength_C = selectivity_CA[np.arange(len(round_C)), round_C]
        for label in np.argsort(-strength_C, kind="stable"):
            latent = int(alive[round_C[label]])
            if strength_C[label] > 0 and latent not in chosen:
                chosen.append(latent)
        if len(chosen) >= n:
            break
    return chosen[:n]


# --- the words a direction pushes for ---


@torch.no_grad()
def top_tokens(lm: LanguageModel, direction_KD: Tensor, n: int) -> Tensor:
    """The tokens [K, n] whose logits a direction raises most; see `direct_logits`."""
    return direct_logits(lm, direction_KD)[0].topk(n, dim=1).indices


@torch.no_grad()
def direct_logits(lm: LanguageModel, direction_KD: Tensor) -> tuple[Tensor, Tensor]:
    """What a direction adds to the logits [K, V] when the layers above only pass it on, and what counts [V].

    Those are the entries of unembedding · final norm of the direction, times the model's logit scale: the
    direct path of the logit lens. A soft cap of the logits is left out, as it is no sum of paths. Special
    tokens and those without a text do not count; their logits are -inf.
    """
    weight_VE = lm.model.get_output_embeddings().weight
    norm, project_out = final_norm(lm), _projection(lm)
    direction_KD = direction_KD.to(weight_VE.device, weight_VE.dtype)
    # what the norm makes of nothing is its bias, which is the same for all directions
    through_KE = project_out(norm(direction_KD) - norm(torch.zeros_like(direction_KD)))
    logits_KV = (through_KE @ weight_VE.T).float() * logit_scale(lm)
    never = sorted(lm.special_ids | set(range(len(lm.tokenizer), logits_KV.shape[1])))
    logits_KV[:, never] = -torch.inf
    counts_V = torch.ones(logits_KV.shape[1], dtype=torch.bool, device=logits_KV.device)
    counts_V[never] = False
    return logits_KV, counts_V


def final_norm(lm: LanguageModel) -> Any:
    """The norm between the last decoder layer and the unembedding; the identity in a model without one."""
    norms = [module for module in _decoder(lm).children() if "norm" in type(module).__name__.lower()]
    return norms[-1] if norms else nn.Identity()


def _projection(lm: LanguageModel) -> Any:
    """What OPT-350m has between its last layer and an unembedding of another width; else the identity."""
    return getattr(_decoder(lm), "project_out", None) or nn.Identity()


def _decoder(lm: LanguageModel) -> Any:
    """The module that holds the decoder layers and what follows them."""
    return lm.model.get_submodule(lm.layers_path.rpartition(".")[0])


@torch.no_grad()
def logit_scale(lm: LanguageModel) -> float:
    """The constant by which a model multiplies what its unembedding gives (Cohere 1/16, Granite 1/8, most 1).

    It is read off the model, as one name of a config is a factor here and a divisor there. Where there is no
    constant, but a soft cap, it is 1.
    """
    seen: list[Tensor] = []
    head = lm.model.get_output_embeddings()
    handle = head.register_forward_hook(lambda module, args, output: seen.append(output))
    try:
        logits_V = lm.logits(torch.zeros(1, 1, dtype=torch.long), torch.ones(1, 1, dtype=torch.bool))[0, 0]
    finally:
        handle.remove()
    given_V = seen[0][0, 0].float()
    large_V = given_V.abs() >= given_V.abs().median()  # the others are rounded too much
    ratio_V = (logits_V.float() / given_V)[large_V & (given_V != 0)]
    if not len(ratio_V):
        return 1.0
    scale = float(ratio_V.median())
    return scale if bool(((ratio_V - scale).abs() <= 0.01 * abs(scale)).all()) else 1.0
