"""Two continuations of a prompt, plain and steered, as they are written.

    for event in writer.write(Wish("I think that", {5: 60.0})):
        event["texts"]   # plain, steered

Both are rows of one batch, of which only the second is steered, and draw the same random numbers: they differ
by that alone.
"""

import math
import queue
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from dictionary_learning.dictionaries.base import Dictionary
from dictionary_learning.errors import UserError
from dictionary_learning.language_model import Continuation, LanguageModel
from dictionary_learning.language_model.attach import MODES
from temporal_saes.experiment.subjects import Subject
from temporal_saes.explorer.turns import Turns

MOST_TOKENS = 400
MOST_LATENTS = 32
Event = dict[str, Any]


@dataclass(frozen=True)
class Wish:
    """What is to be written."""

    prompt: str
    strengths: Mapping[int, float] = field(default_factory=dict)
    """By latent, in the units of its activation."""
    mode: str = "add"
    tokens: int = 60
    temperature: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.prompt:
            raise UserError("there is nothing to go on from: type a prompt.")
        if self.mode not in MODES:
            raise UserError(f"mode {self.mode!r} does not exist: choose {' or '.join(MODES)}.")
        if not 1 <= self.tokens <= MOST_TOKENS:
            raise UserError(f"{self.tokens} tokens cannot be written: choose 1 to {MOST_TOKENS}.")
        if not 0 <= self.temperature <= 10:
            raise UserError(f"temperature {self.temperature} is none: choose 0 to 10.")
        if not 0 <= self.seed < 2**32:
            raise UserError(f"seed {self.seed} is none: choose 0 to {2**32 - 1}.")
        if len(self.strengths) > MOST_LATENTS:
            raise UserError(f"{len(self.strengths)} latents are too many: steer at most {MOST_LATENTS}.")
        if not all(map(math.isfinite, self.strengths.values())):
            raise UserError("a strength is no number.")

    @classmethod
    def of(cls, asked: Any) -> "Wish":
        """From the JSON of a page.

        Raises:
            UserError: it is none.
        """
        try:
            strengths = asked.get("strengths", {}).items()
            read: dict[str, Any] = {
                "prompt": _string(asked["prompt"]),
                "strengths": {int(latent): float(value) for latent, value in strengths},
                "mode": _string(asked.get("mode", "add")),
                "tokens": int(asked.get("tokens", 60)),
                "temperature": float(asked.get("temperature", 0.0)),
                "seed": int(asked.get("seed", 0)),
            }
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            raise UserError("this is no wish for a text.") from None
        return cls(**read)


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


class _Stopped(Exception):  # noqa: N818
    """Nobody reads on."""


class Writer:
    """Writes with a language model."""

    def __init__(self, lm: LanguageModel, dictionary: Dictionary, subject: Subject, turns: Turns) -> None:
        self.lm, self.dictionary, self.subject, self.turns = lm, dictionary, subject, turns
        self.norm_limit = lm.sink_norm(subject.place, subject.max_norm_ratio)

    def write(self, wish: Wish) -> Iterator[Event]:
        """The texts after every token: {"texts": [plain, steered], "tokens": n}, at the end {"done": True}.

        Before them {"waiting": True}, if somebody else is written for. Whoever stops reading stops the
        writing.

        Raises:
            UserError: a latent does not exist, or the prompt has no token or too many.
        """
        if self.turns.writing.is_taken:
            yield {"waiting": True}
        told: queue.SimpleQueue[Event | Exception] = queue.SimpleQueue()
        stopped = threading.Event()
        thread = threading.Thread(target=self._run, args=(wish, told, stopped), daemon=True)
        thread.start()
        try:
            while True:
                event = told.get()
                if isinstance(event, Exception):
                    raise event
                yield event
                if "done" in event:
                    return
        finally:
            stopped.set()

    def _run(
        self, wish: Wish, told: "queue.SimpleQueue[Event | Exception]", stopped: threading.Event
    ) -> None:
        def watch(written: list[Continuation]) -> None:
            if stopped.is_set():
                raise _Stopped
            told.put({"texts": [one.text for one in written], "tokens": max(len(one.ids) for one in written)})
            self.turns.pause()

        try:
            with self.turns.writing, self.turns.step():
                if stopped.is_set():
                    return
                with self.lm.steered(
                    self.dictionary,
                    [{}, dict(wish.strengths)],
                    self.subject.place,
                    mode=wish.mode,
                    norm_limit=self.norm_limit,
                ):
                    self.lm.continuations(
                        [wish.prompt] * 2,
                        max_new_tokens=wish.tokens,
                        temperature=wish.temperature,
                        seed=wish.seed,
                        alike=True,
                        watch=watch,
                    )
            told.put({"done": True})
        except _Stopped:
            pass
        except Exception as error:  # whoever reads is told
            told.put(error)
