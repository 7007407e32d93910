"""Asking a chat model many questions: any OpenAI-compatible server, or a local transformers model.

    chat = ChatServer("http://localhost:8000/v1", "meta-llama/Llama-3.3-70B-Instruct")
    chat.check()
    answers = chat.ask([question("Is 7 a prime? Answer yes or no.")], read=yes_or_no)
    answers[0].value, answers[0].failure

Answers are read strictly, by the caller's function; one that cannot be read is asked for once more.
Whatever goes wrong with one question is its answer's `failure`, and the others go on: a call has a
time limit in all, trouble of the server is met by waiting longer each time, and a server that keeps
failing is not asked any more; nor is one when the budget of tokens or of time is used up. `check` is one
call before the work begins, and it raises.

The key of a server comes from the environment alone (`OPENAI_API_KEY`), and is sent to no other
address: redirects are not followed.
"""

import json
import math
import os
import queue
import random
import re
import threading
import time
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from typing import Any, Generic, NamedTuple, TypeVar
from urllib.parse import urlsplit

from dictionary_learning.command.progress import say
from dictionary_learning.errors import UserError
from dictionary_learning.language_model import LanguageModel
from dictionary_learning.language_model.tokens import prompt_ids
from temporal_saes.chat.token_budget import TokenBudget, Usage, estimate_text, estimate_tokens

Value = TypeVar("Value")
Conversation = Sequence[Mapping[str, str]]  # messages with "role" and "content"

KEY_VARIABLE = "OPENAI_API_KEY"
REMINDER = "That is not in the form that was asked for. Answer again, in exactly that form."
MAX_BYTES = 4_000_000  # of one response; a server that sends more is not answering
LONGEST_WAIT = 60.0  # seconds between two attempts, whatever the server asks for
LOCAL_BATCH = 16  # conversations that a local model continues at a time

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


# --- a server ---


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
        host = _check_url(url, role)
        self._key = _key_of_environment()
        self.role = role
        self.url = url.rstrip("/").removesuffix("/chat/completions") + "/chat/completions"
        self.name = model
        self.timeout, self.attempts, self.workers = timeout, attempts, workers
        self.first_wait, self.give_up_after, self.log = first_wait, give_up_after, log
        self.max_tokens, self.budget = max_tokens, budget or TokenBudget()
        self._deadline = math.inf if time_limit is None else time.monotonic() + time_limit
        self._settings: dict[str, Any] = {"temperature": 0, "max_tokens": max_tokens}
        here = host in ("localhost", "::1") or host.startswith("127.")
        proxies = [urllib.request.ProxyHandler({})] if here else []
        self._opener = urllib.request.build_opener(_NoRedirects, *proxies)
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
            except _Trouble as trouble:
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
            except _Trouble as caught:
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

    def _count(self, trouble: "_Trouble") -> None:
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
            _Trouble: there was no completion in it.
        """
        prompt = estimate_tokens(conversation)
        reserved, usage = prompt + self.max_tokens, None
        if not self.budget.reserve(reserved):
            return Completion(None, OVER_BUDGET)
        try:
            completion = self._call(conversation)
            usage = completion.usage or Usage(prompt, estimate_text(completion.text or ""), estimated=True)
            return completion._replace(usage=usage)
        except _Trouble as trouble:
            if trouble.paid:
                usage = Usage(prompt, 0, estimated=True)
            raise
        finally:
            self.budget.settle(reserved, usage)

    def _call(self, conversation: Conversation) -> Completion:
        """One call.

        Raises:
            _Trouble: there was no completion in it.
        """
        body = {
            "model": self.name,
            "messages": [dict(message) for message in conversation],
            **self._settings,
        }
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        request = urllib.request.Request(self.url, json.dumps(body).encode(), headers, method="POST")
        if self._key:
            request.add_unredirected_header("Authorization", f"Bearer {self._key}")
        seconds = max(0.01, min(self.timeout, self._deadline - time.monotonic()))
        try:
            return _completion(_within(seconds, lambda: self._read(request, seconds)))
        except TimeoutError:
            raise _Trouble(
                TIMEOUT,
                f"did not answer within {seconds:g} seconds: see that it runs, or raise "
                f"--{self.role}_timeout.",
                paid=True,
            ) from None

    def _read(self, request: urllib.request.Request, seconds: float) -> bytes:
        ends = time.monotonic() + seconds
        content = b""
        try:
            with self._opener.open(request, timeout=seconds) as response:
                while len(content) <= MAX_BYTES and (piece := response.read1(2**16)):
                    content += piece
                    if time.monotonic() > ends:  # nobody waits for it any more: the thread ends, too
                        raise TimeoutError
        except urllib.error.HTTPError as error:
            with error:
                raise self._http_trouble(error) from None
        except TimeoutError:
            raise
        except (OSError, HTTPException, UnicodeError) as error:
            reason = getattr(error, "reason", error)
            if isinstance(reason, TimeoutError):
                raise TimeoutError from None
            raise _Trouble(
                UNREACHABLE, f"cannot be reached ({reason}): start it, or check --{self.role}_url."
            ) from None
        if len(content) > MAX_BYTES:
            raise _Trouble(
                SERVER_ERROR, f"sent more than {MAX_BYTES:,} bytes: check --{self.role}_url.", paid=True
            )
        return content

    def _http_trouble(self, error: urllib.error.HTTPError) -> "_Trouble":
        """What a status other than 200 means."""
        try:
            said = error.read(2000).decode("utf-8", "replace")
        except (OSError, HTTPException):
            said = ""
        said = " ".join(said.split())[:300]
        if self._key:
            said = said.replace(self._key, "***")
        answer = f"answered with status {error.code}" + (f" ({said})" if said else "")
        if error.code == 429:
            wait = _seconds(error.headers["Retry-After"])
            return _Trouble(RATE_LIMIT, f"{answer}: wait, or ask less at a time.", wait=wait)
        if error.code in (408, 409, 425) or error.code >= 500:
            return _Trouble(SERVER_ERROR, f"{answer}: see what it logs.")
        if error.code in (401, 403):
            return _Trouble(DENIED, f"{answer}: give its key in {KEY_VARIABLE}.", passes=False)
        return _Trouble(REJECTED, f"{answer}: check --{self.role}_url and --{self.role}_model.", passes=False)

    def _adapt(self, trouble: "_Trouble") -> bool:
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


class _Trouble(Exception):  # noqa: N818
    """A call without a completion.

    Attributes:
        told: what the server did, as the end of a sentence.
        passes: whether another attempt may do better.
        wait: seconds that the server asks to wait.
        paid: whether the server may have read the question and been at work.
    """

    def __init__(
        self, kind: str, told: str, *, passes: bool = True, wait: float | None = None, paid: bool = False
    ) -> None:
        super().__init__(told)
        self.kind, self.told, self.passes, self.wait, self.paid = kind, told, passes, wait, paid


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect is an error: the key is for one address."""

    def redirect_request(self, *args: Any, **keywords: Any) -> None:
        return None


def _key_of_environment() -> str:
    """The key for the server; empty without one.

    Raises:
        UserError: it cannot be sent.
    """
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if not re.fullmatch(r"[!-~]*", key):
        raise UserError(f"{KEY_VARIABLE} holds characters that no key has: set it to the key alone.")
    return key


def _check_url(url: str, role: str) -> str:
    """The host of a server's address.

    Raises:
        UserError: it is no such address, or has a key in it.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        parts, host = urlsplit(""), None
    if parts.scheme not in ("http", "https") or not host:
        raise UserError(
            f"--{role}_url {url} is no address of a server: give one like http://localhost:8000/v1."
        )
    if parts.username or parts.password or parts.query:
        raise UserError(
            f"--{role}_url has more than an address in it ({parts.scheme}://{host}): give the key in the "
            f"environment, as {KEY_VARIABLE}."
        )
    return host


def _within(seconds: float, work: Callable[[], bytes]) -> bytes:
    """What `work` returns or raises, if it does so in time.

    The limits of a socket are for one read: a server that sends a byte now and then never exceeds them.

    Raises:
        TimeoutError: it did not end in time; its thread is left to itself.
    """
    outcome: queue.SimpleQueue[bytes | Exception] = queue.SimpleQueue()

    def run() -> None:
        try:
            outcome.put(work())
        except Exception as error:
            outcome.put(error)

    threading.Thread(target=run, daemon=True).start()
    try:
        result = outcome.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError from None
    if isinstance(result, Exception):
        raise result
    return result


def _seconds(retry_after: str | None) -> float | None:
    """The seconds from now of a Retry-After header, which may be a date; None for none."""
    if not retry_after:
        return None
    if re.fullmatch(r"\d+(\.\d+)?", retry_after.strip()):
        return float(retry_after)
    try:
        date = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    date = date if date.tzinfo else date.replace(tzinfo=UTC)
    return max(0.0, (date - datetime.now(UTC)).total_seconds())


def _completion(content: bytes) -> Completion:
    """The completion in the body of a response.

    Raises:
        _Trouble: there is none.
    """
    try:
        body = json.loads(content)
        choice = body["choices"][0]
        message = choice["message"]
        text, refusal = message.get("content"), message.get("refusal")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise _Trouble(
            SERVER_ERROR,
            "does not answer with a chat completion of OpenAI's form: see that its address is right.",
            paid=True,
        ) from None
    if refusal or choice.get("finish_reason") == "content_filter":
        return Completion(None, REFUSAL, _usage(body))
    return Completion(text if isinstance(text, str) else "", None, _usage(body))


def _usage(body: Mapping[str, Any]) -> Usage | None:
    """What the server says that the call cost; None where it does not."""
    said = body.get("usage")
    if not isinstance(said, dict):
        return None
    prompt, answer = said.get("prompt_tokens"), said.get("completion_tokens")
    if not isinstance(prompt, int) or not isinstance(answer, int) or min(prompt, answer) < 0:
        return None
    return Usage(prompt, answer)


# --- a local model ---


class LocalChat(Chat):
    """A transformers model with a chat template, on this machine.

    Args:
        lm: the model.
        max_tokens: of an answer.
        budget: counts the tokens, and may forbid an answer; one that only counts if not given.
        time_limit: seconds from now on, after which no batch is begun; None for none.

    Raises:
        UserError: its tokenizer has no chat template.
    """

    def __init__(
        self,
        lm: LanguageModel,
        max_tokens: int = 64,
        *,
        budget: TokenBudget | None = None,
        time_limit: float | None = None,
    ) -> None:
        if not lm.tokenizer.chat_template:
            raise UserError(f"{lm.name} has no chat template, so nothing can be asked of it: choose another.")
        self.lm, self.name, self.max_tokens = lm, lm.name, max_tokens
        self.budget = budget or TokenBudget()
        self._deadline = math.inf if time_limit is None else time.monotonic() + time_limit

    def check(self) -> None:
        """Nothing: it is loaded."""

    def complete(
        self, conversations: Sequence[Conversation], done: Done = lambda place, completion: None
    ) -> list[Completion]:
        """What the model says to each, by greedy search."""
        prompts = [self._prompt(conversation) for conversation in conversations]
        lengths = [len(ids) for ids in prompt_ids(self.lm.tokenizer, prompts)]
        room = (self.lm.max_positions or max(lengths, default=0) + self.max_tokens) - self.max_tokens
        completions = [Completion(None, TOO_LONG)] * len(prompts)
        fitting = sorted((i for i, length in enumerate(lengths) if length <= room), key=lambda i: lengths[i])
        for i in set(range(len(prompts))) - set(fitting):
            done(i, completions[i])
        for first in range(0, len(fitting), LOCAL_BATCH):
            batch = fitting[first : first + LOCAL_BATCH]
            for i, completion in zip(batch, self._continue(batch, prompts, lengths), strict=True):
                completions[i] = completion
                done(i, completion)
        return completions

    def _continue(
        self, batch: Sequence[int], prompts: Sequence[str], lengths: Sequence[int]
    ) -> list[Completion]:
        """What the model writes after the prompts of these numbers."""
        if time.monotonic() >= self._deadline:
            return [Completion(None, OUT_OF_TIME)] * len(batch)
        reserved = sum(lengths[i] + self.max_tokens for i in batch)
        if not self.budget.reserve(reserved):
            return [Completion(None, OVER_BUDGET)] * len(batch)
        self.budget.settle(reserved, None)  # nothing else runs, so it is there still when it is counted
        written = self.lm.continuations([prompts[i] for i in batch], max_new_tokens=self.max_tokens)
        completions = []
        for one in written:
            usage = Usage(len(one.prompt_ids), len(one.ids))
            self.budget.count(usage)
            completions.append(Completion(one.text, None, usage))
        return completions

    def _prompt(self, conversation: Conversation) -> str:
        made = self.lm.tokenizer.apply_chat_template(
            [dict(message) for message in conversation], tokenize=False, add_generation_prompt=True
        )
        # the tokenizer puts its BOS in front again
        return made.removeprefix(self.lm.tokenizer.bos_token or "") if self.lm.bos_id is not None else made
