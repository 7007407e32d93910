"""What latents are held over: stretches, log odds, information and names, on corpora whose rule is known."""

import numpy as np
import pytest
from scipy import sparse, stats

from temporal_saes.latents.codes import CodesOfContexts
from temporal_saes.naming.counts import Counts
from temporal_saes.naming.information import document_information, excess
from temporal_saes.naming.log_odds import log_odds
from temporal_saes.naming.names import Labels, Name, NameCollector, Share
from temporal_saes.naming.stretches import on_above, stretches

WORDS = ["comet", "orbit", "moon", "onion", "butter", "oven", "judge", "verdict", "clause", "the", "of", "is"]


class Tokenizer:
    """A word a token."""

    def __len__(self) -> int:
        return len(WORDS)

    def convert_ids_to_tokens(self, number: int) -> str:
        return WORDS[number]

    def decode(self, ids: list[int], **named: object) -> str:
        return " " + WORDS[ids[0]]


def codes_of(
    tokens_CL: np.ndarray, f_TF: np.ndarray, usable_T: np.ndarray | None = None, first: int = 0
) -> CodesOfContexts:
    n_contexts, length = tokens_CL.shape
    usable_T = np.ones(tokens_CL.size, dtype=bool) if usable_T is None else usable_T
    return CodesOfContexts(
        tokens_CL.ravel().astype(np.int32),
        usable_T,
        np.arange(n_contexts + 1) * length,
        sparse.csr_array(f_TF.astype(np.float32) * usable_T[:, None]),
        first + np.arange(n_contexts),
    )


# --- stretches ---


def test_a_stretch_goes_over_small_gaps_and_ends_with_its_context() -> None:
    # one latent over two contexts of eight; gaps of two are in, gaps of three are not
    on = [1, 0, 0, 1, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0]
    codes = codes_of(np.zeros((2, 8), dtype=int), np.array(on)[:, None])
    held = stretches(codes, np.zeros(1))
    assert held.first_S.tolist() == [0, 7, 8]
    assert held.length_S.tolist() == [4, 1, 1]
    assert held.on_UF(1).toarray().ravel().tolist() == [1] * 4 + [0] * 3 + [1] + [1] + [0] * 7
    assert stretches(codes, np.zeros(1), max_gap=0).length_S.tolist() == [1, 1, 1, 1]


def test_tokens_that_are_not_read_are_in_no_stretch_and_no_gap() -> None:
    on, usable = np.array([1, 0, 0, 0, 1, 1]), np.array([1, 0, 0, 1, 1, 1], dtype=bool)
    held = stretches(codes_of(np.zeros((1, 6), dtype=int), on[:, None], usable), np.zeros(1))
    assert (held.first_S.tolist(), held.length_S.tolist(), held.n_usable) == ([0], [4], 4)


def test_no_latent_has_no_stretch() -> None:
    held = stretches(codes_of(np.zeros((1, 4), dtype=int), np.zeros((4, 2))), np.zeros(2))
    assert held.on_UF(2).shape == (4, 2)
    assert held.on_UF(2).nnz == 0


def test_a_dense_latent_is_on_where_it_is_in_its_strongest_fifth() -> None:
    values = np.stack([np.arange(1, 101), np.where(np.arange(100) < 20, 1.0, 0)], axis=1)
    codes = codes_of(np.zeros((1, 100), dtype=int), values)
    above_F = on_above(codes)
    assert above_F == pytest.approx([81, 0])  # 81 to 100 are twenty; the other is on at no more than a fifth
    assert int((codes.codes_TF.toarray()[:, 0] > above_F[0]).sum()) == 20


# --- log odds ---


def test_the_log_odds_are_those_of_the_paper_by_hand() -> None:
    # 6 of 20 words inside and 10 of 100 in all; a prior of 10 words has seen 1
    z = log_odds(np.array([6.0]), np.array([10.0]), np.array([20.0]), 100.0, prior=10.0)
    inside, outside = (6 + 1) / (20 + 10 - 6 - 1), (4 + 1) / (80 + 10 - 4 - 1)
    expected = (np.log(inside) - np.log(outside)) / np.sqrt(1 / 7 + 1 / 5)
    assert z[0] == pytest.approx(expected)


def test_a_word_that_stands_there_once_is_not_listed_and_one_that_is_everywhere_has_no_odds() -> None:
    once, everywhere = log_odds(
        np.array([1.0, 50.0]), np.array([1.0, 5000.0]), np.array([1000.0, 1000.0]), 100_000.0
    )
    assert 0 < once < 2.5
    assert everywhere == pytest.approx(0, abs=0.01)
    assert log_odds(np.array([8.0]), np.array([8.0]), np.array([1000.0]), 100_000.0)[0] > 2.5


# --- information ---


def plug_in(on_GF: np.ndarray, size_G: np.ndarray) -> np.ndarray:
    """Mutual information by counts alone, a latent at a time, the slow way."""
    n = size_G.sum()
    bits = []
    for on_G in on_GF.T:
        joint = np.stack([on_G, size_G - on_G]) / n
        independent = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
        inside = joint > 0
        bits.append(float((joint[inside] * np.log2(joint[inside] / independent[inside])).sum()))
    return np.array(bits)


def test_the_excess_is_that_of_poisson_numbers() -> None:
    for mean in (0.003, 0.2, 1.0, 7.0, 60.0):
        n = np.arange(1, 400)
        expected = float((stats.poisson.pmf(n, mean) * n * np.log(n / mean)).sum())
        assert excess(np.array([mean]))[0] == pytest.approx(expected, rel=0.02, abs=1e-4)
    assert excess(np.array([0.0, 1e4])) == pytest.approx([0, 0.5], abs=0.01)


def test_a_latent_that_knows_nothing_of_documents_has_no_bits_however_rare_it_is() -> None:
    generator = np.random.default_rng(0)
    size_G = generator.integers(20, 100, 400)
    shares = np.array([0.001, 0.01, 0.1, 0.5, 0.9])
    on_GF = generator.binomial(size_G[:, None], np.repeat(shares, 40))
    bits_F = document_information(sparse.csr_array(on_GF), size_G)
    counted_F = plug_in(on_GF, size_G)
    # what is left is a tenth of what counting alone would say, for rare and dense ones alike
    for some_F, counted in zip(bits_F.reshape(5, 40), counted_F.reshape(5, 40), strict=True):
        assert some_F.mean() < 0.1 * counted.mean()


def test_a_latent_that_is_a_document_has_the_bits_of_that_document() -> None:
    size_G = np.full(8, 500)
    on_GF = np.zeros((8, 2), dtype=int)
    on_GF[3, 0] = 500  # on in the whole of one document of eight
    bits_F = document_information(sparse.csr_array(on_GF), size_G)
    entropy = -(1 / 8) * np.log2(1 / 8) - (7 / 8) * np.log2(7 / 8)
    assert bits_F[0] == pytest.approx(entropy, abs=0.002)
    assert bits_F[1] == 0


# --- counts ---


def test_pruned_counts_keep_what_tells_most() -> None:
    generator = np.random.default_rng(0)
    total_G = np.full(2000, 100)
    on_GF = generator.binomial(100, 0.02, (2000, 3))
    on_GF[:5, 1] = 60
    whole, pruned = Counts(3), Counts(3, prune_at=1000)
    for counts in (whole, pruned):
        for _ in range(2):
            counts.add(total_G, sparse.csr_array(on_GF))
    assert pruned.on_GF.nnz <= 3 * 512 < whole.on_GF.nnz
    assert set(pruned.best(5, 2.5)[1].index_K.tolist()) == set(range(5))
    assert pruned.best(5, 2.5)[1].z_K == pytest.approx(whole.best(5, 2.5)[1].z_K)


# --- names ---


@pytest.fixture(scope="module")
def corpus() -> tuple[np.ndarray, np.ndarray, Labels]:
    """Latent 0 is held over passages on astronomy and fires at their small words, 1 is a word, 2 is dead.

    A context is a document of 24 tokens: one subject, a third of them small words.
    """
    generator = np.random.default_rng(0)
    tokens_CL = np.array(
        [generator.choice([*range(3 * (c % 3), 3 * (c % 3) + 3), 9, 10, 11], 24) for c in range(90)]
    )
    about = np.repeat(np.arange(90) % 3 == 0, 24)
    small = tokens_CL.ravel() >= 9
    f_TF = np.zeros((tokens_CL.size, 3))
    f_TF[:, 0] = about & small
    f_TF[:, 1] = tokens_CL.ravel() == 6
    classes = [("Astronomy", "Cooking", "Law")[c % 3] for c in range(90)]
    return tokens_CL, f_TF, Labels([f"article {c}" for c in range(90)], classes)


def named(tokens_CL: np.ndarray, f_TF: np.ndarray, labels: Labels | None, at_a_time: int = 90) -> list[Name]:
    collector = NameCollector(f_TF.shape[1], Tokenizer())
    length = tokens_CL.shape[1]
    for first in range(0, len(tokens_CL), at_a_time):
        some = slice(first, first + at_a_time)
        rows = slice(first * length, (first + at_a_time) * length)
        collector.add(codes_of(tokens_CL[some], f_TF[rows], first=first))
    return collector.result(labels)


def test_a_latent_that_fires_at_small_words_is_named_by_its_passages(corpus) -> None:  # type: ignore[no-untyped-def]
    slow, word, dead = named(*corpus)
    assert {"comet", "orbit", "moon"} <= set(slow.held_over)
    assert not set(slow.held_over) & set(WORDS[3:9])
    assert slow.classes[0].text == "Astronomy"
    assert slow.classes[0].lift == pytest.approx(3, rel=0.01)
    assert slow.classes[0].share == 1
    assert slow.stretch > 5
    assert word.held_over == ["judge"]
    assert word.stretch <= 2
    assert word.classes[0].text == "Law"
    assert slow.telling > 10 * word.telling > 0
    assert dead == Name((), (), (), 0.0, 0.0)


def test_names_do_not_depend_on_how_the_corpus_is_cut(corpus) -> None:  # type: ignore[no-untyped-def]
    assert named(*corpus, at_a_time=7) == named(*corpus)


def test_without_titles_or_classes_there_are_words_all_the_same(corpus) -> None:  # type: ignore[no-untyped-def]
    tokens_CL, f_TF, _ = corpus
    for labels in (None, Labels([""] * 90, [""] * 90), Labels([""] * 90, ["one"] * 90)):
        slow, *_ = named(tokens_CL, f_TF, labels)
        assert {"comet", "orbit", "moon"} <= set(slow.held_over)
        assert slow.titles == slow.classes == ()
        assert slow.information > 0


def test_several_contexts_of_a_document_are_one() -> None:
    tokens_CL = np.zeros((40, 10), dtype=int)
    f_TF = np.repeat(np.arange(40) < 20, 10)[:, None].astype(float)
    apart = codes_of(tokens_CL, f_TF)
    together = apart._replace(document_C=np.repeat([7, 9], 20))
    bits = []
    for codes in (apart, together):
        collector = NameCollector(1, Tokenizer())
        collector.add(codes)
        bits.append(collector.result()[0].information)
    assert bits[1] == pytest.approx(1, abs=0.01)  # half of the tokens, and one of two documents


def test_a_corpus_of_nothing_names_nothing() -> None:
    assert NameCollector(2, Tokenizer()).result() == [Name((), (), (), 0.0, 0.0)] * 2


def test_a_name_comes_back_from_json() -> None:
    name = Name((Share("senate", 9.0, 0.25, 12.0),), (), (Share("Law", 3.0, 0.5, 2.0),), 12.0, 0.125)
    assert Name.of_json(name.as_json()) == name
