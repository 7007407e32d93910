"""What a step asks of a card: no value in the middle of it, nothing from the CPU, few operations.

Nothing here needs a card; `card_steps` runs every trainer on tensors that have a device and no values.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import warm

from dictionary_learning.errors import UserError
from dictionary_learning.trainers.trainer import DeadLatents, Watch

NAMES = [
    "BatchTopK",
    "BatchTopK, bfloat16 product",
    "TopK",
    "TopK, bfloat16 product",
    "Matryoshka",
    "T-SAE",
    "T-SAE, paper",
    "T-SAE, L1",
    "Standard",
    "Standard, April update",
    "Gated",
    "JumpReLU",
    "TFA, topk",
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


@pytest.mark.parametrize(("name", "most"), [("BatchTopK", 120), ("Matryoshka", 120), ("T-SAE", 165)])
def test_a_step_is_few_operations(name, most, facts):
    assert facts[name]["step"]["operations"] <= most


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
