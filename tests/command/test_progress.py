"""What a person sees of a long loop."""

import io
import sys
from types import SimpleNamespace

import pytest

from dictionary_learning.command import progress
from dictionary_learning.command.progress import LoopProgress, describe, n_of, time_left


class Terminal(io.StringIO):
    """Stands for a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock that goes on when it is told to."""
    made = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: made.now))
    return made


@pytest.mark.parametrize(
    ("n", "noun", "told"),
    [
        (1, "latent", "1 latent"),
        (0, "latent", "0 latents"),
        (1348, "joined text", "1,348 joined texts"),
        (2, "class", "2 classes"),
        (2, "batch", "2 batches"),
        (3, "dictionary", "3 dictionaries"),
    ],
)
def test_a_number_of_things_is_told_as_one_or_as_several(n: int, noun: str, told: str) -> None:
    assert n_of(n, noun) == told


def test_a_log_file_gets_a_line_every_twenty_seconds(
    clock: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    with LoopProgress(40, "demo:0", "fits") as shown:
        for repeat in range(1, 11):
            with shown.piece(f"semantics, k 10, repeat {repeat} of 10"):
                clock.now += 9
    # at 27 s and 54 s, and at 81 s: then 3, 6 and 9 are done, and 37, 34 and 31 take 9 s each
    assert capsys.readouterr().err.splitlines() == [
        "demo:0: semantics, k 10, repeat 3 of 10, 3 of 40 fits, 5.5 min left",
        "demo:0: semantics, k 10, repeat 6 of 10, 6 of 40 fits, 5.1 min left",
        "demo:0: semantics, k 10, repeat 9 of 10, 9 of 40 fits, 4.7 min left",
    ]


def test_a_loop_that_is_soon_done_writes_nothing_to_a_log_file(
    clock: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    with LoopProgress(3, "demo:0", "texts") as shown:
        for _ in shown.over(range(3)):
            clock.now += 6
    assert capsys.readouterr().err == ""


def test_pieces_before_which_nothing_is_done_have_no_time_left(
    clock: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    with LoopProgress(300, "layer 3", "texts") as shown:
        clock.now += 30
        with shown.piece(n=100):
            clock.now += 30
    assert capsys.readouterr().err.splitlines() == [
        "layer 3: 0 of 300 texts",
        "layer 3: 100 of 300 texts, 2.0 min left",
    ]


@pytest.mark.parametrize(
    ("seconds", "told"), [(0, "0.0 min"), (7000, "116.7 min"), (7200, "2.0 h"), (874_000, "10.1 days")]
)
def test_the_time_left_of_days_is_not_told_in_minutes(seconds: float, told: str) -> None:
    assert time_left(seconds) == f"{told} left"


def test_a_terminal_shows_one_line_that_is_rewritten(
    clock: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with LoopProgress(2, "demo:0", "fits") as shown:
        for k in (1, 10):
            with shown.piece(f"syntax, k {k}"):
                clock.now += 100
                assert f"syntax, k {k}" in terminal.getvalue()
    written = terminal.getvalue()
    assert written.count("\n") == 1
    assert "demo:0: 100%" in written
    assert "2/2" in written


def test_what_fails_is_not_done(clock: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(shown: LoopProgress) -> None:
        with shown.piece():
            clock.now += 100
            raise ZeroDivisionError

    with LoopProgress(5, "demo:0", "fits") as shown:
        with pytest.raises(ZeroDivisionError):
            fail(shown)
        with shown.piece():
            pass
    assert capsys.readouterr().err.splitlines() == ["demo:0: 0 of 5 fits"]


def test_a_speed_that_was_not_measured_yet_is_left_out():
    assert describe({"loss": 0.3125, "l0": 20.0}, 0.0) == "loss 0.312, L0 20"
    assert describe({"loss": 0.3125}, 8200.4) == "loss 0.312, 8,200 tokens/s"
