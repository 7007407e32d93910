"""Names that the experiment has found for a run, for pages that show latents.

result = naming_result(run_folder, weights_sha256)
names_of(result)[14].words
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dictionary_learning.command.files import read_json
from dictionary_learning.errors import UserError
from dictionary_learning.remote import mirror
from temporal_saes.naming.names import Name
from temporal_saes.naming.options import EXPERIMENT


def naming_result(run_folder: Path, weights_sha256: str | None) -> dict[str, Any] | None:
    """The result with most names of these weights, the newest of equals; None without one."""
    folder = run_folder / EXPERIMENT
    mirror.pull(folder)
    found = []
    for path in sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime):
        try:
            result = read_json(path)
        except UserError:
            continue
        if isinstance(result, dict) and _is_of(result, weights_sha256):
            found.append(result)
    return max(reversed(found), key=lambda result: len(result["latents"]), default=None)


def names_of(result: Mapping[str, Any] | None) -> dict[int, Name]:
    """The names in a result, by latent; none without one."""
    return {} if result is None else {one["latent"]: Name.of_json(one) for one in result["latents"]}


def _is_of(result: Mapping[str, Any], weights_sha256: str | None) -> bool:
    return (
        result.get("experiment") == EXPERIMENT
        and weights_sha256 is not None
        and result.get("weights_sha256") == weights_sha256
        and isinstance(result.get("latents"), list)
    )
