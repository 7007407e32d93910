"""What an evaluation asks of a card: the figures of a CPU, nothing from the wrong device, few waits.

Nothing here needs a card; `card_evaluations` runs on tensors that say they lie on one.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import warm

NAMES = [
    "BatchTopK",
    "TopK",
    "Matryoshka",
    "T-SAE",
    "Standard",
    "Standard, April update",
    "Gated",
    "JumpReLU",
    "TFA, topk",
    "TFA, batchtopk",
    "TFA, relu",
]


@pytest.fixture(scope="module")
def facts(tiny_lm_folder: Path) -> dict[str, dict[str, Any]]:
    script = Path(__file__).parent / "card_evaluations.py"
    done = warm.run([script, tiny_lm_folder], script.parent)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", NAMES)
def test_the_figures_are_those_of_the_cpu_wherever_the_batches_lie(name, facts):
    assert facts[name]["batches on the card"]
    assert facts[name]["batches on the CPU"]


@pytest.mark.parametrize("name", NAMES)
def test_a_card_is_waited_for_four_times_a_batch(name, facts):
    # for the mask twice, for how many entries the codes have, and for what the host measures of them;
    # the novel code that is selected over all tokens of a text asks for a floor, and for what exceeds it
    assert facts[name]["waits a batch"] <= (9 if name == "TFA, batchtopk" else 4)


def test_the_cross_entropy_is_that_of_the_cpu_where_the_dictionary_lies_elsewhere(facts):
    assert facts["with a language model"] == {"on the CPU": True}


def test_every_case_is_looked_at(facts):
    others = {"with a language model", "a batch that was left on the CPU", "waits that are seen"}
    assert set(NAMES) | others == set(facts)


def test_a_tensor_on_the_wrong_device_would_be_seen(facts):
    assert "mixes tensors on the card with one" in facts["a batch that was left on the CPU"]["refused"]


def test_waits_would_be_seen(facts):
    assert facts["waits that are seen"] == {
        "a value": 1,
        "a number of entries": 1,
        "a mask as an index": 1,
        "a copy": 1,
        "nothing": 0,
    }
