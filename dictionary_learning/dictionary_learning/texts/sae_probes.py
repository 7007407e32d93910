"""The 113 binary data sets of sae-probes, which ship in its wheel: a benchmark of probes without the hub.

    sae_probes_file("sae-probes:161_agnews_0")    # a .jsonl of records with `text` and `label`

They are those of "Are Sparse Autoencoders Useful?" (arXiv 2502.16681). The wheel (45 MB) is fetched when one
of them is asked for, and kept like the demo's files; nothing of the package is run.
"""

import csv
import difflib
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from dictionary_learning.command.files import cache_folder
from dictionary_learning.command.progress import say
from dictionary_learning.errors import UserError
from dictionary_learning.texts.pinned_wheels import Asset, ensure

PREFIX = "sae-probes:"
_INDEX = "probing_datasets_MASTER.csv.zst"
_BINARY = "Binary Classification"
_NOTE = """\
Texts and classes of sae-probes (https://github.com/sae-probes/sae-probes), MIT licence, from the wheel
{requirement}. They were collected from many sources, which its index names; each has terms of its own.
Changes: the binary sets alone, one JSON object a line, the prompt as "text" and the target as "label".
"""


def is_sae_probes(dataset: str) -> bool:
    return dataset.startswith(PREFIX)


def sae_probes_file(dataset: str) -> Path:
    """The records of a data set, `sae-probes:` and its name there, such as `161_agnews_0`.

    Raises:
        UserError: there is no such set, or the wheel cannot be had.
    """
    folder = ensure({ASSET.name: ASSET}, cache_folder(), say)[ASSET.name]
    name = dataset.removeprefix(PREFIX)
    known = sorted(path.stem for path in folder.glob("*.jsonl"))
    if name not in known:
        like = difflib.get_close_matches(name, known, 3, 0.4) or known[:3]
        told = ", ".join(f"{PREFIX}{one}" for one in like)
        raise UserError(
            f"there is no data set {dataset!r}: sae-probes has {len(known)}, such as {told}; all are listed "
            f"in {folder}."
        )
    return folder / f"{name}.jsonl"


def _build(asset: Asset, members: list[Path], folder: Path) -> None:
    paths = {path.name: path for path in members}
    binary = [row["Dataset save name"] for row in _rows(paths[_INDEX]) if row["Data type"] == _BINARY]
    for saved in binary:
        path = paths[f"{Path(saved).name}.zst"]
        lines = (
            json.dumps({"text": row["prompt"], "label": row["target"]}, ensure_ascii=False) + "\n"
            for row in _rows(path)
        )
        with (folder / f"{Path(saved).stem}.jsonl").open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(lines)
    (folder / "LICENSE.txt").write_text(_NOTE.format(requirement=asset.requirement), encoding="utf-8")


def _rows(path: Path) -> Iterator[Mapping[str, str]]:
    import zstandard

    with path.open("rb") as file, zstandard.ZstdDecompressor().stream_reader(file) as stream:
        yield from csv.DictReader(io.TextIOWrapper(stream, encoding="utf-8", newline=""))


ASSET = Asset(
    name="sae_probes",
    package="sae-probes",
    version="0.4.2",
    member=r"sae_probes/data/(cleaned_data/[^/]+|probing_datasets_MASTER)\.csv\.zst",
    sha256="4f7a5513a4d230e655289c0513f76f3f7b485dcd16ed7a8876de42f77a6d4230",
    megabytes=45,
    revision=1,
    build=_build,
)
