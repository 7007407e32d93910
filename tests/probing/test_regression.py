"""The logistic regression of the probes, against scikit-learn's and against numbers worked by hand."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.linear_model import LogisticRegression

from temporal_saes.probing import regression
from temporal_saes.probing.regression import Regression


def examples(
    n_classes: int, n: int = 300, n_features: int = 40, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Codes, mostly zero, with a class each that some of them tell."""
    generator = np.random.default_rng(seed)
    x = generator.exponential(size=(n, n_features)) * (generator.random((n, n_features)) < 0.2)
    y = np.arange(n) % n_classes
    x[np.arange(n), y] += generator.random(n)
    return x.astype(np.float32), y


def loss(w_GC: np.ndarray, x: np.ndarray, y: np.ndarray, strength: float, penalty: float = 1.0) -> float:
    """The penalised loss in float64, as it stands in textbooks."""
    scores_NC = x.astype(np.float64) @ w_GC[:-1] + w_GC[-1]
    p_NC = np.exp(scores_NC - scores_NC.max(1, keepdims=True))
    p_NC /= p_NC.sum(1, keepdims=True)
    square = penalty * (w_GC[:-1] ** 2).sum() / (2 * strength * len(y))
    return float(square - np.log(p_NC[np.arange(len(y)), y]).mean())


def exact(x: np.ndarray, y: np.ndarray, strength: float) -> LogisticRegression:
    return LogisticRegression(C=strength, tol=1e-9, max_iter=10_000).fit(x.astype(np.float64), y)


@pytest.mark.parametrize("strength", [0.001, 0.1, 1.0])
@pytest.mark.parametrize("rows", [np.asarray, sparse.csr_array])
def test_it_finds_the_optimum_of_scikit_learn(strength, rows):
    x, y = examples(5)
    model = Regression(x.shape[1], 5)
    assert model.learn(rows(x), y, strength)
    best = exact(x, y, strength)
    found = loss(model.w_GC.double().numpy(), x, y, strength)
    least = loss(np.vstack([best.coef_.T, best.intercept_]), x, y, strength)
    assert least - 1e-9 <= found <= least + 1e-5
    np.testing.assert_allclose(model.probabilities(rows(x)), best.predict_proba(x), atol=0.01)


def test_two_classes_are_penalised_as_scikit_learn_does_it():
    x, y = examples(2)
    model = Regression(x.shape[1], 2)
    model.learn(x, y, 0.1)
    best = exact(x, y, 0.1)
    difference_G = model.w_GC[:, 1] - model.w_GC[:, 0]
    np.testing.assert_allclose(difference_G, [*best.coef_[0], *best.intercept_], atol=0.01)


def test_without_features_a_class_is_as_probable_as_it_is_frequent():
    y = np.array([0] * 5 + [1] * 3 + [2] * 2)
    model = Regression(0, 3)
    model.learn(np.zeros((10, 0)), y, 1.0)
    np.testing.assert_allclose(model.probabilities(np.zeros((1, 0)))[0], [0.5, 0.3, 0.2], atol=1e-3)
    assert model.predict(np.zeros((4, 0))).tolist() == [0, 0, 0, 0]


def test_a_class_without_an_example_is_never_said():
    x, y = examples(3)
    model = Regression(x.shape[1], 4)
    assert model.learn(x, y, 0.1)
    assert model.probabilities(x)[:, 3].max() < 0.01
    assert set(model.predict(x)) <= {0, 1, 2}


def test_it_goes_on_from_the_weights_it_has(monkeypatch):
    x, y = examples(5)
    model = Regression(x.shape[1], 5)
    model.learn(x, y, 0.1)
    monkeypatch.setattr(regression, "MAX_ITERATIONS", 2)
    again, anew = model.copy(), Regression(x.shape[1], 5)
    assert again.learn(x, y, 0.1)  # there is nothing left to do
    assert not anew.learn(x, y, 0.1)
    assert np.allclose(again.w_GC, model.w_GC, atol=1e-3)


def test_a_copy_is_another_model():
    x, y = examples(3)
    model = Regression(x.shape[1], 3)
    other = model.copy()
    other.learn(x, y, 1.0)
    assert not model.w_GC.any()
    assert other.w_GC.any()


def test_a_rough_fit_is_shorter_and_hardly_worse():
    x, y = examples(8, n=400)
    rough, full = Regression(x.shape[1], 8), Regression(x.shape[1], 8)
    rough.learn(x, y, 1.0, least_gain=1e-3)
    full.learn(x, y, 1.0)
    blind = np.log(8)
    least, found = (loss(model.w_GC.double().numpy(), x, y, 1.0) for model in (full, rough))
    assert least < found < least + 0.02 * (blind - least)


def test_large_and_rare_values_do_not_keep_it_from_converging():
    # of unit variance a latent that is active once in 2,000 tokens is 45 there
    x = np.zeros((2000, 60), dtype=np.float32)
    x[np.arange(60) * 30, np.arange(60)] = 45
    y = np.arange(2000) % 20
    for strength in (0.001, 1.0):
        model = Regression(60, 20)
        assert model.learn(sparse.csr_array(x), y, strength)
        best = exact(x, y, strength)
        found = loss(model.w_GC.double().numpy(), x, y, strength)
        assert found <= loss(np.vstack([best.coef_.T, best.intercept_]), x, y, strength) + 1e-4
