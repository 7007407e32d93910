"""The five smoothness measures: the oracle, hand-worked texts, the slow loops, and laws they obey."""

import json
import math
from pathlib import Path

import pytest
import reference_smoothness
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from dictionary_learning.smoothness import METRICS, SmoothnessMean, smoothness

ORACLE = Path(__file__).parents[1] / "oracles" / "metrics_tsae_128"


def sparse_text(T=64, F=300, D=8, k=6, pool=40, seed=0):
    """k of `pool` latents active a token, the other latents silent."""
    generator = torch.Generator().manual_seed(seed)
    f_TF = torch.zeros(T, F)
    columns = torch.randperm(F, generator=generator)[:pool]
    for t in range(T):
        chosen = columns[torch.randperm(pool, generator=generator)[:k]]
        f_TF[t, chosen] = torch.rand(k, generator=generator) + 0.1
    return f_TF, torch.randn(T, D, generator=generator)


def assert_same(ours, other, rel=1e-5):
    assert ours.keys() == other.keys()
    for split in ours:
        for metric in METRICS:
            value = other[split][metric]
            assert ours[split][metric] == (value and pytest.approx(value, rel=rel)), (split, metric)


def test_the_released_values_come_out():
    tensors = load_file(ORACLE.with_suffix(".safetensors"))
    oracle = json.loads(ORACLE.with_suffix(".json").read_text())
    splits = {name: slice(*edges) for name, edges in oracle["splits"].items()}
    result = smoothness(tensors["f"], tensors["x"], splits)
    for split, values in oracle["values"].items():
        for metric, value in values.items():
            assert result[split][metric] == pytest.approx(value, rel=1e-5), (split, metric)


def test_total_variation_and_lipschitz_by_hand():
    # latent 0: |2 - 0| + |1 - 2| = 3; latent 1: |1 - 1| + |0 - 1| = 1; latent 2 is silent
    f_TF = torch.tensor([[0.0, 1, 0], [2, 1, 0], [1, 0, 0]])
    # the activation moves by 4, then by 5 (3-4-5)
    x_TD = torch.tensor([[0.0, 0], [4, 0], [7, 4]])
    result = smoothness(f_TF, x_TD, {"first": slice(0, 1), "rest": slice(1, 3)})
    assert result["all"]["total_variation"] == pytest.approx(4)
    assert result["first"]["total_variation"] == pytest.approx(3)
    assert result["rest"]["total_variation"] == pytest.approx(1)
    # latent 0: max(2/4, 1/5) = .5; latent 1: max(0/4, 1/5) = .2; mean of the two .35
    assert result["all"]["lipschitz"] == pytest.approx(0.35)
    assert result["first"]["lipschitz"] == pytest.approx(0.5)
    assert result["rest"]["lipschitz"] == pytest.approx(0.2)


def test_fourier_by_hand():
    # T = 4, bins 0, 1, 2, the middle is int(1.5) = 1: bin 0 is low, bins 1 and 2 are high.
    # 1 0 0 0 has power 1 in each bin: 2 / 1. 1 1 1 1 has power 16 in bin 0 only: 0 / 16.
    f_TF = torch.tensor([[1.0, 1], [0, 1], [0, 1], [0, 1]])
    x_TD = torch.randn(4, 3)
    assert smoothness(f_TF, x_TD)["all"]["fourier"] == pytest.approx(1)
    assert smoothness(f_TF[:, :1], x_TD)["all"]["fourier"] == pytest.approx(2)


def test_wavelet_by_hand():
    # 8 0 0 0 0 0 0 0: level 1 detail 4, approximation 4 0 0 0; level 2 detail 2, approximation 2 0;
    # level 3 detail 1, approximation 1. (16 + 4 + 1) / 1
    f_TF = torch.zeros(8, 1)
    f_TF[0] = 8
    assert smoothness(f_TF, torch.randn(8, 3))["all"]["wavelet"] == pytest.approx(21)
    # a constant latent with value 2 adds detail 0 and approximation energy 4: 21 / 5
    both = torch.cat([f_TF, torch.full((8, 1), 2.0)], dim=1)
    assert smoothness(both, torch.randn(8, 3))["all"]["wavelet"] == pytest.approx(21 / 5)


def test_an_odd_last_step_is_dropped_by_the_haar_levels():
    f_TF = torch.zeros(9, 1)
    f_TF[0], f_TF[8] = 8, 100
    assert smoothness(f_TF, torch.randn(9, 3))["all"]["wavelet"] == pytest.approx(21)


def test_multiscale_by_hand():
    # T = 4, scales 1 and 2. f = 0 1 4 9: steps of 1: 1 3 5, variance 4; steps of 2: 4 8, variance 8
    f_TF = torch.tensor([[0.0], [1], [4], [9]])
    assert smoothness(f_TF, torch.randn(4, 3))["all"]["multiscale"] == pytest.approx(0.5)


@pytest.mark.parametrize("T", [4, 6, 7, 8, 10, 31, 64, 127])
def test_the_loops_give_the_same_values(T):
    f_TF, x_TD = sparse_text(T=T, seed=T)
    splits = {"high": slice(0, 60), "middle": slice(60, 100), "low": slice(100, 300)}
    ours, loops = smoothness(f_TF, x_TD, splits), reference_smoothness.smoothness(f_TF, x_TD, splits)
    for values in ours.values() if T < 8 else ():
        assert values.pop("wavelet") is None
        values["wavelet"] = math.nan
    for split in loops if T < 8 else ():
        loops[split]["wavelet"] = math.nan
    for split in loops:
        for metric in METRICS:
            assert ours[split][metric] == pytest.approx(loops[split][metric], rel=1e-4, nan_ok=True)


def test_more_latents_than_one_block_give_the_same_values():
    f_TF, x_TD = torch.rand(16, 2500), torch.randn(16, 4)
    splits = {"high": slice(0, 1500), "low": slice(1500, 2500)}
    assert_same(smoothness(f_TF, x_TD, splits), reference_smoothness.smoothness(f_TF, x_TD, splits))


def test_latents_below_zero_that_cancel_still_vary_but_are_not_active():
    f_TF = torch.tensor([[1.0, 2], [-1, 2]])
    values = smoothness(f_TF, torch.tensor([[0.0], [1]]))["all"]
    assert values["total_variation"] == pytest.approx(2)
    assert values["lipschitz"] == 0  # of the second latent alone


def test_a_silent_split_has_no_values_but_its_variation_of_zero():
    f_TF, x_TD = sparse_text()
    f_TF[:, 100:] = 0
    values = smoothness(f_TF, x_TD, {"high": slice(0, 100), "low": slice(100, 300)})["low"]
    assert values.pop("total_variation") == 0
    assert set(values.values()) == {None}


def test_an_empty_split_is_a_silent_one():
    f_TF, x_TD = sparse_text()
    assert smoothness(f_TF, x_TD, {"none": slice(7, 7)})["none"]["lipschitz"] is None


def test_a_text_without_any_active_latent_has_no_values():
    values = smoothness(torch.zeros(20, 5), torch.randn(20, 3))["all"]
    assert values == {
        "total_variation": 0,
        "lipschitz": None,
        "fourier": None,
        "wavelet": None,
        "multiscale": None,
    }


def test_a_repeated_activation_leaves_only_lipschitz_undefined():
    f_TF, x_TD = sparse_text()
    before = smoothness(f_TF, x_TD)["all"]
    x_TD[5] = x_TD[4]
    after = smoothness(f_TF, x_TD)["all"]
    assert after.pop("lipschitz") is None
    assert before.pop("lipschitz") is not None
    assert after == before


@pytest.mark.parametrize(
    ("T", "undefined"),
    [
        (0, set(METRICS)),
        (1, set(METRICS)),
        (2, {"wavelet", "multiscale"}),
        (3, {"wavelet", "multiscale"}),
        (4, {"wavelet"}),
        (5, {"wavelet", "multiscale"}),
        (7, {"wavelet"}),
        (8, set()),
        (9, {"multiscale"}),
        (10, set()),
    ],
)
def test_a_short_text_leaves_undefined_what_needs_more_tokens(T, undefined):
    values = smoothness(torch.rand(T, 4) + 0.1, torch.randn(T, 3))["all"]
    assert {metric for metric, value in values.items() if value is None} == undefined


def test_a_ratio_over_nothing_is_undefined_and_not_ten_billion():
    f_TF = torch.zeros(10, 1)
    f_TF[5] = 1  # differences at scale 8 are f_8 - f_0 and f_9 - f_1: both zero
    assert smoothness(f_TF, torch.randn(10, 3))["all"]["multiscale"] is None
    f_TF = torch.zeros(9, 1)
    f_TF[8] = 1  # only in the step that the Haar levels drop: no detail and no approximation
    assert smoothness(f_TF, torch.randn(9, 3))["all"]["wavelet"] == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_any_float_type_is_taken(dtype):
    f_TF, x_TD = sparse_text()
    f_TF, x_TD = f_TF.to(dtype), x_TD.to(dtype)
    assert_same(smoothness(f_TF, x_TD), smoothness(f_TF.double(), x_TD.double()))


def test_inputs_are_left_as_they_were_and_no_gradient_is_kept():
    f_TF, x_TD = torch.rand(16, 30, dtype=torch.float64), torch.randn(16, 4, dtype=torch.float64)
    f, x = f_TF.clone().requires_grad_(), x_TD.clone()
    smoothness(f, x)
    assert torch.equal(f, f_TF)
    assert torch.equal(x, x_TD)


@pytest.mark.parametrize(
    ("f", "x"), [((5, 3), (4, 2)), ((5,), (5, 2)), ((2, 5, 3), (2, 5, 2))], ids=["T", "1-D", "3-D"]
)
def test_shapes_that_do_not_belong_together_are_refused(f, x):
    with pytest.raises(ValueError, match="one text"):
        smoothness(torch.rand(f), torch.rand(x))


@pytest.mark.parametrize(("name", "part"), [("all", slice(0, 2)), ("odd", slice(0, 4, 2))])
def test_a_split_that_is_no_range_is_refused(name, part):
    with pytest.raises(ValueError, match="no named range"):
        smoothness(torch.rand(4, 4), torch.rand(4, 2), {name: part})


# --- laws ---------------------------------------------------------------------------------------

texts = st.builds(
    sparse_text,
    T=st.sampled_from([16, 33, 50]),
    F=st.just(60),
    k=st.integers(1, 8),
    pool=st.integers(8, 30),
    seed=st.integers(0, 10_000),
)
scales = st.floats(1, 100)  # the 1e-10 of the formulas is seen below
SPLITS = {"high": slice(0, 20), "low": slice(20, 60)}


@given(texts, scales)
@settings(max_examples=30)
def test_lipschitz_does_not_change_when_latents_and_activations_scale_together(text, scale):
    f_TF, x_TD = (tensor.double() for tensor in text)
    before, after = smoothness(f_TF, x_TD, SPLITS), smoothness(scale * f_TF, scale * x_TD, SPLITS)
    for split in before:
        slope = before[split]["lipschitz"]
        assert after[split]["lipschitz"] == (slope and pytest.approx(slope, rel=1e-9))


@given(texts, scales)
@settings(max_examples=30)
def test_variation_and_lipschitz_scale_with_the_latents_and_the_ratios_do_not(text, scale):
    f_TF, x_TD = (tensor.double() for tensor in text)
    before, after = smoothness(f_TF, x_TD, SPLITS), smoothness(scale * f_TF, x_TD, SPLITS)
    for split in before:
        for metric in METRICS:
            factor = scale if metric in ("total_variation", "lipschitz") else 1
            value = before[split][metric]
            assert after[split][metric] == (value and pytest.approx(factor * value, rel=1e-5))


@given(texts, st.randoms(use_true_random=False))
@settings(max_examples=30)
def test_the_order_of_latents_within_a_split_does_not_matter(text, random):
    f_TF, x_TD = text
    order = random.sample(range(20), 20) + random.sample(range(20, 60), 40)
    assert_same(smoothness(f_TF[:, order], x_TD, SPLITS), smoothness(f_TF, x_TD, SPLITS), rel=1e-9)


@given(texts, st.integers(1, 50))
@settings(max_examples=30)
def test_silent_latents_do_not_matter(text, silent):
    f_TF, x_TD = text
    wider_TF = torch.cat([f_TF, torch.zeros(len(f_TF), silent)], dim=1)
    assert_same(smoothness(wider_TF, x_TD), smoothness(f_TF, x_TD), rel=1e-9)


@given(texts)
@settings(max_examples=30)
def test_reading_a_text_backwards_keeps_variation_and_lipschitz(text):
    f_TF, x_TD = text
    before, after = smoothness(f_TF, x_TD), smoothness(f_TF.flip(0), x_TD.flip(0))
    for metric in ("total_variation", "lipschitz", "fourier"):
        assert after["all"][metric] == pytest.approx(before["all"][metric], rel=1e-9)


@given(texts)
@settings(max_examples=30)
def test_variation_of_the_splits_adds_up_and_a_mean_lies_between_theirs(text):
    values = smoothness(*text, SPLITS)
    parts = [values["high"]["total_variation"], values["low"]["total_variation"]]
    assert values["all"]["total_variation"] == pytest.approx(sum(parts), rel=1e-9)
    slopes = [values[split]["lipschitz"] for split in SPLITS]
    if None not in slopes:
        assert min(slopes) - 1e-9 <= values["all"]["lipschitz"] <= max(slopes) + 1e-9


def test_the_mean_over_texts_leaves_out_and_counts_undefined_values():
    mean = SmoothnessMean()
    base = dict.fromkeys(METRICS, 1.0)
    mean.add({"all": base | {"lipschitz": 2.0, "fourier": None}})
    mean.add({"all": base | {"lipschitz": 4.0, "fourier": None}})
    mean.add({"all": base | {"lipschitz": None, "fourier": None}})
    result = mean.mean()["all"]
    assert result["lipschitz"] == (3.0, 2, 1)
    assert result["fourier"] == (None, 0, 3)
    assert result["wavelet"] == (1.0, 3, 0)
