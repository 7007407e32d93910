"""One pass over a corpus that finds examples of every latent, in bounded memory.

    examples = collect(codes_of_texts(...), n_latents)

What is kept of a latent has a fixed size: its counts, its histogram, the strongest places, and places drawn
at random, each with the activations around it. Only the tokens themselves grow with the corpus, by 5 bytes
each, so that every example can be read in its context. The result is the same however the corpus is cut into
chunks. Places for `LatentExamples.quantiles` are drawn in `N_STRATA` parts of the histogram's range, as few
places are strong.

Shapes: F latents, C contexts, T positions of all of them, N codes above 0, M some of these, B bins,
W positions of a window.
"""

from collections.abc import Callable, Iterable

import numpy as np

from temporal_saes.latents.codes import CodesOfContexts
from temporal_saes.latents.examples import LatentExamples, window_start
from temporal_saes.latents.histogram import N_BINS, N_STRATA, NO_EXPONENT, bin_of, exponent_of
from temporal_saes.latents.places import Offered, Places, Windows, uniform
from temporal_saes.latents.silence import Silence


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
