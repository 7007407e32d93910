"""benchmarks/gpu.py at sizes of seconds on the CPU: it finds a wrong trainer, and writes its table."""

import json
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What benchmarks/gpu.py defines, with two of its cases."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    names = runpy.run_path(str(ROOT / "benchmarks/gpu.py"))
    cases = names["worlds"].CASES
    few = {name: cases[name] for name in ("temporal_paper", "standard")}
    monkeypatch.setattr(names["worlds"], "CASES", few)
    monkeypatch.setitem(names["main"].__globals__, "TIMED", dict(list(names["TIMED"].items())[:1]))
    return names


def test_every_part_is_measured_and_written(gpu: dict[str, Any], tmp_path: Path) -> None:
    gpu["main"](["--small", "--device", "cpu", "--check_steps", "3", "--out", str(tmp_path / "gpu")])
    content = json.loads((tmp_path / "gpu.json").read_text())
    assert [(row["trainer"], row["right"]) for row in content["checks"]] == [
        ("temporal_paper", True),
        ("standard", True),
    ]
    assert content["checks"][1]["reference"] == "float64"
    parts = [row["part"] for row in content["rows"]]
    assert parts == ["step, T-SAE, float32", "harvest", "drawing pairs", "evaluation"]
    assert all(row["seconds"] > 0 and row["rate"] > 0 for row in content["rows"])
    assert "| standard | float64 |" in (tmp_path / "gpu.md").read_text()


def test_a_device_that_computes_something_else_is_told_and_ends_with_code_1(
    gpu: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = gpu["losses"]

    def wrong(name: str, device: str, dtype: Any, n_steps: int) -> list[float]:
        found = right(name, "cpu", dtype, n_steps)
        return [one * 1.01 for one in found] if device == "meta" else found

    for name in ("time_steps", "time_model"):
        monkeypatch.setitem(gpu["main"].__globals__, name, lambda *args: [])
    monkeypatch.setitem(gpu["main"].__globals__, "losses", wrong)
    row = gpu["check"]("temporal_paper", "meta", 3)
    assert not row["right"]
    assert row["device"] == pytest.approx(0.01, rel=1e-3)
    monkeypatch.setitem(gpu["main"].__globals__, "check", lambda name, device, n: row)
    with pytest.raises(SystemExit) as end:
        gpu["main"](["--small", "--device", "cpu", "--out", str(tmp_path / "gpu")])
    assert end.value.code == 1
    assert "WRONG" in (tmp_path / "gpu.md").read_text()
