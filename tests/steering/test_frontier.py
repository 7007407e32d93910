"""Steered texts made into points, means and a frontier, worked by hand."""

import math

import numpy as np
import pytest

from temporal_saes.steering.figure import _Line
from temporal_saes.steering.frontier import MEASURES, points, summarise


def record(latent: int, strength: float | None, prompt: int = 0, control: bool = False, **measures) -> dict:
    return {
        "latent": latent,
        "strength": strength,
        "control": control,
        "prompt": prompt,
        **dict.fromkeys(MEASURES),
        **measures,
    }


def numbers(nll: float, repetition: float, domain: float) -> dict:
    return {"nll": nll, "repetition": repetition, "domain_probability": domain}


def test_a_point_is_the_mean_over_prompts_against_the_same_latent_unsteered():
    records = [
        record(5, None, 0, **numbers(2.0, 0.0, 0.1), own_tokens=0.001),
        record(5, None, 1, **numbers(3.0, 0.2, 0.3), own_tokens=0.003),
        record(5, 1.0, 0, **numbers(4.0, 0.1, 0.5), own_tokens=0.1),
        record(5, 1.0, 1, **numbers(4.0, 0.5, 0.9), own_tokens=0.1),
        record(6, None, 0, **numbers(9.0, 0.9, 0.9)),
    ]
    (point,) = points(records, control=False)
    assert (point.latent, point.strength) == (5, 1.0)
    got = point.measures
    assert got["nll_added"] == pytest.approx(1.5)
    assert got["repetition_added"] == pytest.approx(0.2)
    assert got["domain_gain"] == pytest.approx(0.5)
    assert got["own_tokens_log10"] == pytest.approx(math.log10(50))
    assert got["activation_gain"] is None
    assert points(records, control=True) == []


def test_texts_without_a_number_are_left_out_of_the_mean():
    records = [
        record(5, None, 0, **numbers(2.0, 0.0, 0.1)),
        record(5, 1.0, 0, **numbers(3.0, 0.0, 0.2)),
        record(5, 1.0, 1),
    ]
    (point,) = points(records, control=False)
    assert point.measures["nll_added"] == pytest.approx(1.0)


def test_a_control_is_compared_with_the_same_unsteered_texts():
    records = [
        record(5, None, **numbers(2.0, 0.0, 0.1)),
        record(5, 1.0, control=True, **numbers(2.5, 0.0, 0.2)),
    ]
    assert points(records, control=False) == []
    (point,) = points(records, control=True)
    assert point.measures["nll_added"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("nll", "repetition", "coherence", "coherent"),
    [
        (1.0, 0.1, None, True),
        (1.1, 0.0, None, False),
        (0.0, 0.11, None, False),
        (9.0, 0.9, 2.0, True),  # a judge knows better
        (0.0, 0.0, 1.9, False),
        (None, 0.0, None, None),
    ],
)
def test_coherent_is_what_a_judge_calls_so_or_what_numbers_do(nll, repetition, coherence, coherent):
    before = record(1, None, **numbers(0.0, 0.0, 0.0))
    after = record(1, 1.0, nll=nll, repetition=repetition, coherence=coherence)
    (point,) = points([before, after], control=False)
    assert point.is_coherent is coherent


def test_the_summary_is_over_latents_and_keeps_what_is_gained_while_coherent():
    records = [
        record(1, None, **numbers(2.0, 0.0, 0.1)),
        record(1, 1.0, **numbers(2.5, 0.0, 0.3)),  # gains .2 and is coherent
        record(1, 2.0, **numbers(5.0, 0.0, 0.9)),  # gains more, and is not
        record(2, None, **numbers(2.0, 0.0, 0.1)),
        record(2, 1.0, **numbers(2.1, 0.0, 0.0)),  # loses
        record(2, 2.0, **numbers(2.2, 0.0, 0.7)),  # gains .6 and is coherent
        record(1, 1.0, control=True, **numbers(9.0, 0.0, 0.9)),  # never coherent
    ]
    summary = summarise(records)
    first, second = summary["steered"]
    assert (first["strength"], second["strength"]) == (1.0, 2.0)
    assert first["measures"]["domain_gain"]["mean"] == pytest.approx(0.05)  # of .2 and -.1
    # t(.975, 1) = 12.706; s = .3 / sqrt 2, so the half width is 12.706 * .15
    assert first["measures"]["domain_gain"]["high"] == pytest.approx(0.05 + 12.7062 * 0.15, rel=1e-4)
    assert first["measures"]["success"] is None
    assert summary["while_coherent"]["steered"]["domain_gain"]["mean"] == pytest.approx(0.4)
    control = summary["while_coherent"]["control"]["domain_gain"]
    assert (control["mean"], control["low"]) == (0.0, None)
    assert summary["unsteered"]["nll"]["mean"] == 2.0


def test_a_judges_success_is_counted_from_that_of_unsteered_texts():
    def judged(success, coherence):
        return {"success": success, "coherence": coherence, **numbers(1.0, 0.0, 0.0)}

    records = [
        record(1, None, **judged(1, 3)),
        record(1, 1.0, **judged(2, 2)),
        record(1, 4.0, **judged(3, 0)),
    ]
    summary = summarise(records)
    assert summary["while_coherent"]["steered"]["success_gain"]["mean"] == 1
    assert summary["unsteered"]["coherence"]["mean"] == 3


def test_nothing_steered_is_no_summary_of_nothing():
    summary = summarise([record(1, None, **numbers(2.0, 0.0, 0.1))])
    assert summary["steered"] == summary["control"] == []
    assert summary["while_coherent"]["steered"]["domain_gain"] is None


def test_points_without_an_interval_have_no_error_bar_of_no_width() -> None:
    ends = [{"mean": 0.5, "low": 0.25, "high": 0.75}, {"mean": 0.5, "low": None, "high": None}, None]
    points = [{"measures": {"success": one}} for one in ends]
    errors = _Line(points, {}, "black", is_control=False, shift=0.0).errors("success")
    np.testing.assert_array_equal(errors, [[0.25, np.nan, np.nan]] * 2)
