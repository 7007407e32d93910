"""A chat model: questions, the answers that are read from what it says, and how they fail.

    answers = chat.ask([question("Is 7 a prime? Answer yes or no.")], read=yes_or_no)
    answers[0].value, answers[0].failure
    tally(answers)

Answers are read strictly, by the caller's function; one that cannot be read is asked for once more. Whatever
goes wrong with one question is its answer's `failure`, and the others go on.
"""

import json
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from temporal_saes.chat.token_budget import TokenBudget, Usage

Value = TypeVar("Value")
Conversation = Sequence[Mapping[str, str]]  # messages with "role" and "content"

REMINDER = "That is not in the form that was asked for. Answer again, in exactly that form."

TIMEOUT, UNREACHABLE, RATE_LIMIT, SERVER_ERROR = "timeout", "unreachable", "rate limit", "server error"
REJECTED, REFUSAL, UNREADABLE = "request rejected", "refusal", "unreadable answer"
DENIED = "access denied"
NOT_ASKED, TOO_LONG = "not asked", "question too long"
OVER_BUDGET, OUT_OF_TIME = "over budget", "out of time"
PUT_OFF = {NOT_ASKED, OVER_BUDGET, OUT_OF_TIME}
"""Failures of questions that were never asked, by the decision of this side."""
THOUGHT_BEGINS, THOUGHT_ENDS = "<think>", "</think>"


class Answer(NamedTuple, Generic[Value]):
    """What came back to one question."""

    value: Value | None  # None where it failed
    text: str | None  # what the model said; None where it said nothing
    failure: str | None  # the kind of failure; None where there is a value


class Completion(NamedTuple):
    """What a model said, or why it did not."""

    text: str | None
    failure: str | None = None
    usage: Usage | None = None  # what it cost; None where nothing


Done = Callable[[int, Completion], object]  # called with each completion, and its place, as it comes


def question(text: str) -> Conversation:
    """A conversation that begins with this question."""
    return [{"role": "user", "content": text}]


def tally(answers: Iterable[Answer[Any]]) -> dict[str, int]:
    """How many answers failed, by kind."""
    return dict(sorted(Counter(answer.failure for answer in answers if answer.failure).items()))


class Chat(ABC):
    """A chat model."""

    name: str
    max_tokens: int  # of an answer
    budget: TokenBudget

    @abstractmethod
    def check(self) -> None:
        """One call, to see that there will be answers.

        Raises:
            UserError: there will not be.
        """

    @abstractmethod
    def complete(
        self, conversations: Sequence[Conversation], done: Done = lambda place, completion: None
    ) -> list[Completion]:
        """What the model says to each; `done` is called after each, in the caller's thread."""

    def ask(
        self, conversations: Sequence[Conversation], read: Callable[[str], Value | None], *, what: str = ""
    ) -> list[Answer[Value]]:
        """An answer to each conversation, in order; conversations that are the same are asked once.

        Args:
            read: the value that an answer holds; None where it is not in the form that was asked for.
            what: what is asked, for the progress bar.
        """
        from tqdm import tqdm

        by_key = {_written(conversation): conversation for conversation in conversations}
        with tqdm(
            total=len(by_key), desc=what or self.name, unit=" answers", dynamic_ncols=True, disable=None
        ) as bar:
            answers = self._answers(by_key, read, bar.update)
            again = {
                key: [*by_key[key], {"role": "assistant", "content": answer.text or ""}, *question(REMINDER)]
                for key, answer in answers.items()
                if answer.failure == UNREADABLE
            }
            bar.reset(total=len(by_key) + len(again))
            bar.update(len(by_key))
            answers |= self._answers(again, read, bar.update)
        return [answers[_written(conversation)] for conversation in conversations]

    def _answers(
        self,
        conversations: Mapping[str, Conversation],
        read: Callable[[str], Value | None],
        done: Callable[[], object],
    ) -> dict[str, Answer[Value]]:
        completions = self.complete(list(conversations.values()), lambda place, completion: done())
        return {
            key: _read(completion, read) for key, completion in zip(conversations, completions, strict=True)
        }


def _read(completion: Completion, read: Callable[[str], Value | None]) -> Answer[Value]:
    if completion.text is None:
        return Answer(None, None, completion.failure)
    value = read(_said(completion.text))
    return Answer(value, completion.text, UNREADABLE if value is None else None)


def _said(text: str) -> str:
    """The answer without what a reasoning model thinks aloud, which may have been cut off."""
    _, thought, rest = text.rpartition(THOUGHT_ENDS)
    return ("" if not thought and text.lstrip().startswith(THOUGHT_BEGINS) else rest).strip()


def _written(conversation: Conversation) -> str:
    return json.dumps([dict(message) for message in conversation], sort_keys=True)
