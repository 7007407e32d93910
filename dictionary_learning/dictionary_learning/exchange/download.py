"""A dictionary's folder on the Hugging Face hub: `user/repository/folder/inside`, and only its own files.

A repository often holds many dictionaries of gigabytes each. The configs are downloaded first; they say
which folder is meant, and then its weights are.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from dictionary_learning.command.checksums import CHECKSUMS
from dictionary_learning.errors import UserError

_NAME = re.compile(r"(?P<repository>[\w-][\w.-]*/[\w.-]+)(?P<inside>(/[\w.-]+)*)/?")
CONFIGS = ("conf.yaml", "config.json", "cfg.json")


def is_hub_name(name: str | Path) -> bool:
    """Whether `name` can only be meant as one of the hub: there is no such path, nor one it would begin."""
    path = Path(name)
    return bool(_NAME.fullmatch(str(name))) and not path.exists() and not Path(path.parts[0]).exists()


def download(
    name: str, revision: str | None, find: Callable[[Path], Path], weights: Callable[[Path], Sequence[str]]
) -> Path:
    """The local copy of a dictionary's folder.

    Args:
        revision: branch, tag or commit; the main branch when None.
        find: the dictionary's folder, from the folder that was asked for, with all configs in it.
        weights: names of its files of weights, the first that is on the hub is taken.

    Raises:
        UserError: the hub has no such folder, or cannot be reached.
    """
    match = _NAME.fullmatch(name)
    assert match is not None
    repository, inside = match["repository"], match["inside"].strip("/")
    start = f"{inside}/" if inside else ""
    root = _snapshot(repository, revision, [f"{start}*{name}" for name in (*CONFIGS, CHECKSUMS)])
    if not (root / inside).is_dir():
        raise UserError(
            f"{repository} on the hub has no folder {inside!r} with a {' or '.join(CONFIGS)}: check the name."
        )
    folder = find(root / inside)
    relative = folder.relative_to(root).as_posix()
    for file in weights(folder):
        _snapshot(repository, revision, [file if relative == "." else f"{relative}/{file}"])
        if (folder / file).is_file():
            break
    return folder


def download_file(name: str, revision: str | None) -> Path:
    """The local copy of one file, with a JSON of its name if there is one.

    Raises:
        UserError: the hub has no such file, or cannot be reached.
    """
    match = _NAME.fullmatch(name)
    assert match is not None
    repository, inside = match["repository"], match["inside"].strip("/")
    beside = Path(inside).with_suffix(".json")
    logged = Path(inside).parent.parent / "training_logs" / beside.name
    path = _snapshot(repository, revision, [inside, beside.as_posix(), logged.as_posix()]) / inside
    if not path.is_file():
        raise UserError(f"{repository} on the hub has no file {inside!r}: check the name.")
    return path


def _snapshot(repository: str, revision: str | None, patterns: list[str]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    from dictionary_learning.remote.connection import is_drop

    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=patterns))
    except HfHubHTTPError as error:
        raise UserError(refusal(repository, error, revision)) from error
    except Exception as error:  # not reached, and not in the cache
        refused = _http_error_behind(error)
        if refused is not None:
            raise UserError(refusal(repository, refused, revision)) from error
        if not isinstance(error, OSError | ValueError) and not is_drop(error):
            raise
        raise UserError(
            f"there is no folder {repository}, it is not in the local cache, and the Hugging Face hub cannot "
            "be reached: check the path, or download it where there is a connection."
        ) from error


def refusal(repository: str, error: Exception, revision: str | None = None) -> str:
    """What the hub's answer (a `HfHubHTTPError`) means, and what to do."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, RevisionNotFoundError):
        return f"{repository} on the hub has no revision {revision!r}: check the name."
    if isinstance(error, GatedRepoError):
        return f"{repository} on the hub is gated: ask for access on its page, then run `hf auth login`."
    if status == 401 or isinstance(error, RepositoryNotFoundError):
        return (
            f"there is no folder {repository}, and the Hugging Face hub has no such repository (or it is "
            "private, or your token is wrong: run `hf auth login`): check the name."
        )
    if status == 403:
        return f"your token may not do this to {repository} on the hub (403): make one that may write there."
    if status == 429:
        return f"the hub gets too many requests from here (429) to give {repository}: wait some minutes."
    if isinstance(status, int) and status >= 500:
        return f"the hub has a fault of its own ({status}) and does not give {repository}: try again later."
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return f"the hub does not give {repository} ({reason}): check the name and your access."


def _http_error_behind(error: BaseException) -> Exception | None:
    """The hub's own answer behind what huggingface_hub says of its cache."""
    from huggingface_hub.errors import HfHubHTTPError

    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, HfHubHTTPError):
            return seen
        seen = seen.__cause__ or seen.__context__
    return None
