"""What a single token says, for a reader: its text with its spaces, its bytes where it is no text.

    token_texts(tokenizer, [464, 4380])     # ["The", " people"]

A tokenizer of bytes cuts characters of several bytes into tokens that are not UTF-8 by themselves; such
bytes are written as ⟨E2⟩⟨82⟩, and whatever is whole as it is.
"""

import re
from collections.abc import Iterable
from functools import cache
from typing import Any

_SPACE = "▁"  # how SentencePiece writes a space
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")  # how it writes a byte
_LONE_BYTE = re.compile(r"[\udc80-\udcff]")


def token_texts(tokenizer: Any, ids: Iterable[int]) -> list[str]:
    """The text of each token by itself; `[id]` where the tokenizer has no such token."""
    numbers = list(ids)
    return [_text(tokenizer, i, piece) for i, piece in zip(numbers, _pieces(tokenizer, numbers), strict=True)]


def _pieces(tokenizer: Any, ids: list[int]) -> list[str | None]:
    size = len(tokenizer)
    return [tokenizer.convert_ids_to_tokens(i) if 0 <= i < size else None for i in ids]


def _text(tokenizer: Any, number: int, piece: str | None) -> str:
    if piece is None:
        return f"[{number}]"
    if byte := _BYTE.fullmatch(piece):
        return _readable(bytes([int(byte[1], 16)]))
    text = tokenizer.decode([number], skip_special_tokens=False, clean_up_tokenization_spaces=False)
    if "\ufffd" in text:
        known = _byte_of()
        if all(character in known for character in piece):
            return _readable(bytes(known[character] for character in piece))
    # a tokenizer drops the space in front of what it takes for the first word
    n_spaces = len(piece) - len(piece.lstrip(_SPACE))
    return text if text.startswith(" " * n_spaces) else " " * n_spaces + text.lstrip(" ")


def _readable(data: bytes) -> str:
    text = data.decode("utf-8", errors="surrogateescape")
    return _LONE_BYTE.sub(lambda found: f"⟨{ord(found[0]) - 0xDC00:02X}⟩", text)


@cache
def _byte_of() -> dict[str, int]:
    """The byte that each letter of a byte-level vocabulary stands for."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    return {letter: byte for byte, letter in bytes_to_unicode().items()}
