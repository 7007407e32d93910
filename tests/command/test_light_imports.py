"""A command answers `--help` at once: importing an entry point loads no library that is slow to load."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "numpy", "transformers", "datasets", "sklearn", "matplotlib", "pyarrow")
ENTRY_POINTS = (
    "dictionary_learning",
    "dictionary_learning.train_temporal",
    "dictionary_learning.train_baseline",
    "dictionary_learning.train_attention",
    "dictionary_learning.jobs.controls",
    "dictionary_learning.eval_temporal",
    "dictionary_learning.calibrate",
    "dictionary_learning.cache_activations",
    "dictionary_learning.convert",
)


@pytest.mark.parametrize("module", ENTRY_POINTS)
def test_importing_an_entry_point_loads_no_heavy_library(module: str) -> None:
    code = f"import sys, {module}; print(*(name for name in {HEAVY} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize("module", ENTRY_POINTS[1:])
def test_help_is_told_without_any_of_them(module: str) -> None:
    lines = (
        f"import sys, contextlib, io, {module} as script",
        "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()) as told:",
        "    script.main(['--help'])",
        "assert told.getvalue().startswith('usage: ')",
        f"print(*(name for name in {HEAVY} if name in sys.modules))",
    )
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []
