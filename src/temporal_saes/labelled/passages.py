"""Passages of different documents joined into one text, with the boundaries between them known.

    texts = load_labelled("demo")
    joined = draw_joined(texts, lm, 100, n_passages=4, context_length=128, seed=0)
    joined[0].boundaries(offsets)  # positions at which a new passage begins, from the tokens' characters

    join(passages_of_files(["fox.txt", "physics.txt"]))

Where the topic changes is known, so what a code makes of it can be scored without an eye. A drawn
passage is whole sentences, so that no boundary falls into one: to find it, the words have to be read.

Shapes: L positions of one text.
"""

import re
from collections import defaultdict, deque
from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

from dictionary_learning.command.progress import n_of
from dictionary_learning.errors import UserError
from dictionary_learning.remote.path import AnyPath, path_of
from dictionary_learning.texts.encoding import read_text
from dictionary_learning.texts.spans import CLOSING, UNSPACED
from temporal_saes.labelled.data import LabelledText

if TYPE_CHECKING:
    import numpy as np

    from dictionary_learning.language_model import LanguageModel

SEPARATOR = " "  # of words; between passages there is what stands between their sentences
MIN_TOKENS = 8  # of a drawn passage; a shorter one is no more than a phrase
MIN_SENTENCES = 2  # of a drawn passage
Offsets = Sequence[tuple[int, int]]  # characters [start, end) of each token


class Passage(NamedTuple):
    """A piece of one document."""

    text: str
    label: str  # the document's class; empty where it has none
    title: str  # what to call it
    source: str  # where it is from
    gap: str = SEPARATOR
    """What stands between its sentences, and so in front of it: nothing in scripts without spaces."""


class Joined(NamedTuple):
    """Passages in a row, as one text."""

    text: str
    starts: list[int]  # the character at which each passage begins; the first is 0
    passages: list[Passage]

    def boundaries(self, offsets: Offsets) -> list[int]:
        """The position of the first token of every passage but the first.

        A token that stands for the separator and a passage's first letters is the passage's. A passage
        that the tokens do not reach has no boundary.
        """
        places = (self._first_token(start, offsets) for start in self.starts[1:])
        return [place for place in places if place is not None]

    def passage_of(self, offsets: Offsets) -> "np.ndarray":
        """The index of the passage that each token is of, [L]."""
        import numpy as np

        passage_L = np.zeros(len(offsets), dtype=np.int64)
        for boundary in self.boundaries(offsets):
            passage_L[boundary:] += 1
        return passage_L

    def sentence_starts(self, offsets: Offsets) -> list[int]:
        """The position of the first token of every sentence but the first; boundaries are among them."""
        starts = [
            start + sentence_start
            for start, passage in zip(self.starts, self.passages, strict=True)
            for sentence_start, _ in sentences(passage.text)
        ]
        places = (self._first_token(start, offsets) for start in starts[1:])
        return sorted({place for place in places if place is not None})

    def _first_token(self, character: int, offsets: Offsets) -> int | None:
        return next((i for i, (_, end) in enumerate(offsets) if end > character), None)


def join(passages: Sequence[Passage]) -> Joined:
    """One text of the passages in this order."""
    text, starts = "", []
    for passage in passages:
        text += passage.gap if text else ""
        starts.append(len(text))
        text += passage.text
    return Joined(text, starts, list(passages))


def shuffled(joined: Joined, seed: Sequence[int]) -> Joined:
    """The same passages in the same order, the words of each in a random one.

    What is still seen of the boundaries is seen in the words, and not in their order.

    Raises:
        UserError: a passage is of a script without spaces, so that nothing says where its words end.
    """
    import numpy as np

    unspaced = next((passage for passage in joined.passages if not passage.gap), None)
    if unspaced is not None:
        raise UserError(
            f"--word_order shuffled needs spaces between words, and {unspaced.title or unspaced.source} has "
            "none: leave it out."
        )

    generator = np.random.default_rng(seed)
    passages = []
    for passage in joined.passages:
        words = passage.text.split()
        order = generator.permutation(len(words))
        passages.append(passage._replace(text=SEPARATOR.join(words[i] for i in order)))
    return join(passages)


_OPENING = r"[\"'“‘«‹(\[¿¡]*"
_SENTENCE_END = re.compile(
    rf"[.!?…]{CLOSING}(?P<spaced>\s+)(?={_OPENING}(?P<next>[^\W_]))|{UNSPACED}(?P<unspaced>\s*)(?=\S)"
)


def sentences(text: str) -> list[tuple[int, int]]:
    """Characters [start, end) of the sentences of a text, white space between them left out.

    A sentence ends at a stop with white space behind it and then no small letter: a capital, a figure, or a
    letter of a script that has no capitals. An abbreviation in front of a name ends one, too. At the stops of
    scripts that no space has to follow it ends whatever comes. This is stricter than `texts.spans`: no
    passage is to begin within a sentence, while there every token has to be of one.
    """
    gaps = [
        match.span("unspaced" if match["next"] is None else "spaced")
        for match in _SENTENCE_END.finditer(text)
        if match["next"] is None or not match["next"].islower()
    ]
    starts = [0, *(end for _, end in gaps)]
    ends = [*(start for start, _ in gaps), len(text.rstrip())]
    return list(zip(starts, ends, strict=True))


# --- given files ---


def passages_of_files(paths: Sequence[str | AnyPath]) -> list[Passage]:
    """Each file's text as one passage, in the order given.

    Raises:
        UserError: a file cannot be read, is no text in UTF-8, or is empty.
    """
    passages = []
    for path in map(path_of, paths):
        text = read_text(path).strip()
        if not text:
            raise UserError(f"{path} is empty: give a file with the text of a passage.")
        passages.append(Passage(text, "", path.stem, str(path), _gap(text)))
    return passages


def _gap(text: str) -> str:
    """What stands between sentences, by the first two."""
    spans = sentences(text)
    return "" if len(spans) > 1 and spans[0][1] == spans[1][0] else SEPARATOR


# --- drawn from labelled documents ---


def draw_joined(
    texts: Sequence[LabelledText],
    lm: "LanguageModel",
    n: int,
    *,
    n_passages: int,
    context_length: int,
    seed: int = 0,
) -> list[Joined]:
    """Joined texts of `n_passages` passages, each of another document and another class.

    A passage is `MIN_SENTENCES` or more whole sentences in a row from a random place among the first
    `context_length` tokens of its document, between a half and the whole of its share of the context
    long: where the boundaries are is not to be guessed, and not every end of a sentence is one. No
    document is used twice, so the joined texts are independent.

    Args:
        n: joined texts wanted. A larger sample begins with the smaller one.
        context_length: tokens that a joined text may have, special ones included.

    Raises:
        UserError: fewer classes than passages, a context too short for sentences, or too few documents.
    """
    import numpy as np

    longest, shortest = passage_tokens(context_length, n_passages)
    by_label: dict[str, list[LabelledText]] = defaultdict(list)
    for text in sorted(texts, key=lambda text: text.id):
        by_label[text.label].append(text)
    if len(by_label) < n_passages:
        raise UserError(
            f"{n_passages} passages of different classes cannot be joined, as the data have {len(by_label)}: "
            f"give a smaller --n_passages or other data."
        )
    generator = np.random.default_rng(seed)
    queues: dict[str, deque[LabelledText]] = {}
    for label, some in sorted(by_label.items()):
        queues[label] = deque(some[i] for i in generator.permutation(len(some)))
    joined: list[Joined] = []
    while len(joined) < n:
        passages = _draw_passages(queues, lm, n_passages, context_length, shortest, longest, generator)
        if passages is None:
            raise UserError(
                f"the data give {n_of(len(joined), 'joined text')} of {n_of(n_passages, 'passage')} of whole "
                f"sentences with {shortest} to {longest} tokens each, and {n} were asked for: ask for "
                "fewer (--n_texts), change --n_passages or --context_length, or give more data."
            )
        made = join(passages)
        # passages were counted apart, and a tokenizer may cut the whole another way
        if fits(made, lm, context_length):
            joined.append(made)
    return joined


def fits(joined: Joined, lm: "LanguageModel", context_length: int) -> bool:
    """Whether the text has no more than so many tokens, special ones included."""
    from dictionary_learning.language_model.tokens import token_ids

    return len(token_ids(lm.tokenizer, [joined.text])[0]) <= context_length


def passage_tokens(context_length: int, n_passages: int) -> tuple[int, int]:
    """The most and the fewest tokens of a drawn passage, with one token a passage and the BOS to spare.

    Raises:
        UserError: fewer than two passages, or passages shorter than `MIN_TOKENS`.
    """
    if n_passages < 2:
        raise UserError(f"--n_passages {n_passages} has no boundary: give at least 2.")
    longest = (context_length - 1) // n_passages - 1
    if longest // 2 < MIN_TOKENS:
        needed = 1 + n_passages * (2 * MIN_TOKENS + 1)
        raise UserError(
            f"{n_passages} passages in a context of {context_length} tokens would be shorter than "
            f"{MIN_TOKENS} tokens: give fewer (--n_passages) or --context_length {needed}."
        )
    return longest, longest // 2


def _draw_passages(
    queues: dict[str, "deque[LabelledText]"],
    lm: "LanguageModel",
    n_passages: int,
    context_length: int,
    shortest: int,
    longest: int,
    generator: "np.random.Generator",
) -> list[Passage] | None:
    """Passages of random classes; None when too few classes have a document left that will do."""
    passages: list[Passage] = []
    for label in generator.permutation(sorted(queues)):
        while queues[label] and len(passages) < n_passages:
            document = queues[label].popleft()
            text = _cut(document.text, lm, context_length, shortest, longest, generator)
            if text is not None:
                passages.append(Passage(text, document.label, document.title, document.source, _gap(text)))
                break
        if len(passages) == n_passages:
            return passages
    return None


def _cut(
    text: str,
    lm: "LanguageModel",
    context_length: int,
    shortest: int,
    longest: int,
    generator: "np.random.Generator",
) -> str | None:
    """Some consecutive sentences of a text, on one line; None if none have a fitting number of tokens."""
    import numpy as np

    line = " ".join(text.split())
    offsets = lm.tokenize([line], context_length, offsets=True).offsets
    assert offsets is not None
    ends = np.array([end for _, end in offsets[0]])
    spans = [(start, end) for start, end in sentences(line) if ends.size and end <= ends[-1]]
    # tokens that end within a sentence, so that a token over the white space in front counts
    counts = [int(((ends > start) & (ends <= end)).sum()) for start, end in spans]
    totals = [0, *accumulate(counts)]
    fitting = [
        (first, last)
        for first in range(len(spans))
        for last in range(first + MIN_SENTENCES - 1, len(spans))
        if shortest <= totals[last + 1] - totals[first] <= longest
    ]
    if not fitting:
        return None
    first, last = fitting[generator.integers(len(fitting))]
    return line[spans[first][0] : spans[last][1]]
