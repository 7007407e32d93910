"""What no experiment can be asked, told before anything is read."""

from typing import Any

import pytest

from dictionary_learning.command.options import build
from dictionary_learning.errors import UserError
from temporal_saes.experiment.options import ExperimentOptions
from temporal_saes.steering.options import SteeringOptions


@pytest.mark.parametrize("cls", [ExperimentOptions, SteeringOptions])
@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("seed", -1, "--seed -1 does not exist: give one from 0 to 4294967295"),
        ("seed", 2**64, f"--seed {2**64} does not exist"),
        ("trainer", -1, "--trainer -1 is too small"),
        ("context_length", 1, "--context_length 1 is too small: give at least 2"),
        ("output_dir", "", "--output_dir is empty"),
        ("checkpoints_path", "", "--checkpoints_path is empty"),
    ],
)
def test_a_wrong_option_is_one_sentence(cls: Any, name: str, value: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        build(cls, {name: value})
