"""The examples of the probing tasks: which tokens of which texts, and the class of each.

positions = Positions(texts, options)  # for `extract_features`, as `spans`
task_examples("syntax", texts, features, positions)
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dictionary_learning.command.progress import LoopProgress
from temporal_saes.features import Features, Tokens, readable
from temporal_saes.labelled.data import LabelledText
from temporal_saes.labelled.parts_of_speech import tag_tokens
from temporal_saes.pooling import span_numbers
from temporal_saes.probing.options import ProbingOptions


class Positions:
    """Chooses the tokens of all tasks, text by text: seeded by the text itself, not by its place.

    Each span is a row of the features; mostly it is one token.
    """

    def __init__(self, texts: Sequence[LabelledText], options: ProbingOptions) -> None:
        self._texts = texts
        self._options = options
        self._n_rows = 0
        self.cut: dict[int, int] = {}
        """The token of semantics and syntax, of every text that has one."""
        self.context: dict[int, np.ndarray] = {}
        """The tokens of the context task, of its texts."""
        self.row_of_text: dict[int, int] = {}
        """What stands for a text in semantics."""
        self.row_of_token: dict[tuple[int, int], int] = {}
        """By text and position, the single tokens of the other tasks."""

    def __call__(self, index: int, tokens: Tokens) -> list[np.ndarray]:
        text = self._texts[index]
        candidates = readable(text.text, tokens)
        generator = np.random.default_rng([self._options.seed, text.id])
        tasks = self._options.tasks
        spans: list[np.ndarray] = []
        singles: list[int] = []
        if candidates.size and {"semantics", "syntax"} & set(tasks):
            self.cut[index] = int(generator.choice(candidates[len(candidates) // 2 :]))
            singles += [self.cut[index]] if "syntax" in tasks else []
        if index in self.cut and "semantics" in tasks:
            self.row_of_text[index] = self._n_rows
            spans.append(self._span(index, tokens, candidates))
        size = self._options.context_tokens
        if "context" in tasks and len(self.context) < self._options.context_texts and size <= len(candidates):
            # another generator, so that these tokens do not depend on which other tasks are asked for
            generator = np.random.default_rng([self._options.seed, text.id, 1])
            self.context[index] = generator.choice(candidates, size, replace=False)
            singles += self.context[index].tolist()
        for position in sorted(set(singles)):
            self.row_of_token[index, position] = self._n_rows + len(spans)
            spans.append(np.array([position], dtype=np.int64))
        self._n_rows += len(spans)
        return spans

    def _span(self, index: int, tokens: Tokens, candidates: np.ndarray) -> np.ndarray:
        """The tokens that stand for a text in semantics."""
        pool, cut, text = self._options.pool, self.cut[index], self._texts[index]
        if pool == "token":
            return np.array([cut], dtype=np.int64)
        if pool == "last":
            return candidates[-1:]
        if pool.isdecimal():
            return candidates[candidates <= cut][-int(pool) :]
        number_L = span_numbers(pool, text.text, tokens.offsets, tokens.usable_L, text.turns)
        return np.flatnonzero(number_L == number_L[cut])


class Examples(NamedTuple):
    """What one task learns from: rows of `Features.x` with a class each."""

    rows: np.ndarray
    labels: list[str]


def task_examples(
    task: str, texts: Sequence[LabelledText], features: Features, positions: Positions
) -> Examples:
    """The examples of a task; a token without a part of speech is none of syntax."""
    if task == "context":
        pairs = [
            (positions.row_of_token[index, position], f"{texts[index].id:016x}")
            for index, chosen in positions.context.items()
            for position in chosen.tolist()
        ]
    elif task == "semantics":
        pairs = [(row, texts[index].label) for index, row in positions.row_of_text.items()]
    else:
        indices = list(positions.cut)
        offsets = [features.tokens[index].offsets for index in indices]
        cuts = [[positions.cut[index]] for index in indices]
        tagged = tag_tokens([texts[index].text for index in indices], offsets, cuts)
        pairs = []
        with LoopProgress(len(indices), "parts of speech", "texts") as progress:
            for index, (tag,) in zip(indices, progress.over(tagged), strict=True):
                if tag is not None:
                    pairs.append((positions.row_of_token[index, positions.cut[index]], tag))
    return Examples(np.array([row for row, _ in pairs], dtype=np.int64), [label for _, label in pairs])
