"""Publish a dictionary on the Hugging Face hub, with a model card from its run, and load it from there.

url = push_to_hub("runs/demo/tsae", "me/tsae-smollm2")
dictionary, config = from_pretrained("me/tsae-smollm2")
"""

import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from dictionary_learning.command.checksums import CHECKSUMS, record_checksum
from dictionary_learning.command.files import read_json, save_text
from dictionary_learning.dictionaries.base import Dictionary
from dictionary_learning.errors import UserError
from dictionary_learning.exchange import names, released_folder, run_folder, saelens
from dictionary_learning.exchange.beginning import SPARSITY
from dictionary_learning.exchange.download import refusal
from dictionary_learning.exchange.loading import is_released, is_saelens, load_dictionary, trainer_folder
from dictionary_learning.exchange.model_card import model_card
from dictionary_learning.remote.connection import is_drop

RESULTS = "eval_results.json"
_REPOSITORY = re.compile(r"[\w-][\w.-]*/[\w.-]+")
_PLACE = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)*")


def push_to_hub(
    source: str | Path,
    repository: str,
    *,
    folder: str = "",
    revision: str | None = None,
    private: bool = False,
    licence: str = "mit",
    overwrite: bool = False,
    token: str | None = None,
) -> str:
    """Upload a dictionary, its evaluation and a model card in one commit.

    What only the machine of the training knows (paths, devices, command lines) is left out. A repository of
    several dictionaries has each in a `folder` of its own, and the model card there.

    Args:
        source: a run, or a folder of any format that `load_dictionary` reads.
        repository: `user/name`; made when it is not there.
        folder: where in the repository; its top when empty.
        revision: branch to write to, made from the main one when it is not there.
        private: for a repository that is made now.
        licence: of the weights, as the hub names it.
        overwrite: replace the dictionary that is there.
        token: of the hub; the one of `hf auth login` or HF_TOKEN when None.

    Returns:
        the address of the folder on the hub.

    Raises:
        UserError: the source does not load, the place is taken, or the hub refuses or cannot be reached.
    """
    from huggingface_hub import HfApi

    if not _REPOSITORY.fullmatch(repository):
        raise UserError(f"{repository!r} is no name of a repository on the hub: give one as user/name.")
    if folder and not _PLACE.fullmatch(folder):
        raise UserError(f"{folder!r} is no folder of a repository: give one as name or name/name.")
    found = trainer_folder(source)
    dictionary, config = load_dictionary(found, "cpu")  # what cannot be read is not published
    with tempfile.TemporaryDirectory() as temporary:
        staged = Path(temporary)
        _stage(found, dictionary, config, staged)
        name = "/".join(part for part in (repository, folder) if part)
        results = _read_results(staged / RESULTS)
        card = model_card(
            name,
            dictionary,
            config,
            results,
            licence=licence,
            is_saelens=is_saelens(found),
            revision=revision,
        )
        save_text(staged / "README.md", card)
        api = HfApi(token=token)
        with _told_in_a_sentence(repository):
            api.create_repo(repository, private=private, exist_ok=True)
            if revision:
                api.create_branch(repository, branch=revision, exist_ok=True)
            taken = _dictionary_files(api.list_repo_files(repository, revision=revision), folder)
            if taken and not overwrite:
                raise UserError(
                    f"{name} on the hub holds a dictionary already ({', '.join(taken)}): choose another "
                    "name, folder or branch, or replace it with overwrite=True (--overwrite)."
                )
            api.upload_folder(
                repo_id=repository,
                folder_path=staged,
                path_in_repo=folder or None,
                revision=revision,
                commit_message=f"Add a {type(dictionary).__name__} of {dictionary.dict_size:,} latents",
                # of two formats in one place, a reader would take the wrong one
                delete_patterns=[*taken, CHECKSUMS] if taken else None,
            )
    return f"{api.endpoint}/{repository}/tree/{revision or 'main'}/{folder}".rstrip("/")


def from_pretrained(
    repository: str, revision: str | None = None, device: str | torch.device | None = None
) -> tuple[Dictionary, dict[str, Any]]:
    """A dictionary and its config from the hub: `load_dictionary`, for names of the hub alone.

    Args:
        repository: `user/name`, with the folder in it where it holds several: `user/name/folder`.
        revision: branch, tag or commit; the main branch when None.

    Raises:
        UserError: there is none, or the hub cannot be reached.
    """
    return load_dictionary(repository, device, revision=revision)


def _stage(found: Path, dictionary: Dictionary, config: Mapping[str, Any], staged: Path) -> None:
    """Fill a folder with what is published."""
    if is_saelens(found):
        beside = [name for name in (saelens.RUNNER, SPARSITY) if (found / name).is_file()]
        kept = [*beside, saelens.CFG, saelens.WEIGHTS]
    elif is_released(found):
        kept = [released_folder.weights_path(found).name]
        conf = released_folder.public_conf(released_folder.read_conf(found))
        released_folder.write_conf(staged, conf)
    else:
        kept = []
        run_folder.write(dictionary, config, staged)
    for name in kept:
        shutil.copyfile(found / name, staged / name)
    if kept:
        record_checksum(staged / kept[-1])
    results = _read_results(found / RESULTS)
    if results is not None:
        save_text(staged / RESULTS, json.dumps(_public_results(results), indent=1) + "\n")


def _read_results(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    results = read_json(path, "the result of an evaluation")
    if not isinstance(results, dict):
        raise UserError(f"{path} is damaged: evaluate again, or remove it.")
    return results


def _public_results(results: Mapping[str, Any]) -> dict[str, Any]:
    public = {key: value for key, value in results.items() if key != "options"}
    if isinstance(public.get("provenance"), dict):
        public["provenance"] = {
            key: value for key, value in public["provenance"].items() if key in ("git_revision", "versions")
        }
    if isinstance(public.get("setting"), dict):
        public["setting"] = names.public_config({"trainer": {}, "buffer": public["setting"]})["buffer"]
    return public


def _dictionary_files(files: list[str], folder: str) -> list[str]:
    """Those of a repository's files that make a dictionary in `folder`, by their names in it."""
    ours = {"config.json", "ae.pt", saelens.CFG, saelens.WEIGHTS, released_folder.CONF}
    ours.update(released_folder.WEIGHTS)
    start = f"{folder}/" if folder else ""
    return sorted(name for name in ours if start + name in files)


@contextmanager
def _told_in_a_sentence(repository: str) -> Iterator[None]:
    """Turn what the hub answers into a UserError."""
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    try:
        yield
    except LocalTokenNotFoundError as error:
        raise UserError("the hub wants to know who you are: run `hf auth login`, or set HF_TOKEN.") from error
    except HfHubHTTPError as error:
        raise UserError(refusal(repository, error)) from error
    except UserError:
        raise
    except Exception as error:
        if not isinstance(error, OSError | ValueError) and not is_drop(error):
            raise
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"{repository} cannot be written, because the hub cannot be reached ({reason}): check the "
            "connection; a commit is there wholly or not at all."
        ) from error
