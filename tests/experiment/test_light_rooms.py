"""Commands are imported at once: what is slow to load is loaded in the functions that need it."""

import subprocess
import sys

import pytest
from test_light_experiments import HEAVY, HELP
from toy_runs import EXPERIMENTS

from temporal_saes.__main__ import ALL

MODULES = [command.module for command in ALL.values() if command.module.startswith("temporal_saes.")]
PROGRAM = """
import importlib, sys
module = importlib.import_module({module!r})
module.parser().format_help()
print("loaded:", *[name for name in {heavy} if name in sys.modules])
"""


def test_the_rooms_with_a_command_are_found():
    rooms = {module.split(".")[1] for module in MODULES}
    assert {"alignment", "steering", "autointerp", "browser", "report", "method_table"} <= rooms


@pytest.mark.parametrize("module", MODULES)
def test_a_command_and_its_flags_load_nothing_slow(module: str):
    program = PROGRAM.format(module=module, heavy=HEAVY)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["loaded:"]


def test_the_converter_of_explanations_answers_help_without_loading_anything_slow():
    script = EXPERIMENTS.parent / "process_sae_bench_autointerp.py"
    program = HELP.format(heavy=HEAVY)
    done = subprocess.run([sys.executable, "-c", program, str(script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said, loaded = done.stdout.rsplit("loaded:", 1)
    assert loaded.split() == []
    assert "--results" in said
