"""The examples of the probing tasks: which tokens of which texts, and the class of each.

positions = Positions(texts, options)  # for `extract_features`, as `choose`
task_examples("syntax", texts, features, positions)
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import sparse

from dictionary_learning.command.progress import LoopProgress
from temporal_saes.features import Features, Tokens, readable
from temporal_saes.labelled.data import LabelledText
from temporal_saes.labelled.parts_of_speech import tag_tokens
from temporal_saes.probing.options import ProbingOptions
from temporal_saes.probing.regression import Rows


class Positions:
    """Chooses the tokens of all tasks, text by text: seeded by the text itself, not by its place."""

    def __init__(self, texts: Sequence[LabelledText], options: ProbingOptions) -> None:
        self._texts = texts
        self._options = options
        self.cut: dict[int, int] = {}
        """The token of semantics and syntax, of every text that has one."""
        self.pooled: dict[int, list[int]] = {}
        """The tokens up to that one whose features semantics averages."""
        self.context: dict[int, np.ndarray] = {}
        """The tokens of the context task, of its texts."""

    def __call__(self, index: int, tokens: Tokens) -> np.ndarray:
        text = self._texts[index]
        candidates = readable(text.text, tokens)
        generator = np.random.default_rng([self._options.seed, text.id])
        chosen: list[int] = []
        tasks = self._options.tasks
        if candidates.size and {"semantics", "syntax"} & set(tasks):
            self.cut[index] = int(generator.choice(candidates[len(candidates) // 2 :]))
            before = candidates[candidates <= self.cut[index]]
            self.pooled[index] = before[-self._options.pool :].tolist()
            chosen += self.pooled[index]
        size = self._options.context_tokens
        if "context" in tasks and len(self.context) < self._options.context_texts and size <= len(candidates):
            # another generator, so that these tokens do not depend on which other tasks are asked for
            generator = np.random.default_rng([self._options.seed, text.id, 1])
            self.context[index] = generator.choice(candidates, size, replace=False)
            chosen += self.context[index].tolist()
        return np.unique(np.array(chosen, dtype=np.int64))


class Examples(NamedTuple):
    """What one task learns from."""

    rows: list[list[int]]
    """Of each example the rows of `Features.x` whose mean it is; mostly one."""
    labels: list[str]

    def features(self, x: Rows) -> Rows:
        """The features of the examples, sparse where x [N, F] is."""
        sizes = np.array([len(rows) for rows in self.rows], dtype=np.int64)
        row_n = np.array([row for rows in self.rows for row in rows], dtype=np.int64)
        if (sizes == 1).all():
            return x[row_n]
        of_n = np.repeat(np.arange(len(sizes)), sizes)
        weight_n = (1 / sizes)[of_n].astype(np.float32)
        mean_EN = sparse.csr_array((weight_n, (of_n, row_n)), shape=(len(sizes), x.shape[0]))
        return mean_EN @ x


def task_examples(
    task: str, texts: Sequence[LabelledText], features: Features, positions: Positions
) -> Examples:
    """The examples of a task; a token without a part of speech is none of syntax."""
    places = zip(features.text_N.tolist(), features.position_N.tolist(), strict=True)
    row_of = {place: row for row, place in enumerate(places)}
    if task == "context":
        pairs = [
            ([row_of[index, position]], f"{texts[index].id:016x}")
            for index, chosen in positions.context.items()
            for position in chosen.tolist()
        ]
    elif task == "semantics":
        pairs = [
            ([row_of[index, position] for position in pooled], texts[index].label)
            for index, pooled in positions.pooled.items()
        ]
    else:
        indices = list(positions.cut)
        offsets = [features.tokens[index].offsets for index in indices]
        tagged = tag_tokens([texts[index].text for index in indices], offsets)
        pairs = []
        with LoopProgress(len(indices), "parts of speech", "texts") as progress:
            for index, tags_L in zip(indices, progress.over(tagged), strict=True):
                cut = positions.cut[index]
                tag = tags_L[cut]
                if tag is not None:
                    pairs.append(([row_of[index, cut]], tag))
    return Examples([rows for rows, _ in pairs], [label for _, label in pairs])
