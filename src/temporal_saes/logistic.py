"""Multinomial logistic regression with an L2 penalty, for many classes and sparse rows.

The same minimum as scikit-learn's `LogisticRegression` (lbfgs) with `C = 1 / (penalty * N)`, in float32
and several times as fast: at 160 classes most of the time goes into exponentials, which torch
vectorises. A start near the minimum makes a path of penalties cheap.

Shapes: N examples, F features, C classes.
"""

import warnings
from typing import NamedTuple

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

TOLERANCE = 1e-4  # of the largest entry of the gradient, as in scikit-learn
MAX_ITERATIONS = 1000
_DENSE_FROM = 0.05  # share of entries that are not zero; a dense product is faster above it


class Solution(NamedTuple):
    """Where the optimiser ended."""

    weights_FC: Tensor
    intercept_C: Tensor
    converged: bool
    """Whether the largest entry of the gradient is below `TOLERANCE`."""

    def predict(self, x: sparse.csr_array | np.ndarray) -> np.ndarray:
        """The class number [N] with the highest logit."""
        return np.argmax(x @ self.weights_FC.numpy() + self.intercept_C.numpy(), axis=1)


def solve(
    x: sparse.csr_array | np.ndarray,
    y_N: np.ndarray,
    n_classes: int,
    penalty: float,
    start: Solution | None = None,
) -> Solution:
    """Minimise mean cross-entropy + penalty / 2 ‖weights‖²; the intercept is free.

    Args:
        x: [N, F] rows.
        y_N: class numbers from 0 to n_classes - 1.
        start: another solution to begin from, with the same features and classes.
    """
    product, transposed_product = _products(x)
    classes_N = torch.from_numpy(np.asarray(y_N, dtype=np.int64))
    rows_N = torch.arange(len(classes_N))
    n_features = x.shape[1]
    parameters = torch.zeros(n_features + 1, n_classes)  # the last row is the intercept
    if start is not None:
        parameters = torch.cat([start.weights_FC, start.intercept_C[None]])
    parameters.requires_grad_()
    optimiser = torch.optim.LBFGS(
        [parameters],
        max_iter=MAX_ITERATIONS,
        tolerance_grad=TOLERANCE,
        tolerance_change=0,
        line_search_fn="strong_wolfe",
    )

    @torch.no_grad()
    def evaluate() -> Tensor:
        weights_FC = parameters[:-1]
        logits_NC = product(weights_FC) + parameters[-1]
        normaliser_N = logits_NC.logsumexp(dim=1)
        loss = (normaliser_N - logits_NC[rows_N, classes_N]).mean() + penalty / 2 * weights_FC.square().sum()
        # softmax minus one-hot is the gradient of the cross-entropy
        error_NC = (logits_NC - normaliser_N[:, None]).exp_()
        error_NC[rows_N, classes_N] -= 1
        error_NC /= len(rows_N)
        gradient_FC = transposed_product(error_NC) + penalty * weights_FC
        parameters.grad = torch.cat([gradient_FC, error_NC.sum(dim=0)[None]])
        return loss

    optimiser.step(evaluate)
    evaluate()
    assert parameters.grad is not None
    converged = bool(parameters.grad.abs().max() <= TOLERANCE)
    found = parameters.detach()
    return Solution(found[:-1], found[-1], converged)


def _products(x: sparse.csr_array | np.ndarray):  # type: ignore[no-untyped-def]
    """The functions M -> x M and M -> x.T M."""
    if sparse.issparse(x) and x.nnz < _DENSE_FROM * x.shape[0] * x.shape[1]:
        x_NF, x_FN = _csr(x), _csr(x.T)
        return (lambda m: x_NF @ m), (lambda m: x_FN @ m)
    dense_NF = torch.from_numpy(np.asarray(x.toarray() if sparse.issparse(x) else x, dtype=np.float32))
    return (lambda m: dense_NF @ m), (lambda m: dense_NF.T @ m)


def _csr(x: sparse.csr_array) -> Tensor:
    rows = sparse.csr_array(x)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(
            torch.from_numpy(rows.indptr.astype(np.int64)),
            torch.from_numpy(rows.indices.astype(np.int64)),
            torch.from_numpy(rows.data.astype(np.float32)),
            size=rows.shape,
        )
