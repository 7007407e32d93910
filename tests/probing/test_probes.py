from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from dictionary_learning.errors import UserError
from temporal_saes.probing import probes, regression
from temporal_saes.probing.probes import fit, interval, learn_best, part_sizes, probe, rank_features, split


def coded(n_a_class: int, classes: str, n_features: int, seed: int = 0) -> tuple[np.ndarray, list[str]]:
    """Features where latent 3c (strongly) and 3c + 1 (weakly) tell class c, with noise on the rest."""
    generator = np.random.default_rng(seed)
    labels = [label for label in classes for _ in range(n_a_class)]
    x = generator.random((len(labels), n_features)) * (generator.random((len(labels), n_features)) < 0.1)
    for row, label in enumerate(labels):
        place = 3 * classes.index(label)
        x[row, place] += 5
        x[row, place + 1] += 2
    return x.astype(np.float32), labels


def test_the_latents_that_tell_the_classes_are_the_ones_chosen():
    x, labels = coded(20, "abcd", 30)
    ranked = rank_features(sparse.csr_array(x), np.array(labels))
    assert ranked.union(1).tolist() == [0, 3, 6, 9]
    assert ranked.union(2).tolist() == [0, 1, 3, 4, 6, 7, 9, 10]
    assert ranked.union("all").tolist() == list(range(30))


def test_a_class_that_is_missing_in_the_training_part_shifts_nothing():
    # The original counted classes 0..n-1 of the training part: with "b" away, "c" was compared as "b".
    x, labels = coded(20, "abcd", 30)
    rows = np.array([label != "b" for label in labels])
    ranked = rank_features(sparse.csr_array(x[rows]), np.array(labels)[rows])
    assert ranked.union(1).tolist() == [0, 6, 9]


def test_differences_are_class_mean_minus_mean_of_the_rest():
    # class a: rows 0, 1; class b: row 2. Latent 0: a mean 2, b mean 5; latent 1: a mean 1, b mean 0.
    x = np.array([[1.0, 2.0], [3.0, 0.0], [5.0, 0.0]])
    y = np.array(["a", "a", "b"])
    expected = [[-3.0, 1.0], [3.0, -1.0]]
    for rows in (x, sparse.csr_array(x)):
        np.testing.assert_allclose(rank_features(rows, y).difference_CF, expected)
    np.testing.assert_allclose(rank_features(x, y, by_magnitude=True).difference_CF, np.abs(expected))


def test_a_choice_in_standard_deviations_is_not_led_by_the_largest_feature():
    # feature 0 is a hundred times as large and tells little; feature 1 tells the classes
    x = np.array([[100.0, 1.0], [300.0, 1.0], [500.0, 0.0], [0.0, 0.0]])
    y = np.array(["a", "a", "b", "b"])
    assert np.argmax(rank_features(x, y).difference_CF[1]) == 0
    by_units = rank_features(x, y, by_magnitude=True).difference_CF
    scaled = rank_features(x, y, by_magnitude=True, scaled=True).difference_CF
    assert by_units.argmax(axis=1).tolist() == [0, 0]
    assert scaled.argmax(axis=1).tolist() == [1, 1]
    # means 200 and 250, 1 and 0; standard deviations 192.03 and .5
    np.testing.assert_allclose(scaled[0], [50 / np.std([100, 300, 500, 0]), 2.0])
    np.testing.assert_allclose(
        rank_features(sparse.csr_array(x), y, by_magnitude=True, scaled=True).difference_CF, scaled
    )


def test_a_silent_latent_is_never_chosen_and_more_than_there_are_is_all_that_tell():
    x = np.zeros((4, 5))
    x[:2, 1], x[2:, 4] = 1, 1
    ranked = rank_features(sparse.csr_array(x), np.array(["a", "a", "b", "b"]))
    assert ranked.union(3).tolist() == [1, 4]
    assert ranked.union(50).tolist() == [1, 4]


@given(
    counts=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    share=st.floats(0.05, 0.95),
    seed=st.integers(0, 5),
)
def test_the_parts_are_disjoint_and_every_class_has_its_share(counts, share, seed):
    y = np.repeat(np.arange(len(counts)), counts)
    n_test = round(share * len(y))
    n_train = len(y) - n_test
    train, test = split(y, n_train, n_test, seed)
    assert sorted([*train, *test]) == list(range(len(y)))
    for label, count in enumerate(counts):
        # on a line where its members are evenly spread, a stretch holds a class to within one;
        # the stretch's end is where n_test examples are reached, each class being off by less than one
        assert abs(np.sum(y[test] == label) - count * n_test / len(y)) <= len(counts) + 1


def test_split_with_balanced_classes_is_balanced_and_seeded():
    y = np.repeat(["a", "b", "c", "d"], 100)
    train, test = split(y, 120, 40, seed=[0, 1])
    assert [int(np.sum(y[test] == label)) for label in "abcd"] == [10, 10, 10, 10]
    assert [int(np.sum(y[train] == label)) for label in "abcd"] == [30, 30, 30, 30]
    assert not set(train) & set(test)
    again, other = split(y, 120, 40, seed=[0, 1]), split(y, 120, 40, seed=[0, 2])
    assert np.array_equal(again.test, test)
    assert not np.array_equal(other.test, test)


@pytest.mark.parametrize(
    ("counts", "n_train", "n_test"),
    [
        ((990, 10), 80, 20),
        ((980, 10, 10), 40, 10),
        ((5000, 10), 300, 100),
        ((10, 10, 10), 6, 3),
        ((13, 11, 10), 6, 3),
        ((30, 3), 4, 2),
    ],
)
def test_every_class_is_in_both_parts_however_rare_it_is(counts, n_train, n_test):
    y = np.repeat(np.array(list("abc")[: len(counts)]), counts)
    for seed in range(30):
        train, test = split(y, n_train, n_test, [seed, 0], least=(2, 1))
        assert (len(train), len(test)) == (n_train, n_test)
        assert len({*train, *test}) == n_train + n_test
        for label in np.unique(y):
            assert np.sum(y[train] == label) >= 2
            assert np.sum(y[test] == label) >= 1


def test_what_a_class_has_to_have_changes_nothing_where_it_has_it():
    for counts in ((100, 100, 100, 100), (400, 90, 60, 40)):
        y = np.repeat(["a", "b", "c", "d"], counts)
        for seed in range(20):
            asked, free = split(y, 120, 40, seed, least=(2, 1)), split(y, 120, 40, seed)
            assert np.array_equal(asked.train, free.train)
            assert np.array_equal(asked.test, free.test)
    # the smallest parts of balanced classes: each has its least by its share
    y = np.repeat(["a", "b", "c"], 50)
    for seed in range(20):
        asked, free = split(y, 6, 3, seed, least=(2, 1)), split(y, 6, 3, seed)
        assert np.array_equal(asked.train, free.train)
        assert np.array_equal(asked.test, free.test)


@pytest.mark.parametrize(("counts", "n_train", "n_test"), [((990, 10), 80, 20), ((980, 10, 10), 40, 10)])
def test_a_rare_class_is_probed_and_not_a_traceback(counts, n_train, n_test):
    labels = [label for label, n in zip("abc", counts, strict=False) for _ in range(n)]
    x = np.random.default_rng(0).random((len(labels), 30))
    for seed in range(8):
        found = probe(x, labels, ks=(1,), n_train=n_train, n_test=n_test, repeats=3, seed=seed)
        assert len(found.accuracies[0].values) == 3
        assert (found.n_train, found.n_test) == (n_train, n_test)


def test_sizes_shrink_in_proportion_when_the_data_are_few():
    assert part_sizes(5000, 10, 3000, 1000) == (3000, 1000)
    assert part_sizes(4000, 10, 3000, 1000) == (3000, 1000)
    assert part_sizes(400, 10, 3000, 1000) == (300, 100)


def test_too_few_examples_or_classes_are_refused_in_a_sentence():
    with pytest.raises(UserError, match="at least 60 and 30"):
        part_sizes(60, 30, 3000, 1000)
    with pytest.raises(UserError, match="fewer than two classes have 10 examples"):
        part_sizes(60, 1, 3000, 1000)


def test_the_interval_follows_its_formula():
    # values .5, .7, .9: mean .7, variance .04; t(.975, 2) = 4.3027; n_test / n_train = 1/3:
    # half = 4.3027 * sqrt((1/3 + 1/3) * .04) = .70262
    mean, low, high = interval([0.5, 0.7, 0.9], n_train=3000, n_test=1000)
    assert mean == pytest.approx(0.7)
    assert low == pytest.approx(0.7 - 0.70262, abs=1e-4)
    assert high == pytest.approx(0.7 + 0.70262, abs=1e-4)
    assert interval([0.5], 3, 1) == (0.5, None, None)


def test_chance_and_majority_are_counted():
    x, labels = coded(20, "ab", 12)
    x, labels = np.concatenate([x, x[:20]]), [*labels, *labels[:20]]  # 40 a, 20 b
    result = probe(x, labels, ks=[1], n_train=45, n_test=15, repeats=3, seed=0)
    assert result.chance == 1 / 2
    assert result.majority == pytest.approx(2 / 3)  # 10 of 15 in every stratified test part
    assert result.classes == {"a": 40, "b": 20}


def test_a_readable_code_is_read_and_noise_stays_at_chance():
    x, labels = coded(60, "abcd", 40)
    result = probe(sparse.csr_array(x), labels, ks=[1, "all"], n_train=180, n_test=60, repeats=3, seed=0)
    assert [one.interval.mean for one in result.accuracies] == [1.0, 1.0]
    assert result.accuracies[0].n_features == [4, 4, 4]
    assert [one.n_converged for one in result.accuracies] == [3, 3]
    noise = np.random.default_rng(0).random((240, 40)).astype(np.float32)
    blind = probe(noise, labels, ks=["all"], n_train=180, n_test=60, repeats=5, seed=0)
    assert abs(blind.accuracies[0].interval.mean - 0.25) < 0.15


def test_sparse_and_dense_rows_choose_alike_and_score_nearly_alike():
    x, labels = coded(60, "abcd", 40, seed=3)
    options = {"ks": [1, 2], "n_train": 160, "n_test": 80, "repeats": 2, "seed": 1}
    dense = probe(x, labels, **options)
    thin = probe(sparse.csr_array(x), labels, **options)
    for one, other in zip(dense.accuracies, thin.accuracies, strict=True):
        assert one.n_features == other.n_features
        assert one.interval.mean == pytest.approx(other.interval.mean, abs=0.05)


def test_latents_that_are_mostly_active_give_the_same_as_dense_rows(monkeypatch):
    x, labels = coded(40, "abc", 12)
    rows, y = sparse.csr_array(x + np.float32(0.1)), np.array(labels)
    multiplied = []
    for share in (0.2, 1.1):
        monkeypatch.setattr(probes, "DENSE", share)
        monkeypatch.setattr(probes, "learn_best", lambda x, y: multiplied.append(type(x)) or learn_best(x, y))
        found = fit(rows[::2], y[::2], rows[1::2], y[1::2])
        assert (found.accuracy, found.converged) == (1.0, True)
    assert multiplied == [np.ndarray, sparse.csr_array]


def test_rare_classes_are_left_out_and_named():
    x, labels = coded(20, "abc", 12)
    labels = [*labels[:40], *["c"] * 4, *["d"] * 16]
    result = probe(x, labels, ks=[1], n_train=30, n_test=10, repeats=1, seed=0)
    assert result.left_out == {"c": 4}
    assert result.classes == {"a": 20, "b": 20, "d": 16}
    assert result.chance == 1 / 3


def test_the_same_seed_gives_the_same_numbers():
    x, labels = coded(30, "abc", 12)
    x = x + np.random.default_rng(1).normal(size=x.shape).astype(np.float32) * 4
    options = {"ks": [1, 3, "all"], "n_train": 60, "n_test": 30, "repeats": 2}
    assert probe(x, labels, seed=4, **options) == probe(x, labels, seed=4, **options)
    assert probe(x, labels, seed=4, **options) != probe(x, labels, seed=5, **options)


def test_silent_features_give_the_most_frequent_class():
    y = np.array(["a"] * 6 + ["b"] * 4)
    nothing = sparse.csr_array((10, 3), dtype=np.float32)
    assert fit(nothing, y, nothing, y) == (0.6, 0, None, True)
    assert fit(np.ones((10, 3)), y, np.ones((10, 3)), y) == (0.6, 0, None, True)
    no_columns = sparse.csr_array((10, 0), dtype=np.float32)
    assert fit(no_columns, y, no_columns, y) == (0.6, 0, None, True)


def test_a_fit_that_did_not_converge_is_reported(monkeypatch):
    x, labels = coded(30, "abc", 12)
    monkeypatch.setattr(regression, "MAX_ITERATIONS", 1)
    result = probe(x, labels, ks=["all"], n_train=60, n_test=30, repeats=2, seed=0)
    assert result.accuracies[0].n_converged == 0


def test_many_features_of_noise_are_held_back_by_a_stronger_penalty():
    generator = np.random.default_rng(0)
    x, labels = coded(40, "ab", 6)
    x[:, :6] = x[:, :6] * 0.2 + generator.normal(size=(80, 6))
    few = fit(x[::2], np.array(labels)[::2], x[1::2], np.array(labels)[1::2])
    noisy = np.concatenate([x, generator.normal(size=(80, 400)).astype(np.float32)], axis=1)
    many = fit(noisy[::2], np.array(labels)[::2], noisy[1::2], np.array(labels)[1::2])
    assert many.n_features == 406
    assert many.strength < 1.0
    assert few.accuracy > 0.6


def test_every_fit_is_announced_and_ended():
    x, labels = coded(20, "ab", 12)
    calls = []

    @contextmanager
    def around_fit(k, repeat):
        calls.append((k, repeat))
        yield
        calls.append("done")

    probe(
        x,
        labels,
        ks=[1, "all"],
        n_train=30,
        n_test=10,
        repeats=3,
        seed=0,
        around_fit=around_fit,
    )
    assert calls[::2] == [(k, repeat) for repeat in range(3) for k in (1, "all")]
    assert calls[1::2] == ["done"] * 6
