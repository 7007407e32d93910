"""How the documentation's pages are made: one a room of the code, and links that leave docs/."""

import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from modules import load_module

ROOT = Path(__file__).parents[2]


rooms = load_module(ROOT / "scripts/docs_site/rooms.py")
links = load_module(ROOT / "scripts/docs_site/links.py")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A repository of one package with one room, and one script."""
    files = {
        "dictionary_learning/dictionary_learning/__init__.py": '"""Users.\n\nNames."""\n'
        "from dictionary_learning.cells.store import Store\n__all__ = ['Store']\n",
        "dictionary_learning/dictionary_learning/utils.py": '"""Small\nhelpers."""\n'
        "from dictionary_learning import Store\n__all__ = ['Store', 'own']\ndef own(): ...\n",
        "dictionary_learning/dictionary_learning/cells/__init__.py": '"""Cells.\n\nIn come | out go.\n\n'
        'store         keeps\n              them\nshape colour  what they\'re like\n"""\n',
        "dictionary_learning/dictionary_learning/cells/store.py": "class Store: ...\nclass _Hidden: ...\n",
        "dictionary_learning/dictionary_learning/cells/shape.py": '"""Shapes."""\n',
        "dictionary_learning/dictionary_learning/cells/colour.py": '"""Colours."""\n',
        "dictionary_learning/dictionary_learning/cells/added.py": '"""Added later."""\ndef new(): ...\n',
        "src/temporal_saes/__init__.py": "",
        "src/temporal_saes/__main__.py": '"""A command."""\n',
        "src/experiments/probing.py": '"""Probes."""\ndef main(): ...\n',
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_a_room_is_a_page_and_a_package_without_files_is_none(tree: Path) -> None:
    assert [room.page for room in rooms.find_rooms(tree)] == [
        "api/dictionary_learning/index.md",
        "api/dictionary_learning/cells.md",
        "api/experiments/index.md",
    ]


def test_the_list_of_files_becomes_links_and_misses_no_file(tree: Path) -> None:
    found = rooms.find_rooms(tree)
    page = rooms.page_of(found[1], found)
    cells = "#dictionary_learning.cells."
    assert page.startswith(
        "# `dictionary_learning.cells`\n\nCells.\n\nIn come | out go.\n\n| file | |\n|---|---|\n"
        f"| [store]({cells}store) | keeps them |\n"
        f"| [shape]({cells}shape), [colour]({cells}colour) | what they're like |\n"
        f"| [added]({cells}added) | Added later. |\n"
    )
    assert "::: dictionary_learning.cells.store\n    options:\n      members: ['Store']\n" in page


def test_a_name_that_is_handed_on_leads_to_where_it_is_defined(tree: Path) -> None:
    found = rooms.find_rooms(tree)
    page = rooms.page_of(found[0], found)
    here = "Names to import from here: [`Store`][dictionary_learning.cells.store.Store]."
    assert page.count(here) == 2  # of the package, and of utils by way of the package
    assert "members: ['own']" in page


def test_every_public_file_is_on_one_page_of_the_site() -> None:
    shown = [module.name for room in rooms.find_rooms() for module in room.modules]
    there = [
        ".".join(path.relative_to(base).with_suffix("").parts)
        for base in (ROOT / "dictionary_learning", ROOT / "src")
        for package in ("dictionary_learning", "temporal_saes", "experiments")
        for path in (base / package).rglob("*.py")
        if not path.name.startswith("_")
    ]
    assert sorted(shown) == sorted(there)


def test_every_room_is_in_the_menu_and_the_overview_once() -> None:
    found = rooms.find_rooms()
    menu, overview = str(rooms.navigation(found)), rooms.overview(found)
    for room in found:
        assert menu.count(f"'{room.page}'") == 1
        assert overview.count(f"({room.page.removeprefix('api/')}) |") == 1


def test_every_document_is_in_the_menu() -> None:
    """A strict build says so, too, but only where the site's own packages are."""
    menu = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    named = set(re.findall(r"'([\w-]+\.md)'", str(menu)))
    assert {path.name for path in (ROOT / "docs").glob("*.md")} == named


# --- links ---


@pytest.fixture
def places(tmp_path: Path):
    (tmp_path / "README.md").write_text("[a](docs/steering.md) [b](src/run.sh)")
    (tmp_path / "src").mkdir()
    (tmp_path / "src/run.sh").write_text("echo '```'\n")
    return links.Places(tmp_path, {"src/code.py": "api/room.md#room.code", "src": "api/room.md"})


@pytest.mark.parametrize(
    ("written", "turned"),
    [
        ("[a](../src/code.py)", "[a](api/room.md#room.code)"),
        ("[a](../src)", "[a](api/room.md)"),
        ("[`a`](../README.md#what)", "[`a`](repository/README.md#what)"),
        ("[![x](figures/x.png)](steering.md#how)", "[![x](figures/x.png)](steering.md#how)"),
        ("[a](../src/run.sh)", "[a](repository/src/run.sh.md)"),
        ("[a](https://example.org/x) [b](#here)", "[a](https://example.org/x) [b](#here)"),
        ("[a](../missing.py)", "[a](../missing.py)"),
        ("`[a](../src/code.py)`", "`[a](../src/code.py)`"),
        ("```\n[a](../src/code.py)\n```", "```\n[a](../src/code.py)\n```"),
    ],
)
def test_a_link_out_of_docs_is_turned_to_a_page(places, written: str, turned: str) -> None:
    assert links.with_links(written, "page.md", places) == turned


def test_links_of_a_page_that_shows_a_file_start_at_that_file(places) -> None:
    turned = links.with_links("[a](docs/steering.md) [b](src/run.sh)", "repository/README.md", places)
    assert turned == "[a](../steering.md) [b](src/run.sh.md)"


def test_pages_are_made_for_what_is_linked_and_for_what_that_links_to(places) -> None:
    made = links.linked_files({"page.md": "[a](../README.md)"}, places)
    assert set(made) == {"README.md", "src/run.sh"}
    assert made["src/run.sh"] == "# run.sh\n\n`src/run.sh`\n\n````bash\necho '```'\n````\n"


def test_a_notebook_is_shown_cell_by_cell(tmp_path: Path) -> None:
    cells = [
        {"cell_type": "markdown", "source": ["# One\n", "text"]},
        {"cell_type": "code", "source": ["x = 1\n", "x"], "outputs": []},
    ]
    (tmp_path / "a.ipynb").write_text(json.dumps({"cells": cells}))
    assert links.shown_text(tmp_path / "a.ipynb", "a.ipynb") == "# One\ntext\n\n```python\nx = 1\nx\n```"


# --- docstrings ---


def test_docstrings_are_spelled_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "griffe", SimpleNamespace(Extension=object, Object=object, Class=object))
    spelled_out = load_module(ROOT / "scripts/docs_site/docstrings.py").spelled_out
    short = "Sum.\n\nArgs (beside those of `Base`):\n    a, b: what is\n        added.\n\n"
    short += "Returns:\n    x, y: two."
    beside = "Sum.\n\nArguments beside those of `Base`:\n\n"
    each = "Args:\n    a: see `b`.\n    b: what is\n        added.\n\n"
    assert spelled_out(short) == f"{beside}{each}Returns:\n    x, y: two."
