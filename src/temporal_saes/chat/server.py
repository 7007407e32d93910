"""Asking a server that speaks OpenAI's chat completions many questions.

    chat = ChatServer("http://localhost:8000/v1", "meta-llama/Llama-3.3-70B-Instruct")
    chat.check()
    answers = chat.ask([question("Is 7 a prime? Answer yes or no.")], read=yes_or_no)

Trouble of the server is met by waiting longer each time, and a server that keeps failing is not asked any
more; nor is one when the budget of tokens or of time is used up. `check` is one call before the work begins,
and it raises.
"""

import json
import math
import queue
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from dictionary_learning.command.progress import say
from dictionary_learning.errors import UserError
from dictionary_learning.texts.records import as_unicode
from temporal_saes.chat.model import (
    DENIED,
    NOT_ASKED,
    OUT_OF_TIME,
    OVER_BUDGET,
    REFUSAL,
    REJECTED,
    SERVER_ERROR,
    Chat,
    Completion,
    Conversation,
    Done,
    question,
)
from temporal_saes.chat.token_budget import TokenBudget, Usage, estimate_text, estimate_tokens
from temporal_saes.chat.transport import Connection, Trouble

LONGEST_WAIT = 60.0  # seconds between two attempts, whatever the server asks for


class ChatServer(Chat):
    """A server that speaks OpenAI's chat completions: vLLM, llama.cpp, Ollama, a provider.

    Args:
        url: its base address, such as `http://localhost:8000/v1`.
        model: the model's name there.
        timeout: seconds for one call in all, from connecting to the last byte.
        attempts: calls for one question before it counts as failed.
        workers: calls at a time.
        max_tokens: of an answer.
        first_wait: seconds before the second attempt; later ones wait twice as long each time.
        give_up_after: questions that fail in a row by the server's fault before no more are asked.
        budget: counts the tokens, and may forbid a call; one that only counts if not given.
        time_limit: seconds from now on, after which no more is asked; None for none.
        role: what the model is for; messages name its flags, `--<role>_url`, `--<role>_model` and
            `--<role>_timeout`.

    Raises:
        UserError: an address that cannot be one of a server, or that holds a key; a key that cannot be one.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        timeout: float = 60.0,
        attempts: int = 4,
        workers: int = 8,
        max_tokens: int = 256,
        first_wait: float = 1.0,
        give_up_after: int = 8,
        budget: TokenBudget | None = None,
        time_limit: float | None = None,
        role: str = "judge",
        log: Callable[[str], None] = say,
    ) -> None:
        self._connection = Connection(url, role)
        self.url, self.role, self.name = self._connection.url, role, model
        self.timeout, self.attempts, self.workers = timeout, attempts, workers
        self.first_wait, self.give_up_after, self.log = first_wait, give_up_after, log
        self.max_tokens, self.budget = max_tokens, budget or TokenBudget()
        self._deadline = math.inf if time_limit is None else time.monotonic() + time_limit
        self._settings: dict[str, Any] = {"temperature": 0, "max_tokens": max_tokens}
        self.has_given_up = False
        """Whether the server failed so often in a row that it is not asked any more."""
        self._failed_in_a_row = 0
        self._lock = threading.Lock()

    @property
    def _here(self) -> str:
        return f"the {self.role} at {self.url}"

    def check(self) -> None:
        """One short question.

        Raises:
            UserError: the server cannot be reached, is too slow, or does not answer as it should.
        """
        for _ in range(3):
            try:
                self._paid_call(question("Answer with one word: are you there?"))
                return
            except Trouble as trouble:
                if not self._adapt(trouble):
                    raise UserError(f"{self._here} {trouble.told}") from None
        raise AssertionError("every setting was adapted twice")

    def complete(
        self, conversations: Sequence[Conversation], done: Done = lambda place, completion: None
    ) -> list[Completion]:
        """What the model says to each, several at a time."""
        waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
        for i in range(len(conversations)):
            waiting.put(i)
        finished: queue.SimpleQueue[tuple[int, Completion | Exception]] = queue.SimpleQueue()

        def work() -> None:
            while True:
                try:
                    i = waiting.get_nowait()
                except queue.Empty:
                    return
                try:
                    finished.put((i, self._complete(conversations[i])))
                except Exception as error:
                    finished.put((i, error))

        # daemons: an interrupted program does not wait for the server
        for _ in range(min(self.workers, len(conversations))):
            threading.Thread(target=work, daemon=True).start()
        completions: dict[int, Completion] = {}
        try:
            while len(completions) < len(conversations):
                i, completion = finished.get()
                if isinstance(completion, Exception):
                    raise completion
                completions[i] = completion
                done(i, completion)
        finally:  # nothing more is paid for after an interruption
            with suppress(queue.Empty):
                while True:
                    waiting.get_nowait()
        return [completions[i] for i in range(len(conversations))]

    def _complete(self, conversation: Conversation) -> Completion:
        """One question, with as many attempts as it may have."""
        wait = self.first_wait
        trouble = None
        for attempt in range(self.attempts):
            if self.has_given_up:
                return Completion(None, NOT_ASKED)
            if trouble is not None:
                asked_for = trouble.wait or 0.0
                pause = min(LONGEST_WAIT, max(asked_for, wait * random.uniform(0.5, 1.5)))
                time.sleep(min(pause, max(0.0, self._deadline - time.monotonic())))
                wait *= 2
            if time.monotonic() >= self._deadline:
                return Completion(None, OUT_OF_TIME)
            try:
                completion = self._paid_call(conversation)
            except Trouble as caught:
                trouble = caught
                if not trouble.passes or attempt == self.attempts - 1:
                    break
            else:
                with self._lock:
                    self._failed_in_a_row = 0
                return completion
        assert trouble is not None
        if trouble.passes or trouble.kind == DENIED:
            self._count(trouble)
        return Completion(None, trouble.kind)

    def _count(self, trouble: Trouble) -> None:
        """A question failed by the server's fault."""
        with self._lock:
            self._failed_in_a_row += 1
            if self.has_given_up or self._failed_in_a_row < self.give_up_after:
                return
            self.has_given_up = True
        self.log(
            f"{self._here} failed {self.give_up_after} times in a row, so it is not asked any more; the last "
            f"time it {trouble.told}"
        )

    def _paid_call(self, conversation: Conversation) -> Completion:
        """One call, if the budget has room for the most it may cost.

        Raises:
            Trouble: there was no completion in it.
        """
        prompt = estimate_tokens(conversation)
        reserved, usage = prompt + self.max_tokens, None
        if not self.budget.reserve(reserved):
            return Completion(None, OVER_BUDGET)
        try:
            completion = self._call(conversation)
            usage = completion.usage or Usage(prompt, estimate_text(completion.text or ""), estimated=True)
            return completion._replace(usage=usage)
        except Trouble as trouble:
            if trouble.paid:
                usage = Usage(prompt, 0, estimated=True)
            raise
        finally:
            self.budget.settle(reserved, usage)

    def _call(self, conversation: Conversation) -> Completion:
        """One call.

        Raises:
            Trouble: there was no completion in it.
        """
        body = {
            "model": self.name,
            "messages": [dict(message) for message in conversation],
            **self._settings,
        }
        seconds = max(0.01, min(self.timeout, self._deadline - time.monotonic()))
        completion = _completion(self._connection.post(body, seconds))
        if completion.text is None:
            return completion
        # here, and not in the bytes, in which JSON may have written the key otherwise
        return completion._replace(text=self._connection.without_key(completion.text))

    def _adapt(self, trouble: Trouble) -> bool:
        """Give up a setting that the server does not know; whether there was one."""
        if trouble.kind != REJECTED:
            return False
        if "max_tokens" in self._settings and "max_completion_tokens" in trouble.told:
            self._settings["max_completion_tokens"] = self._settings.pop("max_tokens")
            return True
        if "temperature" in self._settings and "temperature" in trouble.told:
            del self._settings["temperature"]
            return True
        return False


def _completion(content: bytes) -> Completion:
    """The completion in the body of a response.

    Raises:
        Trouble: there is none.
    """
    try:
        body = json.loads(content)
        choice = body["choices"][0]
        message = choice["message"]
        text, refusal = message.get("content"), message.get("refusal")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise Trouble(
            SERVER_ERROR,
            "does not answer with a chat completion of OpenAI's form: see that its address is right.",
            paid=True,
        ) from None
    if refusal or choice.get("finish_reason") == "content_filter":
        return Completion(None, REFUSAL, _usage(body))
    return Completion(as_unicode(text) if isinstance(text, str) else "", None, _usage(body))


def _usage(body: Mapping[str, Any]) -> Usage | None:
    """What the server says that the call cost; None where it does not."""
    said = body.get("usage")
    if not isinstance(said, dict):
        return None
    prompt, answer = said.get("prompt_tokens"), said.get("completion_tokens")
    if not isinstance(prompt, int) or not isinstance(answer, int) or min(prompt, answer) < 0:
        return None
    return Usage(prompt, answer)
