"""Multinomial logistic regression with an L2 penalty: the objective, which torch's L-BFGS minimises.

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
        x_T, gradient_GC = x.T, torch.empty_like(w_GC)
        w_GC.grad = gradient_GC
        w_GC[-1] += mean_F @ w_GC[:-1]  # the score of an example whose features are all at their means

        def objective() -> Tensor:
            log_p_NC = torch.log_softmax(self._scores(x, w_GC[-1] - mean_F @ w_GC[:-1]), 1)
            square = torch.linalg.vector_norm(w_GC[:-1], dim=0).double().square().sum()
            loss = penalty / 2 * square - log_p_NC[row_N, y_N].mean(dtype=torch.float64)
            slope_NC = log_p_NC.exp_()
            slope_NC[row_N, y_N] -= 1
            slope_NC /= n
            gradient_GC[-1] = slope_NC.sum(0)
            gradient_GC[:-1] = torch.from_numpy(x_T @ slope_NC.numpy())
            gradient_GC[:-1].addr_(mean_F, gradient_GC[-1], alpha=-1).add_(w_GC[:-1], alpha=penalty)
            return loss

        optimizer = torch.optim.LBFGS(
            [w_GC],
            max_iter=MAX_ITERATIONS,
            max_eval=2 * MAX_ITERATIONS,
            tolerance_grad=tolerance,
            tolerance_change=least_gain,
            history_size=10,
            line_search_fn="strong_wolfe",
        )
        optimizer.step(objective)  # type: ignore[arg-type]  # the loss is a tensor, which it turns into a float
        w_GC.grad = None
        w_GC[-1] -= mean_F @ w_GC[:-1]
        done = optimizer.state[w_GC]
        return done.get("n_iter", 0) < MAX_ITERATIONS and done["func_evals"] < 2 * MAX_ITERATIONS

    def predict(self, x: Rows) -> np.ndarray:
        """The number of the most probable class of each example, [N]."""
        return self._scores(x.astype(np.float32, copy=False), self.w_GC[-1]).argmax(1).numpy()

    def probabilities(self, x: Rows) -> np.ndarray:
        """The probability of each class, [N, C]."""
        return self._scores(x.astype(np.float32, copy=False), self.w_GC[-1]).double().softmax(1).numpy()

    def _scores(self, x: Rows, intercept_C: Tensor) -> Tensor:
        return torch.from_numpy(x @ self.w_GC[:-1].numpy()).add_(intercept_C)
