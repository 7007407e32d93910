"""What a person sees while a run goes on: a bar in a terminal, a line now and then in a log file."""

import sys
import time
from collections.abc import Mapping
from typing import NamedTuple

from dictionary_learning.command.secrets import scrub_text

SHOWN = {"loss": "loss", "fve": "FVE", "l0": "L0", "dead_share": "dead"}
SECONDS_BETWEEN_LINES = 30.0


def describe(metrics: Mapping[str, float], tokens_per_second: float) -> str:
    """`loss 0.31, FVE 0.72, L0 20, dead 0.01, 8,200 tokens/s`; what was not measured is left out."""
    parts = [f"{label} {metrics[name]:.3g}" for name, label in SHOWN.items() if name in metrics]
    return ", ".join([*parts, f"{tokens_per_second:,.0f} tokens/s"])


class Speed(NamedTuple):
    """Per second, since the last measurement."""

    steps: float
    tokens: float


class Speedometer:
    """The speed of training alone: its clock starts behind the first step, when activations are there."""

    def __init__(self) -> None:
        self._last: tuple[float, int, int] | None = None

    def step(self, done: int, tokens: int) -> None:
        if self._last is None:
            self._last = time.monotonic(), done, tokens

    def measure(self, done: int, tokens: int) -> Speed:
        """The speed since the last measurement; zero when no time or step lies between."""
        now = time.monotonic()
        then, done_then, tokens_then = self._last or (now, done, tokens)
        seconds = now - then
        if done == done_then or seconds <= 0:
            return Speed(0.0, 0.0)
        self._last = now, done, tokens
        return Speed((done - done_then) / seconds, (tokens - tokens_then) / seconds)


class Progress:
    """Loss, FVE, L0, share of dead latents, tokens/s and the time left, on stderr."""

    def __init__(self, steps: int, start: int) -> None:
        from tqdm import tqdm

        self.steps = steps
        self._bar = tqdm(total=steps, initial=start, unit="step", dynamic_ncols=True, disable=None)
        self._last_line = time.monotonic()

    def step(self) -> None:
        self._bar.update()

    def show(self, done: int, metrics: Mapping[str, float], speed: Speed) -> None:
        text = describe(metrics, speed.tokens)
        if not self._bar.disable:
            self._bar.set_postfix_str(text, refresh=False)
            return
        now = time.monotonic()
        if now - self._last_line >= SECONDS_BETWEEN_LINES or done == self.steps:
            self._last_line = now
            left = f", {(self.steps - done) / speed.steps / 60:.1f} min left" if speed.steps else ""
            print(f"step {done}/{self.steps}: {text}{left}", file=sys.stderr, flush=True)

    def close(self) -> None:
        self._bar.close()


class TokenProgress:
    """Tokens done, tokens/s and the time left: a bar in a terminal, a line now and then in a log file."""

    def __init__(self, total: int, done: int, what: str) -> None:
        from tqdm import tqdm

        self.done = done
        self.total = total
        self._what = what
        self._bar = tqdm(
            total=total,
            initial=done,
            unit="token",
            unit_scale=True,
            desc=what,
            dynamic_ncols=True,
            disable=None,
        )
        self._began = self._last_line = time.monotonic()
        self._n_found = done
        self._note = ""

    def find(self, n: int) -> None:
        """So many tokens were there already: they do not count for the speed."""
        self._n_found += n
        self.done += n
        if not self._bar.disable:
            self._bar.initial += n
        self._bar.update(n)

    def add(self, n: int) -> None:
        """So many tokens were made."""
        self.done += n
        self._bar.update(n)
        self._line()

    def note(self, text: str) -> None:
        """What is being done with them: behind the bar, or at the end of the next line; "" for nothing."""
        self._note = text
        if not self._bar.disable:
            self._bar.set_postfix_str(text)
        self._line()

    def _line(self) -> None:
        now = time.monotonic()
        if not self._bar.disable or now - self._last_line < SECONDS_BETWEEN_LINES:
            return
        self._last_line = now
        said = f"{self._what}: {self.done:,} of {self.total:,} tokens"
        speed = (self.done - self._n_found) / (now - self._began)
        if speed:
            left = (self.total - self.done) / speed / 60
            said += f", {speed:,.0f} tokens/s, {left:.1f} min left"
        print(f"{said}; {self._note}" if self._note else said, file=sys.stderr, flush=True)

    def close(self) -> None:
        self._bar.close()


def say(sentence: str) -> None:
    """One line on stderr that does not tear the bar."""
    from tqdm import tqdm  # here and above: a --help need not wait for it

    tqdm.write(scrub_text(sentence), file=sys.stderr)
