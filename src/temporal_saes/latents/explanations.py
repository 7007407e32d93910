"""What latents are said to mean: `explanations.json`, one explanation a latent.

    explanations = read_explanations("explanations.json", dict_size=16384)
    explanations.get(12, "")

The file is a JSON object of latent numbers, as strings, and sentences: the form in which the T-SAE
release publishes them and which `process_sae_bench_autointerp.py` makes. Latents without an
explanation, the dead ones among them, are not in it. Every script reads it through here.

A folder of explanations as Neuronpedia's public data sets have them (`explanations/batch-<n>.jsonl.gz` of a
source) is read, too; of several explanations of a latent the first counts.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dictionary_learning.command.files import read_json, save_text
from dictionary_learning.errors import UserError
from dictionary_learning.texts.records import as_unicode, read_records

FILE_NAME = "explanations.json"
CONVERTER = "src/process_sae_bench_autointerp.py"


def read_explanations(path: str | Path, dict_size: int | None = None) -> dict[int, str]:
    """The explanations of a file, or of a source of Neuronpedia's, by latent; empty ones are left out.

    Args:
        dict_size: latents of the dictionary that they are meant for; None does not check.

    Raises:
        UserError: the file is not there, is not JSON of this form, or has a latent beyond the dictionary.
    """
    path = Path(path)
    content = _of_neuronpedia(path) if path.is_dir() else read_json(path)
    if isinstance(content, dict) and "eval_result_unstructured" in content:
        raise UserError(f"{path} is a result of SAEBench, not explanations: convert it with {CONVERTER}.")
    if not isinstance(content, dict) or not all(isinstance(value, str) for value in content.values()):
        raise UserError(
            f"{path} holds no explanations: give a JSON object of latents and sentences, for example "
            f'{{"12": "names of rivers"}}.'
        )
    explanations = {latent_number(key, path): as_unicode(value).strip() for key, value in content.items()}
    check_latents(explanations, dict_size, path)
    return {latent: text for latent, text in sorted(explanations.items()) if text}


def _of_neuronpedia(folder: Path) -> dict[str, str]:
    """Explanations by the text of a latent's number, of the folder of a source or of its explanations.

    Raises:
        UserError: there are none.
    """
    inside = folder / "explanations"
    files = sorted((inside if inside.is_dir() else folder).glob("batch-*.jsonl.gz"))
    if not files:
        raise UserError(
            f"{folder} is a folder without explanations of Neuronpedia's (batch-0.jsonl.gz and so on): give "
            f"that folder, or an {FILE_NAME}."
        )
    found: dict[str, str] = {}
    for file in files:
        for row in read_records(file):
            text = row.get("description")
            if "index" not in row or not isinstance(text, str):
                raise UserError(
                    f"{file} holds no explanations: lines with index and description were expected."
                )
            found.setdefault(str(row["index"]), text)
    return found


def find_explanations(
    path: str | Path | None, trainer_folder: Path | None, dict_size: int | None = None
) -> dict[int, str]:
    """The explanations at `path`; without one those beside the weights; none if there are none.

    Raises:
        UserError: as `read_explanations`.
    """
    if path is not None:
        return read_explanations(path, dict_size)
    beside = None if trainer_folder is None else trainer_folder / FILE_NAME
    return read_explanations(beside, dict_size) if beside is not None and beside.is_file() else {}


def read_scores(path: str | Path, dict_size: int | None = None) -> dict[int, float]:
    """The scores of explanations by latent, from a result of SAEBench's autointerp evaluation.

    Raises:
        UserError: the file is not there, is no such result, or has a latent beyond the dictionary.
    """
    path = Path(path)
    content = read_json(path)
    told = content.get("eval_result_unstructured") if isinstance(content, dict) else None
    if not isinstance(told, dict):
        raise UserError(f"{path} holds no scores: give the result of SAEBench's autointerp evaluation.")
    scores = {
        latent_number(key, path): float(one["score"])
        for key, one in told.items()
        if isinstance(one, dict) and isinstance(one.get("score"), int | float)
    }
    check_latents(scores, dict_size, path)
    return scores


def save_explanations(path: str | Path, explanations: Mapping[int, str]) -> None:
    """Write the file, in the order of the latents."""
    content = {str(latent): text for latent, text in sorted(explanations.items())}
    save_text(Path(path), json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def latent_number(key: str, path: Path) -> int:
    """The latent that a key of the file at `path` names.

    Raises:
        UserError: it is no number.
    """
    if not (key.isascii() and key.isdecimal() and len(key) < 19):
        raise UserError(f"{path} has the key {key!r}, which is no latent: keys are numbers from 0 on.")
    return int(key)


def check_latents(explanations: Mapping[int, Any], dict_size: int | None, path: Path) -> None:
    """Raise a UserError if a latent of the file at `path` is beyond a dictionary of this size."""
    largest = max(explanations, default=0)
    if dict_size is not None and largest >= dict_size:
        raise UserError(
            f"{path} explains latent {largest}, and the dictionary has the latents 0 to {dict_size - 1}: "
            f"give the explanations of this dictionary."
        )
