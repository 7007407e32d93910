"""Links out of docs/ to the rest of the repository, for the documentation's site.

A page in docs/ links to files of the repository as GitHub wants it, `../README.md`. In the site such a link
leads to the file's place among the pages of the code, or to a page that shows the file. Those pages are made
for every file that a link leads to, from docs/ or from such a page, and for no other.
"""

import json
import posixpath
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

SHOWN = "repository"  # the folder of the pages that show files
# a target in brackets without a space, as in [text](target), outside of code
LINK = re.compile(r"(\]\()([^()\s]+)(\))")
CODE = re.compile(r"(^```.*?^```|`[^`\n]*`)", re.MULTILINE | re.DOTALL)
LANGUAGES = {".py": "python", ".sh": "bash", ".yaml": "yaml", ".toml": "toml", ".json": "json"}


class Places(NamedTuple):
    """Where the files of the repository are in the site."""

    root: Path
    code: dict[str, str]  # pages with anchors, by path from the root

    def place(self, path: str) -> str | None:
        """The page of a file or folder of the repository, from the site's root; None where it has none."""
        if path.startswith("docs/"):
            return path.removeprefix("docs/")
        if path in self.code:
            return self.code[path]
        return shown_page(path) if (self.root / path).is_file() else None


def shown_page(path: str) -> str:
    """The page that shows a file: README.md and its like as they are, others as code."""
    return f"{SHOWN}/{path}" if path.endswith(".md") else f"{SHOWN}/{path}.md"


def source_of(page: str) -> str:
    """The file from which the links of a page start, by the page's path in the site."""
    return page.removeprefix(f"{SHOWN}/") if page.startswith(f"{SHOWN}/") else f"docs/{page}"


def with_links(markdown: str, page: str, places: Places) -> str:
    """The page's text with every link that leaves docs/ turned to a page of the site.

    Args:
        page: its path in the site.
    """

    def turned(target: str) -> str:
        path, _, anchor = _from_root(target, source_of(page))
        place = places.place(path) if path else None
        if place is None:
            return target  # a strict build says so
        page_there, _, anchor_there = place.partition("#")
        relative = posixpath.relpath(page_there, posixpath.dirname(page) or ".")
        anchor = anchor or anchor_there
        return f"{relative}#{anchor}" if anchor else relative

    return _each_link(markdown, turned)


def linked_files(texts: dict[str, str], places: Places) -> dict[str, str]:
    """Every file that needs a page of its own: paths from the root, and the pages' text with its own links.

    Args:
        texts: the text of the pages in docs/, by path in the site.
    """
    made: dict[str, str] = {}
    waiting = dict(texts)
    while waiting:
        page, text = waiting.popitem()
        for path in _targets(text, source_of(page)):
            place = places.place(path)
            if place and place == shown_page(path) and path not in made:
                made[path] = shown_text(places.root / path, path)
                waiting[place] = made[path]
    return made


def shown_text(file: Path, path: str) -> str:
    """A file as a page: markdown as it is, a notebook cell by cell, anything else as code."""
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".md":
        return text
    if file.suffix == ".ipynb":
        return "\n\n".join(map(_cell, json.loads(text)["cells"]))
    return f"# {file.name}\n\n`{path}`\n\n{_fenced(text, LANGUAGES.get(file.suffix, 'text'))}\n"


def _cell(cell: dict) -> str:
    text = "".join(cell["source"])
    return _fenced(text, "python") if cell["cell_type"] == "code" else text


def _fenced(text: str, language: str) -> str:
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def _from_root(target: str, source: str) -> tuple[str, str, str]:
    """A relative link's path from the root, and its anchor; no path of another link."""
    path, hash_sign, anchor = target.partition("#")
    if not path or re.match(r"[a-z]+:|/", path):
        return "", "", ""
    return posixpath.normpath(posixpath.join(posixpath.dirname(source), path)), hash_sign, anchor


def _targets(markdown: str, source: str) -> list[str]:
    found: list[str] = []

    def note(target: str) -> str:
        path = _from_root(target, source)[0]
        found.extend([path] if path else [])
        return target

    _each_link(markdown, note)
    return found


def _each_link(markdown: str, turned: Callable[[str], str]) -> str:
    """The text with the target of every link replaced, and code left alone."""
    parts = CODE.split(markdown)
    for i in range(0, len(parts), 2):
        parts[i] = LINK.sub(lambda match: match[1] + turned(match[2]) + match[3], parts[i])
    return "".join(parts)
