"""The file of a sweep: a grid over training options, and a member for each of its points.

    k: [10, 20, 40]
    dict_size: [4608, 9216]
    temp_alpha: 0.5          # one value: the same for all members

has six members, `k10-d4608` to `k40-d9216`. A list of such grids has the members of one after the other:

    - {arch: batch_top_k, k: [10, 20]}
    - {arch: standard, l1_penalty: [0.05, 0.1]}
"""

import difflib
import itertools
import math
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from dictionary_learning.command.files import read_yaml
from dictionary_learning.command.options import as_typed, check_kinds, flag_type, shown
from dictionary_learning.errors import UserError
from dictionary_learning.jobs.options import TrainOptions
from dictionary_learning.trainers.architectures import is_for
from dictionary_learning.trainers.options import (
    AttentionOptions,
    DictionaryOptions,
    TemporalTermOptions,
    TrainerOptions,
)

_BLOCKS = (TrainerOptions, DictionaryOptions, TemporalTermOptions, AttentionOptions)
# Members share their activations, but a cache of several layers or sites gives each its own.
SWEPT = {field.name for block in _BLOCKS for field in fields(block)} | {"layer", "site", "normalize"}
_FIELDS = {field.name: field for field in fields(TrainOptions)}
_SPELLINGS = {
    spelling: name for name, field in _FIELDS.items() for spelling in (name, *field.metadata["spellings"])
}
# What a value is called in the name of a run; other options are called by their names.
_SHORT = {
    "arch": "",
    "batch_size": "b",
    "dict_size": "d",
    "expansion_factor": "x",
    "seeds": "seed",
    "site": "",
    "temp_alpha": "alpha",
}


class Member(NamedTuple):
    """One point of the grid."""

    name: str
    """What tells it from the others, such as k20-d4608."""
    flags: dict[str, Any]
    """Its own values."""


def read_members(path: Path, flags: Mapping[str, Any], architectures: Sequence[str]) -> list[Member]:
    """The members that a file describes, in its order.

    Args:
        flags: those that were typed; they are for all members.
        architectures: those that the command trains.

    Raises:
        UserError: the file is no grid, an option is unknown, not for a sweep, there twice or of another kind
            than its values, or two members have the same values.
    """
    content = read_yaml(path, "YAML with a grid of options")
    grids = [
        _values(path, grid, flags, architectures)
        for grid in (content if isinstance(content, list) else [content])
    ]
    _check_keys_once(path)
    named = _told(grids)
    members = [
        Member("-".join(_called(name, point[name]) for name in named if name in point), point)
        for grid in grids
        for point in _points(grid)
    ]
    names = [member.name for member in members]
    twice = next((name for name in names if names.count(name) > 1), None)
    if not members:
        raise UserError(f"{path} holds no grid: write an option and its values, such as k: [10, 20, 40].")
    if twice is not None:
        raise UserError(f"{path} has two members {twice}: leave one of them out.")
    return members


def _values(
    path: Path, grid: Any, flags: Mapping[str, Any], architectures: Sequence[str]
) -> dict[str, list[Any]]:
    """The values of each option of a grid."""
    if not isinstance(grid, dict) or not grid:
        raise UserError(f"{path} holds no grid: write an option and its values, such as k: [10, 20, 40].")
    found: dict[str, list[Any]] = {}
    for key, given in grid.items():
        name = _option(path, key, architectures)
        if name in found:
            raise UserError(f"{path} names {name} twice, as {key}, too: leave one of them out.")
        if name in flags:
            raise UserError(
                f"{as_typed(name, flags[name])} and {key} in {path} contradict each other: leave one of them"
                " out."
            )
        found[name] = [_value(path, name, value) for value in (given if isinstance(given, list) else [given])]
        if not found[name]:
            raise UserError(f"{key} in {path} has no value: give at least one, or leave it out.")
    return found


def _option(path: Path, key: Any, architectures: Sequence[str]) -> str:
    """The option that a key means."""
    name = _SPELLINGS.get(str(key).replace("-", "_"))
    if name is None:
        near = difflib.get_close_matches(str(key), _SPELLINGS, n=1)
        remedy = f"did you mean {near[0]}?" if near else "see --help for the options there are."
        raise UserError(f"{key} in {path} is no option: {remedy}")
    if name not in SWEPT:
        raise UserError(
            f"{key} in {path} is the same for all members of a sweep, which share their activations and "
            f"their folder: give it as --{name}."
        )
    if (name == "arch" and len(architectures) == 1) or not any(is_for(name, a) for a in architectures):
        raise UserError(f"{key} in {path} means nothing for {', '.join(architectures)}: leave it out.")
    return name


def _value(path: Path, name: str, value: Any) -> Any:
    """A value as the flag would give it."""
    kind, several = flag_type(typing.get_type_hints(TrainOptions)[name])
    if several and value is not None:
        value = tuple(_converted(one, kind) for one in (value if isinstance(value, list) else [value]))
    elif not several:
        value = _converted(value, kind)
    try:
        check_kinds(TrainOptions, {name: value})
    except UserError as error:
        raise UserError(f"{path}: {str(error).removeprefix('--')}") from None
    choices = _FIELDS[name].metadata["choices"]
    if choices and value not in choices:
        raise UserError(f"{path}: {name} is {shown(value)}: choose among {', '.join(map(str, choices))}.")
    return value


def _converted(value: Any, kind: type) -> Any:
    """A number that stands for a float, which YAML takes for an int (1) or for text (1e-3)."""
    if kind is float and isinstance(value, str | int) and not isinstance(value, bool):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _check_keys_once(path: Path) -> None:
    """Refuse a key that is there twice, of which YAML's reader keeps the last."""
    root: Any = yaml.compose(path.read_text(encoding="utf-8-sig"), Loader=yaml.SafeLoader)
    for grid in root.value if isinstance(root, yaml.SequenceNode) else [root]:
        keys = [key.value for key, _ in grid.value]
        for key in keys:
            if keys.count(key) > 1:
                raise UserError(f"{path} names {key} twice: leave one of them out.")


def _points(grid: Mapping[str, list[Any]]) -> Iterator[dict[str, Any]]:
    for values in itertools.product(*grid.values()):
        yield dict(zip(grid, values, strict=True))


def _told(grids: Sequence[Mapping[str, list[Any]]]) -> list[str]:
    """The options that stand in the names: those with several values, or not the same in all grids."""
    names = list(dict.fromkeys(name for grid in grids for name in grid))
    differing = [
        name
        for name in names
        if any(len(grid.get(name, ())) > 1 or grid.get(name) != grids[0].get(name) for grid in grids)
    ]
    return differing or names


def _called(name: str, value: Any) -> str:
    """`k20`, `d4608`, `alpha0.5`, `seed0`, `matryoshka`, `no_contrastive`, `pair_mode_random`."""
    if isinstance(value, bool):
        return name if value else f"no_{name}"
    called = _SHORT.get(name, name)
    if isinstance(value, tuple):
        return called + "+".join(map(_number, value))
    if isinstance(value, str) and called:
        called += "_"
    return called + _number(value)


def _number(value: Any) -> str:
    """As short as it can be without being another number."""
    if isinstance(value, float) and math.isfinite(value) and float(f"{value:g}") == value:
        return f"{value:g}"
    return str(value).lower() if value is None else str(value)
