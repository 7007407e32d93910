"""A page of the documentation for each room of the code, made from its docstrings.

The pages follow the tree: a file that is added, split or renamed is in the next build. Nothing is imported:
torch need not be there. The docstring of the room's `__init__.py` comes first, its list of files as a
table of links; then each file with its public classes and functions.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("dictionary_learning/dictionary_learning", "src/temporal_saes")
COMMANDS = "src/experiments"
COMMANDS_TEXT = (
    "The experiments as commands. Each has `--help`, and all have the flags of `temporal_saes.experiment`."
)


class Module(NamedTuple):
    """A file of Python, as far as a page shows it."""

    name: str  # with its package, as it is imported
    summary: str  # the first sentence of its docstring
    members: list[str]  # its public classes and functions
    borrowed: dict[str, str]  # names of __all__ that other modules define, and where


class Room(NamedTuple):
    """A package, or the folder of the experiments' scripts."""

    name: str
    docstring: str
    modules: list[Module]
    names: dict[str, str]  # what it exports itself, and where that is defined

    @property
    def page(self) -> str:
        """The page's path in the documentation."""
        place = self.name.replace(".", "/")
        return f"api/{place}.md" if "." in self.name else f"api/{place}/index.md"


def find_rooms(root: Path = ROOT) -> list[Room]:
    """Every room that holds a public file, each package before the rooms in it."""
    inits = [path for package in PACKAGES for path in sorted((root / package).rglob("__init__.py"))]
    folders = [*(init.parent for init in inits), root / COMMANDS]
    return [room for room in map(_read_room, folders) if room.modules]


def places(rooms: list[Room], root: Path = ROOT) -> dict[str, str]:
    """Where the page of each file and folder of the code is: its path from the root, and page with anchor."""
    found = {}
    for room in rooms:
        folder = _folder(room, root)
        found[folder] = found[f"{folder}/__init__.py"] = room.page
        for module in room.modules:
            found[f"{folder}/{module.name.rpartition('.')[2]}.py"] = f"{room.page}#{module.name}"
    return found


def _folder(room: Room, root: Path) -> str:
    package, _, inside = room.name.partition(".")
    (base,) = (place for place in (*PACKAGES, COMMANDS) if place.rpartition("/")[2] == package)
    return "/".join([base, *inside.split(".")]) if inside else base


def _read_room(folder: Path) -> Room:
    paths = [path for path in sorted(folder.glob("*.py")) if not path.name.startswith("_")]
    init = folder / "__init__.py"
    if not init.exists():
        return Room(folder.name, COMMANDS_TEXT, [_read_module(path, folder.name) for path in paths], {})
    base = next(parent for parent in init.parents if not (parent / "__init__.py").exists())
    name = ".".join(folder.relative_to(base).parts)
    tree = ast.parse(init.read_text(encoding="utf-8"))
    modules = [_read_module(path, name) for path in paths]
    return Room(name, ast.get_docstring(tree) or "", modules, _borrowed(tree))


def _read_module(path: Path, package: str) -> Module:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    defined = (node for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef))
    members = [node.name for node in defined if not node.name.startswith("_")]
    summary = re.split(r"\n\s*\n", ast.get_docstring(tree) or "")[0]
    return Module(f"{package}.{path.stem}", " ".join(summary.split()), members, _borrowed(tree))


def _borrowed(tree: ast.Module) -> dict[str, str]:
    """The names in `__all__` that are imported, and the full name of each where it was imported from.

    What `__init__.py` imports for the type checker only counts, too.
    """
    exported: set[str] = set()
    imported = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            imported |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Assign) and any(getattr(to, "id", "") == "__all__" for to in node.targets):
            exported = set(ast.literal_eval(node.value))
    return {name: imported[name] for name in sorted(exported & imported.keys())}


# --- a page ---


def page_of(room: Room, rooms: list[Room]) -> str:
    """A room's page in markdown, with an instruction for mkdocstrings a file."""
    homes = _homes(rooms)
    parts = [f"# `{room.name}`", *_introduction(room)]
    if room.names:
        parts.append(_names(room.names, homes))
    for module in room.modules:
        parts.append(_module(module, homes))
    return "\n\n".join(parts) + "\n"


def _homes(rooms: list[Room]) -> dict[str, str]:
    """Every name by which a class or function can be imported, and the name where it is defined."""
    homes = {}
    for room in rooms:
        for module in room.modules:
            homes |= {f"{module.name}.{member}": f"{module.name}.{member}" for member in module.members}
    lent = {f"{room.name}.{name}": home for room in rooms for name, home in room.names.items()}
    lent |= {
        f"{module.name}.{name}": home
        for room in rooms
        for module in room.modules
        for name, home in module.borrowed.items()
    }
    for name, home in lent.items():
        while home in lent:
            home = lent[home]
        if home in homes:
            homes[name] = home
    return homes


def _module(module: Module, homes: dict[str, str]) -> str:
    options = [f"members: {module.members}" if module.members else "members: false"]
    lines = [f"::: {module.name}", "    options:", *(f"      {option}" for option in options)]
    if module.borrowed:
        lines += ["", _names(module.borrowed, homes)]
    return "\n".join(lines)


def _names(names: dict[str, str], homes: dict[str, str]) -> str:
    links = [f"[`{name}`][{homes[home]}]" if home in homes else f"`{name}`" for name, home in names.items()]
    return f"Names to import from here: {', '.join(links)}."


def _introduction(room: Room) -> Iterator[str]:
    """The room's docstring, its list of files turned into a table that no file is missing from."""
    by_name = {module.name.rpartition(".")[2]: module for module in room.modules}
    listed = False
    for paragraph in re.split(r"\n\s*\n", room.docstring):
        rows = list(_rows(paragraph, by_name))
        if rows:
            listed = True
            told = {name for names, _ in rows for name in names}
            rows += [([name], module.summary) for name, module in by_name.items() if name not in told]
            yield _table(rows, by_name)
        else:
            yield paragraph
    if not listed and by_name:
        yield _table([([name], module.summary) for name, module in by_name.items()], by_name)


def _rows(paragraph: str, by_name: dict[str, Module]) -> Iterator[tuple[list[str], str]]:
    """The lines of a list of files, as `page figures   what is shown of it`; none of another paragraph."""
    lines = paragraph.splitlines()
    columns = [match.end() for line in lines if (match := re.match(r"\S+(?: \S+)*?  +(?=\S)", line))]
    if not columns or lines[0].startswith(" "):
        return
    column = max(columns)
    rows: list[tuple[list[str], str]] = []
    for line in lines:
        names, text = line[:column].split(), line[column:].strip()
        if names:
            rows.append((names, text))
        elif rows:
            rows[-1] = (rows[-1][0], f"{rows[-1][1]} {text}")
    if all(name in by_name for name in rows[0][0]):
        yield from rows


def _table(rows: list[tuple[list[str], str]], by_name: dict[str, Module]) -> str:
    lines = ["| file | |", "|---|---|"]
    for names, text in rows:
        links = [f"[{name}](#{by_name[name].name})" if name in by_name else name for name in names]
        lines.append(f"| {', '.join(links)} | {text.replace('|', '&#124;')} |")
    return "\n".join(lines)


def navigation(rooms: list[Room]) -> list[dict[str, Any]]:
    """The part of the menu that leads to the rooms: a heading a package, its own page first."""
    menu: dict[str, list[Any]] = {}
    for room in rooms:
        package, _, inside = room.name.partition(".")
        heading = "experiments (commands)" if package == COMMANDS.rpartition("/")[2] else package
        menu.setdefault(heading, []).append({inside: room.page} if inside else room.page)
    return [{heading: pages} for heading, pages in menu.items()]


def overview(rooms: list[Room]) -> str:
    """The page of all rooms."""
    parts = [
        "# API",
        "A page a room, made from the docstrings. What users import is on "
        "[dictionary_learning](dictionary_learning/index.md); how it is done is in the rooms below.",
    ]
    for entry in navigation(rooms):
        (heading,) = entry
        inside = [room for room in rooms if room.page in str(entry)]
        rows = [f"| [{_short(room)}]({_from_overview(room)}) | {_first_sentence(room)} |" for room in inside]
        parts.append("\n".join([f"## {heading}", "", "| | |", "|---|---|", *rows]))
    return "\n\n".join(parts) + "\n"


def _short(room: Room) -> str:
    package, _, inside = room.name.partition(".")
    return inside or package


def _from_overview(room: Room) -> str:
    return room.page.removeprefix("api/")


def _first_sentence(room: Room) -> str:
    return " ".join(re.split(r"\n\s*\n", room.docstring)[0].split())
