"""The folder that a browser is written to: whole, or not at all, whenever the command is killed.

    with kept_for(folder, options):      # checked, and for this command alone
        browser = study(...)
        write_folder(folder, browser, lm, subject, options)

What is on its way stands beside the folder `site`, in `.site.part`, which is locked meanwhile:

    .site.part/new    the browser that is being written
    .site.part/old    the one that it replaces, from when it is moved away until it is removed
"""

import dataclasses
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from dictionary_learning.command.files import LEFTOVER, check_writable, offer, read_json
from dictionary_learning.command.lock import HOLDER, LOCK, locked
from dictionary_learning.command.progress import say
from dictionary_learning.command.rehearsal import is_on as is_rehearsal
from dictionary_learning.command.secrets import scrub_values
from dictionary_learning.errors import UserError
from dictionary_learning.exchange.names import PUBLIC_NAMES, model_name
from temporal_saes.browser.options import BrowserOptions
from temporal_saes.experiment.subjects import Subject

if TYPE_CHECKING:
    from dictionary_learning.language_model import LanguageModel
    from temporal_saes.browser.page import Browser

EXPLANATION_METHOD = "temporal_saes_autointerp"
RECORD = "browser.json"
FILES = re.compile(
    r"index\.html|browser\.json"
    r"|data/(index|vocabulary|sentences|latents-\d+|contexts-\d+)\.js"
    r"|delphi/latents/layers[^/]+/(config\.json|\d+_\d+\.safetensors)"
    r"|neuronpedia/sent\.json|neuronpedia/upload/features-\d+\.json"
    r"|neuronpedia/\d+-[^/]+/(batch-\d+|skipped_indexes|run_settings)\.json"
    r"|neuronpedia/export/[^/]+/\d+-[^/]+/"
    r"((release|model|sourceset|source)\.jsonl|(features|activations|explanations)/batch-\d+\.jsonl\.gz)"
)
FOLDERS = re.compile(
    r"data|neuronpedia(/(upload|\d+-[^/]+))?|delphi(/latents(/layers[^/]+)?)?"
    r"|neuronpedia/export(/[^/]+(/\d+-[^/]+(/(features|activations|explanations))?)?)?"
)
"""What a browser consists of, by the paths in it."""


def output_folder(experiment: str, subject: Subject, options: BrowserOptions) -> Path:
    """`--output_dir` itself, or `<run>/<experiment>/<what is shown>`."""
    if options.output_dir is not None:
        return Path(options.output_dir).resolve()
    return subject.result_path(options, experiment).resolve()


@contextmanager
def kept_for(folder: Path, options: BrowserOptions) -> Iterator[None]:
    """The folder for this command alone, as it was before a killed one.

    Raises:
        UserError: it holds something that may not be replaced, or another command is writing there.
    """
    if folder.is_file():
        raise UserError(f"{folder} is a file: give another --output_dir.")
    check_writable(folder.parent, "--output_dir")
    part = _part(folder)
    was_there = os.path.lexists(part)
    if was_there and not _is_part(part):
        raise UserError(
            f"{part}, where the browser is written first, holds something else: move that away, or give "
            "another --output_dir."
        )
    try:
        with locked(part, "writing a browser in"):
            if was_there and not is_rehearsal():
                say(f"{folder}: what a killed command left of it is replaced.")
                _tidy(folder)
            # it may have been killed when all was in place
            _check(folder, options.overwrite or (was_there and _is_made_by(folder, options)))
            try:
                yield
            finally:
                if not is_rehearsal():
                    _tidy(folder)
    finally:
        if was_there and not is_rehearsal():
            with suppress(OSError):  # another command is at work there
                part.rmdir()


def write_folder(
    folder: Path, browser: "Browser", lm: "LanguageModel", subject: Subject, options: BrowserOptions
) -> None:
    """Write the browser beside its folder and move it there, in place of the old one.

    Raises:
        UserError: files of the user have come into the folder meanwhile.
    """
    from temporal_saes.browser.page import write_browser

    new, old = (_part(folder) / name for name in ("new", "old"))
    write_browser(new, browser, lm.tokenizer)
    if options.neuronpedia is not None:
        _write_neuronpedia(new / "neuronpedia", browser, lm, subject, options)
    if browser.delphi is not None:
        place = subject.place
        module = f"layers.{place.layer}" + (f".{place.site}" if place.is_added else "")
        model = PUBLIC_NAMES.get(subject.model, subject.model)
        browser.delphi.write(new / "delphi", module, model, browser.about["texts"])
    if folder.exists():
        _check_ours(folder)
        folder.rename(old)
    new.rename(folder)
    offer(folder)


def _write_neuronpedia(
    folder: Path, browser: "Browser", lm: "LanguageModel", subject: Subject, options: BrowserOptions
) -> None:
    from temporal_saes.browser.bundle import Bundle, Model
    from temporal_saes.browser.neuronpedia import Place, Words, write_neuronpedia

    assert options.neuronpedia is not None
    assert options.neuronpedia_model is not None
    place = Place(
        options.neuronpedia_model,
        subject.layer,
        options.neuronpedia,
        browser.about["texts"],
        subject.place.hook_name,
    )
    words = Words(
        browser.explanations,
        EXPLANATION_METHOD,
        options.explained_by or "",
        options.neuronpedia_creator or "unknown",
    )
    name = model_name({"lm_name": subject.model})
    model = Model(str(name), lm.n_layers, lm.d_model, bool(getattr(lm.tokenizer, "chat_template", None)))
    bundle = Bundle(folder / "export", browser.facts, place, words, model, browser.about["dictionary"])
    bundle.write()
    write_neuronpedia(
        folder, browser.facts, browser.shown, place, words, lm.tokenizer, browser.made, bundle.add
    )


def _part(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.part")


def _is_part(part: Path) -> bool:
    """Whether a folder is one in which a browser is written, and holds nothing else."""
    if part.is_symlink() or not part.is_dir():
        return False
    names = {path.name for path in part.iterdir()}
    return names <= {LOCK, HOLDER, "new", "old"} and not any(
        _files_of_others(part / name) for name in names & {"new", "old"}
    )


def _tidy(folder: Path) -> None:
    """Put the old browser back if nothing stands in its place, and remove what is left over."""
    new, old = (_part(folder) / name for name in ("new", "old"))
    if old.exists():
        if not folder.exists() or not any(folder.iterdir()):
            old.rename(folder)
        else:
            shutil.rmtree(new, ignore_errors=True)
            old.rename(new)  # so that what is half removed is never put back
    shutil.rmtree(new, ignore_errors=True)


def _is_made_by(folder: Path, options: BrowserOptions) -> bool:
    """Whether a whole browser was made by the same command."""
    try:
        made = read_json(folder / RECORD)["options"]
        asked = json.loads(json.dumps(scrub_values(dataclasses.asdict(options))))
        return {**made, "overwrite": None} == {**asked, "overwrite": None}
    except (UserError, KeyError, TypeError):
        return False


def _check(folder: Path, may_replace: bool) -> None:
    """Raise a UserError if the folder holds something, unless it is a browser that may be replaced."""
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    if not may_replace:
        raise UserError(f"{folder} is not empty: give --overwrite to replace it, or another --output_dir.")
    if not (folder / RECORD).is_file():
        raise UserError(f"{folder} holds something else than a browser: give another --output_dir.")
    _check_ours(folder)


def _check_ours(folder: Path) -> None:
    others = _files_of_others(folder)
    if others:
        names = ", ".join(others[:3]) + (f" and {len(others) - 3} more" if len(others) > 3 else "")
        raise UserError(
            f"{folder} holds files that no browser has ({names}): move them away, or give another "
            "--output_dir."
        )


def _files_of_others(folder: Path) -> list[str]:
    """Paths in a browser's folder that are not of the browser; a folder stands for all that is in it."""
    found = []
    for place, folders, files in os.walk(folder):
        inside = Path(place).relative_to(folder)
        for name in [*folders]:
            path = (inside / name).as_posix()
            if not FOLDERS.fullmatch(path):
                folders.remove(name)
                found.append(f"{path}/")
        paths = [(inside / name).as_posix() for name in files if not LEFTOVER.fullmatch(name)]
        found += [path for path in paths if not FILES.fullmatch(path)]
    return sorted(found)
