"""The T-SAE trainer against runs of the released method (`oracles/tsae_*`), in float32 on CPU."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from dictionary_learning.trainers import TemporalMatryoshkaBatchTopKTrainer

ORACLES = Path(__file__).parents[1] / "oracles"


@pytest.fixture(params=["tsae_contrastive", "tsae_l1_similarity"])
def oracle(request):
    tensors = load_file(ORACLES / f"{request.param}.safetensors")
    return json.loads((ORACLES / f"{request.param}.json").read_text()), tensors


def trainer_at_start(run, tensors):
    trainer = TemporalMatryoshkaBatchTopKTrainer(
        steps=run["steps"],
        activation_dim=run["activation_dim"],
        device="cpu",
        layer=0,
        lm_name="toy",
        **run["kwargs"],
    )
    trainer.dead_feature_threshold = run["dead_feature_threshold"]
    start = {k.removeprefix("init."): v for k, v in tensors.items() if k.startswith("init.")}
    trainer.ae.load_state_dict(start)
    return trainer


def test_losses_thresholds_and_weights_follow_the_released_run(oracle):
    run, tensors = oracle
    trainer = trainer_at_start(run, tensors)
    for step, batch in enumerate(tensors["batches"]):
        assert trainer.update(step, batch) == pytest.approx(run["losses"][step], rel=1e-4)
        assert float(trainer.ae.threshold) == pytest.approx(run["threshold"][step], rel=1e-4)
        parts = run["loss_parts"][step]
        if parts is not None:
            metrics = trainer.metrics()
            assert metrics["reconstruction"] == pytest.approx(parts["l2_loss"], rel=1e-4)
            assert metrics["temporal"] == pytest.approx(parts["temp_loss"], rel=1e-4, abs=1e-5)
            assert metrics["auxk"] == pytest.approx(parts["auxk_loss"], rel=1e-4, abs=1e-6)
    # Absolute tolerance: a twentieth of one Adam step. Where the exact gradient is zero (a latent with
    # tied weights that alone reconstructs its token), Adam divides rounding noise by itself.
    one_step = run["kwargs"]["lr"]
    for name, value in trainer.ae.state_dict().items():
        torch.testing.assert_close(value, tensors[f"final.{name}"], rtol=1e-4, atol=one_step / 20)
    assert torch.equal(trainer.num_tokens_since_fired, tensors["tokens_since_fired"].long())


def test_inference_with_the_final_threshold_is_the_released_one(oracle):
    run, tensors = oracle
    trainer = trainer_at_start(run, tensors)
    final = {k.removeprefix("final."): v for k, v in tensors.items() if k.startswith("final.")}
    trainer.ae.load_state_dict(final)
    x_hat, f = trainer.ae(tensors["eval.x"], output_features=True)
    torch.testing.assert_close(f, tensors["eval.f"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(x_hat, tensors["eval.x_hat"], rtol=1e-4, atol=1e-5)
