"""The page on adding an experiment is about the files that are there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "adding-an-experiment.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`((?:src|tests|scripts|docs)/[\w./-]+|README\.md)`", PAGE)))
EXCERPTS = re.findall(r"```python\n# (\S+)\n(.*?)```", PAGE, re.DOTALL)


def test_the_files_it_names_are_there():
    assert len(NAMED) > 20
    assert [name for name in NAMED if not (ROOT / name).exists()] == []


@pytest.mark.parametrize(("name", "excerpt"), EXCERPTS, ids=[name for name, _ in EXCERPTS])
def test_what_it_quotes_is_what_the_file_says(name, excerpt):
    assert excerpt.strip("\n") in (ROOT / name).read_text(encoding="utf-8")


def test_every_quotation_says_where_it_is_from():
    assert len(EXCERPTS) == PAGE.count("```python") > 3


def test_its_table_has_the_files_of_the_room():
    room = ROOT / "src" / "temporal_saes" / "probing"
    for name in ("options.py", "study.py", "result.py", "figure.py", "command.py"):
        assert f"| `{name}` |" in PAGE
        assert (room / name).is_file()
