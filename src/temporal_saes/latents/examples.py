"""Examples of every latent of a dictionary over a corpus.

    examples = collect(codes_of_texts(...), n_latents)      # of latents/collector.py
    examples.top(12, 5)         # where latent 12 is strongest
    examples.quantiles(12)      # over its range, from weak to strong
    examples.weighted(12, 5)    # drawn with probability in proportion to the activation
    examples.silent(12, 5)      # where it is not active

Shapes: F latents, C contexts, T positions of all of them, L of one, B bins, N places of a latent, M of all
its strata, P places that all latents share, W positions of a window.
"""

from dataclasses import dataclass

import numpy as np

from temporal_saes.latents.histogram import N_STRATA
from temporal_saes.latents.places import Places
from temporal_saes.latents.silence import Silence


@dataclass(frozen=True)
class Example:
    """A stretch of one context around a position where a latent is, or is not, active."""

    latent: int
    context: int
    position: int
    """Of the peak, in its context; the place that was drawn where the example was drawn at random."""
    tokens: list[int]
    activations: list[float]
    """Of the latent at each of `tokens`; 0 where it is not active or the token is not read."""
    peak: int
    """Of the peak, in `tokens`."""
    quantile: int | None
    """0 the weakest fifth of the latent's range to 4 the strongest; None outside `quantiles`."""

    @property
    def activation(self) -> float:
        """At the peak."""
        return self.activations[self.peak]


@dataclass(frozen=True)
class LatentExamples:
    """What `collect` found."""

    n_latents: int
    n_tokens: int
    """Usable ones."""
    n_contexts: int
    count_F: np.ndarray
    """Tokens at which each latent is active."""
    density_F: np.ndarray
    """The same as a share of `n_tokens`."""
    maximum_F: np.ndarray
    """Largest activation; 0 for latents that are never active."""
    mean_active_F: np.ndarray
    """Mean activation where active; 0 for latents that never are."""
    histogram_FB: np.ndarray
    """Tokens with an activation in each bin, its upper edge included."""
    edges_FB: np.ndarray
    """[F, B + 1], from 0 to the smallest power of two that is not below the maximum."""
    tokens_T: np.ndarray
    """int32: the tokens of all contexts."""
    usable_T: np.ndarray
    start_C: np.ndarray
    """[C + 1]: where each context begins, and the end."""
    window: int
    n_quantiles: int
    per_quantile: int
    seed: int
    strongest: Places
    spread: Places
    drawn: Places
    silence: Silence

    def top(self, latent: int, n: int) -> list[Example]:
        """The strongest, at most n, no two from the same context."""
        places = self._places(self.strongest, latent)
        order = np.lexsort((places.context_N, -places.value_N))[:n]
        return [self._example(self.strongest, latent, latent, places.slot_N[i]) for i in order]

    def quantiles(self, latent: int) -> list[list[Example]]:
        """Examples of each equal part of the range from 0 to the maximum, the weakest part first.

        At most `per_quantile` of each, the strongest first, no two of one part from the same context. They
        are drawn so that places of a part are about equally likely.
        """
        rows = latent * N_STRATA + np.arange(N_STRATA)
        stratum_M, slot_M = np.nonzero(self.spread.key_GK[rows] > -np.inf)
        place = rows[stratum_M], slot_M
        # the order of slots depends on chunks, that of the corpus does not
        order_M = np.lexsort((self.spread.position_GK[place], self.spread.context_GK[place]))
        stratum_M, slot_M = stratum_M[order_M], slot_M[order_M]
        place = rows[stratum_M], slot_M
        value_M, context_M = self.spread.value_GK[place], self.spread.context_GK[place]
        # a place stands for all those of its stratum that were not kept
        n_in_stratum = self.histogram_FB[latent].reshape(N_STRATA, -1).sum(1)
        n_kept = np.bincount(stratum_M, minlength=N_STRATA)
        weight_M = n_in_stratum[stratum_M] / np.maximum(n_kept, 1)[stratum_M]
        part_M = part_of(value_M, float(self.maximum_F[latent]), self.n_quantiles)
        generator = np.random.default_rng([self.seed, latent])
        key_M = np.log1p(-generator.random(len(value_M))) / weight_M
        found = []
        for part in range(self.n_quantiles):
            inside = np.flatnonzero(part_M == part)
            ordered = inside[np.argsort(-key_M[inside], kind="stable")]
            chosen = _first_of_each(ordered, context_M)[: self.per_quantile]
            chosen = chosen[np.argsort(-value_M[chosen], kind="stable")]
            found.append(
                [self._example(self.spread, latent, rows[stratum_M[i]], slot_M[i], part) for i in chosen]
            )
        return found

    def weighted(self, latent: int, n: int) -> list[Example]:
        """Places drawn with probability in proportion to the activation, at most n, in the order of the draw.

        No two are from the same context.
        """
        places = self._places(self.drawn, latent)
        ordered = np.argsort(-self.drawn.key_GK[latent, places.slot_N], kind="stable")
        chosen = _first_of_each(ordered, places.context_N)[:n]
        return [self._example(self.drawn, latent, latent, places.slot_N[i]) for i in chosen]

    def silent(self, latent: int, n: int, seed: int = 0) -> list[Example]:
        """Windows around usable tokens in which the latent is nowhere active, at most n, in random order.

        They are from a pool of `N_SILENT` windows that all latents share, no two from the same context; a
        latent that is active in all of them has none.
        """
        known = np.flatnonzero((self.silence.context_P >= 0) & ~self.silence.active_PF[:, latent])
        chosen = np.random.default_rng([seed, latent]).permutation(known)[:n]
        return [
            self._around(latent, int(self.silence.context_P[i]), int(self.silence.position_P[i]), None, None)
            for i in chosen
        ]

    def around(self, latent: int, context: int, position: int) -> Example:
        """The window around a place where the latent is nowhere active."""
        return self._around(latent, context, position, None, None)

    def context(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Tokens (int32) and usable positions (bool) [L] of a context."""
        inside = slice(self.start_C[number], self.start_C[number + 1])
        return self.tokens_T[inside], self.usable_T[inside]

    def _places(self, places: Places, row: int) -> "_Row":
        slot_N = np.flatnonzero(places.key_GK[row] > -np.inf)
        return _Row(slot_N, places.value_GK[row, slot_N], places.context_GK[row, slot_N])

    def _example(
        self, places: Places, latent: int, row: int, slot: int, quantile: int | None = None
    ) -> Example:
        values_W = places.share_GKW[row, slot].astype(np.float32) * places.scale_GK[row, slot]
        context, position = int(places.context_GK[row, slot]), int(places.position_GK[row, slot])
        example = self._around(latent, context, position, values_W, quantile)
        example.activations[example.peak] = float(places.value_GK[row, slot])  # as it was, not in float16
        return example

    def _around(
        self, latent: int, context: int, position: int, values_W: np.ndarray | None, quantile: int | None
    ) -> Example:
        tokens_L, _ = self.context(context)
        first, last = max(0, position - self.window), min(len(tokens_L), position + self.window + 1)
        if values_W is None:
            values = [0.0] * (last - first)
        else:
            offset = first - int(window_start(position, len(tokens_L), self.window, len(values_W)))
            values = values_W[offset : offset + last - first].tolist()
        tokens = tokens_L[first:last].tolist()
        return Example(int(latent), context, position, tokens, values, position - first, quantile)


@dataclass(frozen=True)
class _Row:
    slot_N: np.ndarray
    value_N: np.ndarray
    context_N: np.ndarray


def part_of(value: np.ndarray, maximum: float, n_parts: int) -> np.ndarray:
    """Which of `n_parts` equal parts of (0, maximum] values lie in, upper edges included."""
    if not maximum > 0:
        return np.zeros(np.shape(value), dtype=np.int64)
    share = np.ceil(np.asarray(value, dtype=np.float64) / maximum * n_parts)
    return np.clip(share.astype(np.int64) - 1, 0, n_parts - 1)


def window_start(position: np.ndarray | int, length: np.ndarray | int, window: int, width: int) -> np.ndarray:
    """Where the kept positions around a place begin: they hold `window` to each side, or the context."""
    return np.maximum(0, np.minimum(np.asarray(position) - window, np.asarray(length) - width))


def _first_of_each(ordered: np.ndarray, context: np.ndarray) -> np.ndarray:
    """The numbers in `ordered`, only the first of each context, in that order."""
    return ordered[np.sort(np.unique(context[ordered], return_index=True)[1])]
