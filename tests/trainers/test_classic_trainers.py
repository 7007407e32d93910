"""Trainers of the classics: hand-worked losses, gradients, recovery of known features, resume."""

import copy
import io
import math

import pytest
import torch
from torch import Tensor

from dictionary_learning.dictionaries.base import Dictionary
from dictionary_learning.dictionaries.classics import (
    AutoEncoder,
    AutoEncoderNew,
    GatedAutoEncoder,
    JumpReluAutoEncoder,
)
from dictionary_learning.errors import UserError
from dictionary_learning.selection.encoder import TokenTopKEncoder
from dictionary_learning.trainers.gdm import GatedSAETrainer
from dictionary_learning.trainers.jumprelu import JumpReluTrainer, jump_relu, step_function
from dictionary_learning.trainers.standard import StandardTrainer, StandardTrainerAprilUpdate
from dictionary_learning.trainers.top_k import AutoEncoderTopK, TopKTrainer
from dictionary_learning.trainers.trainer import Trainer

D, F, ACTIVE = 32, 64, 3

# What each trainer needs beside the common options to train on the toy data.
TOY_OPTIONS = {
    StandardTrainer: {"l1_penalty": 0.1, "sparsity_warmup_steps": 50},
    StandardTrainerAprilUpdate: {"l1_penalty": 0.1, "sparsity_warmup_steps": 50},
    GatedSAETrainer: {"l1_penalty": 0.4, "sparsity_warmup_steps": 50},
    JumpReluTrainer: {"target_l0": ACTIVE, "sparsity_warmup_steps": 50},
    TopKTrainer: {"k": ACTIVE},
}
DICTIONARIES = {
    StandardTrainer: AutoEncoder,
    StandardTrainerAprilUpdate: AutoEncoderNew,
    GatedSAETrainer: GatedAutoEncoder,
    JumpReluTrainer: JumpReluAutoEncoder,
    TopKTrainer: AutoEncoderTopK,
}
TRAINERS = pytest.mark.parametrize("cls", TOY_OPTIONS, ids=lambda cls: cls.__name__)


def toy_features() -> Tensor:
    """True features [F, D]: unit vectors in random directions."""
    features_FD = torch.randn(F, D, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.normalize(features_FD, dim=-1)


def toy_activations(n: int, seed: int) -> Tensor:
    """Sums of 3 random features with strengths from 0.5 to 1.5, scaled to mean square norm 1."""
    generator = torch.Generator().manual_seed(seed)
    active = torch.rand(n, F, generator=generator).topk(ACTIVE, dim=1).indices
    strengths = 0.5 + torch.rand(n, ACTIVE, generator=generator)
    x_BD = torch.zeros(n, F).scatter(1, active, strengths) @ toy_features()
    return x_BD / math.sqrt(ACTIVE * 13 / 12)


def toy_batches(n: int, size: int = 256) -> Tensor:
    return toy_activations(n * size, seed=1).view(n, size, D)


def make(cls: type[Trainer], steps: int = 500, **options) -> Trainer:
    common = {"steps": steps, "activation_dim": D, "dict_size": F, "lr": 5e-3, "warmup_steps": 20}
    return cls(**common | {"seed": 0, "device": "cpu"} | TOY_OPTIONS[cls] | options)


def fve(dictionary: Dictionary, x_BD: Tensor) -> float:
    unexplained = (x_BD - dictionary(x_BD)).square().sum()
    return float(1 - unexplained / (x_BD - x_BD.mean(0)).square().sum())


def share_recovered(dictionary: Dictionary) -> float:
    """Share of true features to which some decoder row has a cosine above 0.9."""
    rows = torch.nn.functional.normalize(dictionary.decoder_directions(), dim=-1)
    return float(((toy_features() @ rows.T).max(dim=1).values > 0.9).float().mean())


@TRAINERS
def test_known_features_are_recovered(cls):
    # The optimum is not FVE 1: 64 features in 32 dimensions interfere, and penalties shrink.
    batches = toy_batches(500)
    trainer = make(cls, decay_start=400)
    losses = [trainer.update(step, x_BD) for step, x_BD in enumerate(batches)]
    with torch.no_grad():
        x_BD = toy_activations(2000, seed=2)
        l0 = float((trainer.ae.encode(x_BD) > 0).sum() / len(x_BD))
        assert fve(trainer.ae, x_BD) > 0.85
        assert share_recovered(trainer.ae) > 0.75
    assert ACTIVE - 0.5 < l0 < 3 * ACTIVE
    assert losses[-1] < losses[0]


@TRAINERS
def test_metrics_report_the_last_update_and_change_nothing(cls):
    trainer = make(cls)
    assert trainer.metrics() == {}
    for step, x_BD in enumerate(toy_batches(3)):
        before = copy.deepcopy(trainer.ae)
        loss = trainer.update(step, x_BD)
    metrics = trainer.metrics()
    assert metrics == trainer.metrics()
    assert {"loss", "reconstruction", "fve", "l0", "dead_share"} <= metrics.keys()
    assert metrics["loss"] == pytest.approx(loss)
    with torch.no_grad():
        assert metrics["fve"] == pytest.approx(fve(before, x_BD), abs=1e-5)
        assert metrics["l0"] == pytest.approx(float((before.encode(x_BD) > 0).sum() / len(x_BD)))
        assert metrics["reconstruction"] == pytest.approx(
            float((x_BD - before(x_BD)).square().sum(-1).mean()), rel=1e-5
        )


@TRAINERS
def test_a_resumed_run_ends_with_the_same_bits(cls):
    options = {"resample_steps": 4} if cls is StandardTrainer else {}
    if cls is TopKTrainer:
        options = {"threshold_start_step": 2}
    batches = toy_batches(16)
    whole, first, second = (make(cls, steps=16, warmup_steps=4, decay_start=12, **options) for _ in range(3))
    whole_losses = [whole.update(step, x_BD) for step, x_BD in enumerate(batches)]
    for step in range(7):
        first.update(step, batches[step])

    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second.load_state_dict(torch.load(file, weights_only=True))
    assert [second.update(step, batches[step]) for step in range(7, 16)] == whole_losses[7:]
    for key, tensor in whole.ae.state_dict().items():
        assert torch.equal(second.ae.state_dict()[key], tensor), key
    assert torch.equal(second.dead_latents.tokens_since_fired_F, whole.dead_latents.tokens_since_fired_F)


@TRAINERS
def test_the_config_records_every_option_and_builds_the_same_trainer(cls):
    trainer = make(cls, seed=None, layer=3, lm_name="tiny", submodule_name="resid")
    config = trainer.config
    assert config["trainer_class"] == cls.__name__
    assert config["dict_class"] == DICTIONARIES[cls].__name__
    assert isinstance(config["seed"], int)
    derived = {"trainer_class", "dict_class", "top_k_aux", "dead_feature_threshold"}
    again = cls(**{key: value for key, value in config.items() if key not in derived})
    assert again.config == config
    assert torch.equal(again.ae.decoder_directions(), trainer.ae.decoder_directions())


@TRAINERS
def test_a_trained_dictionary_survives_the_file(cls):
    trainer = make(cls)
    for step, x_BD in enumerate(toy_batches(3)):
        trainer.update(step, x_BD)
    again = DICTIONARIES[cls].from_state_dict(trainer.ae.state_dict(), trainer.config)
    x_BD = toy_activations(10, seed=3)
    torch.testing.assert_close(again(x_BD), trainer.ae(x_BD))


@TRAINERS
def test_decoder_rows_stay_on_the_unit_sphere_unless_they_are_free(cls):
    trainer = make(cls, warmup_steps=0)
    for step, x_BD in enumerate(toy_batches(5)):
        trainer.update(step, x_BD)
    norms_F = trainer.ae.decoder_directions().norm(dim=-1)
    is_unit = torch.allclose(norms_F, torch.ones(F), atol=1e-5)
    assert is_unit == (cls is not StandardTrainerAprilUpdate)


@TRAINERS
def test_the_first_step_of_a_warm_up_moves_nothing_but_the_starting_biases(cls):
    trainer = make(cls, warmup_steps=10)
    before = trainer.ae.decoder_directions().clone()
    trainer.update(0, toy_batches(1)[0])
    torch.testing.assert_close(trainer.ae.decoder_directions(), before)


@TRAINERS
def test_silent_latents_are_counted_in_tokens(cls):
    trainer = make(cls)
    trainer.dead_feature_threshold = 256
    batch = toy_batches(1)[0]
    trainer.update(0, batch)
    with torch.no_grad():
        silent_F = ~(trainer.ae.encode(batch) > 0).any(0)
    assert torch.equal(trainer.dead_latents.tokens_since_fired_F == 256, silent_F)
    assert trainer.metrics()["dead_share"] == pytest.approx(float(silent_F.float().mean()))


@TRAINERS
def test_a_batch_of_pairs_is_refused(cls):
    with pytest.raises(UserError, match=rf"{cls.__name__} trains on .*\[B, {D}\].* got \[4, 2, {D}\]"):
        make(cls).update(0, torch.zeros(4, 2, D))


@TRAINERS
def test_a_batch_with_nan_stops_and_leaves_the_weights_as_they_were(cls):
    trainer = make(cls)
    batches = toy_batches(3)
    trainer.update(0, batches[0])
    trainer.update(1, batches[1])
    before = copy.deepcopy(trainer.ae.state_dict())
    batches[2, 5, 7] = math.nan
    with pytest.raises(UserError, match="the batch of step 2 holds NaN"):
        trainer.update(2, batches[2])
    assert all(torch.equal(trainer.ae.state_dict()[key], tensor) for key, tensor in before.items())


@TRAINERS
def test_a_decay_after_the_end_is_refused(cls):
    with pytest.raises(UserError, match="decay_start is 600, and must lie between"):
        make(cls, decay_start=600)


@pytest.mark.parametrize(
    ("cls", "options", "sentence"),
    [
        (StandardTrainer, {"l1_penalty": -1.0}, "l1_penalty is -1"),
        (StandardTrainer, {"resample_steps": 1}, "resample_steps is 1"),
        (StandardTrainerAprilUpdate, {"l1_penalty": -1.0}, "l1_penalty is -1"),
        (GatedSAETrainer, {"l1_penalty": -1.0}, "l1_penalty is -1"),
        (JumpReluTrainer, {"sparsity_penalty": -1.0}, "sparsity_penalty is -1"),
        (JumpReluTrainer, {"bandwidth": 0.0}, "bandwidth is 0"),
        (JumpReluTrainer, {"target_l0": F + 1}, f"target_l0 is {F + 1}"),
        (TopKTrainer, {"k": F + 1}, f"k is {F + 1}"),
    ],
)
def test_an_impossible_option_is_refused_with_its_value(cls, options, sentence):
    with pytest.raises(UserError, match=sentence):
        make(cls, **options)


# Two latents on two inputs, the same for all hand-worked losses: the encoder and the decoder are the
# identity (decoder rows of AutoEncoderNew are 0.5 long), and x is one token (3, 1).


def set_tensors(trainer: Trainer, **tensors: list) -> None:
    state = {name.replace("__", "."): torch.tensor(value) for name, value in tensors.items()}
    trainer.ae.load_state_dict(state)


def loss_at_full_penalty(trainer: Trainer, x: list[float]) -> float:
    # Step 1, so that the starting biases are not touched; lr 0, so that nothing moves.
    return trainer.update(1, torch.tensor([x]))


SMALL = {
    "steps": 10,
    "activation_dim": 2,
    "dict_size": 2,
    "lr": 0.0,
    "warmup_steps": 0,
    "seed": 0,
    "device": "cpu",
}
EYE = [[1.0, 0.0], [0.0, 1.0]]


def test_standard_loss_by_hand():
    # x - bias = (2, 1); f = relu((2, 1) + (-0.5, -2)) = (1.5, 0); x_hat = (2.5, 0);
    # error = 0.25 + 1 = 1.25; L1 = 1.5; loss = 1.25 + 0.1 * 1.5 = 1.4
    trainer = StandardTrainer(**SMALL, l1_penalty=0.1, sparsity_warmup_steps=None)
    set_tensors(
        trainer, bias=[1.0, 0.0], encoder__weight=EYE, encoder__bias=[-0.5, -2.0], decoder__weight=EYE
    )
    assert loss_at_full_penalty(trainer, [3.0, 1.0]) == pytest.approx(1.4)


def test_the_penalty_grows_over_its_warm_up():
    # as above, a quarter of the way: 1.25 + 0.25 * 0.1 * 1.5 = 1.2875
    trainer = StandardTrainer(**SMALL, l1_penalty=0.1, sparsity_warmup_steps=4)
    set_tensors(
        trainer, bias=[1.0, 0.0], encoder__weight=EYE, encoder__bias=[-0.5, -2.0], decoder__weight=EYE
    )
    assert loss_at_full_penalty(trainer, [3.0, 1.0]) == pytest.approx(1.2875)


def test_april_update_loss_by_hand():
    # f = relu((3, 1) + (0, -0.5)) = (3, 0.5); x_hat = (1.5, 0.25) + (1, 0) = (2.5, 0.25);
    # error = 0.25 + 0.5625 = 0.8125; penalty = 3 * 0.5 + 0.5 * 0.5 = 1.75; loss = 0.8125 + 0.175
    trainer = StandardTrainerAprilUpdate(**SMALL, l1_penalty=0.1, sparsity_warmup_steps=None)
    set_tensors(
        trainer,
        encoder__weight=EYE,
        encoder__bias=[0.0, -0.5],
        decoder__weight=[[0.5, 0.0], [0.0, 0.5]],
        decoder__bias=[1.0, 0.0],
    )
    assert loss_at_full_penalty(trainer, [3.0, 1.0]) == pytest.approx(0.9875)


def test_gated_loss_by_hand():
    # pi = (3, 1) - (1, 0) = (2, 1); gate = pi + (-1, -2) = (1, -1); magnitude = relu(2 pi + (0, 1)) = (4, 3)
    # f = (4, 0); x_hat = (5, 0); error = 4 + 1 = 5; L1 = 1;
    # frozen = (1, 0) + (1, 0) = (2, 0); auxiliary = 1 + 1 = 2; loss = 5 + 0.1 * 1 + 2
    trainer = GatedSAETrainer(**SMALL, l1_penalty=0.1, sparsity_warmup_steps=None)
    set_tensors(
        trainer,
        decoder_bias=[1.0, 0.0],
        encoder__weight=EYE,
        r_mag=[math.log(2.0)] * 2,
        gate_bias=[-1.0, -2.0],
        mag_bias=[0.0, 1.0],
        decoder__weight=EYE,
    )
    assert loss_at_full_penalty(trainer, [3.0, 1.0]) == pytest.approx(7.1)


@pytest.mark.parametrize(("target_l0", "sparsity"), [(2.0, 0.25), (0.5, 1.0), (None, 1.0)])
def test_jumprelu_loss_by_hand(target_l0, sparsity):
    # pre = (3, 1) + (0, 0.5) = (3, 1.5); thresholds (2, 2): f = (3, 0); x_hat = (4, 0); error = 1 + 1 = 2
    # L0 = 1: (1/2 - 1)^2 = 0.25, (1/0.5 - 1)^2 = 1, or L0 itself; loss = 2 + 0.1 * that
    trainer = JumpReluTrainer(**SMALL, sparsity_penalty=0.1, target_l0=target_l0, sparsity_warmup_steps=None)
    set_tensors(trainer, W_enc=EYE, b_enc=[0.0, 0.5], W_dec=EYE, b_dec=[1.0, 0.0], threshold=[2.0, 2.0])
    assert loss_at_full_penalty(trainer, [3.0, 1.0]) == pytest.approx(2 + 0.1 * sparsity)


def test_top_k_loss_by_hand():
    # x - b_dec = (2, 1); k = 1 keeps (2, 0); x_hat = (3, 0); error = 1; no latent is dead
    trainer = TopKTrainer(**SMALL, k=1)
    trainer.ae.b_dec.data.copy_(torch.tensor([1.0, 0.0]))
    trainer.ae.encoder.weight.data.copy_(torch.tensor(EYE))
    trainer.ae.decoder.weight.data.copy_(torch.tensor(EYE))
    assert loss_at_full_penalty(trainer, [3.0, 1.0]) == pytest.approx(1.0)


# Gradients


def test_pseudo_derivatives_are_the_formulas():
    # kernel: |pre - threshold| < bandwidth / 2; for each token and latent one at a time
    generator = torch.Generator().manual_seed(0)
    pre_BF = torch.rand(40, 6, generator=generator, dtype=torch.float64).requires_grad_()
    threshold_F = torch.linspace(0.1, 0.9, 6, dtype=torch.float64, requires_grad=True)
    upstream_BF = torch.randn(40, 6, generator=generator, dtype=torch.float64)
    bandwidth = 0.3
    jump_pre, jump_threshold = torch.autograd.grad(
        jump_relu(pre_BF, threshold_F, bandwidth), (pre_BF, threshold_F), upstream_BF
    )
    step_pre, step_threshold = torch.autograd.grad(
        step_function(pre_BF, threshold_F, bandwidth), (pre_BF, threshold_F), upstream_BF, allow_unused=True
    )
    expected = {name: torch.zeros(6, dtype=torch.float64) for name in ("jump", "step")}
    expected_pre_BF = torch.zeros_like(pre_BF)
    for b in range(40):
        for j in range(6):
            pre, threshold, gradient = (
                tensor.item() for tensor in (pre_BF[b, j], threshold_F[j], upstream_BF[b, j])
            )
            if pre > threshold:
                expected_pre_BF[b, j] = gradient
            if abs((pre - threshold) / bandwidth) < 0.5:
                expected["jump"][j] -= threshold / bandwidth * gradient
                expected["step"][j] -= 1 / bandwidth * gradient
    torch.testing.assert_close(jump_pre, expected_pre_BF)
    torch.testing.assert_close(jump_threshold, expected["jump"])
    torch.testing.assert_close(step_threshold, expected["step"])
    assert step_pre is None


def test_pseudo_derivatives_estimate_the_slope_of_the_mean_over_tokens():
    # pre uniform on (0, 1): E[step] = 1 - t has slope -1; E[jump] = (1 - t^2) / 2 has slope -t
    pre_BF = torch.rand(200_000, 1, generator=torch.Generator().manual_seed(0))
    for threshold, function, slope in ((0.4, step_function, -1.0), (0.4, jump_relu, -0.4)):
        threshold_F = torch.tensor([threshold], requires_grad=True)
        function(pre_BF, threshold_F, 0.05).mean().backward()
        assert threshold_F.grad is not None
        assert float(threshold_F.grad) == pytest.approx(slope, rel=0.05)


def test_the_gate_learns_only_from_its_own_terms():
    trainer = make(GatedSAETrainer, l1_penalty=0.0)
    x_BD = toy_batches(1)[0]
    trainer._see_batch(len(x_BD), x_BD)
    losses = trainer._losses(x_BD, penalty_factor=1.0)
    losses.terms["reconstruction"].backward(retain_graph=True)
    assert trainer.ae.gate_bias.grad is None
    trainer.optimizer.zero_grad()
    losses.terms["auxiliary"].backward()
    assert trainer.ae.decoder.weight.grad is None
    assert float(trainer.ae.gate_bias.grad.norm()) > 0


def test_thresholds_of_jumprelu_never_become_negative():
    trainer = make(JumpReluTrainer, warmup_steps=0, lr=0.1, target_l0=F, bandwidth=0.5)
    for step, x_BD in enumerate(toy_batches(5)):
        trainer.update(step, x_BD)
    assert trainer.ae.threshold.min().item() == 0.0


def test_jumprelu_starts_from_the_codes_of_centred_activations():
    trainer = make(JumpReluTrainer)
    x_BD = toy_batches(1)[0] + 5.0
    trainer.update(0, x_BD)
    pre_BF = x_BD @ trainer.ae.W_enc + trainer.ae.b_enc
    torch.testing.assert_close(pre_BF, (x_BD - trainer.ae.b_dec) @ trainer.ae.W_enc, atol=1e-4, rtol=1e-4)


# Resampling


def test_resampling_points_silent_latents_at_badly_reconstructed_tokens():
    trainer = make(StandardTrainer, resample_steps=2, lr=0.0, warmup_steps=0)
    x_BD = toy_batches(1)[0]
    trainer.update(0, x_BD)
    silent = [3, 10]
    trainer.ae.encoder.bias.data[silent] = -100.0
    trainer.update(1, x_BD)
    trainer.optimizer.state[trainer.ae.decoder.weight]["exp_avg"].fill_(1.0)
    trainer.update(2, x_BD)

    ae = trainer.ae.requires_grad_(False)
    live = [j for j in range(F) if j not in silent]
    live_norm = float(ae.encoder.weight[live].norm(dim=-1).mean())
    directions = torch.nn.functional.normalize(x_BD - ae.bias, dim=-1)
    for j in silent:
        assert float(ae.encoder.bias[j]) == 0.0
        assert float((directions @ ae.decoder_directions()[j]).max()) == pytest.approx(1.0, abs=1e-5)
        torch.testing.assert_close(ae.encoder.weight[j], ae.decoder_directions()[j] * 0.2 * live_norm)
        assert float(trainer.optimizer.state[ae.decoder.weight]["exp_avg"][:, j].abs().max()) == 0.0
    assert float(trainer.optimizer.state[ae.decoder.weight]["exp_avg"][:, live].abs().min()) > 0.0
    with torch.no_grad():
        assert (ae.encode(x_BD)[:, silent] > 0).any(0).all()


def test_resampling_leaves_living_latents_alone():
    options = {"lr": 0.0, "warmup_steps": 0}
    trainer = make(StandardTrainer, resample_steps=2, **options)
    x_BD = toy_batches(1)[0]
    before = trainer.ae.decoder_directions().clone()
    for step in range(3):
        trainer.update(step, x_BD)
    assert trainer.dead_latents.tokens_since_fired_F.max() == 0
    torch.testing.assert_close(trainer.ae.decoder_directions(), before)


def test_resampling_more_latents_than_tokens_takes_each_token_once():
    trainer = make(StandardTrainer, resample_steps=2, lr=0.0, warmup_steps=0)
    x_BD = toy_batches(1)[0][:5]
    trainer.update(0, x_BD)
    trainer.ae.encoder.bias.data.fill_(-100.0)
    trainer.update(1, x_BD)
    trainer.update(2, x_BD)
    woken = (trainer.ae.encoder.bias == 0.0).nonzero().squeeze(1)
    assert len(woken) == 5
    rows = trainer.ae.decoder_directions().detach()[woken]
    assert float((rows @ rows.T - torch.eye(5)).max()) < 0.99


# TopK


def test_a_top_k_file_encodes_each_token_with_its_k_largest_latents(tmp_path):
    # pre = W (x - b_dec) + b = (1, 2, 3) x - ... worked for two tokens with k = 2:
    # x = 3: (x - 1) = 2: (2, 4, -2) + (0, 0, 1) = (2, 4, -1) -> (2, 4, 0)
    # x = 0: (x - 1) = -1: (-1, -2, 1) + (0, 0, 1) = (-1, -2, 2) -> (0, 0, 2): only one is positive
    state = {
        "encoder.weight": torch.tensor([[1.0], [2.0], [-1.0]]),
        "encoder.bias": torch.tensor([0.0, 0.0, 1.0]),
        "decoder.weight": torch.tensor([[1.0, 1.0, -1.0]]),
        "b_dec": torch.tensor([1.0]),
        "k": torch.tensor(2, dtype=torch.int32),
        "threshold": torch.tensor(3.0),
    }
    torch.save(state, tmp_path / "ae.pt")
    ae = AutoEncoderTopK.from_state_dict(torch.load(tmp_path / "ae.pt", weights_only=True), {})
    x_BD = torch.tensor([[3.0], [0.0]])
    assert ae.encode(x_BD).tolist() == [[2.0, 4.0, 0.0], [0.0, 0.0, 2.0]]
    assert ae.encode(x_BD.view(1, 2, 1)).tolist() == [[[2.0, 4.0, 0.0], [0.0, 0.0, 2.0]]]
    assert ae.encode(x_BD, use_threshold=True).tolist() == [[0.0, 4.0, 0.0], [0.0, 0.0, 0.0]]
    assert ae(x_BD).flatten().tolist() == [7.0, -1.0]
    f_BF, active_F, post_relu_BF = ae.encode(x_BD, return_active=True)
    assert active_F.tolist() == [True, True, True]
    assert post_relu_BF.tolist() == [[2.0, 4.0, 0.0], [0.0, 0.0, 2.0]]
    assert int((f_BF > 0).sum()) == 3


def test_top_k_scaled_biases_work_on_scaled_activations():
    trainer = make(TopKTrainer, threshold_start_step=0)
    for step, x_BD in enumerate(toy_batches(3)):
        trainer.update(step, x_BD)
    folded = copy.deepcopy(trainer.ae)
    folded.scale_biases(4.0)
    x_BD = toy_activations(50, seed=4)
    assert float(trainer.ae.threshold) > 0
    for use_threshold in (False, True):
        torch.testing.assert_close(
            folded.encode(x_BD * 4, use_threshold=use_threshold),
            trainer.ae.encode(x_BD, use_threshold=use_threshold) * 4,
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_sparse_top_k_is_dense_top_k(dtype):
    generator = torch.Generator().manual_seed(0)
    x_BD, W_DF = torch.randn(50, D, generator=generator), torch.randn(D, F, generator=generator)
    b_F, b_D = torch.randn(F, generator=generator), torch.randn(D, generator=generator)
    (code,) = TokenTopKEncoder(dtype)(x_BD, W_DF, b_F, b_D, k=7)
    pre_BF = (x_BD - b_D) @ W_DF + b_F
    top = pre_BF.topk(7, dim=1)
    expected = torch.zeros_like(pre_BF).scatter(1, top.indices, top.values.relu())
    torch.testing.assert_close(code.dense(), expected, atol=1e-4, rtol=1e-4)
    assert torch.equal(code.row_N, torch.arange(50).repeat_interleave(7))


def test_top_k_keeps_k_latents_of_every_token_where_batch_top_k_keeps_k_on_average():
    trainer = make(TopKTrainer)
    for step, x_BD in enumerate(toy_batches(20)):
        trainer.update(step, x_BD)
    assert set((trainer.ae.encode(x_BD) > 0).sum(-1).tolist()) == {ACTIVE}


def test_the_top_k_threshold_follows_the_mean_of_the_smallest_kept():
    # tokens keep (5, 1) and (3, 0): the smallest positive ones are 1 and 3, their mean 2
    trainer = make(TopKTrainer, k=2)
    assert float(trainer._smallest_kept(torch.tensor([5.0, 1.0, 3.0, 0.0]))) == 2.0


def test_auxk_revives_latents_of_top_k_that_would_stay_silent():
    alive = {}
    for auxk_alpha in (0.0, 1.0):
        trainer = make(TopKTrainer, warmup_steps=0, auxk_alpha=auxk_alpha)
        batches = toy_batches(40)
        trainer.update(0, batches[0])
        silent = list(range(0, F, 2))
        trainer.ae.encoder.bias.data[silent] = -0.3
        trainer.dead_feature_threshold = 512
        for step in range(1, 40):
            trainer.update(step, batches[step])
        with torch.no_grad():
            alive_F = (trainer.ae.encode(batches.view(-1, D)) > 0).any(0)
        alive[auxk_alpha] = int(alive_F[silent].sum())
    assert alive[1.0] > alive[0.0] + 5, alive
