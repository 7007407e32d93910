"""Examples of every latent of a dictionary, in one pass over a corpus and in bounded memory.

    examples = collect(codes_of_texts(...), n_latents)
    examples.top(12, 5)         # where latent 12 is strongest
    examples.quantiles(12)      # over its range, from weak to strong
    examples.weighted(12, 5)    # drawn with probability in proportion to the activation
    examples.silent(12, 5)      # where it is not active

What is kept of a latent has a fixed size: its counts, its histogram, the strongest places, and places drawn
at random, each with the activations around it. Only the tokens themselves grow with the corpus, by 5 bytes
each, so that every example can be read in its context. The result is the same however the corpus is cut into
chunks.

A histogram has `N_BINS` bins of equal width, which is a power of two: as the largest activation so far
outgrows it, neighbouring bins are merged, so that the counts stay exact. Places for `quantiles` are drawn
in `N_STRATA` parts of that range, as few places are strong.

Shapes: F latents, C contexts, T positions of all of them, L of one, N codes above 0, B bins, P places,
W positions of a window.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from temporal_saes.latents.codes import CodesOfContexts
from temporal_saes.latents.places import Offered, Places, Windows

N_BINS = 64
N_STRATA = 16
N_SILENT = 1024  # places all over the corpus at which it is known which latents are silent


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
    silence: "Silence"

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


def collect(
    chunks: Iterable[CodesOfContexts],
    n_latents: int,
    *,
    n_top: int = 20,
    n_quantiles: int = 5,
    per_quantile: int = 5,
    n_weighted: int = 20,
    window: int = 32,
    context_length: int | None = None,
    seed: int = 0,
) -> LatentExamples:
    """Go over the codes of a corpus once.

    Args:
        chunks: whole contexts; each is let go before the next is asked for.
        n_latents: columns of the codes.
        n_top: strongest places kept of a latent.
        per_quantile: places that `quantiles` gives of each part.
        n_weighted: places that `weighted` can give.
        window: tokens of a context to each side of a place that are kept of an example.
        context_length: no context is longer; saves memory where it is shorter than a window.
        seed: of the places drawn at random.

    Returns:
        the examples, which take about (n_top + 16 per_quantile + n_weighted) (2 (2 window + 1) + 20) bytes a
        latent.
    """
    collector = _Collector(
        n_latents, n_top, per_quantile, n_weighted, window, context_length or 2 * window + 1, seed
    )
    for codes in chunks:
        collector.add(codes)
    return collector.result(n_quantiles)


class Silence:
    """Places all over the corpus, and which latents are active around them."""

    def __init__(self, n_latents: int, window: int, seed: int) -> None:
        self.window, self.seed = window, seed
        self.context_P = np.full(N_SILENT, -1, dtype=np.int64)
        self.position_P = np.zeros(N_SILENT, dtype=np.int64)
        self.active_PF = np.zeros((N_SILENT, n_latents), dtype=bool)
        self._key_P = np.full(N_SILENT, -np.inf)

    def add(self, codes: CodesOfContexts, first_context: int) -> None:
        """Take contexts in at random, with one place each."""
        number_C = np.arange(len(codes.start_C) - 1)
        key_C = uniform(self.seed + 1, first_context + number_C)
        for number in number_C[key_C > self._key_P.min()].tolist():
            weakest = int(self._key_P.argmin())
            start, stop = codes.start_C[number], codes.start_C[number + 1]
            usable = np.flatnonzero(codes.usable_T[start:stop])
            if key_C[number] <= self._key_P[weakest] or not usable.size:
                continue
            context = first_context + number
            position = int(usable[int(uniform(self.seed + 2, np.array([context]))[0] * len(usable))])
            near = slice(
                start + max(0, position - self.window), min(stop, start + position + self.window + 1)
            )
            self._key_P[weakest] = key_C[number]
            self.context_P[weakest], self.position_P[weakest] = context, position
            self.active_PF[weakest] = False
            indptr = codes.codes_TF.indptr
            self.active_PF[weakest, codes.codes_TF.indices[indptr[near.start] : indptr[near.stop]]] = True

    def ordered(self) -> "Silence":
        """The same places in the order of the corpus, so that chunks leave no trace."""
        order = np.argsort(np.where(self.context_P >= 0, self.context_P, np.iinfo(np.int64).max))
        self.context_P, self.position_P = self.context_P[order], self.position_P[order]
        self.active_PF, self._key_P = self.active_PF[order], self._key_P[order]
        return self


class _Collector:
    """What is kept of the chunks that went by."""

    def __init__(
        self,
        n_latents: int,
        n_top: int,
        per_quantile: int,
        n_weighted: int,
        window: int,
        context_length: int,
        seed: int,
    ) -> None:
        self.n_latents, self.per_quantile, self.window, self.seed = n_latents, per_quantile, window, seed
        self.width = min(2 * window + 1, context_length)
        self.count_F = np.zeros(n_latents, dtype=np.int64)
        self.sum_F = np.zeros(n_latents)
        self.maximum_F = np.zeros(n_latents, dtype=np.float32)
        self.exponent_F = np.full(n_latents, NO_EXPONENT)
        self.histogram_FB = np.zeros((n_latents, N_BINS), dtype=np.int64)
        self.strongest = Places(n_latents, n_top, self.width)
        self.spread = Places(n_latents * N_STRATA, per_quantile, self.width)
        self.drawn = Places(n_latents, n_weighted, self.width)
        self.silence = Silence(n_latents, window, seed)
        self.tokens: list[np.ndarray] = []
        self.usable: list[np.ndarray] = []
        self.lengths: list[np.ndarray] = []
        self.n_contexts = 0

    def add(self, codes: CodesOfContexts) -> None:
        length_C = np.diff(codes.start_C)
        if length_C.max(initial=0) > self.width and self.width < 2 * self.window + 1:
            raise ValueError(f"a context has {length_C.max()} tokens, and context_length says {self.width}")
        by_latent = codes.codes_TF.tocsc()
        by_latent.sort_indices()
        latent_N = np.repeat(np.arange(self.n_latents), np.diff(by_latent.indptr))
        row_N, value_N = by_latent.indices.astype(np.int64), by_latent.data
        context_N = np.searchsorted(codes.start_C, row_N, side="right") - 1
        offered = Offered(
            value_N,
            (self.n_contexts + context_N).astype(np.int32),
            (row_N - codes.start_C[context_N]).astype(np.int32),
        )
        windows = _windows(codes, latent_N, row_N, value_N, context_N, self.window, self.width)
        if len(value_N):
            self._count(latent_N, value_N, by_latent.indptr)
            self._choose(latent_N, offered, windows)
        self.silence.add(codes, self.n_contexts)
        self.tokens.append(codes.tokens_T)
        self.usable.append(codes.usable_T)
        self.lengths.append(length_C)
        self.n_contexts += len(length_C)

    def _count(self, latent_N: np.ndarray, value_N: np.ndarray, first_F: np.ndarray) -> None:
        count_F = np.diff(first_F)
        self.count_F += count_F
        self.sum_F += np.bincount(latent_N, value_N, self.n_latents)
        fires = np.flatnonzero(count_F)
        largest = np.maximum.reduceat(value_N, first_F[:-1][fires])
        self.maximum_F[fires] = np.maximum(self.maximum_F[fires], largest)
        self._grow(fires)
        bin_N = bin_of(value_N, self.exponent_F[latent_N])
        self.histogram_FB += np.bincount(
            latent_N * N_BINS + bin_N, minlength=self.n_latents * N_BINS
        ).reshape(-1, N_BINS)

    def _grow(self, fires: np.ndarray) -> None:
        """Let the ranges of histograms reach the largest activations."""
        exponent = exponent_of(self.maximum_F[fires])
        grown, by = fires[exponent > self.exponent_F[fires]], exponent - self.exponent_F[fires]
        shift = np.minimum(by[by > 0], N_BINS)[:, None]
        merged = np.zeros((len(grown), N_BINS), dtype=np.int64)
        rows = np.arange(len(grown))[:, None]
        np.add.at(merged, (rows, np.arange(N_BINS) >> shift), self.histogram_FB[grown])
        self.histogram_FB[grown] = merged
        self.exponent_F[grown] = exponent[by > 0]
        groups = (grown[:, None] * N_STRATA + np.arange(N_STRATA)).ravel()
        self.spread.regroup(groups, lambda group_M, old: self._group(group_M // N_STRATA, old.value_N))

    def _group(self, latent_N: np.ndarray, value_N: np.ndarray) -> np.ndarray:
        return latent_N * N_STRATA + bin_of(value_N, self.exponent_F[latent_N]) // (N_BINS // N_STRATA)

    def _choose(
        self, latent_N: np.ndarray, offered: Offered, windows: Callable[[np.ndarray], Windows]
    ) -> None:
        best_M = _best_of_contexts(latent_N, offered)
        self.strongest.add(
            latent_N[best_M],
            offered.value_N[best_M],
            offered.some(best_M),
            lambda some: windows(best_M[some]),
        )
        place_N = (offered.context_N.astype(np.int64) << 20) + offered.position_N
        random_N = uniform(self.seed, place_N * self.n_latents + latent_N)
        group_N = self._group(latent_N, offered.value_N)
        self.spread.add(group_N, random_N.astype(np.float32), offered, windows)
        key_N = (np.log(random_N) / offered.value_N).astype(np.float32)
        self.drawn.add(latent_N, key_N, offered, windows)

    def result(self, n_quantiles: int) -> LatentExamples:
        n_tokens = sum(int(usable_T.sum()) for usable_T in self.usable)
        alive_F = self.count_F > 0
        top_F = np.where(alive_F, np.ldexp(1.0, np.where(alive_F, self.exponent_F, 0)), 0)
        return LatentExamples(
            n_latents=self.n_latents,
            n_tokens=n_tokens,
            n_contexts=self.n_contexts,
            count_F=self.count_F,
            density_F=self.count_F / max(n_tokens, 1),
            maximum_F=self.maximum_F,
            mean_active_F=self.sum_F / np.maximum(self.count_F, 1),
            histogram_FB=self.histogram_FB,
            edges_FB=top_F[:, None] * np.arange(N_BINS + 1) / N_BINS,
            tokens_T=_joined(self.tokens, np.int32),
            usable_T=_joined(self.usable, np.bool_),
            start_C=np.concatenate([[0], np.cumsum(_joined(self.lengths, np.int64))]),
            window=self.window,
            n_quantiles=n_quantiles,
            per_quantile=self.per_quantile,
            seed=self.seed,
            strongest=self.strongest,
            spread=self.spread,
            drawn=self.drawn,
            silence=self.silence.ordered(),
        )


def _joined(parts: list[np.ndarray], dtype: type) -> np.ndarray:
    return np.concatenate([np.zeros(0, dtype=dtype), *parts])


def _windows(
    codes: CodesOfContexts,
    latent_N: np.ndarray,
    row_N: np.ndarray,
    value_N: np.ndarray,
    context_N: np.ndarray,
    window: int,
    width: int,
) -> Callable[[np.ndarray], Windows]:
    """What finds the activations around the codes of a chunk, which are ordered by latent and row."""
    n_rows = len(codes.tokens_T)
    place_N = latent_N * n_rows + row_N  # ascending

    def around(number_M: np.ndarray) -> Windows:
        start_M, stop_M = (codes.start_C[context_N[number_M] + i] for i in (0, 1))
        first_M = start_M + window_start(row_N[number_M] - start_M, stop_M - start_M, window, width)
        last_M = np.minimum(first_M + width, stop_M)
        base_M = latent_N[number_M] * n_rows
        low_M, high_M = np.searchsorted(place_N, base_M + first_M), np.searchsorted(place_N, base_M + last_M)
        count_M = high_M - low_M
        of_window = np.repeat(np.arange(len(number_M)), count_M)
        found = np.arange(count_M.sum()) + np.repeat(low_M - (np.cumsum(count_M) - count_M), count_M)
        values_MW = np.zeros((len(number_M), width), dtype=np.float32)
        values_MW[of_window, row_N[found] - first_M[of_window]] = value_N[found]
        scale_M = values_MW.max(1, initial=0)
        return Windows((values_MW / scale_M[:, None]).astype(np.float16), scale_M)

    return around


def _best_of_contexts(latent_N: np.ndarray, offered: Offered) -> np.ndarray:
    """The strongest place, the first of equals, of each latent in each context, in their order."""
    new_N = np.ones(len(latent_N), dtype=bool)
    new_N[1:] = (np.diff(latent_N) != 0) | (np.diff(offered.context_N) != 0)
    run_N = np.cumsum(new_N) - 1
    best_R = np.maximum.reduceat(offered.value_N, np.flatnonzero(new_N))
    at = np.flatnonzero(offered.value_N == best_R[run_N])
    return at[np.unique(run_N[at], return_index=True)[1]]


def _first_of_each(ordered: np.ndarray, context: np.ndarray) -> np.ndarray:
    """The numbers in `ordered`, only the first of each context, in that order."""
    return ordered[np.sort(np.unique(context[ordered], return_index=True)[1])]


# --- histograms whose range doubles ---

NO_EXPONENT = -1_000_000


def exponent_of(maximum: np.ndarray) -> np.ndarray:
    """The smallest e with maximum <= 2^e."""
    mantissa, exponent = np.frexp(maximum)
    return np.where(mantissa == 0.5, exponent - 1, exponent).astype(np.int64)


def bin_of(value: np.ndarray, exponent: np.ndarray) -> np.ndarray:
    """The bin of (0, 2^exponent] that holds each value, upper edges included."""
    scaled = np.ldexp(value.astype(np.float64) * N_BINS, -exponent)
    return np.ceil(scaled).astype(np.int64) - 1


# --- random numbers of places ---


def uniform(seed: int, place: np.ndarray) -> np.ndarray:
    """A number in (0, 1) for each place (integers), by the mixing of splitmix64 (Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        z = place.astype(np.uint64) + np.uint64((seed + 1) * 0x9E3779B97F4A7C15 % 2**64)
        for _ in range(2):
            z += np.uint64(0x9E3779B97F4A7C15)
            z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            z ^= z >> np.uint64(31)
    return ((z >> np.uint64(11)).astype(np.float64) + 0.5) / 2**53
