"""A chat model as a judge of steered texts: success and coherence, 0 to 3 each (T-SAE, arXiv 2511.05541).

    judge = Judge(ChatServer("http://localhost:8000/v1", "some-model"))
    judge.success([Steered("names of rivers", "I think that", " the Rhine is long.")])
    judge.coherence([Steered("names of rivers", "I think that", " the Rhine is long.")])

The questions stand in `templates/*.txt`. An answer counts when it clearly gives one score
(`temporal_saes.chat.answers`); anything else is asked for once more and then counted as a failure, never as a
number.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from string import Template
from typing import Any, NamedTuple

from temporal_saes.chat.answers import read_number
from temporal_saes.chat.model import NOT_ASKED, Answer, Chat, question, tally

TEMPLATES = Path(__file__).with_name("templates")
BEST = 3  # of both scales


class Steered(NamedTuple):
    """A text to judge."""

    topic: str  # what the steering is towards, in words
    opening: str
    continuation: str


def template(name: str) -> Template:
    """The question of that name, with $topic, $opening and $continuation in it."""
    return Template((TEMPLATES / f"{name}.txt").read_text(encoding="utf-8"))


def read_score(answer: str) -> int | None:
    """The score that an answer clearly gives; None without one, with several, or beyond 0 to `BEST`."""
    return read_number(answer, BEST)


class Judge:
    """Scores texts, and counts the answers that were none."""

    def __init__(self, chat: Chat) -> None:
        self.chat = chat
        self.asked = 0
        self.failures: dict[str, int] = {}

    def success(self, texts: Sequence[Steered]) -> list[Answer[int]]:
        """How much of its topic is in each text."""
        return self._ask("success", texts)

    def coherence(self, texts: Sequence[Steered]) -> list[Answer[int]]:
        """How coherent each text is; its topic is not told."""
        return self._ask("coherence", [text._replace(topic="") for text in texts])

    def _ask(self, name: str, texts: Sequence[Steered]) -> list[Answer[int]]:
        made = template(name)
        conversations = [question(made.substitute(text._asdict())) for text in texts]
        answers = self.chat.ask(conversations, read_score, what=f"judging {name}")
        self.asked += len(answers)
        for kind, count in tally(answers).items():
            self.failures[kind] = self.failures.get(kind, 0) + count
        return answers

    def about(self) -> dict[str, Any]:
        """Who judged, by which questions, and how many answers were none."""
        return {
            "model": self.chat.name,
            "asked": self.asked,
            "failures": dict(sorted(self.failures.items())),
            "gave_up": NOT_ASKED in self.failures,
            "templates_sha256": templates_hash(),
        }


def templates_hash() -> str:
    """SHA-256 of the questions."""
    texts = "".join(template(name).template for name in ("success", "coherence"))
    return hashlib.sha256(texts.encode()).hexdigest()
