"""The map of one subject: its points in two dimensions, and whether its clusters are real."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from dictionary_learning.command.progress import LoopProgress, say
from dictionary_learning.errors import UserError
from dictionary_learning.language_model import LanguageModel
from temporal_saes.experiment.intervals import INTERVAL
from temporal_saes.experiment.subjects import Subject
from temporal_saes.features import extract_features
from temporal_saes.labelled.data import LabelledText
from temporal_saes.maps import feature_map
from temporal_saes.maps.feature_map import Score, agreement, compact, distances, neighbours, silhouette
from temporal_saes.maps.options import COLOURINGS, METHOD_NAMES, MapOptions, check_method
from temporal_saes.maps.points import Positions, labels, points, words

PCA_DIMENSIONS = 50
Record = Mapping[str, Any]


def study(
    subject: Subject, options: MapOptions, texts: Sequence[LabelledText], lm: LanguageModel
) -> dict[str, Any]:
    """The points of one subject on a map, and the scores of their labels there and in all features.

    Raises:
        UserError: the dictionary does not fit the model or is silent, or all tokens have one class.
    """
    features = extract_features(
        [text.text for text in texts],
        lm,
        subject.place,
        subject.reading(options),
        subject.load_dictionary(lm.device),
        subject.chunk,
        choose=Positions(texts, options.n_points, options.tokens_a_text, options.seed),
    )
    heard = np.flatnonzero(~feature_map.silent(features.x))
    if len(heard) < max(3, options.neighbours + 1):
        raise UserError(
            f"{subject.name}: {len(heard)} of {features.x.shape[0]:,} tokens have an active latent in chunk "
            f"{subject.chunk}, too few for a map: choose another --chunk or check the dictionary's threshold."
        )
    check_method(options.method, options.perplexity, len(heard))
    everything = points(texts, features)
    chosen = [everything[row]._asdict() for row in heard]
    of_texts = [
        {"title": text.title, "domain": text.label, "source": text.source, "id": f"{text.id:016x}"}
        for text in texts
    ]
    check_classes(chosen, of_texts, options)
    x_NF = feature_map.unit_rows(features.x[heard])
    if feature_map.all_alike(x_NF):
        raise UserError(
            f"{subject.name}: the {len(heard):,} tokens at which a latent of chunk {subject.chunk} is active "
            "have the same one, so all lie at one place of a map: choose another --chunk."
        )
    say(f"{subject.name}: {METHOD_NAMES[options.method]} of {len(heard):,} points")
    reduced = feature_map.reduce(x_NF, PCA_DIMENSIONS, seed=options.seed)
    xy_N2 = feature_map.project(
        reduced.x_NP,
        options.method,
        perplexity=options.perplexity,
        n_neighbours=options.umap_neighbours,
        seed=options.seed,
    )
    spaces = {"features": distances(x_NF), "map": distances(xy_N2)}
    return {
        "n_points": len(heard),
        "n_silent": len(everything) - len(heard),
        "n_texts": len(texts),
        "outlier_share": features.outlier_share,
        "n_features": features.x.shape[1],
        "pca": {"dimensions": reduced.x_NP.shape[1], "variance_share": reduced.variance_share},
        "scores": list(_scores(subject, options, chosen, of_texts, spaces)),
        "interval": INTERVAL,
        "points": [
            {**point, "x": round(float(x), 4), "y": round(float(y), 4)}
            for point, (x, y) in zip(chosen, xy_N2, strict=True)
        ],
        "texts": of_texts,
    }


def check_classes(chosen: Sequence[Record], texts: Sequence[Record], options: MapOptions) -> None:
    """Raise a UserError where all points have one class, or none, in one of the colourings."""
    for colouring in options.colourings:
        names = {label for label in labels(colouring, chosen, texts) if label is not None}
        if len(names) < 2:
            one = f"the one class {names.pop()!r}" if names else "no class at all"
            raise UserError(
                f"all {len(chosen):,} tokens have {one} as their {COLOURINGS[colouring].lower()}: nothing "
                f"can be told apart; leave {colouring} out of --colourings or choose other texts."
            )


def _scores(
    subject: Subject,
    options: MapOptions,
    chosen: Sequence[Record],
    texts: Sequence[Record],
    spaces: dict[str, np.ndarray],
) -> Iterator[dict[str, Any]]:
    """Every measure of every colouring in every space; tokens without a class are left out of it."""
    text_N = np.array([point["text"] for point in chosen])
    apart = {"pos": ("other words", compact(words(chosen))[1]), "domain": ("other texts", text_N)}
    n_scores = len(spaces) * sum(3 if colouring in apart else 2 for colouring in options.colourings)
    with LoopProgress(n_scores, subject.name, "scores") as progress:
        for colouring in options.colourings:
            of_points = labels(colouring, chosen, texts)
            some = np.array([i for i, label in enumerate(of_points) if label is not None])
            names, codes_N = compact([of_points[i] for i in some])
            texts_N = text_N[some]
            units_N = compact(texts_N.tolist())[1] if colouring == "domain" else np.arange(len(some))
            for space, all_distances_NN in spaces.items():
                distance_NN = all_distances_NN[np.ix_(some, some)]
                among: list[tuple[str, str, Any]] = [
                    ("silhouette", "all", lambda codes, d=distance_NN: silhouette(d, codes)),
                    ("neighbours", "all", _agreement(distance_NN, options.neighbours)),
                ]
                if colouring in apart:
                    name, groups_N = apart[colouring]
                    counted = _agreement(distance_NN, options.neighbours, groups_N[some])
                    among.append(("neighbours", name, counted))
                for measure, others, function in among:
                    with progress.piece(f"{colouring}, {measure} in the {space}"):
                        one = feature_map.score(
                            function,
                            codes_N,
                            units_N,
                            texts_N,
                            permutations=options.permutations,
                            seed=options.seed,
                        )
                    yield {
                        "colouring": colouring,
                        "space": space,
                        "measure": measure,
                        "among": others,
                        "n_points": len(some),
                        "n_classes": len(names),
                        **_as_json(one),
                    }


def _agreement(distance_NN: np.ndarray, k: int, apart_N: np.ndarray | None = None) -> Any:
    found_NK = neighbours(distance_NN, k, apart_N)
    return lambda codes_N: agreement(found_NK, codes_N)


def _as_json(one: Score) -> dict[str, Any]:
    low, high = one.interval.low, one.interval.high
    return {"value": one.value, "low": low, "high": high, "chance": one.chance, "p": one.p}
