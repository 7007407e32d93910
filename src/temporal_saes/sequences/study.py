"""Latents along joined passages, of one dictionary: which to show, their values, and scores over many texts.

    texts = open_texts(options, given, documents, lm, context_length)
    result = study(subject, options, texts, explanations, lm)

What it returns goes into the JSON as it is, and is all that the figure and the page are drawn from.

Shapes: T usable tokens of one text, F latents of the chunk.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dictionary_learning.command.options import option
from dictionary_learning.dictionaries.base import chunk_slice
from dictionary_learning.errors import UserError
from dictionary_learning.language_model import LanguageModel
from temporal_saes.experiment.intervals import INTERVAL, as_json, mean_interval
from temporal_saes.experiment.options import ExperimentOptions, Subject, labelled_texts
from temporal_saes.geometry.parts import text_codes
from temporal_saes.labelled.data import LabelledText
from temporal_saes.labelled.passages import (
    MIN_TOKENS,
    Joined,
    Passage,
    draw_joined,
    fits,
    join,
    passage_tokens,
    passages_of_files,
)
from temporal_saes.latents.explanations import find_explanations
from temporal_saes.sequences.switching import ACTIVITIES, RULES, activity, choose, passage_information, score

SETS = ("chosen", "all")
"""The latents that a score is of: those the rule chooses, or every one that is on somewhere in the text."""


@dataclass(frozen=True)
class SequenceOptions(ExperimentOptions):
    """What latents along joined passages can be asked."""

    passages: tuple[str, ...] | None = option(
        None, "text files that are joined in this order, instead of passages of the data set", group="texts"
    )
    n_texts: int = option(100, "joined texts that are drawn", group="texts")
    n_passages: int = option(3, "passages of a joined text, each of another class", group="texts")
    passage_tokens: int | None = option(
        None,
        "tokens of each given passage, or the most of a drawn one; as many as the context has room for "
        "if not given",
        group="texts",
    )
    show: int = option(0, "which text the figure and the page show, counted from 0", group="texts")
    select: str = option(
        "contrast",
        "how latents are chosen: contrast (mean over a passage minus that over the rest, passages in turn) "
        "or mean (mean over the text)",
        group="latents",
        choices=RULES,
    )
    n_latents: int = option(6, "latents chosen in each text", group="latents")
    latents: tuple[int, ...] | None = option(
        None, "these latents, counted in the whole dictionary, instead of chosen ones", group="latents"
    )
    active: str = option(
        "firing",
        "when a latent counts as on: firing (above zero) or half (above half of its range in the text)",
        group="latents",
        choices=ACTIVITIES,
    )
    explanation_path: str | None = option(
        None,
        "explanations.json of the dictionary; the one beside its weights if not given",
        group="latents",
    )
    compare: tuple[str, ...] | None = option(
        None, "several runs side by side: run, run:chunk or baseline_model", group="result"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (("n_texts", 1), ("show", 0), ("n_latents", 1), ("passage_tokens", MIN_TOKENS)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise UserError(f"--{name} {value} is too small: give at least {least}.")
        if self.passages is not None and len(self.passages) < 2:
            raise UserError(
                f"--passages {self.passages[0]} is one passage, and nothing can switch in it: give two files "
                f"or more."
            )
        n_texts = 1 if self.passages else self.n_texts
        if self.show >= n_texts:
            raise UserError(f"--show {self.show} does not exist: there are the texts 0 to {n_texts - 1}.")
        if self.latents and len(set(self.latents)) < len(self.latents):
            raise UserError("--latents names a latent twice: leave one out.")
        for name in ("latents", "explanation_path"):
            if self.compare and len(self.compare) > 1 and getattr(self, name):
                raise UserError(
                    f"--{name} is of one dictionary, and --compare asks for several: leave one of them out."
                )


# --- before anything is slow ---


def check_subject(subject: Subject, options: SequenceOptions) -> dict[int, str]:
    """The explanations of the subject's latents, once those asked for are known to exist.

    Raises:
        UserError: a latent is out of range or not in the chunk, or the explanations are of another
            dictionary.
    """
    dictionary = subject.load_dictionary("cpu")
    if dictionary is None:
        if options.latents or options.explanation_path:
            raise UserError(
                f"{subject.name} has no latents: leave --latents and --explanation_path out, or give a run."
            )
        return {}
    columns = chunk_slice(dictionary, subject.chunk)
    for latent in options.latents or ():
        if not 0 <= latent < dictionary.dict_size:
            raise UserError(
                f"--latents {latent} is out of range: {subject.name} has the latents 0 to "
                f"{dictionary.dict_size - 1}."
            )
        if not columns.start <= latent < columns.stop:
            raise UserError(
                f"--latents {latent} is not in chunk {subject.chunk}, which is {columns.start} to "
                f"{columns.stop - 1}: give the --chunk it is in, or 2 for all."
            )
    return find_explanations(options.explanation_path, subject.trainer_folder, dictionary.dict_size)


def read_documents(options: SequenceOptions, context_length: int) -> list[LabelledText]:
    """The documents to draw passages from, once it is known that the passages fit the context.

    Raises:
        UserError: they do not, or as `labelled_texts`.
    """
    longest, _ = passage_tokens(context_length, options.n_passages)
    if options.passage_tokens is not None and options.passage_tokens > longest:
        raise UserError(
            f"{options.n_passages} passages of --passage_tokens {options.passage_tokens} do not fit into "
            f"{context_length} tokens: give at most {longest}, or fewer --n_passages."
        )
    if options.passage_tokens is not None:
        passage_tokens(_room(options, context_length), options.n_passages)
    return labelled_texts(options, options.max_texts)


def given_passages(options: SequenceOptions) -> Joined | None:
    """The files of `--passages` as one text, whole; None where passages are to be drawn.

    Raises:
        UserError: as `passages_of_files`.
    """
    return None if options.passages is None else join(passages_of_files(options.passages))


def _room(options: SequenceOptions, context_length: int) -> int:
    """Tokens of a drawn text, so that its passages are no longer than asked."""
    if options.passage_tokens is None:
        return context_length
    return 1 + options.n_passages * (options.passage_tokens + 1)


# --- the texts ---


def open_texts(
    options: SequenceOptions,
    given: Joined | None,
    documents: Sequence[LabelledText],
    lm: LanguageModel,
    context_length: int,
) -> list[Joined]:
    """The joined texts: the given one, or so many that are drawn.

    Raises:
        UserError: a given passage is shorter than asked, all together are too long, or as `draw_joined`.
    """
    if given is None:
        return draw_joined(
            documents,
            lm,
            options.n_texts,
            n_passages=options.n_passages,
            context_length=_room(options, context_length),
            seed=options.seed,
        )
    joined = join([_cut(passage, lm, options, context_length) for passage in given.passages])
    if not fits(joined, lm, context_length):
        raise UserError(
            f"the {len(joined.passages)} files of --passages have more than {context_length} tokens "
            f"together: shorten them (--passage_tokens) or give a longer --context_length."
        )
    return [joined]


def _cut(passage: Passage, lm: LanguageModel, options: SequenceOptions, context_length: int) -> Passage:
    """A given passage, cut after the tokens asked for.

    Raises:
        UserError: it has fewer.
    """
    offsets = lm.tokenize([passage.text], context_length, offsets=True).offsets
    assert offsets is not None
    ends = [end for start, end in offsets[0] if end > start]  # without the BOS
    asked = options.passage_tokens
    if len(ends) < (asked or MIN_TOKENS):
        remedy = f"a smaller --passage_tokens, {MIN_TOKENS} at least" if asked else "more of it"
        raise UserError(
            f"{passage.source} has {len(ends)} tokens, and {asked or MIN_TOKENS} are asked for: give a "
            f"longer text or {remedy}."
        )
    return passage if asked is None else passage._replace(text=passage.text[: ends[asked - 1]])


# --- one dictionary ---


def study(
    subject: Subject,
    options: SequenceOptions,
    texts: Sequence[Joined],
    explanations: Mapping[int, str],
    lm: LanguageModel,
) -> dict[str, Any]:
    """Scores over all texts and what there is to show of one.

    Raises:
        UserError: the dictionary does not fit the model, or a passage has no two tokens that are read.
    """
    dictionary = subject.load_dictionary(lm.device)
    first = 0 if dictionary is None else chunk_slice(dictionary, subject.chunk).start
    scores: dict[str, list[dict[str, Any]]] = {name: [] for name in SETS}
    shown: dict[str, Any] = {}
    n_tokens = 0
    codes = text_codes([text.text for text in texts], lm, subject, dictionary, options)
    for index, (joined, (tokens, code_uF, _)) in enumerate(zip(texts, codes, strict=True)):
        f_TF = code_uF.cpu().numpy()
        position_T = np.flatnonzero(tokens.usable_L)
        passage_T = joined.passage_of(tokens.offsets)[position_T]
        n_of_passages = np.bincount(passage_T, minlength=len(joined.passages))
        if n_of_passages.min() < 2:
            short = joined.passages[int(n_of_passages.argmin())]
            raise UserError(
                f"the passage {short.title!r} has {n_of_passages.min()} tokens that are read: give longer "
                f"passages or a longer --context_length."
            )
        n_tokens += len(position_T)
        chosen, rule = _choose(f_TF, passage_T, options, first)
        how = options.active
        kept = {"chosen": score(f_TF, passage_T, chosen, how=how, rule=rule, n=options.n_latents)}
        on_F = activity(f_TF, how).any(axis=0)
        kept["all"] = score(f_TF, passage_T, np.flatnonzero(on_F).tolist(), how=how)
        for name in SETS:
            scores[name].append(kept[name]._asdict())
        if index == options.show:
            shown = {
                "text": joined.text,
                "starts": joined.starts,
                "passages": [passage._asdict() | {"text": None} for passage in joined.passages],
                "ids": tokens.ids_L.tolist(),
                "offsets": [list(offset) for offset in tokens.offsets],
                "positions": position_T.tolist(),
                "passage": passage_T.tolist(),
                "entropy_of_passages": _entropy(passage_T),
                "latents": _latents(f_TF, passage_T, chosen, first, explanations, how),
                "scores": {name: kept[name]._asdict() for name in SETS},
            }
    return {
        "n_texts": len(texts),
        "n_tokens": n_tokens,
        "scores": {name: _over_texts(some) for name, some in scores.items()},
        "scores_of_texts": scores,
        "interval": INTERVAL,
        "shown": shown,
    }


def _choose(
    f_TF: np.ndarray, passage_T: np.ndarray, options: SequenceOptions, first: int
) -> tuple[list[int], str | None]:
    """Columns of the latents, and the rule by which they were chosen; None if they were given."""
    if options.latents is not None:
        return [latent - first for latent in options.latents], None
    return choose(f_TF, passage_T, options.select, options.n_latents), options.select


def _latents(
    f_TF: np.ndarray,
    passage_T: np.ndarray,
    chosen: Sequence[int],
    first: int,
    explanations: Mapping[int, str],
    how: str,
) -> list[dict[str, Any]]:
    """The latents to show: by the passage in which their mean is highest, the strongest first."""
    found = []
    for column in chosen:
        value_T = f_TF[:, column]
        means = [float(value_T[passage_T == p].mean()) for p in range(int(passage_T.max()) + 1)]
        found.append(
            {
                "latent": first + column,
                "explanation": explanations.get(first + column),
                "strongest_in": int(np.argmax(means)),
                "means": means,
                "information": float(passage_information(activity(value_T[:, None], how), passage_T)[0]),
                "values": [float(f"{value:.5g}") for value in value_T],
            }
        )
    return sorted(found, key=lambda one: (one["strongest_in"], -one["means"][one["strongest_in"]]))


def _entropy(passage_T: np.ndarray) -> float:
    """Bits that it takes to tell the passage of a token: more than any latents can tell."""
    share = np.bincount(passage_T) / len(passage_T)
    return float(-(share * np.log2(share)).sum())


def _over_texts(scores: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """For each score its mean over the texts that have it, with the interval and their number."""
    summary = {}
    for name in scores[0]:
        values = [one[name] for one in scores if one[name] is not None]
        interval = as_json(mean_interval(values))
        summary[name] = None if interval is None else {**interval, "n": len(values)}
    return summary
