import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.linear_model import LogisticRegression

from temporal_saes import logistic
from temporal_saes.logistic import solve


def data(n: int, n_features: int, n_classes: int, density: float, seed: int = 0):
    generator = np.random.default_rng(seed)
    x = generator.exponential(size=(n, n_features)) * (generator.random((n, n_features)) < density)
    y = (x @ generator.normal(size=(n_features, n_classes)) + generator.normal(size=(n, n_classes))).argmax(1)
    return x.astype(np.float32), y


@pytest.mark.parametrize("strength", [0.01, 1.0])
@pytest.mark.parametrize("density", [0.03, 0.6])
@pytest.mark.parametrize("n_classes", [3, 7])
def test_the_solution_is_scikit_learns(strength, density, n_classes):
    x, y = data(300, 40, n_classes, density)
    reference = LogisticRegression(C=strength, tol=1e-6, max_iter=5000).fit(x.astype(np.float64), y)
    for rows in (x, sparse.csr_array(x)):
        found = solve(rows, y, n_classes, 1 / (strength * len(y)))
        assert found.converged
        p = torch.softmax(torch.from_numpy(x) @ found.weights_FC + found.intercept_C, dim=1).numpy()
        np.testing.assert_allclose(p, reference.predict_proba(x), atol=0.02)
        assert np.mean(found.predict(rows) == reference.predict(x)) > 0.98


def test_two_classes_without_a_feature_that_helps_give_their_shares():
    # the intercept alone: 3 of 4 examples are class 1, so its logit is ln 3 above the other's
    x, y = np.zeros((8, 2), dtype=np.float32), np.array([1, 1, 1, 0] * 2)
    found = solve(x, y, 2, 0.1)
    assert float(found.intercept_C[1] - found.intercept_C[0]) == pytest.approx(np.log(3), abs=1e-2)
    assert found.weights_FC.abs().max() == 0


def test_a_start_leads_to_the_same_end():
    x, y = data(200, 20, 4, 0.3)
    cold = solve(x, y, 4, 0.01)
    warm = solve(x, y, 4, 0.01, start=solve(x, y, 4, 0.1))
    assert torch.allclose(cold.weights_FC, warm.weights_FC, atol=0.02)


def test_an_early_end_is_not_called_converged(monkeypatch):
    x, y = data(200, 20, 4, 0.3)
    monkeypatch.setattr(logistic, "MAX_ITERATIONS", 2)
    assert not solve(x, y, 4, 1e-4).converged
