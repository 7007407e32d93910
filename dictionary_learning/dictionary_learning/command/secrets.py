"""What looks like a token, key or password, taken out of all that is printed or recorded."""

import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "***"
_FLAG = re.compile(r"(^|[_-])(token|key|secret|password|passwd|credentials?)$", re.IGNORECASE)
# 40 hexadecimal digits are a key of Weights & Biases, except in the hub's cache: there they are a revision.
_VALUE = re.compile(
    r"hf_[A-Za-z0-9]{16,}|sk-[A-Za-z0-9_-]{16,}|gh[opsu]_[A-Za-z0-9]{16,}"
    r"|(?<!snapshots/)(?<![0-9A-Za-z])[0-9a-f]{40}(?![0-9A-Za-z])"
    r"|(?<=://)[^/@\s]+(?=@)"
    # a password with a slash in it; a port is none
    r"|(?<=://)[^/@\s:]+:(?!\d+(?:/|\s|$))[^@\s]+(?=@)"
)
# What signs a request stands behind the question mark of an address: by its name, or by being long.
_QUERY = re.compile(r"(?<=://)[^\s?\"']+\?[^\s\"']+")
_PARAMETER = re.compile(
    r"(?<=[?&])([^=&#]*(?:token|key|secret|pass|sig|credential|auth|code)[^=&#]*=)[^&#]+"
    r"|(?<=[?&])([^=&#]*=)[^&#]{24,}",
    re.IGNORECASE,
)


def scrub(words: list[str]) -> list[str]:
    """A command line without what looks like a token, key or password."""
    clean: list[str] = []
    hide_next = False
    for word in words:
        flag, equals, _ = word.partition("=")
        is_secret = bool(_FLAG.search(flag))
        if hide_next and not word.startswith("--"):
            clean.append(HIDDEN)
        elif equals and is_secret:
            clean.append(f"{flag}={HIDDEN}")
        else:
            clean.append(scrub_text(word))
        hide_next = word.startswith("--") and not equals and is_secret
    return clean


def scrub_text(text: str) -> str:
    """A text without what looks like a token or a key, or lets somebody into an address."""
    text = _QUERY.sub(lambda address: _PARAMETER.sub(rf"\1\2{HIDDEN}", address[0]), text)
    return _VALUE.sub(HIDDEN, text)


REVISIONS = ("git_revision", "revision")  # they look like a key of Weights & Biases, and are none


def scrub_values(value: Any) -> Any:
    """Nested containers whose texts are scrubbed; names, revisions and other values are as they were."""
    if isinstance(value, str):
        return scrub_text(value)
    if isinstance(value, Mapping):
        return {name: item if name in REVISIONS else scrub_values(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(scrub_values(item) for item in value)
    return value
