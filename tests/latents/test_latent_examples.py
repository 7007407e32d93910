"""Examples of latents: one pass in bounded memory says what a slow look at everything says."""

from collections import Counter
from itertools import chain, pairwise

import numpy as np
import pytest
from scipy import sparse

from temporal_saes.latents.codes import CodesOfContexts
from temporal_saes.latents.collector import collect
from temporal_saes.latents.examples import LatentExamples
from temporal_saes.latents.histogram import N_BINS, N_STRATA

F = 12
DEAD = 5


def corpus(
    n_contexts: int, seed: int = 0, density: float = 0.15
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Tokens [L], usable positions [L] and codes [L, F] of contexts of 3 to 20 tokens; latent 5 is dead."""
    generator = np.random.default_rng(seed)
    contexts = []
    for _ in range(n_contexts):
        length = int(generator.integers(3, 21))
        usable_L = np.arange(length) > 0  # the first token is special
        codes_LF = generator.exponential(1.0, (length, F)) * generator.exponential(1.0, F)
        codes_LF = codes_LF * (generator.random((length, F)) < density) * usable_L[:, None]
        codes_LF[:, DEAD] = 0
        contexts.append((generator.integers(0, 500, length), usable_L, codes_LF.astype(np.float32)))
    return contexts


def chunks(contexts, size: int):  # type: ignore[no-untyped-def]
    for first in range(0, len(contexts), size):
        tokens, usable, codes = zip(*contexts[first : first + size], strict=True)
        start_C = np.concatenate([[0], np.cumsum([len(one) for one in tokens])])
        codes_TF = sparse.csr_array(np.concatenate(codes))
        yield CodesOfContexts(
            np.concatenate(tokens).astype(np.int32),
            np.concatenate(usable),
            start_C,
            codes_TF,
            first + np.arange(len(tokens)),
        )


@pytest.fixture(scope="module")
def contexts():  # type: ignore[no-untyped-def]
    return corpus(300)


@pytest.fixture(scope="module")
def examples(contexts) -> LatentExamples:  # type: ignore[no-untyped-def]
    return collect(chunks(contexts, 7), F, n_top=6, per_quantile=4, n_weighted=10, window=3)


def every(contexts, latent: int) -> dict[tuple[int, int], float]:  # type: ignore[no-untyped-def]
    """The activation at each (context, position) where it is above 0."""
    return {
        (c, int(i)): float(codes_LF[i, latent])
        for c, (_, _, codes_LF) in enumerate(contexts)
        for i in np.flatnonzero(codes_LF[:, latent])
    }


def check_example(example, contexts, window: int) -> None:  # type: ignore[no-untyped-def]
    """Tokens and activations are those around the place, cut at the ends of the context."""
    tokens_L, _, codes_LF = contexts[example.context]
    near = slice(max(0, example.position - window), example.position + window + 1)
    assert example.tokens == tokens_L[near].tolist()
    assert example.tokens[example.peak] == tokens_L[example.position]
    np.testing.assert_allclose(example.activations, codes_LF[near, example.latent], rtol=1e-3, atol=1e-6)


def test_counts_maxima_and_means_are_those_of_all_codes(contexts, examples) -> None:  # type: ignore[no-untyped-def]
    codes_TF = np.concatenate([codes_LF for _, _, codes_LF in contexts])
    n_usable = sum(int(usable_L.sum()) for _, usable_L, _ in contexts)
    assert examples.n_tokens == n_usable
    np.testing.assert_array_equal(examples.count_F, (codes_TF > 0).sum(0))
    np.testing.assert_allclose(examples.density_F, (codes_TF > 0).sum(0) / n_usable)
    np.testing.assert_array_equal(examples.maximum_F, codes_TF.max(0))
    alive = np.arange(F) != DEAD
    np.testing.assert_allclose(
        examples.mean_active_F[alive], codes_TF.sum(0)[alive] / (codes_TF > 0).sum(0)[alive], rtol=1e-5
    )


def test_the_histogram_counts_every_activation_in_its_bin(contexts, examples) -> None:  # type: ignore[no-untyped-def]
    for latent in range(F):
        values = np.array(list(every(contexts, latent).values()))
        edges = examples.edges_FB[latent]
        inside = [int(((values > low) & (values <= high)).sum()) for low, high in pairwise(edges)]
        assert examples.histogram_FB[latent].tolist() == inside
        if latent != DEAD:
            assert edges[-1] / 2 < values.max() <= edges[-1]
    assert examples.edges_FB.shape == (F, N_BINS + 1)


def test_the_top_are_the_strongest_of_different_contexts(contexts, examples) -> None:  # type: ignore[no-untyped-def]
    for latent in range(F):
        best: dict[int, float] = {}
        for (context, _), value in every(contexts, latent).items():
            best[context] = max(value, best.get(context, 0))
        wanted = sorted(best.items(), key=lambda item: -item[1])[:6]
        found = examples.top(latent, 6)
        assert [(one.context, one.activation) for one in found] == wanted
        for one in found:
            check_example(one, contexts, window=3)
            assert one.quantile is None


def test_quantile_examples_lie_in_their_part_of_the_range(contexts, examples) -> None:  # type: ignore[no-untyped-def]
    for latent in range(F):
        values = every(contexts, latent)
        maximum = max(values.values(), default=0)
        parts = examples.quantiles(latent)
        assert len(parts) == 5
        for number, part in enumerate(parts):
            low, high = number * maximum / 5, (number + 1) * maximum / 5
            there = {c for (c, _), value in values.items() if low < value <= high}
            assert len(part) <= 4
            # the strata are finer than the parts, so what is there is found, as far as contexts differ
            assert bool(part) == bool(there)
            assert len({one.context for one in part}) == len(part)
            assert [one.activation for one in part] == sorted((one.activation for one in part), reverse=True)
            for one in part:
                assert low < one.activation <= high
                assert values[one.context, one.position] == one.activation
                assert one.quantile == number
                check_example(one, contexts, window=3)


def same_in_many_latents(values: np.ndarray, n_latents: int) -> LatentExamples:
    """Examples of latents that draw for themselves from contexts of one token, with these activations."""
    one = np.ones(1, dtype=bool)
    texts = [(np.zeros(1), one, np.full((1, n_latents), value, dtype=np.float32)) for value in values]
    return collect(chunks(texts, 9), n_latents, n_top=1, per_quantile=3, n_weighted=2, window=1)


def test_places_of_a_part_are_about_equally_likely() -> None:
    # 30 weak activations and 10 near the maximum
    found = same_in_many_latents(
        np.concatenate([np.linspace(0.02, 0.18, 30), np.linspace(0.85, 1.0, 10)]), 1000
    )
    drawn: Counter[int] = Counter()
    for latent in range(1000):
        weak, *between, strong = found.quantiles(latent)
        assert len(weak) == len(strong) == 3
        assert not any(between)
        drawn.update(one.context for one in weak)
    shares = np.array([drawn[context] for context in range(30)]) / 1000
    # each of 30 is one of 3 with probability 0.1, whose standard error over 1000 draws is 0.009
    assert abs(shares.mean() - 0.1) < 1e-9
    assert shares.min() > 0.06
    assert shares.max() < 0.14


def test_weighted_examples_are_drawn_in_proportion_to_the_activation() -> None:
    found = same_in_many_latents(np.array([1.0, 2.0, 3.0, 4.0]), 2000)
    first = Counter(found.weighted(latent, 1)[0].context for latent in range(2000))
    # the standard error of a share is at most 0.011
    np.testing.assert_allclose([first[i] / 2000 for i in range(4)], [0.1, 0.2, 0.3, 0.4], atol=0.045)
    # the first two without replacement: both 3 and 4 with 0.3 * 4/7 + 0.4 * 3/6
    both = sum({one.context for one in found.weighted(i, 5)} == {2, 3} for i in range(2000)) / 2000
    assert both == pytest.approx(0.3 * 4 / 7 + 0.4 * 3 / 6, abs=0.045)


def test_silent_windows_hold_no_activation(contexts, examples) -> None:  # type: ignore[no-untyped-def]
    for latent in range(F):
        found = examples.silent(latent, 8, seed=3)
        assert len(found) == 8
        assert len({one.context for one in found}) == 8
        for one in found:
            tokens_L, usable_L, codes_LF = contexts[one.context]
            near = slice(max(0, one.position - 3), one.position + 4)
            assert not codes_LF[near, latent].any()
            assert one.tokens == tokens_L[near].tolist()
            assert set(one.activations) == {0.0}
            assert usable_L[one.position]
    assert [one.context for one in examples.silent(0, 8, seed=3)] != [
        one.context for one in examples.silent(0, 8, seed=4)
    ]


def test_a_latent_that_is_always_active_has_no_silent_window() -> None:
    texts = [(np.zeros(4), np.ones(4, dtype=bool), np.ones((4, 1), dtype=np.float32))] * 5
    assert collect(chunks(texts, 2), 1, window=2).silent(0, 3) == []


def test_a_dead_latent_has_no_examples_and_no_numbers(examples) -> None:  # type: ignore[no-untyped-def]
    assert examples.top(DEAD, 5) == []
    assert examples.quantiles(DEAD) == [[], [], [], [], []]
    assert examples.weighted(DEAD, 5) == []
    assert (examples.maximum_F[DEAD], examples.mean_active_F[DEAD], examples.density_F[DEAD]) == (0, 0, 0)
    assert not examples.histogram_FB[DEAD].any()


@pytest.mark.parametrize("size", [1, 50, 300])
def test_nothing_depends_on_how_the_corpus_is_cut_into_chunks(contexts, examples, size) -> None:  # type: ignore[no-untyped-def]
    other = collect(chunks(contexts, size), F, n_top=6, per_quantile=4, n_weighted=10, window=3)
    for latent in range(F):
        assert other.top(latent, 6) == examples.top(latent, 6)
        assert other.quantiles(latent) == examples.quantiles(latent)
        assert other.weighted(latent, 10) == examples.weighted(latent, 10)
        assert other.silent(latent, 10) == examples.silent(latent, 10)
    np.testing.assert_array_equal(other.histogram_FB, examples.histogram_FB)


def test_a_window_as_long_as_the_context_holds_all_of_it(contexts) -> None:  # type: ignore[no-untyped-def]
    found = collect(
        chunks(contexts, 40), F, n_top=3, per_quantile=2, n_weighted=2, window=20, context_length=20
    )
    for latent in range(F):
        for one in [*found.top(latent, 3), *found.weighted(latent, 2), *chain(*found.quantiles(latent))]:
            check_example(one, contexts, window=20)
            assert one.tokens == contexts[one.context][0].tolist()
    assert found.strongest.share_GKW.shape == (F, 3, 20)


def test_a_context_longer_than_was_said_is_refused(contexts) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match="context_length says 10"):
        collect(chunks(contexts, 40), F, window=20, context_length=10)


def test_activations_too_large_for_float16_are_kept() -> None:
    values = np.array([[1e-6], [3e6], [0.0], [1.5e6]], dtype=np.float32)
    one = collect(chunks([(np.arange(4), np.ones(4, dtype=bool), values)], 1), 1, window=2).top(0, 1)[0]
    np.testing.assert_allclose(one.activations, [0, 3e6, 0, 1.5e6], rtol=1e-3, atol=1e-3)


def test_an_empty_corpus_gives_an_empty_result() -> None:
    found = collect([], 3)
    assert (found.n_tokens, found.n_contexts) == (0, 0)
    assert found.top(0, 3) == found.silent(0, 3) == []


def test_the_strata_cut_bins_evenly() -> None:
    assert N_BINS % N_STRATA == 0
