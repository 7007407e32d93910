"""The folder of a result: what was asked, the answers so far, and in the end the scores."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dictionary_learning.command.files import check_writable, read_json, save_text
from dictionary_learning.command.lock import is_ours_alone, locked, remove_leftovers
from dictionary_learning.errors import UserError
from dictionary_learning.texts.names import slug
from temporal_saes.autointerp.options import AutointerpOptions
from temporal_saes.experiment.results import told_apart
from temporal_saes.experiment.subjects import Subject
from temporal_saes.latents.explanations import FILE_NAME, save_explanations

if TYPE_CHECKING:
    from temporal_saes.autointerp.study import Interpretation

QUESTION, ANSWERS = "question.json", "answers.jsonl"


def folder_of(
    experiment: str, subject: Subject, options: AutointerpOptions, question: Mapping[str, Any]
) -> Path:
    """Where the result goes.

    Raises:
        UserError: nothing can be written there, or it holds the result of another question.
    """
    word = slug(Path(options.explainer_model or "offline").name)
    folder = told_apart(subject.result_path(options, experiment), word, question)
    check_writable(folder, "--output_dir")
    if folder.is_dir() and not is_ours_alone(folder):
        try:
            found = read_json(folder / QUESTION)
        except (OSError, ValueError):
            found = None
        if found != json.loads(json.dumps(question)):
            what = (
                "files of something else" if found is None else "results of other weights, texts or questions"
            )
            raise UserError(f"{folder} holds {what}: move that folder away, or choose another --output_dir.")
    return folder


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """The folder for this command alone, without the parts of files that a killed one left there.

    Raises:
        UserError: another command is at work there.
    """
    with locked(folder, "interpreting latents in"):
        remove_leftovers(folder)
        yield


def save_question(folder: Path, question: Mapping[str, Any]) -> None:
    """Say whose folder it is, before there is a result."""
    save_text(folder / QUESTION, json.dumps(question, indent=1, ensure_ascii=False) + "\n")


def save(folder: Path, result: Mapping[str, Any], interpretation: "Interpretation | None") -> list[Path]:
    """Write the files of a result."""
    from temporal_saes.autointerp.figure import draw
    from temporal_saes.autointerp.sae_bench import sae_bench_result

    written = [folder / "scores.json"]
    save_text(written[0], json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    if interpretation is not None:
        explanations = {
            record["latent"]: record["explanation"] for record in result["latents"] if record["explanation"]
        }
        if explanations:
            save_explanations(folder / FILE_NAME, explanations)
            written.append(folder / FILE_NAME)
        bench = sae_bench_result(result, [interpretation.log(k) for k in range(len(result["latents"]))])
        written.append(folder / "sae_bench_eval_results.json")
        save_text(written[-1], json.dumps(bench, indent=2, ensure_ascii=False) + "\n")
    return [*written, *draw(result, folder / "scores")]
