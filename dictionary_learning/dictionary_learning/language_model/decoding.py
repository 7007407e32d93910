"""Token ids back to text, a few at a time.

    token_bytes(tokenizer, [278, 2030])                      # [b" the", b" old"]
    continuation_text(tokenizer, prompt_ids, generated_ids)  # " old bridge"

Tokenizers take whatever they decode for a whole text: one that writes a blank in front of every text (`▁`,
Llama-2) drops the first one, and one that falls back to bytes gives up a row of them for one unfinished
character at its end. So a continuation is decoded behind its prompt, and bytes are put together here. One
whose tokens are words without their spaces (WordPiece, as of many Chinese models) gets them back in front of
letters and figures.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

_SPACE = "▁"  # how SentencePiece writes a space
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")  # how it writes a byte
_OF_WORDS = ("WordPiece", "WordLevel")  # models whose tokens hold no spaces
REPLACEMENT = "\ufffd"  # what stands for bytes that are no character


def token_bytes(tokenizer: Any, ids: Iterable[int]) -> list[bytes | None]:
    """What each token adds to a text in UTF-8, its spaces included; None where there is no such token."""
    size = len(tokenizer)
    return [_bytes(tokenizer, i) if 0 <= i < size else None for i in ids]


def _bytes(tokenizer: Any, number: int) -> bytes | None:
    piece = tokenizer.convert_ids_to_tokens(number)
    if piece is None:
        return None
    if type(model := _model_of(tokenizer)).__name__ in _OF_WORDS:
        return _in_a_text(piece, getattr(model, "continuing_subword_prefix", "")).encode("utf-8")
    text = tokenizer.decode([number], skip_special_tokens=False, clean_up_tokenization_spaces=False)
    if text != piece and (byte := _BYTE.fullmatch(piece)):
        return bytes([int(byte[1], 16)])
    if REPLACEMENT in text:
        known = _byte_of()
        if all(character in known for character in piece):
            return bytes(known[character] for character in piece)
    # a tokenizer drops the space in front of what it takes for the first word
    n_spaces = len(piece) - len(piece.lstrip(_SPACE))
    whole = text if text.startswith(" " * n_spaces) else " " * n_spaces + text.lstrip(" ")
    return whole.encode("utf-8", "surrogatepass")


def _model_of(tokenizer: Any) -> Any:
    return getattr(getattr(tokenizer, "backend_tokenizer", None), "model", None)


def _in_a_text(piece: str, prefix: str) -> str:
    """With the space that a tokenizer of words reads, drops, and does not know of any more.

    Args:
        prefix: of a piece that goes on with a word, such as `##`; empty where there are none.
    """
    if prefix and piece.startswith(prefix):
        return piece.removeprefix(prefix)
    begins_word = piece[:1].isalnum() and not unicodedata.name(piece[0], "").startswith("CJK")
    return f" {piece}" if begins_word else piece


@cache
def _byte_of() -> dict[str, int]:
    """The byte that each letter of a byte-level vocabulary stands for."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    return {letter: byte for byte, letter in bytes_to_unicode().items()}


def continuation_text(tokenizer: Any, prompt_ids: Sequence[int], ids: Sequence[int]) -> str:
    """What `ids` say behind `prompt_ids`, without special tokens; bytes of no character are U+FFFD."""
    before, whole = (
        tokenizer.decode(some, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        for some in (list(prompt_ids), [*prompt_ids, *ids])
    )
    if whole.startswith(before) and REPLACEMENT not in whole:
        return str(whole[len(before) :])
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    parts = token_bytes(tokenizer, [i for i in ids if i not in special])
    text = b"".join(part or b"" for part in parts).decode("utf-8", "replace")
    # behind nothing the first blank is not written
    return text.removeprefix(" ") if not before and not whole.startswith(" ") else text
