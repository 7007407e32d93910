"""Options that are built from files and flags hold values of their own kind, and finite numbers."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dictionary_learning.command.options import Parser, add_options, build, is_plain_name, is_seed, option
from dictionary_learning.errors import UserError
from dictionary_learning.remote.path import path_of, settled
from dictionary_learning.utils import load_dictionary


@dataclass(frozen=True)
class Some:
    k: int = option(4, "a count")
    lr: float = option(0.1, "a rate")
    limit: float | None = option(None, "a limit")
    shares: tuple[float, ...] | None = option(None, "shares")
    name: str = option("x", "a name")
    on: bool = option(True, "a switch")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("k", "8", "--k is 8, and must be a whole number"),
        ("k", 96.0, "--k is 96.0, and must be a whole number"),
        ("k", True, "--k is True, and must be a whole number"),
        ("k", None, "--k is None, and must be a whole number"),
        ("k", [4], "--k is 4, and must be a whole number"),
        ("lr", float("nan"), "--lr is nan, and must be a finite number"),
        ("lr", float("inf"), "--lr is inf, and must be a finite number"),
        ("limit", float("-inf"), "--limit is -inf, and must be a finite number"),
        ("lr", "3e-4", "--lr is 3e-4, and must be a finite number"),
        ("shares", [0.5, float("nan")], "--shares is 0.5 nan, and must be a finite number each"),
        ("shares", [None], "--shares is None, and must be a finite number each"),
        ("shares", 0.5, "--shares is 0.5, and must be a finite number each"),
        ("name", 1, "--name is 1, and must be text"),
        ("on", 1, "--on is 1, and must be yes or no"),
    ],
)
def test_a_value_of_another_kind_is_named(name: str, value: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        build(Some, {name: value})


def test_values_of_their_kind_are_taken() -> None:
    assert build(Some, {"lr": 1, "limit": None, "shares": [1, 0.5], "other": float("nan")}) == Some(
        lr=1, shares=(1, 0.5)
    )


def test_seeds_and_names_have_bounds() -> None:
    assert [is_seed(seed) for seed in (0, 2**32 - 1, -1, 2**32, 2**64)] == [True, True, False, False, False]
    assert [is_plain_name(name) for name in ("a", "a.b c", "é" * 127, ".hidden")] == [True] * 4
    wrong = ("", ".", "..", "a/b", "/a", "../a", "a\0", "é" * 128, "x" * 256)
    assert [is_plain_name(name) for name in wrong] == [False] * len(wrong)


def test_a_path_below_the_home_folder_is_read_as_a_shell_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    parser = Parser()
    add_options(parser, Some)
    home = str(tmp_path)
    for words in (["--name=~/a b"], ["--name", "~/a b"]):
        assert parser.parse_args(words).name == f"{home}/a b"
    for name in ("~", "~a", "a/~/b", "./~/a"):
        assert parser.parse_args([f"--name={name}"]).name == name
    assert path_of("~/a") == tmp_path / "a"
    assert settled("~/a") == str((tmp_path / "a").resolve())
    assert path_of("memory://~/a") != tmp_path / "a"
    with pytest.raises(UserError, match=rf"there is no folder {home}/runs/a"):
        load_dictionary("~/runs/a")
