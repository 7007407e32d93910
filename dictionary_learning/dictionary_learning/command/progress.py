"""What a person sees while a run goes on: a bar in a terminal, a line now and then in a log file."""

import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple, Self, TypeVar

from dictionary_learning.command.secrets import scrub_text

Item = TypeVar("Item")

SHOWN = {"loss": "loss", "fve": "FVE", "l0": "L0", "dead_share": "dead"}
SECONDS_BETWEEN_LINES = 30.0
SECONDS_BETWEEN_PIECES = 20.0


def n_of(n: int, noun: str) -> str:
    """`1 latent`, `1,348 latents`, `2 classes`, `3 dictionaries`."""
    if n == 1:
        return f"1 {noun}"
    if noun.endswith(("s", "ch")):
        return f"{n:,} {noun}es"
    return f"{n:,} {noun.removesuffix('y')}ies" if noun.endswith("ry") else f"{n:,} {noun}s"


def describe(metrics: Mapping[str, float], tokens_per_second: float) -> str:
    """`loss 0.31, FVE 0.72, L0 20, dead 0.01, 8,200 tokens/s`; what was not measured is left out."""
    parts = [f"{label} {metrics[name]:.3g}" for name, label in SHOWN.items() if name in metrics]
    if tokens_per_second:
        parts.append(f"{tokens_per_second:,.0f} tokens/s")
    return ", ".join(parts)


def time_left(seconds: float) -> str:
    """`5.5 min left`; from two of them on in hours or days."""
    for unit, length in (("days", 86_400), ("h", 3600)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit} left"
    return f"{seconds / 60:.1f} min left"


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
            left = f", {time_left((self.steps - done) / speed.steps)}" if speed.steps else ""
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
            said += f", {speed:,.0f} tokens/s, {time_left((self.total - self.done) / speed)}"
        print(f"{said}; {self._note}" if self._note else said, file=sys.stderr, flush=True)

    def close(self) -> None:
        self._bar.close()


class LoopProgress:
    """Which piece of a long loop is at work, how many of how many are done, and the time left.

    In a terminal it is one line that is rewritten, in a log file a line now and then.

        with LoopProgress(len(ks) * len(tasks), "demo:0", "fits") as progress:
            for k, task in product(ks, tasks):
                with progress.piece(f"{task}, k {k}"):
                    fit(k, task)
    """

    def __init__(self, total: int, what: str, unit: str) -> None:
        from tqdm import tqdm

        self._total, self._what, self._unit = total, what, unit
        self._done = 0
        self._bar = tqdm(total=total, desc=what, unit=f" {unit}", dynamic_ncols=True, disable=None)
        self._began = self._last_line = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    @contextmanager
    def piece(self, doing: str = "", n: int = 1) -> Iterator[None]:
        """Inside the block so many pieces are at work, behind it they are done."""
        if doing and not self._bar.disable:
            self._bar.set_postfix_str(doing)
        self._write(doing)
        yield
        self._done += n
        self._bar.update(n)
        self._write(doing)

    def over(self, items: Iterable[Item]) -> Iterator[Item]:
        """The items, each one a piece."""
        for item in items:
            with self.piece():
                yield item

    def _write(self, doing: str) -> None:
        """The line of a log file, if it is time for one."""
        now = time.monotonic()
        if not self._bar.disable or now - self._last_line < SECONDS_BETWEEN_PIECES:
            return
        self._last_line = now
        parts = [doing] if doing else []
        parts.append(f"{self._done:,} of {self._total:,} {self._unit}")
        if self._done:
            left = (self._total - self._done) * (now - self._began) / self._done
            parts.append(time_left(left))
        print(f"{self._what}: {', '.join(parts)}", file=sys.stderr, flush=True)


def say(sentence: str) -> None:
    """One line on stderr that does not tear the bar."""
    from tqdm import tqdm  # here and above: a --help need not wait for it

    tqdm.write(scrub_text(sentence), file=sys.stderr)
