"""Put the tables of result files into the pages that show them.

    python scripts/tables.py            # rewrite what is between the marks
    python scripts/tables.py --check    # say what is not current, and end with code 1

A page shows a table between two lines of its own:

    <!-- table: benchmarks/results/three_methods.md -->
    <!-- end -->

The file is markdown that a benchmark wrote beside its JSON, so a figure in a page is the one that its command
wrote last.
"""

import argparse
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
MARKS = re.compile(r"^<!-- table: (?P<path>\S+) -->\n(?P<shown>.*?)^<!-- end -->$", re.M | re.S)


def pages(root: Path) -> list[Path]:
    """Those that may show a table."""
    return [root / "README.md", *sorted((root / "docs").glob("*.md"))]


def current(text: str, root: Path) -> str:
    """A page with the tables that its result files have now.

    Raises:
        SystemExit: a file that is named is not there.
    """

    def table(found: re.Match[str]) -> str:
        path = root / found["path"]
        if not path.is_file():
            raise SystemExit(f"error: there is no {found['path']}: run the benchmark that writes it.")
        return (
            f"<!-- table: {found['path']} -->\n\n{path.read_text(encoding='utf-8').strip()}\n\n<!-- end -->"
        )

    return MARKS.sub(table, text)


def stale(root: Path) -> list[Path]:
    """The pages with a table that is not current."""
    return [page for page in pages(root) if page.read_text("utf-8") != current(page.read_text("utf-8"), root)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="change nothing")
    check = parser.parse_args().check
    found = stale(ROOT)
    for page in found:
        print(f"{page.relative_to(ROOT)}: {'a table is not current' if check else 'written'}")
        if not check:
            page.write_text(current(page.read_text("utf-8"), ROOT), encoding="utf-8", newline="\n")
    sys.exit(bool(found) and check)


if __name__ == "__main__":
    main()
