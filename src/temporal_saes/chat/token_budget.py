"""How many tokens a chat model has been paid for, and a limit that is never passed.

    budget = TokenBudget(100_000)
    if budget.reserve(estimate_tokens(conversation) + 300):
        budget.settle(estimate_tokens(conversation) + 300, Usage(812, 40))
    budget.spent

A call is paid for when it is over, and several are under way at a time, so each first reserves the most it
may cost. What is spent is what the server says (`usage`); where it says nothing, an estimate.
"""

import threading
from collections.abc import Mapping, Sequence
from typing import NamedTuple

BYTES_A_TOKEN = 3.5  # of English with marks and numbers in it, in the tokenizers of common models
TOKENS_A_MESSAGE = 6  # roles and turns


class Usage(NamedTuple):
    """The tokens of one call."""

    prompt: int
    answer: int
    estimated: bool = False  # the server did not say


def estimate_text(text: str) -> int:
    """About how many tokens a text has."""
    return round(len(text.encode("utf-8", "replace")) / BYTES_A_TOKEN)


def estimate_tokens(conversation: Sequence[Mapping[str, str]]) -> int:
    """About how many tokens a conversation has."""
    return sum(estimate_text(message["content"]) + TOKENS_A_MESSAGE for message in conversation)


class TokenBudget:
    """Counts tokens, from several threads at a time.

    Args:
        limit: tokens that may be spent, prompts and answers together; None counts only.
    """

    def __init__(self, limit: int | None = None) -> None:
        self.limit = limit
        self.prompt = self.answer = self.estimated_calls = 0
        self._reserved = 0
        self._lock = threading.Lock()

    @property
    def spent(self) -> int:
        """Tokens of prompts and answers so far."""
        return self.prompt + self.answer

    @property
    def left(self) -> int | None:
        """Tokens that may still be spent, by calls under way too; None without a limit."""
        return None if self.limit is None else max(0, self.limit - self.spent)

    def reserve(self, tokens: int) -> bool:
        """Set so many aside for a call; False, and nothing is set aside, where they are not there."""
        with self._lock:
            if self.limit is not None and self.spent + self._reserved + tokens > self.limit:
                return False
            self._reserved += tokens
            return True

    def settle(self, reserved: int, usage: Usage | None) -> None:
        """A call for which so many were reserved is over; None: it cost nothing."""
        with self._lock:
            self._reserved -= reserved
            if usage is not None:
                self.prompt += usage.prompt
                self.answer += usage.answer
                self.estimated_calls += usage.estimated

    def count(self, usage: Usage) -> None:
        """Tokens were spent for which nothing was reserved."""
        self.settle(0, usage)
