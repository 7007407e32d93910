"""Options are frozen dataclasses; this file turns one into command-line flags and back.

A field is declared with `option(default, help)`; its annotation gives the type of the flag.
Presets (YAML in `configs/`) stand between the defaults and the flags that were typed.
"""

import argparse
import dataclasses
import math
import os
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

from dictionary_learning.command import program
from dictionary_learning.command.secrets import scrub
from dictionary_learning.errors import UserError

Options = TypeVar("Options")
PRESET_FOLDER = Path(__file__).parents[1] / "configs"


def option(
    default: Any,
    help: str,
    *,
    group: str = "options",
    choices: Sequence[Any] | None = None,
    spellings: Sequence[str] = (),
) -> Any:
    """Declare an option of a frozen dataclass.

    Args:
        help: one sentence with the unit; it is the `--help` text and the field's documentation.
        group: the heading under which `--help` lists the flag.
        spellings: other names of the same flag, such as those of the original code.
    """
    metadata = {"help": help, "group": group, "choices": choices, "spellings": tuple(spellings)}
    return dataclasses.field(default=default, metadata=metadata)


class Checked:
    """Options that check themselves; of blocks that are mixed, each calls `super()` and checks its own."""

    def __post_init__(self) -> None:
        """The end of the chain of checks."""

    def _require(self, holds: bool, name: str, what: str) -> None:
        if not holds:
            raise UserError(f"--{name} is {shown(getattr(self, name))}, and {what}.")


def shown(value: Any) -> str:
    """A value as it is typed on a command line."""
    if value == "":
        return "''"
    return " ".join(map(str, value)) if isinstance(value, tuple | list) else str(value)


def as_typed(name: str, value: Any) -> str:
    """An option with its value: `--k 20`, `--no_tf32`."""
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no_{name}"
    return f"--{name} {shown(value)}"


def difference(name: str, asked: Any, own: Any, whose: str) -> str:
    """`--k 30 (the run has 20)`, `--no_tf32 (the run has --tf32)`: what was asked for of `whose` option."""
    of_its_own = as_typed(name, own) if isinstance(own, bool) else shown(own)
    return f"{as_typed(name, asked)} (the {whose} has {of_its_own})"


class Parser(argparse.ArgumentParser):
    """argparse with one-sentence errors (exit code 2); `--run-name` is `--run_name`."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        # the same parser is a script's and a sub-command's
        kwargs["prog"] = program.sub_command() or kwargs.get("prog")
        super().__init__(allow_abbrev=False, **kwargs)

    def error(self, message: str) -> typing.NoReturn:
        self.exit(2, f"error: {' '.join(scrub(message.split(' ')))} (see {self.prog} --help)\n")

    def parse_known_args(self, args=None, namespace=None):  # type: ignore[no-untyped-def,override]
        import sys

        words = list(sys.argv[1:] if args is None else args)
        for i, word in enumerate(words):
            if word == "--":
                break
            if word.startswith("--"):
                flag, equals, value = word.partition("=")
                words[i] = "--" + flag[2:].replace("-", "_") + equals + _at_home(value)
            else:
                words[i] = _at_home(word)
        return super().parse_known_args(words, namespace)


def _at_home(word: str) -> str:
    """A path below `~` in full: shells leave it as it is in `--flag=~/runs` and in quotes."""
    return os.path.expanduser(word) if word.startswith("~/") else word


def flag_type(annotation: Any) -> tuple[type, bool]:
    """The scalar type of an annotation and whether it takes several values."""
    if typing.get_origin(annotation) in (types.UnionType, typing.Union):
        annotation = next(a for a in typing.get_args(annotation) if a is not type(None))
    if typing.get_origin(annotation) is tuple:
        return typing.get_args(annotation)[0], True
    return annotation, False


def add_options(
    parser: argparse.ArgumentParser, cls: type, skip: Sequence[str] = (), several: Sequence[str] = ()
) -> None:
    """Add one flag a field of the dataclass `cls`; a flag that is not typed leaves no trace.

    Args:
        several: options of one value whose flag takes several, each for options of its own.
    """
    hints = typing.get_type_hints(cls)
    groups: dict[str, Any] = {}
    for field in dataclasses.fields(cls):
        if field.name in skip or not field.metadata:
            continue
        meta = field.metadata
        group = groups.get(meta["group"]) or parser.add_argument_group(meta["group"])
        groups[meta["group"]] = group
        kind, many = flag_type(hints[field.name])
        names = [f"--{name}" for name in (field.name, *meta["spellings"])]
        default = field.default
        shown = " ".join(map(str, default)) if isinstance(default, tuple) else default
        help_text = meta["help"].replace("%", "%%")
        if default is not None:
            help_text += f" (default: {shown})"
        if kind is bool:
            group.add_argument(
                *names,
                dest=field.name,
                action=_YesNo,
                default=argparse.SUPPRESS,
                help=help_text,
            )
            continue
        group.add_argument(
            *names,
            dest=field.name,
            type=kind,
            nargs="+" if many or field.name in several else None,
            choices=meta["choices"],
            default=argparse.SUPPRESS,
            metavar=None if meta["choices"] else field.name.upper(),
            help=help_text,
        )


class _YesNo(argparse.Action):
    """`--flag` and `--no_flag`, spelled with underscores like every other flag."""

    def __init__(self, option_strings: Sequence[str], dest: str, **kwargs: Any) -> None:
        negative = [f"--no_{name[2:]}" for name in option_strings]
        super().__init__([*option_strings, *negative], dest, nargs=0, **kwargs)

    def __call__(self, parser, namespace, values, option_string=None):  # type: ignore[no-untyped-def]
        setattr(namespace, self.dest, not (option_string or "").startswith("--no_"))


def preset_names() -> list[str]:
    """Names of the presets that `--config` takes."""
    return sorted(path.stem for path in PRESET_FOLDER.glob("*.yaml"))


def read_preset(name: str) -> dict[str, Any]:
    """The values of a named preset.

    Raises:
        UserError: no preset has that name.
    """
    path = PRESET_FOLDER / f"{name}.yaml"
    if name not in preset_names():
        raise UserError(f"there is no preset {name!r}; choose one of {', '.join(preset_names())}.")
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def build(cls: type[Options], *layers: Mapping[str, Any]) -> Options:
    """An options object from its defaults and `layers` of values; a later layer wins.

    Keys that are not fields are left to other options classes. Lists become tuples.

    Raises:
        UserError: a value of another kind than its option, or a number that is not finite.
    """
    names = {field.name for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            if key in names:
                values[key] = tuple(value) if isinstance(value, list) else value
    check_kinds(cls, values)
    return cls(**values)


_KINDS = {
    bool: "yes or no",
    int: "a whole number",
    float: "a finite number",
    str: "text",
}


def check_kinds(cls: type, values: Mapping[str, Any]) -> None:
    """Refuse a value of another kind than its option is declared with, and a float that is not finite.

    Raises:
        UserError: names the option and the value.
    """
    hints = typing.get_type_hints(cls)
    for name, value in values.items():
        kind, several = flag_type(hints[name])
        if kind not in _KINDS or (value is None and type(None) in typing.get_args(hints[name])):
            continue
        items = value if several and isinstance(value, tuple) else (value,)
        if isinstance(value, tuple) != several or not all(_is_of_kind(item, kind) for item in items):
            what = f"{_KINDS[kind]} each" if several else _KINDS[kind]
            raise UserError(f"--{name} is {shown(value)}, and must be {what}.")


def _is_of_kind(value: Any, kind: type) -> bool:
    if kind is float:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return is_number and math.isfinite(value)
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


MOST_SEED = 2**32 - 1  # scikit-learn takes no larger one


def is_seed(value: int) -> bool:
    """Whether every random generator takes it."""
    return 0 <= value <= MOST_SEED


def is_plain_name(name: str) -> bool:
    """Whether it is the name of one file or folder: no path, and not longer than a file system takes."""
    return (
        name not in ("", ".", "..")
        and not any(sign in name for sign in ("/", os.sep, "\0"))
        and len(os.fsencode(name)) <= 255
    )
