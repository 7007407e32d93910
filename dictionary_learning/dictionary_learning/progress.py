"""What a person sees while a run goes on: a bar in a terminal, a line now and then in a log file."""

import sys
import time
from collections.abc import Mapping

from tqdm import tqdm

SHOWN = {"loss": "loss", "fve": "FVE", "l0": "L0", "dead_share": "dead"}
SECONDS_BETWEEN_LINES = 30.0


def describe(metrics: Mapping[str, float], tokens_per_second: float) -> str:
    """`loss 0.31, FVE 0.72, L0 20, dead 0.01, 8,200 tokens/s`; what was not measured is left out."""
    parts = [f"{label} {metrics[name]:.3g}" for name, label in SHOWN.items() if name in metrics]
    return ", ".join([*parts, f"{tokens_per_second:,.0f} tokens/s"])


class Progress:
    """Loss, FVE, L0, share of dead latents, tokens/s and the time left, on stderr."""

    def __init__(self, steps: int, start: int) -> None:
        self.steps, self.start = steps, start
        self._bar = tqdm(total=steps, initial=start, unit="step", dynamic_ncols=True, disable=None)
        self._began = self._last_line = time.monotonic()

    def step(self) -> None:
        self._bar.update()

    def show(self, done: int, metrics: Mapping[str, float], tokens_per_second: float) -> None:
        text = describe(metrics, tokens_per_second)
        if not self._bar.disable:
            self._bar.set_postfix_str(text, refresh=False)
            return
        now = time.monotonic()
        if now - self._last_line >= SECONDS_BETWEEN_LINES or done == self.steps:
            self._last_line = now
            left = (now - self._began) / max(done - self.start, 1) * (self.steps - done)
            print(f"step {done}/{self.steps}: {text}, {left / 60:.1f} min left", file=sys.stderr, flush=True)

    def close(self) -> None:
        self._bar.close()


def say(sentence: str) -> None:
    """One line on stderr that does not tear the bar."""
    tqdm.write(sentence, file=sys.stderr)
