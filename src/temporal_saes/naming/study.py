"""The names of a dictionary's latents, and how well their words find passages that they were not learnt from.

    result = study(subject, options, texts, lm)

Half of the texts are learnt from: words over which a latent is held, and the tokens at which it is strongest.
Both lists are tried on the windows of the other half. What is kept as a latent's name is from all texts.

Shapes: F latents of the chunk, T positions.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dictionary_learning.dictionaries.base import check_width, chunk_slice
from dictionary_learning.errors import UserError
from dictionary_learning.language_model import LanguageModel
from temporal_saes.experiment.intervals import as_json, mean_interval
from temporal_saes.experiment.subjects import Subject
from temporal_saes.labelled.data import LabelledText
from temporal_saes.latents.codes import CodesOfContexts, codes_of_texts, join, select
from temporal_saes.latents.collector import collect
from temporal_saes.naming.lists import TokenTexts, Windows, aucs, strongest_tokens
from temporal_saes.naming.names import Labels, NameCollector
from temporal_saes.naming.options import NamingOptions
from temporal_saes.naming.stretches import stretches
from temporal_saes.naming.windows import WINDOW, split_contexts
from temporal_saes.naming.words import Words

LISTS = ("words", "tokens")
N_STRONGEST = 32  # contexts in which the tokens are looked for that are different


def study(
    subject: Subject, options: NamingOptions, texts: Sequence[LabelledText], lm: LanguageModel
) -> dict[str, Any]:
    """Names of all latents, and the scores of the two lists.

    Raises:
        UserError: the dictionary does not fit the model, or there are fewer than two texts.
    """
    dictionary = subject.load_dictionary(lm.device)
    if dictionary is None:
        raise UserError(f"{subject.name} has no latents to name: give the run of a dictionary.")
    check_width(dictionary, lm)
    columns = chunk_slice(dictionary, subject.chunk)
    n_latents = columns.stop - columns.start
    read = [text.text for text in texts]
    collector = NameCollector(n_latents, lm.tokenizer)
    chunks = codes_of_texts(read, lm, subject.place, subject.reading(options), dictionary, columns)
    codes = join(list(collector.watching(chunks)))
    if len(codes.start_C) < 3:
        raise UserError("one text cannot be learnt from and scored on: give more (--max_texts).")
    labels = Labels([text.title for text in texts], [text.label for text in texts])
    names = collector.result(labels)
    split_F = np.array(_splits(dictionary.splits(), columns))
    scores = _scores(codes, split_F, options, lm)
    count_F = np.bincount(codes.codes_TF.indices, minlength=n_latents)
    return {
        "n_texts": len(texts),
        "n_tokens": int(codes.usable_T.sum()),
        "n_alive": int((count_F > 0).sum()),
        "window": WINDOW,
        "splits": {
            split: {least: _summary(areas, split_F == split) for least, areas in scores.items()}
            for split in dict.fromkeys(split_F.tolist())
        },
        "latents": [
            {
                "latent": columns.start + f,
                "split": str(split_F[f]),
                "n_active": int(count_F[f]),
                **names[f].as_json(),
                "scores": {
                    least: {what: areas[what][f] for what in LISTS} for least, areas in scores.items()
                },
            }
            for f in np.flatnonzero(count_F).tolist()
        ],
    }


def _splits(splits: Mapping[str, slice], columns: slice) -> list[str]:
    """The split of each latent; `all` for a dictionary without."""
    return [
        next((name for name, part in splits.items() if part.start <= latent < part.stop), "all")
        for latent in range(columns.start, columns.stop)
    ]


Areas = dict[str, list[float | None]]
"""Under the curve, of every latent, by list."""


def _scores(
    codes: CodesOfContexts, split_F: np.ndarray, options: NamingOptions, lm: LanguageModel
) -> dict[str, Areas]:
    """The areas of both lists from one half of the texts on windows of the other.

    By how many tokens make a window one of the latent's: 1, and --held. Beside each list stands that of
    another latent of the same split: what a list finds that has nothing to do with the latent.
    """
    halves = split_contexts(codes, options.seed)
    learn, test = select(codes, halves.learn_C), select(codes, halves.test_C)
    collector = NameCollector(len(split_F), lm.tokenizer)
    collector.add(learn)
    tokens = TokenTexts(lm.tokenizer)
    lists = {
        "words": collector.word_lists(options.list_length),
        "tokens": _token_lists(learn, len(split_F), options, tokens),
    }
    windows = Windows(test, stretches(test, collector.on_above_F), len(split_F))
    standing = {"words": windows.standing(Words(lm.tokenizer)), "tokens": windows.standing(tokens)}
    other_F = _others(split_F, options.seed)
    found: dict[str, Areas] = {}
    for least in dict.fromkeys((1, options.held)):
        held_MF = windows.held(least)
        found[str(least)] = {
            **{what: aucs(standing[what], held_MF, lists[what]) for what in LISTS},
            **{
                f"{what} of another": aucs(standing[what], held_MF, [lists[what][f] for f in other_F])
                for what in LISTS
            },
        }
    return found


def _token_lists(
    codes: CodesOfContexts, n_latents: int, options: NamingOptions, tokens: TokenTexts
) -> list[list[str]]:
    """The tokens at which each latent is strongest, as a browser lists them."""
    examples = collect([codes], n_latents, n_top=N_STRONGEST, per_quantile=1, n_weighted=0, window=1)
    return [
        [tokens.text(one) for one in strongest_tokens(examples, f, options.list_length, tokens.text)]
        for f in range(n_latents)
    ]


def _others(split_F: np.ndarray, seed: int) -> list[int]:
    """For each latent another one of its split, the next in a random order."""
    other_F = np.arange(len(split_F))
    for number, split in enumerate(dict.fromkeys(split_F.tolist())):
        order = np.random.default_rng([seed, number]).permutation(np.flatnonzero(split_F == split))
        other_F[order] = np.roll(order, 1)
    return other_F.tolist()


def _summary(areas: Areas, in_split_F: np.ndarray) -> dict[str, Any]:
    """Means over the latents of a split for which both lists have an area, and the difference, paired."""
    both = [
        f
        for f in np.flatnonzero(in_split_F).tolist()
        if areas["words"][f] is not None and areas["tokens"][f] is not None
    ]
    pairs = np.array([[areas[what][f] for what in LISTS] for f in both], dtype=float).reshape(-1, 2)
    return {
        "n_latents": len(both),
        **{
            what: as_json(mean_interval([area for f in both if (area := some[f]) is not None]))
            for what, some in areas.items()
        },
        "difference": as_json(mean_interval((pairs[:, 0] - pairs[:, 1]).tolist())),
        "share_words_better": float((pairs[:, 0] > pairs[:, 1]).mean()) if both else None,
    }
