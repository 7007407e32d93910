"""What the documents say is there: files, headings, names in Python, commands and their flags."""

import ast
import contextlib
import importlib
import importlib.util
import io
import re
import shlex
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = sorted((ROOT / "docs").glob("*.md"))
DOCUMENTS = [*DOCS, ROOT / "README.md", ROOT / "dictionary_learning" / "README.md"]
COMING_FROM = ROOT / "docs" / "coming-from.md"
OURS = ("dictionary_learning", "temporal_saes")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^()\s]+)\)")
of_every_document = pytest.mark.parametrize(
    "document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT))
)


def prose(document: Path) -> str:
    return FENCE.sub("", document.read_text())


def blocks(document: Path, *languages: str) -> list[str]:
    return [text for language, text in FENCE.findall(document.read_text()) if language in languages]


def anchors(document: Path) -> set[str]:
    """The headings as GitHub names them."""
    headings = re.findall(r"^#+ (.+)$", prose(document), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@of_every_document
def test_a_link_leads_to_a_file_and_a_heading_that_are_there(document: Path) -> None:
    for target in LINK.findall(re.sub(r"`[^`\n]*`", "code", prose(document))):
        if re.match(r"https?:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (document.parent / path).resolve() if path else document
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


@of_every_document
def test_a_block_of_python_imports_what_is_there(document: Path) -> None:
    for block in blocks(document, "python"):
        lines = [line for line in block.splitlines() if not line.startswith("#")]
        for node in ast.walk(ast.parse(textwrap.dedent("\n".join(lines)))):  # an excerpt may be indented
            if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] in OURS:
                module = importlib.import_module(str(node.module))
                for name in node.names:
                    full_name = f"{node.module}.{name.name}"
                    assert hasattr(module, name.name) or importlib.util.find_spec(full_name), full_name


# --- commands ---


def commands(document: Path) -> Iterator[list[str]]:
    """The words of every command of ours; where a command is cut short (...) it is left out."""
    lines = [line for block in blocks(document, "bash") for line in block.replace("\\\n", " ").splitlines()]
    for line in [*lines, *re.findall(r"`((?:python|bash|temporal-saes) [^`]+)`", prose(document))]:
        words = shlex.split(line, comments=True)
        words = words[2:] if words[:2] == ["poetry", "run"] else words
        if words == ["temporal-saes", "--help"]:
            continue
        if words and words[0] in ("python", "bash", "temporal-saes") and "..." not in words:
            yield words


def program(words: list[str]) -> tuple[str | Path, list[str]]:
    """The module that a command runs, or the file where it is none of ours, and the command's arguments."""
    if words[0] == "temporal-saes":
        from temporal_saes.__main__ import ALL

        name, *argv = words[2:] if words[1] == "check" else words[1:]
        return ALL[name].module, argv
    if words[1] == "-m":
        return words[2], words[3:]
    path = Path(words[1])
    if words[0] == "python" and path.parts[0] in ("dictionary_learning", "src"):
        return ".".join(path.with_suffix("").parts[1:]), words[2:]
    return ROOT / path, words[2:]


def parser(module: str):
    """A module's parser; None where it takes no arguments."""
    if is_package(module):
        module = f"{module}.__main__"
    main = importlib.import_module(module).main
    make = getattr(sys.modules[main.__module__], "parser", None)
    return make() if make else None


def is_package(module: str) -> bool:
    spec = importlib.util.find_spec(module)
    return spec is not None and spec.submodule_search_locations is not None


@pytest.fixture(autouse=True)
def scripts_are_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "src")


@of_every_document
def test_a_command_is_there_and_takes_its_arguments(document: Path) -> None:
    for words in commands(document):
        run, argv = program(words)
        if isinstance(run, Path):
            assert run.is_file(), shlex.join(words)
            continue
        takes, complaint = parser(run), io.StringIO()
        if takes is None:
            assert not argv, shlex.join(words)
            continue
        try:
            with contextlib.redirect_stderr(complaint), contextlib.redirect_stdout(io.StringIO()):
                takes.parse_args(argv)
        except SystemExit:
            pytest.fail(f"{shlex.join(words)}: {complaint.getvalue()}")


def test_the_commands_are_found_and_a_wrong_flag_is_seen() -> None:
    """Without this, the test above could pass by looking at nothing."""
    found = list(commands(COMING_FROM))
    assert len(found) >= 6
    convert = program(["python", "-m", "dictionary_learning.convert", "--to", "saelens"])
    assert convert == ("dictionary_learning.convert", ["--to", "saelens"])
    with pytest.raises(SystemExit):
        parser("dictionary_learning.convert").parse_args(["--into", "saelens"])


def test_every_flag_that_coming_from_names_is_one_of_a_command() -> None:
    modules = (
        "dictionary_learning.train_temporal",
        "dictionary_learning.train_baseline",
        "dictionary_learning.train_attention",
        "dictionary_learning.cache_activations",
        "dictionary_learning.eval_temporal",
        "dictionary_learning.convert",
        "experiments.steering",
    )
    known = {flag for module in modules for flag in parser(module)._option_string_actions}
    named = set(re.findall(r"(?<![\w-])--\w[\w-]*", prose(COMING_FROM)))
    assert len(named) > 30
    assert {flag for flag in named if f"--{flag[2:].replace('-', '_')}" not in known} == set()


@pytest.mark.parametrize("document", DOCS, ids=lambda path: path.stem)
def test_a_file_that_is_named_is_there(document: Path) -> None:
    folders = "dictionary_learning/dictionary_learning|src|scripts|tests|benchmarks|notebooks|docs"
    for path in re.findall(rf"`((?:{folders})/[\w./-]+\.\w+)", prose(document)):
        assert (ROOT / path).is_file(), path


# --- what coming-from.md says of one interface ---


def test_every_dictionary_has_what_coming_from_promises() -> None:
    from dictionary_learning.dictionaries.base import Dictionary
    from dictionary_learning.exchange.loading import DICTIONARIES

    for name, module in DICTIONARIES.items():
        cls = getattr(importlib.import_module(module), name)
        assert issubclass(cls, Dictionary)
        for method in ("encode", "decode", "forward", "splits", "from_pretrained"):
            assert callable(getattr(cls, method))
        assert cls.decoder_directions is not Dictionary.decoder_directions
