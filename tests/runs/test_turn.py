"""What the processes of a run agree on before a step."""

import signal
from collections.abc import Callable, Iterator

import pytest
import torch

from dictionary_learning import distributed
from dictionary_learning.command.interruption import Interrupted, Interruption
from dictionary_learning.runs.source import Source
from dictionary_learning.runs.turn import take_turn


@pytest.fixture
def of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process is one of two, of which the other one has nothing to say."""
    monkeypatch.setattr(distributed, "size", lambda: 2)
    monkeypatch.setattr(distributed, "total_numbers", lambda *numbers: list(map(float, numbers)))


@pytest.mark.parametrize(
    ("before", "within"),
    [(lambda: None, signal.raise_signal), (lambda: signal.raise_signal(signal.SIGTERM), lambda number: None)],
    ids=["while it reads", "before it reads"],
)
def test_one_of_several_processes_that_is_asked_to_stop_does_not_read_its_block_to_the_end(
    before: Callable[[], None], within: Callable[[int], None], of_two: None
) -> None:
    """torchrun kills what has not stopped after 30 seconds, and a block may take minutes."""
    n_read = 0

    def blocks() -> Iterator[torch.Tensor]:
        nonlocal n_read
        while True:
            within(signal.SIGTERM)
            n_read += 1
            yield torch.zeros(4, 2)

    source = Source(blocks())
    with Interruption() as interruption:
        before()
        with pytest.raises(Interrupted):
            take_turn(source, interruption, is_due=False)
    assert (n_read, interruption.signal, source.position["n_read"]) == (0, signal.SIGTERM, 0)
