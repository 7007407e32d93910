"""The set-up and its scripts, without running the set-up."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
from lock_to_constraints import constraints  # noqa: E402

SHELL_SCRIPTS = sorted(
    path
    for path in [*(ROOT / "scripts").iterdir(), ROOT / ".ci" / "run"]
    if path.is_file() and path.read_bytes().startswith(b"#!/usr/bin/env bash")
)
TEST_COMMAND = "bash scripts/test.sh"


def package(name: str, version: str = "1.0", **more: object) -> dict[str, object]:
    return {"name": name, "version": version, **more}


def test_constraints_are_pins_in_the_order_of_names() -> None:
    assert constraints({"package": [package("b", "2.1"), package("a")]}) == ["a==1.0", "b==2.1"]


def test_a_constraint_keeps_its_marker() -> None:
    lock = {"package": [package("a", markers='sys_platform == "win32"')]}
    assert constraints(lock) == ['a==1.0 ; sys_platform == "win32"']


def test_of_the_markers_of_several_groups_the_main_one_is_taken() -> None:
    lock = {"package": [package("a", markers={"main": 'os_name == "nt"', "cuda": 'os_name == "posix"'})]}
    assert constraints(lock) == ['a==1.0 ; os_name == "nt"']


def test_a_development_tool_is_pinned_though_its_extra_is_unknown_to_pip() -> None:
    marked = [
        package("a", markers='extra == "dev"'),
        package("b", markers='extra == "dev" and os_name == "nt"'),
    ]
    assert constraints({"package": marked}) == ["a==1.0", 'b==1.0 ; os_name == "nt"']


@pytest.mark.parametrize(
    ("marker", "left"),
    [
        ('extra == "exchange" or extra == "wandb"', ""),
        ('os_name == "nt" and extra == "demo"', ' ; os_name == "nt"'),
        ('os_name == "nt" or extra == "docs" or sys_platform == "win32"', ""),
        ('extra == "docs" or os_name == "nt"', ""),
        (
            '(os_name == "nt" or os_name == "posix") and (extra == "a" or extra == "b")',
            ' ; (os_name == "nt" or os_name == "posix")',
        ),
        ('(extra == "a" or extra == "b") and os_name == "nt"', ' ; os_name == "nt"'),
    ],
)
def test_what_several_extras_bring_is_pinned_under_its_other_conditions(marker: str, left: str) -> None:
    assert constraints({"package": [package("a", markers=marker)]}) == [f"a==1.0{left}"]


def test_the_real_lock_pins_what_pyproject_asks_for() -> None:
    with (ROOT / "poetry.lock").open("rb") as file:
        pinned = {Requirement(line).name for line in constraints(tomllib.load(file))}
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    extras = project["optional-dependencies"]
    asked = [*project["dependencies"], *(line for extra in extras for line in extras[extra])]
    names = {requirement.partition("=")[0].rstrip("<>!~").lower() for requirement in asked}
    assert {name.partition(">")[0] for name in names} <= pinned


@pytest.mark.parametrize("path", SHELL_SCRIPTS, ids=lambda path: path.name)
def test_a_shell_script_parses_and_is_executable(path: Path) -> None:
    subprocess.run(["bash", "-n", str(path)], check=True)
    assert os.access(path, os.X_OK)


def test_the_scripts_of_the_readme_are_there() -> None:
    assert {"bootstrap.sh", "demo.sh", "fetch_demo_assets", "run", "test.sh"} <= {
        p.name for p in SHELL_SCRIPTS
    }


def test_ci_runs_the_test_command_of_the_readme() -> None:
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    assert f"{TEST_COMMAND} || failed=1" in lines
    assert lines[-1] == "exit $failed"
    assert TEST_COMMAND in (ROOT / "README.md").read_text()


def test_example_env_has_every_key_commented_and_none_empty() -> None:
    keys = []
    for line in (ROOT / "example.env").read_text().splitlines():
        assert not line or line.startswith("# ")
        key, equals, value = line.removeprefix("# ").partition("=")
        if equals and key.isupper():
            assert value.strip()
            keys.append(key)
    assert {"HF_TOKEN", "HF_HOME", "WANDB_API_KEY", "WANDB_PROJECT", "TEMPORAL_SAES_CACHE"} <= set(keys)


@pytest.mark.parametrize(
    ("python", "sentence"),
    [
        (None, "error: no Python 3.11"),
        ("bash", "error: PYTHON is bash, which is no Python 3.11, 3.12 or 3.13"),
    ],
)
def test_without_a_fitting_python_the_set_up_is_one_sentence(python, sentence, tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    for name in ("bootstrap.sh", "python.sh"):
        (tmp_path / "scripts" / name).write_bytes((ROOT / "scripts" / name).read_bytes())
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("bash", "dirname"):
        tool = subprocess.run(["bash", "-c", f"command -v {name}"], capture_output=True, text=True).stdout
        (tools / name).symlink_to(tool.strip())
    result = subprocess.run(
        [str(tools / "bash"), str(tmp_path / "scripts" / "bootstrap.sh")],
        env={"PATH": str(tools)} | ({"PYTHON": python} if python else {}),
        capture_output=True,
        text=True,
    )
    assert result.returncode == 2
    assert result.stderr.startswith(sentence)
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / ".venv").exists()


def test_the_set_up_takes_the_pythons_that_are_admitted_and_documented() -> None:
    admitted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    first, stop = (int(minor) for minor in re.fullmatch(r">=3\.(\d+),<3\.(\d+)", admitted).groups())
    script = (ROOT / "scripts" / "python.sh").read_text()
    assert f"(3, {first}) <= sys.version_info < (3, {stop})" in script
    assert " ".join(f"python3.{minor}" for minor in range(first, stop)) in script
    *others, last = (f"3.{minor}" for minor in range(first, stop))
    for text in (script, (ROOT / "README.md").read_text(), (ROOT / "docs" / "start.md").read_text()):
        assert f"Python {', '.join(others)} or {last} with its " in text
