"""The tables in pages are those that the benchmarks wrote last."""

from pathlib import Path
from types import ModuleType

import pytest
from modules import load_module

ROOT = Path(__file__).parents[2]
PAGE = "# Title\n\n<!-- table: results/one.md -->\n| old |\n<!-- end -->\n\nText.\n"


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    return load_module(ROOT / "scripts/tables.py")


def test_every_table_in_a_page_is_current(tables: ModuleType) -> None:
    assert tables.stale(ROOT) == []
    shown = sum(len(tables.MARKS.findall(page.read_text("utf-8"))) for page in tables.pages(ROOT))
    assert shown == sum(page.read_text("utf-8").count("<!-- table: ") for page in tables.pages(ROOT)) > 0


def test_what_is_between_the_marks_is_replaced_and_the_rest_stays(tables: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results/one.md").write_text("| new |\n|---|\n| 1 |\n")
    made = tables.current(PAGE, tmp_path)
    assert made == (
        "# Title\n\n<!-- table: results/one.md -->\n\n| new |\n|---|\n| 1 |\n\n<!-- end -->\n\nText.\n"
    )
    assert tables.current(made, tmp_path) == made


def test_a_missing_result_is_a_sentence(tables: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"there is no results/one\.md"):
        tables.current(PAGE, tmp_path)
