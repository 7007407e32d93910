"""What is read of the code for its pages: docstrings in the words that their reader knows, and no noise.

An extension of griffe, which mkdocstrings reads the code with.
"""

import re
from typing import Any

import griffe

BESIDE = re.compile(r"^( *)Args \((.+)\):$", re.MULTILINE)
SEVERAL = re.compile(r"^( +)([a-z_]\w*(?:, [a-z_]\w*)+)(: .*)$", re.IGNORECASE | re.MULTILINE)


class HouseStyle(griffe.Extension):
    """Reads every docstring as `spelled_out`, and leaves out what `__init__` keeps of its arguments."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called for everything that has been read."""
        if obj.docstring:
            obj.docstring.value = spelled_out(obj.docstring.value)

    def on_class_members(self, *, cls: griffe.Class, **_: Any) -> None:
        """Called for a class when all of it has been read."""
        for name, member in list(cls.members.items()):
            if member.is_attribute and not (member.annotation or member.docstring):
                cls.del_member(name)


def spelled_out(docstring: str) -> str:
    """A docstring with an entry for each argument, and every section under its usual name.

    `a, b: sizes` becomes an entry for a and one for b, and `Args (beside those of Base):` a sentence before
    `Args:`.
    """
    docstring = BESIDE.sub(r"\1Arguments \2:\n\n\1Args:", docstring)
    sections = re.split(r"(?m)^(?=\S)", docstring)
    return "".join(SEVERAL.sub(_each, text) if text.startswith("Args:") else text for text in sections)


def _each(match: re.Match[str]) -> str:
    indent, names, text = match.groups()
    *others, last = names.split(", ")
    return "\n".join([*(f"{indent}{name}: see `{last}`." for name in others), f"{indent}{last}{text}"])
