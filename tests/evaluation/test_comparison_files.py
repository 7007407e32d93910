"""Names of the files of a comparison: no longer than file systems allow, and others for other runs."""

from pathlib import Path

import pytest

from dictionary_learning.command.files import short_enough
from dictionary_learning.evaluation import results
from dictionary_learning.evaluation.options import EvalOptions


@pytest.mark.parametrize("letter", ["a", "é"])
def test_a_name_that_is_too_long_becomes_its_beginning_with_a_hash(letter: str) -> None:
    assert short_enough(letter * 60) == letter * 60
    one, two = short_enough(letter * 400), short_enough(letter * 399 + "b")
    assert one != two
    assert max(len(name.encode()) for name in (one, two)) <= 120
    assert one.startswith(letter * 40)


def test_forty_runs_are_compared_in_files_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results.report, "draw", lambda *_: [tmp_path / "drawn.png"])
    monkeypatch.setattr(results, "_method", lambda _: "T-SAE")
    many = {f"a-run-with-a-name-of-some-length-{i}": {"l0": i} for i in range(40)}
    for runs, trainer in ((many, 0), (many, 1), (dict(list(many.items())[:39]), 0)):
        results.write_comparison(
            runs, EvalOptions(compare=tuple(runs), checkpoints_path=str(tmp_path), trainer=trainer)
        )
    names = {path.name for path in tmp_path.glob("compare_*.json")}
    assert len(names) == 3
    assert sum("_trainer1" in name for name in names) == 1
