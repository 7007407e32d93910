"""One call of an OpenAI-compatible server: its address, its key, a time limit, and what may go wrong.

    content = Connection("http://localhost:8000/v1", "judge").post(body, seconds=60)

A call has a time limit in all, from connecting to the last byte. The key comes from the environment alone
(`OPENAI_API_KEY`), and is sent to no other address: redirects are not followed. Nor does it come back: what a
server says is told and kept without it (`without_key`).
"""

import json
import os
import queue
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

from dictionary_learning.command.secrets import HIDDEN
from dictionary_learning.errors import UserError
from temporal_saes.chat.model import DENIED, RATE_LIMIT, REJECTED, SERVER_ERROR, TIMEOUT, UNREACHABLE

KEY_VARIABLE = "OPENAI_API_KEY"
SHORTEST_KEY = 8  # characters
MAX_BYTES = 4_000_000  # of one response; a server that sends more is not answering


class Trouble(Exception):  # noqa: N818
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


class Connection:
    """What is posted to a server goes through here.

    Args:
        url: the server's base address, such as `http://localhost:8000/v1`.
        role: what the model is for; messages name its flags.

    Raises:
        UserError: an address that cannot be one of a server, or that holds a key; a key that cannot be one.
    """

    def __init__(self, url: str, role: str) -> None:
        host = _check_url(url, role)
        self._key = _key_of_environment()
        self.role = role
        self.url = url.rstrip("/").removesuffix("/chat/completions") + "/chat/completions"
        here = host in ("localhost", "::1") or host.startswith("127.")
        proxies = [urllib.request.ProxyHandler({})] if here else []
        self._opener = urllib.request.build_opener(_NoRedirects, *proxies)

    def post(self, body: Mapping[str, Any], seconds: float) -> bytes:
        """What the server answers.

        Raises:
            Trouble: it does not, within these seconds.
        """
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        request = urllib.request.Request(self.url, json.dumps(body).encode(), headers, method="POST")
        if self._key:
            request.add_unredirected_header("Authorization", f"Bearer {self._key}")
        try:
            return _within(seconds, lambda: self._read(request, seconds))
        except TimeoutError:
            raise Trouble(
                TIMEOUT,
                f"did not answer within {seconds:g} seconds: see that it runs, or raise "
                f"--{self.role}_timeout.",
                paid=True,
            ) from None

    def without_key(self, said: str) -> str:
        """What a server says, without the key where it repeats it.

        What is too short to be a secret stays, as the "EMPTY" of a server on this machine: it may be a word.
        """
        return said.replace(self._key, HIDDEN) if len(self._key) >= SHORTEST_KEY else said

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
            raise Trouble(
                UNREACHABLE,
                f"cannot be reached ({self.without_key(str(reason))}): start it, or check --{self.role}_url.",
            ) from None
        if len(content) > MAX_BYTES:
            raise Trouble(
                SERVER_ERROR, f"sent more than {MAX_BYTES:,} bytes: check --{self.role}_url.", paid=True
            )
        return content

    def _http_trouble(self, error: urllib.error.HTTPError) -> Trouble:
        """What a status other than 200 means."""
        try:
            said = error.read(2000).decode("utf-8", "replace")
        except (OSError, HTTPException):
            said = ""
        said = " ".join(self.without_key(said).split())[:300]
        answer = f"answered with status {error.code}" + (f" ({said})" if said else "")
        if error.code == 429:
            wait = _seconds(error.headers["Retry-After"])
            return Trouble(RATE_LIMIT, f"{answer}: wait, or ask less at a time.", wait=wait)
        if error.code in (408, 409, 425) or error.code >= 500:
            return Trouble(SERVER_ERROR, f"{answer}: see what it logs.")
        if error.code in (401, 403):
            return Trouble(DENIED, f"{answer}: give its key in {KEY_VARIABLE}.", passes=False)
        return Trouble(REJECTED, f"{answer}: check --{self.role}_url and --{self.role}_model.", passes=False)


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
