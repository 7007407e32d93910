"""One interactive page of maps: a colour switch, a token in its context under the pointer, the scores.

The drawing is done by `map_page.js`, which is put into the page with the points; nothing is loaded.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dictionary_learning.command import figures
from temporal_saes.experiment.results import label, model_and_place
from temporal_saes.maps.feature_map import Class, classes
from temporal_saes.maps.options import COLOURINGS, METHOD_NAMES
from temporal_saes.maps.points import labels
from temporal_saes.maps.result import score_rows
from temporal_saes.pages.page import Html, element, facts, page, script_json, table

Result = Mapping[str, Any]
SCRIPT = Path(__file__).with_name("page.js")
STYLE = Path(__file__).with_name("page.css")


def map_page(results: Sequence[Result], picture: str) -> str:
    """The page of one result, or of several of the same tokens.

    Args:
        picture: the file name of the same maps as a figure, for a reader whose browser runs no script.
    """
    options, subject = results[0]["options"], results[0]["subject"]
    method = METHOD_NAMES[options["method"]]
    title = f"{method} of {', '.join(result['name'] for result in results)}"
    body = [
        element("h1", title),
        element("p", f"Every point is a token of {options['dataset']}. {how_it_was_made(results)}"),
        facts(
            [
                ("language model", model_and_place(subject)),
                ("tokens of each text", options["tokens_a_text"]),
                ("texts", results[0]["n_texts"]),
                ("seed", options["seed"]),
            ]
        ),
        element("noscript", element("p", "The maps need a script; as a picture they are in ", picture, ".")),
        _switch(options["colourings"]),
        element("ul", id="legend", class_="legend", aria_label="Classes; press one to see it alone"),
        element("p", "Point at a token.", id="token", class_="reading", aria_live="polite"),
        element("div", *(_map(number, result) for number, result in enumerate(results)), class_="maps"),
        element(
            "p",
            "Press a class to see it alone. The token under the pointer is ringed in every map, and the "
            "other tokens of its class are drawn larger; the arrow keys go through the tokens of a map in "
            "the order of the texts. Distances between far groups and the sizes of groups mean nothing in a "
            "t-SNE or a UMAP.",
            class_="quiet",
        ),
        element("h2", "Are the clusters real?"),
        *(_scores(result) for result in results),
        element(
            "p",
            "Silhouette: how much nearer a token is to its own class than to the next one, from -1 to 1. "
            "Neighbours: share of the nearest tokens that have the same class. Chance: the mean after the "
            f"labels were dealt out anew, {options['permutations']} times (domains: those of whole texts); ± "
            "is the 95 % interval over texts. The tokens of one text share its domain, so only neighbours "
            "among other texts say what a code knows of it; the same word is near to itself, so only "
            "neighbours among other words say what it knows of parts of speech.",
            class_="quiet",
        ),
        element("script", script_json(_data(results)), type="application/json", id="points"),
    ]
    style, script = STYLE.read_text(encoding="utf-8"), SCRIPT.read_text(encoding="utf-8")
    return page(title, body, script=script, style=style)


def how_it_was_made(results: Sequence[Result]) -> str:
    """One sentence on the way from features to the map."""
    options = results[0]["options"]
    how = {
        "tsne": f"perplexity {options['perplexity']:g}",
        "umap": f"{options['umap_neighbours']} neighbours",
        "pca": "the first two components",
    }[options["method"]]
    shares = ", ".join(f"{result['pca']['variance_share']:.0%}" for result in results)
    numbers = ", ".join(f"{result['n_points']:,}" for result in results)
    of_each = [result["pca"]["dimensions"] for result in results]
    dimensions = ", ".join(map(str, of_each if len(set(of_each)) > 1 else of_each[:1]))
    parts = [
        f"Rows of unit length, PCA to {dimensions} dimensions ({shares} of the variance), {how}; {numbers} "
        f"tokens."
    ]
    n_silent = [result["n_silent"] for result in results]
    if any(n_silent):
        counts = ", ".join(f"{n:,}" for n in n_silent)
        parts.append(f"Left out, as no latent is active there: {counts}.")
    return " ".join(parts)


def shared_classes(results: Sequence[Result], colouring: str) -> list[Class]:
    """The classes of all tokens that are in one of the results, so that a class has one colour in all."""
    texts = results[0]["texts"]
    tokens = {(point["text"], point["position"]): point for result in results for point in result["points"]}
    return classes(labels(colouring, list(tokens.values()), texts), by_count=colouring != "sequence")


def class_name(colouring: str, name: Any, texts: Sequence[Mapping[str, Any]], longest: int = 60) -> str:
    """A class in words, on one line; a sequence is called by its title."""
    words = str(name)
    if colouring == "sequence":
        words = texts[name]["title"] or f"text {name}"
    return figures.without_middle(" ".join(words.split()), longest)


def _scores(result: Result) -> Html:
    rows = [(name, *cells) for name, cells in score_rows(result)]
    headers = ("labels (classes), measure", "all features (chance)", "map (chance)")
    return table(headers, rows, caption=f"{label(result)}: {result['n_points']:,} tokens")


def _switch(colourings: Sequence[str]) -> Html:
    choices = [
        element(
            "label",
            element("input", type="radio", name="colouring", value=i, checked="" if i == 0 else None),
            f" {COLOURINGS[colouring]}",
        )
        for i, colouring in enumerate(colourings)
    ]
    return element("fieldset", element("legend", "Colour by"), *choices, class_="switch")


def _map(number: int, result: Result) -> Html:
    name = label(result)
    canvas = element(
        "canvas",
        id=f"map{number}",
        tabindex="0",
        role="img",
        aria_label=f"Map of {result['n_points']} tokens, {name}; scores are below.",
    )
    colour = figures.colour(figures.method_of(result["subject"]["dict_class"]))
    caption = element("figcaption", element("span", class_="swatch", style=f"background:{colour}"), name)
    return element("figure", caption, canvas)


def _data(results: Sequence[Result]) -> dict[str, Any]:
    """What the script draws: the tokens of all results once, and where each result has them."""
    texts = results[0]["texts"]
    tokens: dict[tuple[int, int], Mapping[str, Any]] = {}
    for result in results:
        tokens.update({(point["text"], point["position"]): point for point in result["points"]})
    number = {key: i for i, key in enumerate(sorted(tokens))}
    ordered = [tokens[key] for key in number]
    colourings = []
    for colouring in results[0]["options"]["colourings"]:
        shared = shared_classes(results, colouring)
        index = {one.label: i for i, one in enumerate(shared)}
        colourings.append(
            {
                "id": colouring,
                "classes": [
                    {
                        "name": class_name(colouring, one.label, texts),
                        "count": one.n,
                        "colour": one.colour,
                        "shape": one.shape,
                        "coloured": one.coloured,
                    }
                    for one in shared
                ],
                # -1: a token without a class
                "of_tokens": [index.get(one, -1) for one in labels(colouring, ordered, texts)],
            }
        )
    return {
        "colourings": colourings,
        "tokens": [[point["before"], point["token"], point["after"], point["text"]] for point in ordered],
        "texts": [
            {"title": class_name("sequence", i, texts), "domain": text["domain"]}
            for i, text in enumerate(texts)
        ],
        "maps": [
            {
                "tokens": [number[point["text"], point["position"]] for point in result["points"]],
                "x": [point["x"] for point in result["points"]],
                "y": [point["y"] for point in result["points"]],
            }
            for result in results
        ],
    }
