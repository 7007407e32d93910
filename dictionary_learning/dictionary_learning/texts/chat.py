"""Conversations as text: messages through the language model's own chat template, with what each role said.

    chat = ChatTemplate(tokenizer, roles=("assistant",))
    chat.render([{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Because."}])

What is rendered goes through the model as it is; of its characters only those of the messages count as text,
and of these only those of the roles that are asked for. Marks of turns and the names of roles never do.
"""

import json
import re
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, NamedTuple

from dictionary_learning.errors import UserError
from dictionary_learning.texts.spans import Span, Spans

# Some templates write the date of today into the system message; so the text is the same every day.
DATE = "26 Jul 2024"
_MARK = "\ue000"  # of the private use area: in no template, and in messages it does no harm
NO_MESSAGES, REFUSED, CHANGED, OTHER_ROLES = (
    "without messages of a role and a text each",
    "that the chat template refuses",
    "whose messages the chat template changes",
    "without a message of these roles",
)


class Rendered(NamedTuple):
    """A conversation as the language model reads it."""

    text: str
    spans: Spans
    """The characters that are text: a span a turn."""
    key: str
    """What it was made of: the same on every day and with every template."""


class RenderedAnswer(NamedTuple):
    """The last message of a conversation, and all that the language model reads before it."""

    prompt: str
    answer: str
    spans: Spans
    """The characters of the prompt that are text: a span a turn."""


class ChatTemplate:
    """The chat template of a tokenizer."""

    def __init__(self, tokenizer: Any, roles: Sequence[str] | None = None) -> None:
        """`roles` are those whose messages are text; None takes all.

        Raises:
            UserError: the tokenizer has no chat template.
        """
        if not getattr(tokenizer, "chat_template", None):
            raise UserError(
                "the model's tokenizer has no chat template: choose a model that was trained for chats, or "
                "leave out --chat_template."
            )
        self._tokenizer = tokenizer
        self._roles = None if roles is None else frozenset(roles)

    def render(self, messages: object) -> Rendered | str:
        """A conversation; or why there is none, in the words that count what is left out."""
        found = self._found(messages)
        if isinstance(found, str):
            return found
        text, spans = found
        assert isinstance(messages, list)
        wanted = self._wanted(spans, messages)
        if not wanted:
            return OTHER_ROLES
        return Rendered(text, wanted, json.dumps(messages, sort_keys=True))

    def render_answer(self, messages: object) -> RenderedAnswer | str:
        """A conversation's last message, behind the others; or why there is none, as of `render`."""
        found = self._found(messages)
        if isinstance(found, str):
            return found
        text, spans = found
        assert isinstance(messages, list)
        start, end = spans[-1]
        if not self._wanted(spans[-1:], messages[-1:]):
            return OTHER_ROLES
        return RenderedAnswer(text[:start], text[start:end], self._wanted(spans[:-1], messages[:-1]))

    def _found(self, messages: object) -> tuple[str, list[Span]] | str:
        """The text of a conversation and the characters of every message; or why there is none."""
        if not are_messages(messages):
            return NO_MESSAGES
        assert isinstance(messages, list)
        marks = [f"{_MARK}{number}{_MARK}" for number in range(len(messages))]
        try:
            text = self._rendered(messages)
            # what the template writes around messages is what stands around marks in their places
            marked = self._rendered([{**m, "content": mark} for m, mark in zip(messages, marks, strict=True)])
        except Exception:  # of jinja, or whatever the template raises by itself
            return REFUSED
        frames = re.split("|".join(map(re.escape, marks)), marked)
        found = _spans(text, frames, messages)
        return CHANGED if found is None else (text, found)

    def _wanted(self, spans: Sequence[Span], messages: Sequence[Any]) -> Spans:
        """The spans of messages that say something, of the roles that are asked for."""
        return tuple(
            span
            for span, message in zip(spans, messages, strict=True)
            if span[0] < span[1] and (self._roles is None or message["role"] in self._roles)
        )

    def _rendered(self, messages: list[Any]) -> str:
        return str(self._tokenizer.apply_chat_template(messages, tokenize=False, date_string=DATE))


def _spans(text: str, frames: list[str], messages: list[Any]) -> list[Span] | None:
    """The characters of each message, which stand between the frames whole, or without blanks at their ends.

    None where they do not: the template has made something else of them.
    """
    if len(frames) != len(messages) + 1:
        return None
    contents = [message["content"] for message in messages]
    for told in (contents, [content.strip() for content in contents]):
        pieces = [piece for pair in zip(frames, [*told, ""], strict=True) for piece in pair]
        if "".join(pieces) == text:
            ends = list(accumulate(map(len, pieces)))
            # a frame, a message, a frame, ...: a message ends where its piece does
            return [(ends[2 * i], ends[2 * i + 1]) for i in range(len(messages))]
    return None


def are_messages(messages: object) -> bool:
    """Whether it is a list of messages, each with a role and a text."""
    return (
        isinstance(messages, list)
        and bool(messages)
        and all(
            isinstance(one, dict) and isinstance(one.get("role"), str) and isinstance(one.get("content"), str)
            for one in messages
        )
    )
