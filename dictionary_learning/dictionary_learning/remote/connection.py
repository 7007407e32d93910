"""Connections that drop: what is one, how often a thing is tried again, and what an error says."""

import time
import warnings
from collections.abc import Callable, Sequence
from typing import TypeVar

from dictionary_learning.command.secrets import scrub_text
from dictionary_learning.errors import UserError

Answer = TypeVar("Answer")

FIRST_WAITS = (1, 2)
"""Seconds before each new attempt while somebody waits: a wrong setting shows at once."""
WAITS = (1, 2, 4, 8, 16, 32)
"""The same where hours of work would be lost."""
_NETWORK_LIBRARIES = {"aiohttp", "httpcore", "httpcore2", "httpx", "httpx2", "requests", "urllib3"}
# Of the libraries for stores these say that the connection failed; their other errors are answers.
_FAILED_CONNECTIONS = ("HTTPClientError", "ConnectionError", "TransportError")


def is_drop(error: BaseException) -> bool:
    """Whether a second attempt may succeed: connection errors, time-outs and 5xx answers, not 4xx."""
    status = _status(error)
    if status is not None and 400 <= status < 500:
        return status in (408, 429)
    if status is not None and 500 <= status < 600:
        return True
    if isinstance(error, ConnectionError | TimeoutError):
        return True
    kinds = type(error).__mro__
    return any(kind.__module__.split(".")[0] in _NETWORK_LIBRARIES for kind in kinds) or any(
        kind.__module__.split(".")[0] in ("botocore", "google") and kind.__name__ in _FAILED_CONNECTIONS
        for kind in kinds
    )


def is_refusal(error: BaseException) -> bool:
    """Whether an answer says that we may not: no credentials, or others than it takes."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    return (
        isinstance(error, PermissionError)
        or _status(error) in (401, 403)
        or bool(kinds & {"NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError"})
    )


def behind(error: BaseException) -> list[BaseException]:
    """An error and those that it came from, itself first."""
    found: list[BaseException] = []
    following: BaseException | None = error
    while following is not None and following not in found:
        found.append(following)
        following = following.__cause__ or following.__context__
    return found


def failure(place: object, error: BaseException, doing: str = "read") -> UserError:
    """What went wrong at a place, as one sentence; without the secrets of its URL.

    Args:
        doing: what was tried, such as "read" or "written".
    """
    found = behind(error)
    name = scrub_text(str(place))
    if any(is_drop(one) for one in found):
        reason = next(said(one) for one in found if is_drop(one))
        return UserError(f"{name} cannot be reached ({reason}): check the URL and the connection.")
    if any(is_refusal(one) for one in found):
        reason = next(said(one) for one in found if is_refusal(one))
        return UserError(
            f"{name} may not be {doing} ({reason}): check the URL and the credentials of this machine "
            "(docs/urls.md)."
        )
    if isinstance(error, FileNotFoundError):
        if doing == "written":
            return UserError(f"{name} cannot be written (there is no such bucket or folder): check the URL.")
        return UserError(f"there is nothing at {name}: check the URL.")
    return UserError(f"{name} cannot be {doing} ({said(error)}): check the URL.")


def patiently(action: Callable[[], Answer], name: str, waits: Sequence[float] = FIRST_WAITS) -> Answer:
    """What `action` gives, tried again after each of `waits` when the connection drops.

    Args:
        name: what is said to have dropped.
    """
    for wait in waits:
        try:
            return action()
        except Exception as error:
            if not any(is_drop(one) for one in behind(error)):
                raise
            warnings.warn(f"{name}: the connection dropped ({said(error)}); trying again in {wait} s")
            time.sleep(wait)
    return action()


def said(error: BaseException) -> str:
    """What an error says, short, on one line and without secrets."""
    text = " ".join(str(error).split()).strip(" .:") or type(error).__name__
    text = scrub_text(text)
    return text if len(text) <= 200 else text[:199] + "…"


def _status(error: BaseException) -> int | None:
    """The status of an HTTP answer behind an error, wherever its library keeps it."""
    for found in (
        getattr(getattr(error, "response", None), "status_code", None),
        getattr(error, "status", None),
        getattr(error, "code", None),
    ):
        if isinstance(found, int):
            return found
    return None
