"""Inference thresholds beside a dictionary's weights: that of the training, others for other texts, or none.

    entry = Entry(threshold=0.41, l0=20.0, k=20, tokens=65536, dataset="news.jsonl", ...)
    save(folder, "news", entry)                    # into thresholds.json beside ae.pt
    choose(dictionary, folder, "news", sha256)     # what load_dictionary does

A threshold belongs to texts: on those of another kind the same one lets more or fewer latents through.
"""

import dataclasses
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dictionary_learning.command.files import read_json, save_text
from dictionary_learning.command.lock import in_turn
from dictionary_learning.dictionaries.base import Dictionary
from dictionary_learning.errors import UserError
from dictionary_learning.trainers.threshold import ThresholdDictionary

FILE = "thresholds.json"
TOPK = "topk"
TRAINED = "trained"  # what results call the one that training set
TOLERANCE = 0.15  # of k, by which L0 may be off before there is a warning
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Entry:
    """One threshold, with what it was set on and what it belongs to."""

    threshold: float
    l0: float
    k: int
    tokens: int
    dataset: str
    weights_sha256: str
    made: str


def check_name(name: str) -> None:
    """Raise a UserError unless a threshold can have this name, which is also part of names of files."""
    if name == TOPK:
        raise UserError(f"--name {TOPK} is what the top-k of each token is called: choose another name.")
    if name == TRAINED:
        raise UserError(
            f"--name {TRAINED} is what results call the threshold of the training: choose another name."
        )
    if not _NAME.fullmatch(name):
        raise UserError(
            f"--name {name!r} cannot be a threshold's: use up to 64 letters, digits, dots, dashes and "
            "underscores, a letter or digit first."
        )


def check_has_threshold(dictionary: Dictionary, folder: Path) -> ThresholdDictionary:
    """The same dictionary, known to infer with a threshold.

    Raises:
        UserError: it does not.
    """
    if not isinstance(dictionary, ThresholdDictionary) or not dictionary.has_inference_threshold:
        raise UserError(
            f"{folder} holds a {type(dictionary).__name__}, whose inference has no threshold that could be "
            "set: leave the threshold out (BatchTopK, Matryoshka BatchTopK and T-SAE have one)."
        )
    return dictionary


def read(folder: Path) -> dict[str, Entry]:
    """The thresholds in the folder of a dictionary, by name.

    Raises:
        UserError: the file is damaged, or holds something else.
    """
    path = folder / FILE
    if not path.is_file():
        return {}
    content = read_json(path, "thresholds by name")
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no thresholds by name: delete it and set them again.")
    return {name: _entry(name, value, path) for name, value in content.items()}


def save(folder: Path, name: str, entry: Entry) -> Path:
    """Write a threshold beside those that are there, in place of one of the same name; returns the file.

    Raises:
        UserError: as `check_name` and `read`.
    """
    check_name(name)
    path = folder / FILE
    with in_turn(path):  # another calibration of the same dictionary may end now
        entries = read(folder) | {name: entry}
        content = {key: dataclasses.asdict(value) for key, value in sorted(entries.items())}
        save_text(path, json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False) + "\n")
    return path


def choose(dictionary: Dictionary, folder: Path, name: str, weights_sha256: str) -> None:
    """Let a dictionary's inference use the threshold of this name, with its k; or `topk`.

    Args:
        weights_sha256: of the file that the dictionary was read from.

    Raises:
        UserError: there is no such threshold, it is of other weights, or the dictionary infers without one.
    """
    dictionary = check_has_threshold(dictionary, folder)
    if name == TOPK:
        dictionary.token_top_k = True
        return
    entries = read(folder)
    if name not in entries:
        known = ", ".join([*entries, TOPK])
        raise UserError(
            f"{folder} has no threshold {name!r}, only {known}: choose one of them, or set it with "
            f"`temporal-saes calibrate --name`."
        )
    entry = entries[name]
    if entry.weights_sha256 != weights_sha256:
        raise UserError(
            f"the threshold {name!r} in {folder / FILE} was set for other weights than those that are "
            "loaded: set it again with `temporal-saes calibrate`."
        )
    dictionary.threshold.fill_(entry.threshold)
    dictionary.k.fill_(entry.k)


def k_of(dictionary: Dictionary) -> int | None:
    """The k that a dictionary was trained for, or its threshold set for; None where it has none."""
    return int(dictionary.k) if isinstance(dictionary, ThresholdDictionary) else None


def facts(dictionary: Dictionary, name: str | None) -> dict[str, Any] | None:
    """What a result says of the threshold: its name (`trained` where none was chosen), value and k.

    None for a dictionary that infers without one; no value where the top-k of each token is taken.
    """
    if not isinstance(dictionary, ThresholdDictionary) or not dictionary.has_inference_threshold:
        return None
    value = float(dictionary.threshold) if dictionary.infers_with_threshold else None
    return {"name": name or TRAINED, "value": value, "k": int(dictionary.k)}


def beside_k(dictionary: Dictionary, l0: float) -> str:
    """One line: the mean L0 on some texts beside the dictionary's k; a warning where they are far apart."""
    k = k_of(dictionary)
    if not k:
        return f"L0 is {l0:.1f} on these texts"
    said = f"L0 is {l0:.1f} on these texts, and k is {k} ({100 * (l0 / k - 1):+.0f} %)"
    has_threshold = isinstance(dictionary, ThresholdDictionary) and dictionary.infers_with_threshold
    if not has_threshold or abs(l0 / k - 1) <= TOLERANCE:
        return said
    assert isinstance(dictionary, ThresholdDictionary)
    if dictionary.threshold < 0:
        return f"{said}: no threshold was set; `temporal-saes calibrate ...` sets one for these."
    return f"{said}: the threshold was set on other texts; `temporal-saes calibrate ...` sets one for these."


def _entry(name: str, value: Any, path: Path) -> Entry:
    try:
        entry = Entry(**value)
        is_sound = (
            math.isfinite(entry.threshold)
            and entry.threshold >= 0
            and entry.k == int(entry.k) > 0
            and isinstance(entry.weights_sha256, str)
        )
    except (TypeError, ValueError, OverflowError):
        is_sound = False
    if not is_sound:
        raise UserError(
            f"the threshold {name!r} in {path} is damaged: set it again with `temporal-saes calibrate`, or "
            "delete it from the file."
        )
    return entry
