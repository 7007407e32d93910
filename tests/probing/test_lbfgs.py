"""The optimiser of the probes, on functions whose least value is known."""

import math

import pytest
import torch
from torch import Tensor

from temporal_saes.probing.lbfgs import REMEMBERED, minimise


def bowl(w: Tensor, gradient: Tensor) -> float:
    """(a - 1)² / 2 + 5 (b + 2)², least at (1, -2)."""
    a, b = w.tolist()
    gradient.copy_(torch.tensor([a - 1, 10 * (b + 2)]))
    return (a - 1) ** 2 / 2 + 5 * (b + 2) ** 2


def cliff(w: Tensor, gradient: Tensor) -> float:
    """exp(200 w) - w, least at -ln(200) / 200, and infinite in float32 from .45 on."""
    steep = (200 * w).exp()
    torch.sub(200 * steep, 1, out=gradient)
    return float((steep - w).sum())


def test_a_bowl_has_its_least_where_it_is_by_hand():
    w = torch.zeros(2)
    assert minimise(bowl, w, tolerance=1e-5, least_gain=0, most=50)
    assert w.tolist() == pytest.approx([1, -2], abs=1e-4)


def test_the_variables_may_be_a_matrix():
    target = torch.arange(6.0).view(2, 3)

    def objective(w: Tensor, gradient: Tensor) -> float:
        torch.sub(w, target, out=gradient)
        return float((w - target).square().sum()) / 2

    w = torch.zeros(2, 3)
    assert minimise(objective, w, tolerance=1e-5, least_gain=0, most=50)
    assert torch.allclose(w, target, atol=1e-4)


def test_a_step_over_a_cliff_is_made_shorter():
    w = torch.tensor([-0.2])  # the slope there does not tell of the cliff
    assert minimise(cliff, w, tolerance=1e-3, least_gain=0, most=100)
    assert w.item() == pytest.approx(-math.log(200) / 200, abs=1e-4)


def test_values_that_are_not_finite_end_it():
    assert not minimise(cliff, torch.tensor([1.0]), tolerance=1e-3, least_gain=1e-8, most=100)
    assert not minimise(cliff, torch.tensor([float("nan")]), tolerance=1e-3, least_gain=1e-8, most=100)


def test_more_variables_than_steps_are_remembered_for_need_no_more_than_patience():
    scale = torch.logspace(0, 2, 4 * REMEMBERED)

    def objective(w: Tensor, gradient: Tensor) -> float:
        torch.mul(scale, w - 1, out=gradient)
        return float((scale * (w - 1).square()).sum(dtype=torch.float64)) / 2

    w = torch.zeros_like(scale)
    assert minimise(objective, w, tolerance=1e-4, least_gain=0, most=300)
    assert torch.allclose(w, torch.ones_like(w), atol=1e-3)


def test_small_gains_end_it_before_the_gradient_is_gone():
    rough, full = torch.zeros(2), torch.zeros(2)
    assert minimise(bowl, rough, tolerance=0, least_gain=30, most=50)
    assert minimise(bowl, full, tolerance=1e-5, least_gain=0, most=50)
    at = torch.empty(2)
    assert bowl(full, at) < bowl(rough, at) < bowl(torch.zeros(2), at)


def test_it_says_that_it_was_not_through():
    assert not minimise(bowl, torch.zeros(2), tolerance=1e-5, least_gain=0, most=2)


def test_at_the_least_value_nothing_is_moved():
    w = torch.tensor([1.0, -2.0])
    assert minimise(bowl, w, tolerance=1e-5, least_gain=0, most=50)
    assert w.tolist() == [1, -2]
