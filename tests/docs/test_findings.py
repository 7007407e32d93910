from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "findings"


@pytest.mark.parametrize("script", sorted(FOLDER.glob("*.sh")), ids=lambda path: path.stem)
def test_a_finding_runs_as_it_is_and_has_its_row(script: Path) -> None:
    assert script.stat().st_mode & 0o111
    text = script.read_text(encoding="utf-8")
    assert "mktemp -d" in text
    assert "==" in text  # a pinned version
    assert f"({script.name})" in (FOLDER / "README.md").read_text(encoding="utf-8")
