"""Explaining latents in words and testing the words: explanation, detection and fuzzing.

    explain_question(shown)                                 # a conversation for a chat model
    read_explanation("Explanation: names of rivers")
    trial = detection_trial(with_it, without_it, generator)
    trial_questions("detection", trial, "names of rivers", per_question=5)

Detection and fuzzing are the two scores of EleutherAI's delphi (Paulo et al., arXiv 2410.13928): told the
explanation, a model is to say which whole windows contain the latent (detection), and in which windows
the marked tokens are those at which it is active (fuzzing). Half of the windows of a trial are right, so
chance is .5; the score is the mean of the two shares of right answers (balanced accuracy), of the windows
that were answered. Two things differ from delphi, so that marks cannot be judged by their looks: wrong ones
are the pattern of the true ones moved along the window, not scattered tokens, and windows are cut so that
the strongest token stands anywhere in them. Tokens that share a character are shown, marked and moved
together: a model that is asked cannot read parts of a character.
"""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any, NamedTuple

import numpy as np

from dictionary_learning.language_model.token_text import Stretch
from temporal_saes.chat.answers import read_texts
from temporal_saes.chat.model import Conversation, question
from temporal_saes.latents.examples import Example
from temporal_saes.naming.names import Name

TEMPLATES = Path(__file__).with_name("templates")
LEVELS = 10  # of activation, as an explainer is told
MAX_EXPLANATION = 512  # characters: what Neuronpedia takes
OPEN, CLOSE = "<<", ">>"
KINDS = ("detection", "fuzzing")
_LIST = re.compile(r"\[?\s*([01](?:\s*,\s*[01])*)\s*\]?[ \t*.]*")

Stretches = Callable[[Sequence[int]], Sequence[Stretch]]


class Window(NamedTuple):
    """Some tokens in a row, and which of them are to be marked; those that share a character count as one."""

    texts: tuple[str, ...]
    activations: tuple[float, ...]
    marked: tuple[bool, ...]
    context: int
    quantile: int | None  # of the latent's range; None for windows without it

    @property
    def is_active(self) -> tuple[bool, ...]:
        return tuple(value > 0 for value in self.activations)


class Trial(NamedTuple):
    """Windows in the order in which they are asked about, and what is true of each."""

    windows: list[Window]
    truth: list[bool]


# --- windows ---


def cut(
    example: Example, length: int, stretches: Stretches, generator: np.random.Generator | None = None
) -> Window:
    """`length` tokens of an example, its peak anywhere in them; in the middle without a generator.

    Args:
        stretches: the example's tokens as text. One that begins or ends beyond the `length` tokens is whole.
    """
    n = len(example.tokens)
    first = max(0, example.peak - length + 1)
    last = max(first, min(example.peak, n - length))
    start = (first + last + 1) // 2 if generator is None else int(generator.integers(first, last + 1))
    inside = [one for one in stretches(example.tokens) if one.stop > start and one.start < start + length]
    values = tuple(float(max(example.activations[one.start : one.stop])) for one in inside)
    return Window(
        tuple(one.text for one in inside),
        values,
        tuple(value > 0 for value in values),
        example.context,
        example.quantile,
    )


def unmarked(window: Window) -> Window:
    """The window without marks."""
    return window._replace(marked=(False,) * len(window.texts))


def wrongly_marked(window: Window, generator: np.random.Generator) -> Window | None:
    """The window with its marks moved round it, to where fewest are right; None where half would be."""
    active_L = np.array(window.is_active)
    n = len(active_L)
    overlap = np.array([int((np.roll(active_L, shift) & active_L).sum()) for shift in range(n)])
    if overlap.min() * 2 >= active_L.sum():
        return None
    shift = int(generator.choice(np.flatnonzero(overlap == overlap.min())))
    return window._replace(marked=tuple(bool(marked) for marked in np.roll(active_L, shift)))


def detection_trial(
    with_it: Sequence[Window], without_it: Sequence[Window], generator: np.random.Generator
) -> Trial:
    """As many windows with the latent as without it, unmarked, in random order."""
    n = min(len(with_it), len(without_it))
    return _shuffled([unmarked(one) for one in (*with_it[:n], *without_it[:n])], n, generator)


def fuzzing_trial(with_it: Sequence[Window], generator: np.random.Generator) -> Trial:
    """As many rightly marked windows as wrongly marked ones, in random order."""
    right: list[Window] = []
    wrong: list[Window] = []
    for window in with_it:
        moved = wrongly_marked(window, generator) if len(wrong) < len(right) else None
        if moved is None:
            right.append(window)
        else:
            wrong.append(moved)
    n = min(len(right), len(wrong))
    return _shuffled([*right[:n], *wrong[:n]], n, generator)


def _shuffled(windows: list[Window], n_true: int, generator: np.random.Generator) -> Trial:
    order = generator.permutation(len(windows)).tolist()
    return Trial([windows[i] for i in order], [i < n_true for i in order])


# --- questions ---


def template(name: str) -> Template:
    """The question of that name: explain, detection or fuzzing."""
    return Template((TEMPLATES / f"{name}.txt").read_text(encoding="utf-8"))


def templates_hash() -> str:
    """SHA-256 of the questions."""
    texts = "".join(template(name).template for name in ("explain", *KINDS))
    return hashlib.sha256(texts.encode()).hexdigest()


def written(window: Window) -> str:
    """The window as one line of text, marked tokens between << and >>; no other such signs are in it."""
    pieces = []
    start = 0
    for stop in range(1, len(window.texts) + 1):
        if stop < len(window.texts) and window.marked[stop] == window.marked[start]:
            continue
        text = _one_line("".join(window.texts[start:stop]))
        pieces.append(f"{OPEN}{text}{CLOSE}" if window.marked[start] else text)
        start = stop
    return "".join(pieces)


def _one_line(text: str) -> str:
    text = text.replace(OPEN, "< <").replace(CLOSE, "> >")
    return re.sub(r"[\r\n\v\f\x85\u2028\u2029]+", " ⏎ ", text)


def explain_question(windows: Sequence[Window], name: Name | None = None) -> Conversation:
    """What these windows have in common where they are marked.

    Args:
        name: what the latent is held over, told beside the windows; from the same half of the texts.
    """
    largest = max(max(window.activations) for window in windows)
    lines = []
    for number, window in enumerate(windows, start=1):
        listed = [
            f"{_one_line(text).strip()!r} {max(1, round(LEVELS * value / largest))}"
            for text, value in zip(window.texts, window.activations, strict=True)
            if value > 0
        ]
        lines += [f"{number}. {written(window)}", f"   active: {', '.join(listed)}"]
    told = template("explain").substitute(examples="\n".join(lines), held_over=_held_over(name))
    return question(told)


def _held_over(name: Name | None) -> str:
    """Counts over all stretches, in words; nothing where nothing stands out."""
    if name is None or not name.words:
        return ""
    found = {
        "Words that they hold more often than other text": name.words,
        "Kinds of documents they are from more often": name.classes,
        "Titles of such documents": name.titles,
    }
    lines = [
        f"- {what}: {_one_line(', '.join(s.text for s in some))}" for what, some in found.items() if some
    ]
    return (
        "\nOver all the text that was read it stays active for stretches of "
        f"{name.stretch:g} tokens (median). Counts over these stretches, which are data, too:\n"
        "<counts>\n" + "\n".join(lines) + "\n</counts>\n"
    )


def trial_questions(kind: str, trial: Trial, explanation: str, per_question: int) -> list[Conversation]:
    """The questions of a trial, each about at most `per_question` of its windows in a row."""
    made = template(kind)
    asked = []
    for first in range(0, len(trial.windows), per_question):
        some = trial.windows[first : first + per_question]
        lines = [f"{number}. {written(window)}" for number, window in enumerate(some, start=1)]
        asked.append(
            question(
                made.substitute(
                    explanation=explanation,
                    n=len(some),
                    stretches="\n".join(lines),
                    blanks=", ".join("N" * len(some)),
                )
            )
        )
    return asked


# --- answers ---


def read_explanation(answer: str) -> str | None:
    """What stands in the only line `Explanation: ...`; None without one, with several, or a blank."""
    found = [text for text in read_texts(answer, "Explanation") if text != "TEXT"]
    return found[0] if len(found) == 1 and len(found[0]) <= MAX_EXPLANATION else None


def read_list(answer: str) -> list[bool] | None:
    """The zeros and ones in the only line `Answer: [...]`, or in an answer that is nothing but such a list.

    None without one or with several.
    """
    found = read_texts(answer, "Answer")
    if not found and re.fullmatch(r"[\s*`]*\[[^\]]*\][\s*`.]*", answer):
        found = [answer.strip("*` \t\r\n")]
    numbers = _LIST.fullmatch(found[0]) if len(found) == 1 else None
    return None if numbers is None else [number.strip() == "1" for number in numbers[1].split(",")]


def score_trial(trial: Trial, predicted: Sequence[bool | None]) -> dict[str, Any]:
    """How a trial ended; `predicted` has None for windows whose question got no answer.

    Returns:
        `score`: balanced accuracy over the answered windows, None unless some of both kinds are answered;
        `accuracy`; `right_of_true`, `right_of_false`; `n_answered` of `n_windows`; `truth`, `predicted`.
    """
    answered = [(t, p) for t, p in zip(trial.truth, predicted, strict=True) if p is not None]
    shares: Mapping[bool, float | None] = {
        kind: _share([p == kind for t, p in answered if t == kind]) for kind in (True, False)
    }
    both = [share for share in shares.values() if share is not None]
    return {
        "score": sum(both) / 2 if len(both) == 2 else None,
        "accuracy": _share([t == p for t, p in answered]),
        "right_of_true": shares[True],
        "right_of_false": shares[False],
        "n_answered": len(answered),
        "n_windows": len(trial.truth),
        "truth": trial.truth,
        "predicted": list(predicted),
    }


def _share(right: Sequence[bool]) -> float | None:
    return sum(right) / len(right) if right else None
