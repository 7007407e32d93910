"""Maps of features in two dimensions, coloured by part of speech, domain and sequence.

    python src/experiments/tsne.py --run_name demo --chunk 0
    python src/experiments/tsne.py --compare demo:0 demo:1 baseline_model --dataset demo

A point is one token: --tokens_a_text of each text, drawn at random. Its features (the latents of the
chunk; or the activations themselves, without their mean, of baseline_model) are brought to unit length,
reduced to 50 principal components, and from there to two dimensions by --method. A token at which no
latent of the chunk is active has no direction and is left out; how many there are is told.

A map can show clusters where there are none and tear apart those there are. So each colouring is also
scored, in the map and in all features: the silhouette, and the share of the nearest neighbours that
have the same class; both beside the mean of the same labels dealt out anew (chance). Two of the
labels are easy for the wrong reason, so that neighbours are counted a second time:

pos     only among other words, as a word is near to itself whatever a code knows of grammar
domain  only among other texts, as the tokens of one text share its domain; chance deals out the
        domains of whole texts

Writes <run>/tsne/<dataset>_chunk<c>.json with all options, one interactive page (.html, a token in
its context under the pointer) and the figure (PNG and PDF) beside it. --compare puts several runs in
one page and figure; results that were computed with the same options are taken from there.
"""

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dictionary_learning.command import cli
from dictionary_learning.command.files import check_writable, save_text
from dictionary_learning.command.options import Parser, add_options, build, option
from dictionary_learning.command.progress import say
from dictionary_learning.errors import UserError
from dictionary_learning.runs.provenance import provenance
from temporal_saes.experiment.intervals import INTERVAL
from temporal_saes.experiment.options import (
    ExperimentOptions,
    LanguageModels,
    Subject,
    check_one_model,
    resolve,
    resolve_several,
)
from temporal_saes.experiment.results import asked, comparison_path, finished
from temporal_saes.features import extract_features
from temporal_saes.labelled.data import LabelledText
from temporal_saes.labelled.parts_of_speech import check_tagger
from temporal_saes.maps import feature_map
from temporal_saes.maps.feature_map import Score, agreement, compact, distances, neighbours, silhouette
from temporal_saes.maps.figure import draw
from temporal_saes.maps.page import map_page, score_rows
from temporal_saes.maps.points import (
    COLOURINGS,
    Positions,
    check_numbers,
    choose_texts,
    labels,
    points,
    words,
)

PCA_DIMENSIONS = 50
Record = Mapping[str, Any]


@dataclass(frozen=True)
class MapOptions(ExperimentOptions):
    """What a map can be asked."""

    n_points: int = option(1500, "tokens on the map", group="map")
    tokens_a_text: int = option(25, "tokens of each text", group="map")
    method: str = option(
        "tsne", "how two dimensions are made; umap needs umap-learn", group="map", choices=feature_map.METHODS
    )
    perplexity: float = option(30.0, "tsne: about how many neighbours a point has", group="map")
    umap_neighbours: int = option(15, "umap: neighbours of a point", group="map")
    colourings: tuple[str, ...] = option(
        tuple(COLOURINGS), "which labels", group="labels", choices=tuple(COLOURINGS)
    )
    neighbours: int = option(10, "nearest neighbours whose class is compared", group="labels")
    permutations: int = option(100, "times the labels are dealt out anew, for chance", group="labels")
    compare: tuple[str, ...] | None = option(
        None, "several runs in one page and figure: run, run:chunk or baseline_model", group="result"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (("neighbours", 1), ("permutations", 1), ("umap_neighbours", 2)):
            if getattr(self, name) < least:
                raise UserError(f"--{name} {getattr(self, name)} is too small: give at least {least}.")
        check_numbers(self.n_points, self.tokens_a_text)
        if self.n_points > feature_map.MAX_POINTS:
            raise UserError(
                f"--n_points {self.n_points:,} is too many for the distances of all pairs: give at most "
                f"{feature_map.MAX_POINTS:,}."
            )
        feature_map.check_method(self.method, self.perplexity, self.n_points)


def parser() -> Parser:
    """The command line."""
    made = Parser(description=__doc__)
    add_options(made, MapOptions)
    return made


def main(argv: list[str] | None = None) -> None:
    """Map one run, or several side by side.

    Raises:
        UserError: a mistake in the options, the runs or the data, or no tagger, before the language model
            runs.
    """
    options = build(MapOptions, vars(parser().parse_args(argv)))
    subjects = resolve_several(options.compare, options) if options.compare else [resolve(options)]
    check_one_model(subjects)
    check_tagger()
    shortest = min(subject.context_length for subject in subjects)
    subjects = [dataclasses.replace(subject, context_length=shortest) for subject in subjects]
    paths = [_named(subject.result_path(options, "tsne"), options) for subject in subjects]
    for path in paths:
        check_writable(path.parent)
    models = LanguageModels(options.device)
    lm = models.get(subjects[0])
    texts = choose_texts(options, lm, shortest, options.n_points, options.tokens_a_text)
    results = []
    for subject, path in zip(subjects, paths, strict=True):
        question = asked(subject, options, [f"{text.id:016x}{text.label}" for text in texts])
        result = finished(path, question) if options.compare else None
        if result is None:
            result = _map(subject, options, texts, models, question)
            save_text(path.with_name(path.name + ".json"), json.dumps(result) + "\n")
        else:
            say(f"{subject.name}: taken from {path}.json")
        results.append(result)
        print(_table(result))
    path = paths[0]
    if options.compare:
        path = _named(comparison_path(subjects, options, "tsne"), options)
    for file in draw(results, path):
        print(file)
    page = path.with_name(path.name + ".html")
    save_text(page, map_page(results, f"{path.name}.png"))
    print(page)


def _named(path: Path, options: MapOptions) -> Path:
    """The path with the method, where it is not the usual one, so that maps do not overwrite each other."""
    return path if options.method == "tsne" else path.with_name(f"{path.name}_{options.method}")


# --- results ---


def _map(
    subject: Subject,
    options: MapOptions,
    texts: Sequence[LabelledText],
    models: LanguageModels,
    question: dict[str, Any],
) -> dict[str, Any]:
    lm = models.get(subject)
    features = extract_features(
        [text.text for text in texts],
        lm,
        subject.layer,
        subject.load_dictionary(lm.device),
        subject.chunk,
        context_length=subject.context_length,
        max_norm_ratio=subject.max_norm_ratio,
        add_bos=subject.add_bos,
        choose=Positions(texts, options.n_points, options.tokens_a_text, options.seed),
        lm_batch_size=options.lm_batch_size,
        cache=options.cache,
    )
    heard = np.flatnonzero(~feature_map.silent(features.x))
    if len(heard) < max(3, options.neighbours + 1):
        raise UserError(
            f"{subject.name}: {len(heard)} of {features.x.shape[0]:,} tokens have an active latent in chunk "
            f"{subject.chunk}, too few for a map: choose another --chunk or check the dictionary's threshold."
        )
    feature_map.check_method(options.method, options.perplexity, len(heard))
    everything = points(texts, features)
    chosen = [everything[row]._asdict() for row in heard]
    of_texts = [
        {"title": text.title, "domain": text.label, "source": text.source, "id": f"{text.id:016x}"}
        for text in texts
    ]
    _check_classes(chosen, of_texts, options)
    x_NF = feature_map.unit_rows(features.x[heard])
    say(f"{subject.name}: {feature_map.METHOD_NAMES[options.method]} of {len(heard):,} points")
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
        "experiment": "tsne",
        **question,
        "name": subject.name,
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
        "provenance": provenance(),
    }


def _check_classes(chosen: Sequence[Record], texts: Sequence[Record], options: MapOptions) -> None:
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
    from tqdm import tqdm

    text_N = np.array([point["text"] for point in chosen])
    apart = {"pos": ("other words", compact(words(chosen))[1]), "domain": ("other texts", text_N)}
    for colouring in tqdm(options.colourings, desc=subject.name, unit=" labels", disable=None):
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


def _table(result: dict[str, Any]) -> str:
    """Scores as text, a row a measure."""
    silent = f", {result['n_silent']:,} more without an active latent" if result["n_silent"] else ""
    lines = [f"{result['name']}: {result['n_points']:,} tokens of {result['n_texts']:,} texts{silent}"]
    lines.append(f"{'':48}{'all features':>26}{'map':>26}")
    for name, cells in score_rows(result):
        lines.append(f"{name:48}" + "".join(f"{cell:>26}" for cell in cells))
    return "\n".join(lines)


if __name__ == "__main__":
    cli.run(main)
