"""Multinomial logistic regression with an L2 penalty: the objective, which L-BFGS minimises.

    model = Regression(n_features, n_classes)
    converged = model.learn(x, y, strength=0.1)     # goes on from the weights it has
    model.predict(x), model.probabilities(x)

The objective is that of scikit-learn's `LogisticRegression(C=strength)`, whose solvers find the same weights
(benchmarks/probe_solvers.py compares losses and times). Inside, features are taken less their means, which
sparse rows need not be rewritten for: the intercept, which is not penalised, takes the means up, so the
optimum is the same, and the path to it shorter. Products and vectors are float32; the loss is summed in
float64, as a line search has to see gains that are small beside it.

Shapes: N examples, F features, C classes, G = F + 1: the weights of the features, and in the last row the
intercept.
"""

from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from temporal_saes.probing.lbfgs import minimise

MAX_ITERATIONS = 1000
# of the largest entry of the gradient; at scikit-learn's 1e-4 weakly penalised fits on dense activations end
# .0007 nats above their optimum, and lose .001 of accuracy
TOLERANCE = 3e-5
LEAST_GAIN = 1e-8  # of one iteration, in nats an example: below it float32 has nothing more to find

Rows: TypeAlias = Any  # [N, F], a scipy.sparse.csr_array (untyped) or a numpy array


class Regression:
    """Scores of classes that are linear in the features."""

    def __init__(self, n_features: int, n_classes: int) -> None:
        self.w_GC = torch.zeros(n_features + 1, n_classes)

    def copy(self) -> "Regression":
        """Another one with the same weights."""
        made = Regression(len(self.w_GC) - 1, self.w_GC.shape[1])
        made.w_GC.copy_(self.w_GC)
        return made

    def learn(
        self,
        x: Rows,
        y: np.ndarray,
        strength: float,
        *,
        tolerance: float = TOLERANCE,
        least_gain: float = LEAST_GAIN,
    ) -> bool:
        """Go on from the present weights to those of the least penalised loss.

        Args:
            x: [N, F] features.
            y: [N] the number of each example's class.
            strength: inverse strength of the penalty, scikit-learn's C.
            tolerance: of the largest entry of the gradient.
            least_gain: an iteration that lowers the loss by less, in nats an example, is the last.

        Returns:
            whether the gradient vanished or gains became that small, within `MAX_ITERATIONS`.
        """
        x = x.astype(np.float32, copy=False)
        n, w_GC = len(y), self.w_GC
        # of two classes scikit-learn has one vector of weights, half of whose square is in each of our two
        penalty = (2 if w_GC.shape[1] == 2 else 1) / (strength * n)
        row_N, y_N = torch.arange(n), torch.from_numpy(np.asarray(y, dtype=np.int64))
        mean_F = torch.from_numpy(np.asarray(x.mean(axis=0, dtype=np.float64), dtype=np.float32))
        x_T, products_NC = x.T, np.empty((n, w_GC.shape[1]), np.float32)
        w_GC[-1] += mean_F @ w_GC[:-1]  # the score of an example whose features are all at their means

        def objective(w_GC: Tensor, gradient_GC: Tensor) -> float:
            scores_NC = self._scores(x, w_GC, w_GC[-1] - mean_F @ w_GC[:-1], out=products_NC)
            scores_NC -= scores_NC.amax(1, keepdim=True)
            own_N = scores_NC[row_N, y_N]
            sum_N1 = scores_NC.exp_().sum(1, keepdim=True)
            square = torch.linalg.vector_norm(w_GC[:-1], dim=0).double().square().sum()
            loss = penalty / 2 * square + (sum_N1[:, 0].log() - own_N).mean(dtype=torch.float64)
            slope_NC = scores_NC.div_(sum_N1.mul_(n))
            slope_NC[row_N, y_N] -= 1 / n
            torch.sum(slope_NC, 0, out=gradient_GC[-1])
            _product(x_T, slope_NC.numpy(), gradient_GC[:-1].numpy())
            gradient_GC[:-1].addr_(mean_F, gradient_GC[-1], alpha=-1).add_(w_GC[:-1], alpha=penalty)
            return float(loss)

        converged = minimise(objective, w_GC, tolerance=tolerance, least_gain=least_gain, most=MAX_ITERATIONS)
        w_GC[-1] -= mean_F @ w_GC[:-1]
        return converged

    def predict(self, x: Rows) -> np.ndarray:
        """The number of the most probable class of each example, [N]."""
        return self._scores(x.astype(np.float32, copy=False), self.w_GC, self.w_GC[-1]).argmax(1).numpy()

    def probabilities(self, x: Rows) -> np.ndarray:
        """The probability of each class, [N, C]."""
        scores_NC = self._scores(x.astype(np.float32, copy=False), self.w_GC, self.w_GC[-1])
        return scores_NC.double().softmax(1).numpy()

    @staticmethod
    def _scores(x: Rows, w_GC: Tensor, intercept_C: Tensor, out: np.ndarray | None = None) -> Tensor:
        return torch.from_numpy(_product(x, w_GC[:-1].numpy(), out)).add_(intercept_C)


def _product(a: Rows, b: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """The matrix product, in `out` where that is given; scipy writes none there itself."""
    if isinstance(a, np.ndarray):
        return np.matmul(a, b, out=out)
    made = a @ b
    if out is None:
        return made
    out[:] = made
    return out
