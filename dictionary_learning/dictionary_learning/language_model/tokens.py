"""Token ids: padding, which ones are text, and what a tokenizer puts in front.

Shapes: B texts, L positions.
"""

import re
from typing import Any, NamedTuple

import torch
from torch import Tensor

# Where tokenizers differ although their vocabularies do not: numbers, white space, case, other scripts.
PROBE = "It's 2024:  Ünïcode, naïve\tTABS\r\nand camelCase_words — 3.14159 👍🏽 北京 Straße ﬁn don't\n\n end "
# Added tokens that mark turns of a chat although their tokenizer does not call them special.
CHAT_MARKER = re.compile(r"<\|.+\|>|<(start|end)_of_turn>|\[/?INST\]|</?(think|tool_call|tool_response)>")


class Encoding(NamedTuple):
    """Texts as tokens, padded on the right."""

    tokens_BL: Tensor
    """int64; 0 where padded."""
    mask_BL: Tensor
    """bool; False where padded. BOS and other special tokens are True (see `text_mask`)."""
    offsets: list[list[tuple[int, int]]] | None
    """Characters [start, end) of each token that is not padding; (0, 0) for an added special token."""


def pad(rows: list[list[int]], side: str) -> tuple[Tensor, Tensor]:
    """Tokens and mask [B, L] of rows of unequal length, L at least 1.

    The fill is 0 and not the tokenizer's padding token: every model has an embedding for id 0, and
    what stands under a False mask has no influence.
    """
    width = max((len(row) for row in rows), default=0) or 1
    tokens_BL = torch.zeros(len(rows), width, dtype=torch.long)
    mask_BL = torch.zeros(len(rows), width, dtype=torch.bool)
    for i, row in enumerate(rows):
        place = slice(0, len(row)) if side == "right" else slice(width - len(row), width)
        tokens_BL[i, place] = torch.tensor(row, dtype=torch.long)
        mask_BL[i, place] = True
    return tokens_BL, mask_BL


def special_ids(tokenizer: Any) -> frozenset[int]:
    """Ids of the tokens that are never text: BOS, EOS, padding, unknown, marks of a chat."""
    marks = {
        number
        for number, token in tokenizer.added_tokens_decoder.items()
        if token.special or CHAT_MARKER.fullmatch(token.content)
    }
    return frozenset(marks | set(tokenizer.all_special_ids))


def text_ends(tokenizer: Any) -> frozenset[int]:
    """The tokens that stand between texts which a record has one behind the other: EOS and BOS."""
    return frozenset({tokenizer.eos_token_id, tokenizer.bos_token_id} - {None})


def bos_id(tokenizer: Any) -> int | None:
    """The token that the tokenizer puts before a text; None if it puts none."""
    bare, full = (tokenizer("a", add_special_tokens=choice)["input_ids"] for choice in (False, True))
    return full[0] if full[:1] != bare[:1] else None


def token_ids(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    """The tokens of whole texts, however long, with one BOS if the tokenizer adds it."""
    return encode(tokenizer, texts)[0]


def prompt_ids(tokenizer: Any, prompts: list[str]) -> list[list[int]]:
    """The tokens of texts that are to be continued: nothing that the tokenizer adds stands behind them.

    A BOS in front stays; an EOS behind would say that the text is over.
    """
    n_behind = _added_behind(tokenizer)
    return [row[: len(row) - n_behind] for row in token_ids(tokenizer, prompts)] if prompts else []


def _added_behind(tokenizer: Any) -> int:
    """How many special tokens the tokenizer puts behind a text."""
    bare, full = (tokenizer("a", add_special_tokens=choice)["input_ids"] for choice in (False, True))
    added = len(full) - len(bare)
    return next((n for n in range(added + 1) if full[added - n : len(full) - n] == bare), 0)


def token_offsets(tokenizer: Any, texts: list[str]) -> list[list[tuple[int, int]]]:
    """Characters [start, end) of each token of whole texts, however long; (0, 0) for an added special one."""
    offsets = encode(tokenizer, texts, offsets=True)[1]
    assert offsets is not None
    return offsets


def encode(
    tokenizer: Any, texts: list[str], max_length: int | None = None, offsets: bool = False
) -> tuple[list[list[int]], list[list[tuple[int, int]]] | None]:
    """The tokens of texts with the special ones that the tokenizer adds, and their characters if asked for.

    A text that was written out with its BOS, as a chat template does, has one and not two.

    Args:
        max_length: tokens a text, special ones included; None cuts nothing.
    """
    # Not a word about texts longer than the model reads at once: they are cut into contexts.
    wanted: dict[str, Any] = {"truncation": max_length is not None, "verbose": False}
    if max_length is not None:
        wanted["max_length"] = max_length
    if offsets:
        wanted["return_offsets_mapping"] = True
    encoded = tokenizer(texts, **wanted)
    rows: list[list[int]] = list(encoded["input_ids"])
    spans = list(encoded["offset_mapping"]) if offsets else None
    # A repeated first token is rare, and only then it is worth asking which one the tokenizer adds.
    repeated = [i for i, row in enumerate(rows) if row[1:2] == row[:1] != []]
    bos = bos_id(tokenizer) if repeated else None
    for i in repeated if bos is not None else []:
        whole = tokenizer([texts[i]], truncation=False, verbose=False)["input_ids"][0]
        n_bos = next((n for n, token in enumerate(whole) if token != bos), len(whole))
        if n_bos < 2:
            continue
        if max_length is not None:  # what the others pushed out comes back
            wanted["max_length"] = max_length + n_bos - 1
        one = tokenizer([texts[i]], **wanted)
        rows[i] = one["input_ids"][0][:1] + one["input_ids"][0][n_bos:]
        if spans is not None:
            spans[i] = one["offset_mapping"][0][:1] + one["offset_mapping"][0][n_bos:]
    return rows, spans
