"""The start that short runs of a TemporalSAE need: it recalls, before anything is learnt."""

import copy

import pytest
import torch
from torch import Tensor

from dictionary_learning.activations.sequences import Sequences
from dictionary_learning.dictionaries.temporal_sae import TemporalSAE
from dictionary_learning.errors import UserError
from dictionary_learning.trainers import TemporalAttentionTrainer
from dictionary_learning.trainers.recall_start import (
    SCALES,
    leading_directions,
    start_at_recall,
    start_bias_at_mean,
)

D, W = 8, 256


def recurring(n: int, length: int, seed: int = 0) -> Tensor:
    """Texts [n, length, D] of unit vectors out of three that each text has for itself, in random order."""
    generator = torch.Generator().manual_seed(seed)
    kinds_N3D = torch.nn.functional.normalize(torch.randn(n, 3, D, generator=generator), dim=-1)
    which_NL1 = torch.randint(3, (n, length, 1), generator=generator)
    return kinds_N3D.gather(1, which_NL1.expand(-1, -1, D))


def dictionary(**options: object) -> TemporalSAE:
    return TemporalSAE(D, W, 2, **{"kval_topk": 3, "bottleneck_factor": 2, "seed": 0} | options)  # type: ignore[arg-type]


def predicted_share(ae: TemporalSAE, x_NLD: Tensor) -> float:
    """Of the variance around b, what the predicted part explains."""
    with torch.no_grad():
        left_NLD = ae.predict(ae.centred(x_NLD)).residual_BLD
        return float(1 - left_NLD.square().sum() / (x_NLD - ae.b).square().sum())


def start(ae: TemporalSAE, texts: Sequences) -> float:
    """As a run starts by default: recall around the mean."""
    start_bias_at_mean(ae, texts)
    return start_at_recall(ae, texts, seed=0)


@pytest.mark.parametrize("tied", [True, False])
def test_what_recurs_is_predicted_from_the_first_step_on(tied: bool) -> None:
    ae, x_NLD = dictionary(tied_weights=tied), recurring(6, 24)
    texts = Sequences.of(x_NLD)
    random = predicted_share(ae, x_NLD)
    error = start(ae, texts)
    # of 24 tokens 21 have been seen before, and the random projection tells three directions apart
    assert predicted_share(ae, x_NLD) > max(0.75, random + 0.3)
    assert error == pytest.approx(
        float(ae.predict(ae.centred(x_NLD)).residual_BLD.detach().square().sum() / x_NLD.square().sum()),
        rel=1e-4,
    )


def test_the_start_is_the_mean_full_atoms_and_alike_queries_and_keys() -> None:
    ae, x_NLD = dictionary(), recurring(4, 12)
    before_WD = ae.D.detach().clone()
    start(ae, Sequences.of(x_NLD))
    torch.testing.assert_close(ae.b[0], x_NLD.flatten(0, 1).mean(0))
    torch.testing.assert_close(ae.D, 2 * before_WD)
    # what an atom reads of its own direction it writes back: lam |D|^2 is 1, on average over atoms
    assert float(ae.lam * ae.D.square().sum(1).mean()) == pytest.approx(1, rel=0.1)
    (layer,) = ae.layers
    torch.testing.assert_close(layer.q_target.weight, layer.k_ctx.weight, rtol=0, atol=0)
    torch.testing.assert_close(layer.v_ctx.weight, torch.eye(W), rtol=0, atol=0)
    torch.testing.assert_close(layer.c_proj.weight, torch.eye(W), rtol=0, atol=0)


def test_a_rank_that_holds_all_codes_recalls_as_the_full_one_and_a_lower_one_nearly() -> None:
    x_NLD = recurring(6, 24)  # 18 vectors, so that the codes have rank 18 at most
    shares = {}
    for rank in (None, 18, 8):
        ae = TemporalSAE(D, W, 1, kval_topk=3, bottleneck_factor=2, seed=0, value_rank=rank)
        start(ae, Sequences.of(x_NLD))
        shares[rank] = predicted_share(ae, x_NLD)
    assert shares[18] == pytest.approx(shares[None], abs=1e-3)
    assert 0.7 * shares[None] < shares[8] < shares[None]


@pytest.mark.parametrize("n_attn_layers", [1, 2])
def test_values_of_a_low_rank_start_as_a_projection_and_are_alike(
    n_attn_layers: int,
) -> None:
    ae = dictionary(value_rank=16, n_attn_layers=n_attn_layers)
    texts = Sequences.of(recurring(6, 24))
    start(ae, texts)
    for layer in ae.layers:
        torch.testing.assert_close(layer.v_ctx.weight, layer.c_proj.weight.T, rtol=0, atol=0)
        torch.testing.assert_close(layer.v_ctx.weight @ layer.c_proj.weight, torch.eye(16), rtol=0, atol=1e-5)
    z_TW = ae.activations(ae.centred(texts.padded())).detach().flatten(0, 1)
    values_V = (z_TW @ ae.layers[0].v_ctx.weight.T).detach().square().mean(0)
    # a third of the codes is in one direction, which all of them share, and no value has it alone
    assert float(torch.linalg.svdvals(z_TW)[0].square() / z_TW.square().sum()) > 0.3
    assert float(values_V.max() / values_V.sum()) < 0.25


def test_leading_directions_are_those_of_a_singular_value_decomposition() -> None:
    generator = torch.Generator().manual_seed(0)
    sizes_V = torch.tensor([8.0, 4.0, 2.0, 0.1, 0.01])
    right_WV = torch.linalg.qr(torch.randn(12, 5, generator=generator))[0]
    left_TV = torch.linalg.qr(torch.randn(40, 5, generator=generator))[0]
    found_VW = leading_directions(left_TV * sizes_V @ right_WV.T, 3, generator)
    cosines = (found_VW * right_WV.T[:3]).sum(1).abs()
    torch.testing.assert_close(cosines, torch.ones(3), rtol=0, atol=1e-3)
    # more than there are: orthonormal nevertheless
    many_VW = leading_directions(left_TV * sizes_V @ right_WV.T, 8, generator)
    torch.testing.assert_close(many_VW @ many_VW.T, torch.eye(8), rtol=0, atol=1e-5)


def test_the_sharpness_is_the_best_of_those_tried() -> None:
    ae, x_NLD = dictionary(), recurring(4, 12)
    texts = Sequences.of(x_NLD)
    error = start(ae, texts)
    (layer,) = ae.layers
    chosen_NW = layer.k_ctx.weight.detach().clone()
    errors = []
    for factor in (1 / 4, 1 / 2, 1, 2, 4):
        with torch.no_grad():
            for reads in (layer.q_target, layer.k_ctx):
                reads.weight.copy_(chosen_NW * factor)
        left_NLD = ae.predict(ae.centred(x_NLD)).residual_BLD
        errors.append(float(left_NLD.square().sum() / x_NLD.square().sum()))
    assert min(errors) == pytest.approx(errors[2])
    assert errors[2] == pytest.approx(error)
    assert SCALES[0] < float(chosen_NW.square().mean().sqrt() * len(chosen_NW) ** 0.5) < SCALES[-1]


def test_two_layers_start_so_that_the_second_takes_what_the_first_left() -> None:
    one, two, x_NLD = dictionary(), dictionary(n_attn_layers=2), recurring(6, 24)
    for ae in (one, two):
        start(ae, Sequences.of(x_NLD))
    assert predicted_share(two, x_NLD) > predicted_share(one, x_NLD)


def test_the_start_under_autocast_is_the_same() -> None:
    plain, cast, texts = dictionary(), dictionary(), Sequences.of(recurring(4, 12))
    error = start(plain, texts)
    with torch.autocast("cpu", torch.bfloat16):
        assert start(cast, texts) == error
        # and the step that follows works with the weights that were set
        x_NLD = texts.padded()
        left_NLD = cast.predict(cast.centred(x_NLD)).residual_BLD.detach()
    assert float(left_NLD.square().sum() / x_NLD.square().sum()) == pytest.approx(error, rel=0.1)
    torch.testing.assert_close(plain.state_dict(), cast.state_dict(), rtol=0, atol=0)


def trainer(**options: object) -> TemporalAttentionTrainer:
    sizes = {"steps": 12, "activation_dim": D, "width": W, "k": 3, "n_heads": 2, "bottleneck_factor": 2}
    chosen = {"start": "recall", "lr": 0.01, "atom_lr": 0.1, "seed": 0, "device": "cpu", "warmup_steps": 1}
    return TemporalAttentionTrainer(**sizes | chosen | options)  # type: ignore[arg-type]


def test_learning_rates_are_shares_of_what_each_parameter_starts_with() -> None:
    one = trainer()
    one.update(0, recurring(4, 12))
    by_name = dict(zip((n for n, _ in one.ae.named_parameters()), one.optimizer.param_groups, strict=True))
    # the identity of 256 rows has a root mean square of 1 / 16, atoms one of 2
    assert by_name["attn_layers.0.v_ctx.weight"]["lr"] == pytest.approx(0.01 / 16)
    assert by_name["D"]["lr"] == pytest.approx(0.1 * 2, rel=0.05)
    assert by_name["attn_layers.0.c_proj.bias"]["lr"] == 0
    plain = trainer(start="random")
    plain.update(0, recurring(4, 12))
    assert {group["lr"] for group in plain.optimizer.param_groups} == {0.01, 0.1}


def test_a_run_that_goes_on_is_the_run_that_was_not_stopped() -> None:
    whole, batches = trainer(), [recurring(4, 12, seed) for seed in range(4)]
    for step in range(2):
        whole.update(step, batches[step])
    state = copy.deepcopy(whole.state_dict())
    again = trainer()
    again.load_state_dict(state)
    for step in (2, 3):
        assert whole.update(step, batches[step]) == again.update(step, batches[step])
    torch.testing.assert_close(whole.ae.state_dict(), again.ae.state_dict(), rtol=0, atol=0)


def test_an_unknown_start_is_refused() -> None:
    with pytest.raises(UserError, match="start is 'warm': choose one of random, recall"):
        trainer(start="warm")


def test_the_bias_starts_at_zero_as_in_the_paper_or_at_the_mean() -> None:
    x_NLD = recurring(4, 12) + 0.7
    mean_D = x_NLD.flatten(0, 1).mean(0)
    for options, expected_D in (
        ({"start": "random"}, 0 * mean_D),
        ({"start": "random", "bias_start": "mean"}, mean_D),
        ({"start": "recall"}, mean_D),
        ({"start": "recall", "bias_start": "zero"}, 0 * mean_D),
    ):
        one = trainer(**options, warmup_steps=1_000_000)  # a first step that moves nothing to speak of
        one.update(0, x_NLD)
        torch.testing.assert_close(one.ae.b[0], expected_D, rtol=0, atol=1e-5)
        assert one.config["bias_start"] == ("mean" if expected_D.any() else "zero")


def test_recall_around_zero_predicts_the_mean_as_well() -> None:
    x_NLD = 0.1 * recurring(6, 24) + 1.0
    around_mean, around_zero = dictionary(), dictionary()
    start(around_mean, Sequences.of(x_NLD))
    start_at_recall(around_zero, Sequences.of(x_NLD), seed=0)
    shares = [
        float(ae.predict(ae.centred(x_NLD)).recons_BLD.norm() / x_NLD.norm())
        for ae in (around_mean, around_zero)
    ]
    assert shares[0] < 0.1 < 0.9 < shares[1]


def test_an_unknown_first_bias_is_refused() -> None:
    with pytest.raises(UserError, match="bias_start is 'median': choose one of zero, mean"):
        trainer(bias_start="median")
