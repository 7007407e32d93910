"""L-BFGS for smooth convex functions of many variables (Nocedal and Wright, Numerical Optimization, 7.2).

    converged = minimise(objective, w, tolerance=1e-5, least_gain=1e-8, most=1000)   # changes w

The same iteration as `torch.optim.LBFGS`, without what that does around it: there half of a small fit's time
goes, and of a large one's a third, into fresh vectors and a line search with two conditions. A convex
function needs one, a sufficient decrease (Armijo): its curvature is positive whatever the step.

Shapes: any, of the variables; m remembered steps.
"""

from collections import deque
from collections.abc import Callable

import torch
from torch import Tensor

REMEMBERED = 10  # steps
DECREASE = 1e-4  # share of the decrease that the slope promises
SHORTEST, LONGEST = 0.05, 0.5  # next step that is tried, as a share of one that was too long
TRIALS = 40  # of a step

Objective = Callable[[Tensor, Tensor], float]
"""From the variables to the value; the gradient is written into the second tensor."""


def minimise(objective: Objective, w: Tensor, *, tolerance: float, least_gain: float, most: int) -> bool:
    """Go on from w, in place.

    Args:
        tolerance: of the largest entry of the gradient.
        least_gain: an iteration that lowers the value by less is the last.
        most: iterations.

    Returns:
        whether one of the two was reached.
    """
    gradient, direction = torch.empty_like(w), torch.empty_like(w)
    tried, tried_gradient = torch.empty_like(w), torch.empty_like(w)
    path = _Path(w)
    value = objective(w, gradient)
    for _ in range(most):
        if float(gradient.abs().max()) <= tolerance:
            return True
        path.direction(gradient, direction)
        slope = _dot(gradient, direction)
        if slope >= 0:  # rounded away: begin anew
            path.forget()
            path.direction(gradient, direction)
            slope = _dot(gradient, direction)
        is_first = not path
        step = 1 / (-slope) ** 0.5 if is_first else 1.0
        for _ in range(TRIALS):
            torch.add(w, direction, alpha=step, out=tried)
            tried_value = objective(tried, tried_gradient)
            excess = tried_value - value - step * slope
            if tried_value <= value + DECREASE * step * slope:
                break
            if -step * slope < least_gain:
                return True
            # the least of the parabola through both values and the slope
            shorter = -slope * step / (2 * excess) if excess > 0 else SHORTEST
            step *= min(max(shorter, SHORTEST), LONGEST)
        else:
            return False  # a value or a slope that is not finite
        path.add(direction, step, gradient, tried_gradient)
        w.copy_(tried)
        gradient, tried_gradient = tried_gradient, gradient
        gain, value = value - tried_value, tried_value
        if gain < least_gain and not is_first:
            return True
    return False


class _Path:
    """The last steps, with the change of the gradient along each: what is known of the curvature."""

    def __init__(self, like: Tensor) -> None:
        self._pairs: deque[tuple[Tensor, Tensor, float]] = deque()
        self._unused = [(torch.empty_like(like), torch.empty_like(like)) for _ in range(REMEMBERED)]

    def __bool__(self) -> bool:
        return bool(self._pairs)

    def forget(self) -> None:
        while self._pairs:
            self._unused.append(self._pairs.pop()[:2])

    def add(self, direction: Tensor, step: float, before: Tensor, after: Tensor) -> None:
        if not self._unused:
            self._unused.append(self._pairs.popleft()[:2])
        moved, change = self._unused.pop()
        torch.mul(direction, step, out=moved)
        torch.sub(after, before, out=change)
        curvature = _dot(moved, change)
        if curvature > 0:
            self._pairs.append((moved, change, curvature))
        else:  # rounded away
            self._unused.append((moved, change))

    def direction(self, gradient: Tensor, out: Tensor) -> None:
        """Where a step of 1 leads to the least of the parabola that has this curvature, algorithm 7.4."""
        torch.neg(gradient, out=out)
        along: list[float] = []
        for moved, change, curvature in reversed(self._pairs):
            along.append(_dot(moved, out) / curvature)
            out.add_(change, alpha=-along[-1])
        if self._pairs:
            _, change, curvature = self._pairs[-1]
            out.mul_(curvature / _dot(change, change))
        for moved, change, curvature in self._pairs:
            out.add_(moved, alpha=along.pop() - _dot(change, out) / curvature)


def _dot(a: Tensor, b: Tensor) -> float:
    return float(torch.dot(a.view(-1), b.view(-1)))
