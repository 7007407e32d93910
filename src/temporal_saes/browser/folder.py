"""The folder that a browser is written to: whole, or not at all."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from dictionary_learning.command.files import check_writable
from dictionary_learning.errors import UserError
from temporal_saes.browser.options import BrowserOptions
from temporal_saes.experiment.subjects import Subject

if TYPE_CHECKING:
    from dictionary_learning.language_model import LanguageModel
    from temporal_saes.browser.page import Browser

EXPLANATION_METHOD = "temporal_saes_autointerp"


def output_folder(experiment: str, subject: Subject, options: BrowserOptions) -> Path:
    """`--output_dir` itself, or `<run>/<experiment>/<what is shown>`."""
    if options.output_dir is not None:
        return Path(options.output_dir).resolve()
    return subject.result_path(options, experiment).resolve()


def check_folder(folder: Path, overwrite: bool) -> None:
    """Raise a UserError if the folder holds something, unless it is a browser that may be replaced."""
    if folder.is_file():
        raise UserError(f"{folder} is a file: give another --output_dir.")
    if folder.is_dir() and any(folder.iterdir()):
        if not overwrite:
            raise UserError(
                f"{folder} is not empty: give --overwrite to replace it, or another --output_dir."
            )
        if not (folder / "browser.json").is_file():
            raise UserError(f"{folder} holds something else than a browser: give another --output_dir.")
    check_writable(folder.parent, "--output_dir")


def write_folder(
    folder: Path, browser: "Browser", lm: "LanguageModel", subject: Subject, options: BrowserOptions
) -> None:
    """Write beside the folder and move there, so that a browser is whole or not at all."""
    from temporal_saes.browser.neuronpedia import Place, Words, write_neuronpedia
    from temporal_saes.browser.page import write_browser

    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        write_browser(part, browser, lm.tokenizer)
        if options.neuronpedia is not None and options.neuronpedia_model is not None:
            write_neuronpedia(
                part / "neuronpedia",
                browser.facts,
                browser.shown,
                Place(options.neuronpedia_model, subject.layer, options.neuronpedia, browser.about["texts"]),
                Words(browser.explanations, EXPLANATION_METHOD, options.explained_by or ""),
                lm.tokenizer,
                browser.made,
            )
        if folder.exists():
            shutil.rmtree(folder)
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
