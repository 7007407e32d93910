"""Spans of a text's tokens, and means over them: of one sentence, of one turn of a chat, of a document.

    number_L = span_numbers("sentence", text, tokens.offsets, tokens.usable_L)
    span_means(x, [3, 5])     # of the rows 0 to 2, and of 3 to 7

Averages are over usable tokens alone: special tokens, attention sinks and what nobody said count in none. Of
a span that the context cuts, what is there counts.

Shapes: L positions of one text, N rows, n spans, F latents.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import sparse

from dictionary_learning.texts.spans import Span, Spans, number_of, spans_of


def span_numbers(
    pool: str, text: str, offsets: Sequence[Span], usable_L: np.ndarray, turns: Spans | None = None
) -> np.ndarray:
    """The number of the span that each token is of [L], of those over which `pool` averages.

    -1 where a token is not usable, or of none.

    Args:
        text: what `offsets` are of.
        turns: its characters that somebody said, of a chat.
    """
    spans = spans_of(pool, text, turns)
    number_L = np.full(len(usable_L), -1, dtype=np.int64)
    for i in np.flatnonzero(usable_L).tolist():
        number = number_of(offsets[i], spans, text)
        number_L[i] = -1 if number is None else number
    return number_L


def span_means(x: sparse.csr_array | np.ndarray, lengths_n: Sequence[int]) -> Any:
    """Means [n, F] over the rows [N, F] of spans that lie one behind another; a sparse array stays one."""
    lengths = np.asarray(lengths_n, dtype=np.int64)
    first = np.concatenate([[0], np.cumsum(lengths)])
    weight_N = np.repeat(1 / lengths.astype(np.float32), lengths)
    return sparse.csr_array((weight_N, np.arange(first[-1]), first), shape=(len(lengths), x.shape[0])) @ x
