"""What a step asks of a card: no value in the middle of it, nothing from the CPU, few operations.

Nothing here needs a card; `card_steps` runs every trainer on tensors that have a device and no values.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import warm

from dictionary_learning import trainers as t
from dictionary_learning.dictionaries import sparse
from dictionary_learning.errors import UserError
from dictionary_learning.selection import encoder
from dictionary_learning.trainers import losses as losses_module
from dictionary_learning.trainers import trainer as trainer_module
from dictionary_learning.trainers.trainer import DeadLatents, Trainer, Watch

NAMES = [
    "BatchTopK",
    "BatchTopK, bfloat16 product",
    "TopK",
    "TopK, bfloat16 product",
    "Matryoshka",
    "T-SAE",
    "T-SAE, paper",
    "T-SAE, other texts",
    "T-SAE, L1",
    "Standard",
    "Standard, April update",
    "Gated",
    "JumpReLU",
    "TFA, topk",
    "TFA, low rank",
    "TFA, batchtopk",
    "TFA, relu",
]


@pytest.fixture(scope="module")
def facts() -> dict[str, dict[str, Any]]:
    script = Path(__file__).parent / "card_steps.py"
    done = warm.run([script], script.parent)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", NAMES)
def test_no_step_and_no_reconstruction_makes_the_host_wait(name, facts):
    assert {what: "reads" in found for what, found in facts[name].items()} == {
        "step": False,
        "step with dead latents": False,
        # in inference the novel code of this kind holds as many entries as are positive, which is asked for
        "forward": name == "TFA, batchtopk",
    }


def test_every_case_is_looked_at(facts):
    assert set(NAMES) | {"a step whose loss is read", "a batch that was left on the CPU"} == set(facts)


def test_a_read_would_be_seen(facts):
    assert facts["a step whose loss is read"]["step"]["reads"] == "aten._local_scalar_dense.default"


def test_a_tensor_on_the_wrong_device_would_be_seen(facts):
    assert facts["a batch that was left on the CPU"]["refused"] == "FakeTensorDeviceMismatchError"


@pytest.mark.parametrize(
    ("name", "most"), [("BatchTopK", 79), ("TopK", 89), ("Matryoshka", 83), ("T-SAE", 120)]
)
def test_a_step_is_few_operations(name, most, facts):
    assert facts[name]["step"]["operations"] <= most


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (t.BatchTopKTrainer, {}),
        (t.TopKTrainer, {}),
        (t.MatryoshkaBatchTopKTrainer, {"group_fractions": [0.25, 0.25, 0.5]}),
        (t.TemporalMatryoshkaBatchTopKTrainer, {}),
        (t.TemporalMatryoshkaBatchTopKTrainer, {"form": "paper", "temperature": 0.1}),
        (t.TemporalMatryoshkaBatchTopKTrainer, {"contrastive": False}),
        (t.TemporalMatryoshkaBatchTopKTrainer, {"run_length": 3}),
    ],
)
def test_the_steps_that_a_card_takes_are_those_of_the_cpu(kind, options, monkeypatch):
    common = {"steps": 12, "activation_dim": 16, "dict_size": 96, "k": 6, "seed": 0, "lr": 1e-2}
    of_cpu, of_card = (
        kind(device="cpu", warmup_steps=2, threshold_start_step=3, **common, **options) for _ in range(2)
    )
    for trainer in (of_cpu, of_card):
        trainer.dead_feature_threshold = 24  # what no token of a batch fires
    shape = (24, 16)
    if isinstance(of_cpu, t.TemporalMatryoshkaBatchTopKTrainer):
        shape = (24 // of_cpu.run_length, of_cpu.run_length + 1, 16)
    batches = torch.randn(12, *shape, generator=torch.Generator().manual_seed(1))
    losses = [of_cpu.update(step, x) for step, x in enumerate(batches)]
    for module in (encoder, losses_module, sparse, trainer_module):  # a card's path, on a CPU
        monkeypatch.setattr(module, "on_cpu", lambda x: False)
    monkeypatch.setattr(Trainer, "reads_freely", False)
    for step, x in enumerate(batches):
        of_card.advance(step, x)
        assert of_card.metrics()["loss"] == pytest.approx(losses[step], rel=2e-6)
    of_card.check()
    assert of_cpu.metrics()["auxk"] > 0
    torch.testing.assert_close(of_card.ae.state_dict(), of_cpu.ae.state_dict(), rtol=1e-4, atol=1e-5)


def test_a_card_that_is_never_asked_asks_by_itself(monkeypatch):
    monkeypatch.setattr(Watch, "KEPT", 2)
    watched(*[(1.0, 2.0, 3.0)] * 7).check()
    with pytest.raises(UserError, match="the loss is not finite at step 4"):
        watched(*[(1.0, 2.0, 3.0)] * 4, (1.0, float("nan"), 3.0), *[(1.0, 2.0, 3.0)] * 2)


def watched(*steps: tuple[float, float, float]) -> Watch:
    watch = Watch(torch.device("cpu"))
    for step, numbers in enumerate(steps):
        watch.begin(step, reads=False)
        for name, number in zip(("batch", "loss", "gradient"), numbers, strict=True):
            watch.see(name, torch.tensor(number))
        assert watch.found_inf is not None
    return watch


def test_what_is_not_finite_is_told_with_its_first_step_when_it_is_asked_for():
    nan, inf = float("nan"), float("inf")
    watched((1.0, 2.0, 3.0), (4.0, 5.0, 6.0)).check()
    with pytest.raises(UserError, match="the loss is not finite at step 1"):
        watched((1.0, 2.0, 3.0), (1.0, inf, nan), (nan, nan, nan), (1.0, 2.0, 3.0)).check()
    with pytest.raises(UserError, match="the batch of step 0 holds NaN"):
        watched((nan, nan, nan), (1.0, 2.0, 3.0)).check()


def test_no_weight_moves_after_what_is_not_finite():
    watch = watched((1.0, 2.0, 3.0))
    assert float(watch.found_inf) == 0
    watch = watched((1.0, 2.0, float("inf")), (1.0, 2.0, 3.0))
    assert float(watch.found_inf) == 1


def test_how_many_latents_may_be_dead_is_asked_for_some_steps_at_once(monkeypatch):
    # looked at as a device would be: all latents that fall silent now may be dead within the next steps
    monkeypatch.setattr(DeadLatents, "LOOK_AHEAD", 3)
    dead = DeadLatents(4, torch.device("cpu"))
    dead.tokens_since_fired_F = _Elsewhere(dead.tokens_since_fired_F)  # type: ignore[assignment]
    fired_F = torch.tensor([True, False, True, True])
    asked = []
    for _ in range(9):
        dead.count(fired_F, 10)
        asked.append(dead.at_most(40))
        assert asked[-1] >= int(dead.dead(40).sum())
    assert asked == [1] * 9
    assert DeadLatents(4, torch.device("cpu")).at_most(40) == 0


class _Elsewhere:
    """A tensor that says that it is on another device."""

    def __init__(self, x: torch.Tensor) -> None:
        self.x = x

    device = torch.device("meta")

    def __add__(self, other: int) -> torch.Tensor:
        return self.x + other

    def __iadd__(self, other: int) -> "_Elsewhere":
        self.x += other
        return self

    def __ge__(self, other: int) -> torch.Tensor:
        return self.x >= other

    def masked_fill_(self, mask: torch.Tensor, value: int) -> None:
        self.x.masked_fill_(mask, value)
