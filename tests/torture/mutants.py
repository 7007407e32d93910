"""Damaged copies of files: what disks, editors, half copies and other tools do to them.

for mutant in mutants(path.read_bytes(), seed=0, n=50): path.write_bytes(mutant.content)
"""

import json
import random
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

WRONG = [
    *(None, True, -1, 0, 1.5, 10**30, -(2**63), float("nan"), float("inf")),
    *("", "x", "∅", [], [1], {}, {"a": None}),
]


class Mutant(NamedTuple):
    """A damaged content, and what was done to it."""

    what: str
    content: bytes


def mutants(content: bytes, seed: int, n: int) -> Iterator[Mutant]:
    """`n` mutants of a file, the same for the same seed; of JSON, half of them are still JSON."""
    draw = random.Random(seed)
    value = _json(content)
    for i in range(n):
        if value is not None and i % 2:
            yield _changed_value(value, draw)
        else:
            yield draw.choice(_DAMAGES)(content, draw)


def _json(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return None


def _changed_value(value: Any, draw: random.Random) -> Mutant:
    """One key dropped, renamed, or given a value of another kind, at any depth."""
    value = json.loads(json.dumps(value))
    places = list(_places(value))
    if not places:
        wrong = draw.choice(WRONG)
        return Mutant(f"the whole is {wrong!r}", json.dumps(wrong).encode())
    holder, key, path = draw.choice(places)
    action = draw.choice(["drop", "rename", "wrong", "wrong", "wrong"])
    if action == "drop":
        del holder[key]
    elif action == "rename" and isinstance(holder, dict):
        holder[f"{key}x"] = holder.pop(key)
    else:
        holder[key] = draw.choice(WRONG)
        return Mutant(f"{path} is {holder[key]!r}", json.dumps(value).encode())
    return Mutant(f"{action} {path}", json.dumps(value).encode())


def _places(value: Any, path: str = "") -> Iterator[tuple[Any, Any, str]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield value, key, f"{path}/{key}"
        yield from _places(inner, f"{path}/{key}")


def _flip(content: bytes, draw: random.Random) -> Mutant:
    if not content:
        return Mutant("empty", b"")
    at, bit = draw.randrange(len(content)), draw.randrange(8)
    changed = bytearray(content)
    changed[at] ^= 1 << bit
    return Mutant(f"bit {bit} of byte {at} flipped", bytes(changed))


def _truncate(content: bytes, draw: random.Random) -> Mutant:
    length = draw.randrange(max(len(content), 1))
    return Mutant(f"cut to {length} bytes", content[:length])


def _zeros(content: bytes, draw: random.Random) -> Mutant:
    at = draw.randrange(max(len(content), 1))
    length = min(draw.choice([1, 16, 512, 4096]), len(content) - at)
    return Mutant(f"{length} zeros from {at}", content[:at] + bytes(length) + content[at + length :])


def _twice(content: bytes, draw: random.Random) -> Mutant:
    return Mutant("written twice", content + content)


def _longer(content: bytes, draw: random.Random) -> Mutant:
    return Mutant("noise behind", content + draw.randbytes(draw.choice([1, 100])))


def _with_bom(content: bytes, draw: random.Random) -> Mutant:
    return Mutant("a BOM in front", b"\xef\xbb\xbf" + content)


def _latin1(content: bytes, draw: random.Random) -> Mutant:
    at = draw.randrange(max(len(content), 1))
    return Mutant(f"a Latin-1 letter at {at}", content[:at] + b"\xe9" + content[at:])


def _deep(content: bytes, draw: random.Random) -> Mutant:
    return Mutant("nested deeply", b"[" * 100_000)


def _long_number(content: bytes, draw: random.Random) -> Mutant:
    return Mutant("a number of 5,000 digits", b'{"trainer": ' + b"9" * 5000 + b"}")


def _nothing(content: bytes, draw: random.Random) -> Mutant:
    return Mutant("empty", b"")


_DAMAGES: list[Callable[[bytes, random.Random], Mutant]] = [
    *(_flip, _flip, _flip, _truncate, _truncate, _zeros, _twice, _longer, _with_bom, _latin1),
    *(_deep, _long_number, _nothing),
]
