"""A dictionary's folder on the Hugging Face hub: `user/repository/folder/inside`, and only its own files.

A repository often holds many dictionaries of gigabytes each. The configs are downloaded first; they say
which folder is meant, and then its weights are.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

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
    root = _snapshot(repository, revision, [f"{start}*{config}" for config in CONFIGS])
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


def _snapshot(repository: str, revision: str | None, patterns: list[str]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=patterns))
    except RepositoryNotFoundError as error:
        raise UserError(
            f"there is no folder {repository}, and the Hugging Face hub has no such repository (or it is "
            "private: run `hf auth login`): check the name."
        ) from error
    except RevisionNotFoundError as error:
        raise UserError(f"{repository} on the hub has no revision {revision!r}: check the name.") from error
    except HfHubHTTPError as error:
        raise UserError(
            f"the hub does not give {repository} ({str(error).splitlines()[0]}): check the name and your "
            "access."
        ) from error
    except (OSError, ValueError) as error:  # not reached, and not in the cache
        raise UserError(
            f"there is no folder {repository}, it is not in the local cache, and the Hugging Face hub cannot "
            "be reached: check the path, or download it where there is a connection."
        ) from error
