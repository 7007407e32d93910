"""All that a feature browser says of the latents of one dictionary, from one pass over a corpus.

    facts = gather_facts(codes, smoothness, dictionary, columns, lm, n_top=20, per_quantile=5)
    facts.examples.top(3, 5), facts.decoder.indices_FK[3], facts.promoted.values_FK[3]

Latents are numbered within the chunk; `first` is the dictionary's number of the first one.

Shapes: F latents of the chunk, D model width, V vocabulary, K neighbours or tokens, H bars.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dictionary_learning.command.progress import say
from dictionary_learning.dictionaries.base import Dictionary
from dictionary_learning.language_model import LanguageModel
from temporal_saes.latents.coactivation import Coactivation
from temporal_saes.latents.codes import CodesOfContexts
from temporal_saes.latents.collector import collect
from temporal_saes.latents.examples import LatentExamples
from temporal_saes.latents.smoothness import LatentSmoothness
from temporal_saes.latents.tables import direct_logits

_LOGIT_BYTES = 2**27  # of one block of logits
_LOGIT_BARS = 40


class Ranked(NamedTuple):
    """For each latent other latents, or tokens, with a number each, the first the most."""

    indices_FK: np.ndarray  # -1: there are fewer
    values_FK: np.ndarray


@dataclass(frozen=True)
class LatentFacts:
    """What is known of the latents."""

    first: int
    split_F: list[str]
    """The name of each latent's split, such as high; empty for a dictionary without splits."""
    examples: LatentExamples
    lipschitz_F: np.ndarray
    """NaN: undefined."""
    steadiness_F: np.ndarray
    decoder: Ranked
    """Nearest by the cosine of decoder directions."""
    together: Ranked
    """Nearest by the share of tokens at which both are active."""
    promoted: Ranked
    """Tokens whose logits the direction raises most."""
    suppressed: Ranked
    logits_FH: np.ndarray
    """Tokens in each of the bars between the smallest and the largest logit."""
    logit_range_F2: np.ndarray
    directions_FD: np.ndarray
    """float32."""

    @property
    def n_latents(self) -> int:
        return self.examples.n_latents


def gather_facts(
    codes: Iterable[CodesOfContexts],
    smoothness: LatentSmoothness,
    dictionary: Dictionary,
    columns: slice,
    lm: LanguageModel,
    *,
    n_top: int,
    per_quantile: int,
    context_length: int,
    n_neighbours: int = 8,
    n_tokens: int = 10,
    seed: int = 0,
) -> LatentFacts:
    """Go over the codes once and gather everything.

    Args:
        smoothness: watches the codes; see `codes.Watch`.
        columns: the latents of the chunk.
        context_length: no context is longer; examples hold all of theirs.
        n_tokens: most raised, and most lowered, by each latent.
    """
    n_latents = columns.stop - columns.start
    coactivation = Coactivation(n_latents)

    def counted() -> Iterator[CodesOfContexts]:
        for chunk in codes:
            coactivation.add(chunk.codes_TF)
            yield chunk

    examples = collect(
        counted(),
        n_latents,
        n_top=n_top,
        per_quantile=per_quantile,
        n_weighted=0,
        window=context_length,
        context_length=context_length,
        seed=seed,
    )
    say("neighbours and logits of every latent")
    directions_FD = dictionary.decoder_directions().detach()[columns].float()
    promoted, suppressed, logits_FH, range_F2 = logit_effects(lm, directions_FD, n_tokens)
    split_F = [""] * n_latents
    for name, split in dictionary.splits().items():
        for latent in range(max(split.start, columns.start), min(split.stop, columns.stop)):
            split_F[latent - columns.start] = name
    return LatentFacts(
        first=columns.start,
        split_F=split_F,
        examples=examples,
        lipschitz_F=smoothness.lipschitz_F,
        steadiness_F=smoothness.steadiness_F,
        decoder=nearest_directions(directions_FD, n_neighbours),
        together=Ranked(*coactivation.nearest(n_neighbours)),
        promoted=promoted,
        suppressed=suppressed,
        logits_FH=logits_FH,
        logit_range_F2=range_F2,
        directions_FD=directions_FD.cpu().numpy(),
    )


@torch.no_grad()
def nearest_directions(directions_FD: Tensor, n: int) -> Ranked:
    """The n other directions with the largest cosines; a direction of nothing has none."""
    unit_FD = torch.nn.functional.normalize(directions_FD, dim=1)
    is_zero_F = unit_FD.norm(dim=1) == 0
    n = min(n, len(unit_FD) - 1)
    indices, values = [], []
    for first in range(0, len(unit_FD), 1024):
        cosine_BF = unit_FD[first : first + 1024] @ unit_FD.T
        row = torch.arange(len(cosine_BF), device=cosine_BF.device)
        cosine_BF[row, first + row] = -torch.inf
        cosine_BF[:, is_zero_F] = -torch.inf
        cosine_BF[is_zero_F[first : first + 1024]] = -torch.inf
        best = cosine_BF.topk(n, dim=1)
        known = best.values > -torch.inf
        indices.append(best.indices.where(known, -1))
        values.append(best.values.where(known, 0))
    return Ranked(torch.cat(indices).cpu().numpy(), torch.cat(values).cpu().numpy())


@torch.no_grad()
def logit_effects(
    lm: LanguageModel, directions_FD: Tensor, n: int
) -> tuple[Ranked, Ranked, np.ndarray, np.ndarray]:
    """The n tokens whose logits each direction raises most, the n it lowers most, and their histogram.

    Returns:
        the raised, the lowered (the most lowered first), tokens in each of 40 bars [F, H], and the smallest
        and the largest logit [F, 2]; see `latent_tables.direct_logits`.
    """
    n_vocabulary = lm.model.get_output_embeddings().weight.shape[0]
    rows = max(1, _LOGIT_BYTES // (4 * n_vocabulary))
    raised: list[tuple[np.ndarray, np.ndarray]] = []
    lowered: list[tuple[np.ndarray, np.ndarray]] = []
    bars, ranges = [], []
    for some_KD in directions_FD.split(rows):
        logits_KV, counts_V = direct_logits(lm, some_KD)
        logits_KV = logits_KV[:, counts_V]
        number_V = counts_V.nonzero().flatten()
        n = min(n, len(number_V))
        for found, largest in ((raised, True), (lowered, False)):
            best = logits_KV.topk(n, dim=1, largest=largest)
            found.append((number_V[best.indices].cpu().numpy(), best.values.cpu().numpy()))
        low_K1, high_K1 = logits_KV.amin(1, keepdim=True), logits_KV.amax(1, keepdim=True)
        width_K1 = ((high_K1 - low_K1) / _LOGIT_BARS).clamp(min=1e-12)
        bar_KV = ((logits_KV - low_K1) / width_K1).long().clamp(max=_LOGIT_BARS - 1)
        count_KH = torch.zeros(len(bar_KV), _LOGIT_BARS, dtype=torch.long, device=bar_KV.device)
        count_KH.scatter_add_(1, bar_KV, torch.ones_like(bar_KV))
        bars.append(count_KH.cpu().numpy())
        ranges.append(torch.cat([low_K1, high_K1], dim=1).cpu().numpy())
    told = [
        Ranked(*(np.concatenate(part) for part in zip(*found, strict=True))) for found in (raised, lowered)
    ]
    return told[0], told[1], np.concatenate(bars), np.concatenate(ranges)
