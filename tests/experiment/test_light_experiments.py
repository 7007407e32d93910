"""An experiment's --help answers at once: what is slow to import is imported where it is needed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from toy_runs import EXPERIMENTS, load_script

HEAVY = ("torch", "numpy", "scipy", "sklearn", "transformers", "datasets", "matplotlib", "nnsight", "spacy")
# the experiments whose script holds no more than the way to the command in their room
SCRIPTS = sorted(path for path in EXPERIMENTS.glob("*.py") if ".command import main" in path.read_text())
HELP = """
import runpy, sys
script = sys.argv[1]
sys.argv = [script, "--help"]
try:
    runpy.run_path(script, run_name="__main__")
except SystemExit as end:
    assert end.code == 0
print("loaded:", *[name for name in {heavy} if name in sys.modules])
"""


def test_the_experiments_in_rooms_are_found():
    names = {path.stem for path in SCRIPTS}
    assert {"probing", "tsne", "similarity", "temporal_geometry", "sequence_interpretability"} <= names


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_help_shows_the_commands_and_loads_nothing_slow(script: Path):
    done = subprocess.run(
        [sys.executable, "-c", HELP.format(heavy=HEAVY), str(script)],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "200"},
    )
    assert done.returncode == 0, done.stderr
    said, loaded = done.stdout.rsplit("loaded:", 1)
    assert loaded.split() == []
    assert f"python src/experiments/{script.name} --" in said
    assert "--run_name" in said or script.stem == "toy_features"  # which is of no run


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_is_the_command_of_its_room(script: Path):
    module = load_script(script.stem)
    command = sys.modules[module.main.__module__]
    assert command.__name__.startswith("temporal_saes.")
    assert module.parser is command.parser
    # the script begins with the sentence that describes its command
    assert command.__doc__.splitlines()[0].rstrip(".").startswith(module.__doc__.strip().rstrip("."))
