"""The list of architectures against the trainers and the options that it speaks of."""

import dataclasses
import inspect
from typing import Any

import pytest

from dictionary_learning import trainers
from dictionary_learning.errors import UserError
from dictionary_learning.jobs.options import TrainOptions
from dictionary_learning.jobs.train_command import trainer_config
from dictionary_learning.trainers.architectures import ARCHITECTURES, ONLY_FOR, is_for

# Of an architecture's options, those that are read where batches are made or the loop runs.
NOT_FOR_THE_TRAINER = {"max_offset", "pairs_per_text", "autocast"}


class Spied:
    """Options that remember which of them were read."""

    def __init__(self, options: TrainOptions) -> None:
        self.options = options
        self.read: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        self.read.add(name)
        return getattr(self.options, name)


def sizes(arch: str) -> TrainOptions:
    return TrainOptions(arch=arch, dict_size=64, k=4, device="cpu")


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_a_trainer_gets_every_option_that_its_architecture_has(arch: str) -> None:
    spied = Spied(sizes(arch))
    ARCHITECTURES[arch].arguments(spied, 64)
    own = spied.read & ONLY_FOR.keys()
    assert own == ARCHITECTURES[arch].options - NOT_FOR_THE_TRAINER


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_a_trainer_takes_the_arguments_that_its_options_become(arch: str) -> None:
    config = trainer_config(sizes(arch), d_model=16, seed=3)
    cls = config.pop("trainer")
    assert cls is getattr(trainers, ARCHITECTURES[arch].trainer.rpartition(".")[2])
    del config["dead_feature_threshold"]  # set on the trainer that was made
    inspect.signature(cls).bind(**config)
    made = cls(**config)
    assert made.seed == 3
    assert made.ae.dict_size == (128 if arch == "attention" else 64)


def test_options_that_only_some_architectures_have_are_options_of_a_run() -> None:
    assert ONLY_FOR.keys() <= {field.name for field in dataclasses.fields(TrainOptions)}
    assert ONLY_FOR["l1_penalty"] == ("standard", "gated")
    assert is_for("l1_penalty", "gated")
    assert not is_for("l1_penalty", "temporal")
    assert is_for("steps", "gated")


@pytest.mark.parametrize(
    ("arch", "rate", "warmup"),
    [("temporal", 3e-4, 1000), ("jumprelu", 7e-5, 1000), ("attention", 1e-3, 200)],
)
def test_what_is_left_out_becomes_what_the_architecture_brings(arch: str, rate: float, warmup: int) -> None:
    assert (sizes(arch).lr, sizes(arch).warmup_steps) == (rate, warmup)
    assert dataclasses.replace(sizes(arch), lr=0.5).lr == 0.5


def test_sizes_are_checked_by_the_architecture_that_has_them() -> None:
    with pytest.raises(UserError, match="--k is 65, and must not be larger than the 64 latents: lower it"):
        TrainOptions(dict_size=64, k=65)
    assert TrainOptions(arch="gated", dict_size=4).k == 20  # which a gated dictionary does not have
    with pytest.raises(UserError, match="3 attention heads do not divide the 64 atoms"):
        TrainOptions(arch="attention", dict_size=64, k=4, n_heads=3)
    assert TrainOptions(dict_size=64, k=4, n_heads=3).n_heads == 3
