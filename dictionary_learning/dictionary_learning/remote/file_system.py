"""The library behind a URL: fsspec, and for most protocols a package of its own that fsspec names."""

import importlib.util
import re
from typing import Any

from dictionary_learning.command.secrets import HIDDEN, scrub_text
from dictionary_learning.errors import UserError
from dictionary_learning.remote.connection import behind, failure

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+(::.*)?://")
_USUAL = ("s3", "gs", "https", "hf", "az", "file", "memory")
HTTP = ("http", "https")
# Seconds: to connect, and without a byte. fsspec's own limit is five minutes for a whole file.
_CONNECT, _SILENCE = 15, 60


def is_url(place: object) -> bool:
    """Whether a text names a place by a URL, as fsspec reads it; a path of this machine is none."""
    return isinstance(place, str) and _URL.match(place) is not None


def told(name: str) -> str:
    """A name as it may be shown and kept: of a URL without its secrets."""
    return scrub_text(name) if is_url(name) else name


def protocol_of(url: str) -> str:
    """`s3` of `s3://bucket/folder`."""
    return url.partition("://")[0].lower()


def open_file_system(url: str) -> tuple[Any, str]:
    """fsspec's file system for a URL, and what the place is called there; nothing is asked of the place.

    Raises:
        UserError: nobody knows the protocol, its package is missing, the URL cannot be read, or it is a
            record of one that had a secret.
    """
    if HIDDEN in url:
        raise UserError(f"{scrub_text(url)} was recorded without its secret: give the whole URL again.")
    if "::" in url:
        raise UserError(
            f"{scrub_text(url)} is a chain of URLs, which is not followed: give the last place itself."
        )

    import fsspec

    protocol = protocol_of(url)
    if protocol not in {*fsspec.available_protocols(), *fsspec.registry}:
        import difflib

        near = difflib.get_close_matches(protocol, _USUAL, n=1)
        known = ", ".join(f"{one}://" for one in _USUAL)
        raise UserError(
            f"{scrub_text(url)} has the protocol {protocol}://, which fsspec does not know: "
            + (f"did you mean {near[0]}://?" if near else f"use another, such as {known}.")
        )
    try:
        return fsspec.core.url_to_fs(url, **_options(protocol))
    except ImportError as error:
        raise UserError(f"{protocol}:// needs {_missing(error)}.") from None
    except Exception as error:  # of any library: some connect, and ask for options, when they are made
        raise failure(url, error, "opened") from None


def _options(protocol: str) -> dict[str, Any]:
    """What a file system is opened with, beside fsspec's own configuration."""
    if protocol == "file":
        return {"auto_mkdir": True}
    if protocol not in HTTP or importlib.util.find_spec("aiohttp") is None:
        return {}
    import aiohttp

    timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT, sock_read=_SILENCE)
    # proxies and passwords of the environment and of .netrc, as other programs take them
    return {"client_kwargs": {"trust_env": True, "timeout": timeout}}


def _missing(error: ImportError) -> str:
    """The package that is not there, and how it is installed: fsspec says its name, the import too."""
    names = [one.name.split(".")[0] for one in behind(error) if isinstance(one, ImportError) and one.name]
    words = " ".join(str(error).split())
    if names and names[-1] in words:
        return f"the package {names[-1]}, which is not installed: pip install {names[-1]}"
    return f"a package that is not installed: {words}"
