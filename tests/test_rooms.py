"""The layout: every module has its place, imports go down, and none goes round.

The order is the picture in README.md under "How it works": a line uses only what stands on lines below it.
"""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {
    "experiments": ROOT / "src" / "experiments",
    "temporal_saes": ROOT / "src" / "temporal_saes",
    "dictionary_learning": ROOT / "dictionary_learning" / "dictionary_learning",
}
LARGEST_ROOM = 16
LONGEST_FILE = 450


def modules() -> dict[str, Path]:
    found = {}
    for package, folder in PACKAGES.items():
        for path in folder.rglob("*.py"):
            parts = [package, *path.relative_to(folder).with_suffix("").parts]
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imported(name: str, path: Path) -> Iterator[str]:
    """The project's modules that a module imports, also within its functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name} imports relatively"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in MODULES else str(node.module)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


@cache
def imports() -> dict[str, set[str]]:
    """The project's modules that each of its modules imports."""
    return {
        name: {i for i in imported(name, path) if i in MODULES and i != name}
        for name, path in MODULES.items()
    }


def levels() -> dict[str, int]:
    """The line of every room and of every module at the root of a package, counted from the top."""
    picture = re.search(r"^```rooms\n(.*?)^```", (ROOT / "README.md").read_text("utf-8"), re.M | re.S)
    assert picture, "README.md has no picture of the rooms"
    found: dict[str, int] = {}
    package = ""
    for number, line in enumerate(picture[1].splitlines()):
        if line and not line.startswith(" "):
            package = line.split()[0]
        elif line.strip():
            names = re.split(r" {2,}", line.strip())[0]
            for name in names.split(", "):
                assert f"{package}.{name}" not in found
                found[f"{package}.{name}"] = number
    return found


LEVELS = levels()


def place(module: str) -> str:
    """The room of a module, or the module itself at the root of its package."""
    if module in PACKAGES:
        return f"{module}.__init__"
    if module.startswith("experiments."):
        return "experiments.*"
    return ".".join(module.split(".")[:2])


@pytest.mark.parametrize("module", MODULES)
def test_a_module_has_its_place_and_imports_only_what_stands_below_it(module: str) -> None:
    here = place(module)
    assert here in LEVELS, f"{here} has no place in the picture of README.md"
    for other in imports()[module]:
        there = place(other)
        assert here == there or LEVELS[here] < LEVELS[there], (
            f"{module} imports {other}, which stands above it"
        )


def test_everything_in_the_picture_is_there() -> None:
    assert {place(module) for module in MODULES} | {"temporal_saes.__init__"} >= set(LEVELS)


def test_no_import_goes_round() -> None:
    finished: set[str] = set()

    def visit(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, " -> ".join([*way[way.index(module) :], module])
        if module not in finished:
            for other in sorted(imports()[module]):
                visit(other, (*way, module))
            finished.add(module)

    for module in MODULES:
        visit(module, ())


def test_rooms_are_small_enough_to_overlook() -> None:
    for folder in {path.parent for path in MODULES.values()}:
        files = [path.name for path in folder.glob("*.py") if path.name != "__init__.py"]
        assert len(files) <= LARGEST_ROOM, f"{folder} has {len(files)} files"


@pytest.mark.parametrize("module", MODULES)
def test_a_file_is_short_enough_to_be_read_at_once(module: str) -> None:
    assert len(MODULES[module].read_text("utf-8").splitlines()) <= LONGEST_FILE


@pytest.mark.parametrize(
    "room", sorted({path.parent for path in MODULES.values() if path.parent not in PACKAGES.values()})
)
def test_a_room_says_what_it_is_for_and_lists_its_files(room: Path) -> None:
    said = ast.get_docstring(ast.parse((room / "__init__.py").read_text("utf-8"))) or ""
    for path in room.iterdir():
        if path.suffix == ".py" and path.stem not in ("__init__", "__main__"):
            assert re.search(rf"\b{path.stem}\b", said), f"{room.name}/__init__.py does not name {path.stem}"
