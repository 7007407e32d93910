"""One self-contained page of latents along joined passages, where every token can be read."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from temporal_saes.experiment.results import label, model_and_place
from temporal_saes.features import Tokens
from temporal_saes.pages.page import Html, element, facts, image, page, table
from temporal_saes.pages.text_latents import text_pieces
from temporal_saes.pages.token_colours import in_row, token, visible
from temporal_saes.sequences.figure import passage_colour

Result = Mapping[str, Any]
COLUMNS = (
    ("latents", "n_latents", 0),
    ("bits about the passage", "information", 3),
    ("in any order", "shuffled", 3),
    ("boundaries elsewhere", "shifted", 3),
    ("switches a boundary", "switches", 2),
    ("delay, tokens", "delay", 1),
    ("distance, tokens", "distance", 1),
    ("flicker, changes a token", "flicker", 3),
    ("flicker, share of luck's", "relative_flicker", 2),
    ("share of tokens on", "on_share", 2),
)
SETS = {"chosen": "chosen", "all": "all that are on"}
# eleven columns in a window of usual width
STYLE = "table { font-size: .8125rem; } th, td { padding: .3rem .4rem; }"
RULES = {
    "contrast": "for one passage after another, the highest mean over it minus that over the rest",
    "mean": "the highest mean over the text",
}


def sequence_page(results: Sequence[Result], figure_png: bytes | None = None) -> str:
    """The figure, the scores of all texts, and for each result the latents of the shown text by token."""
    first = results[0]
    options, shown = first["options"], first["shown"]
    chosen = "as given" if options["latents"] else RULES[options["select"]]
    body: list[object] = [
        element("h1", "Latents along joined passages"),
        facts(
            [
                ("language model", model_and_place(first["subject"])),
                (
                    "texts scored",
                    f"{first['n_texts']:,}, each of {options['n_passages']} passages of {options['dataset']}"
                    if not options["passages"]
                    else "the given files",
                ),
                ("latents chosen", chosen),
                (
                    "on",
                    "above zero" if options["active"] == "firing" else "above half of its range in the text",
                ),
            ]
        ),
    ]
    if figure_png is not None:
        caption = (
            "Each latent as a share of its largest value in the text; a line where a passage begins. Below, "
            "the scores of all texts with 95 % intervals: the chosen latents, all that are on somewhere, and "
            "what boundaries elsewhere in the text would give; the dashed line is luck."
        )
        body.append(
            image(figure_png, "png", "Latents over the tokens of a text, and scores.", caption, wide=True)
        )
    body += [
        element("h2", "Scores over all texts"),
        table(["", *(title for title, _, _ in COLUMNS)], _rows(results), _explained(first)),
        element("h2", "The text, token by token"),
        element(
            "p",
            "A bar a token; point at one to read the token and the value. Open a latent to read the text, "
            "coloured by its values. The colour is that of the passage in which the latent is strongest.",
            class_="quiet",
        ),
        element("ol", *(_named(i, passage) for i, passage in enumerate(shown["passages"]))),
        *(_subject(result) for result in results),
    ]
    return page("Latents along joined passages", body, style=STYLE)


def _explained(first: Result) -> str:
    return (
        "Means over texts ± half of a 95 % interval. A latent, on or off, can tell 1 bit; telling the "
        f"passage of a token of the text below takes {first['shown']['entropy_of_passages']:.2f}. Distance "
        "is how far from a boundary a latent changes that is mostly on in one of its passages and mostly off "
        "in the other; delay counts early changes as negative."
    )


def _rows(results: Sequence[Result]) -> list[list[object]]:
    return [
        [f"{label(result)}, {name}", *(_number(result["scores"][key][score], n) for _, score, n in COLUMNS)]
        for result in results
        for key, name in SETS.items()
    ]


def _number(interval: Mapping[str, Any] | None, digits: int) -> str:
    if interval is None:
        return "–"
    half = 0.0 if interval["high"] is None else interval["high"] - interval["mean"]
    return f"{interval['mean']:,.{digits}f}" + (f" ± {half:.{digits}f}" if half else "")


def _named(i: int, passage: Mapping[str, str]) -> Html:
    """A passage with its colour."""
    swatch = element("span", class_="swatch", style=f"background:{passage_colour(i)}")
    return element("li", swatch, _passage(passage))


def _passage(passage: Mapping[str, str]) -> Html:
    return in_row(part for part in (passage["title"], passage["label"]) if part)


def _subject(result: Result) -> Html:
    latents = result["shown"]["latents"]
    inside: list[object] = [_panel(result, latent) for latent in latents]
    return element(
        "section",
        element("h2", label(result)),
        *(inside or [element("p", "No latent is on in this text.", class_="missing")]),
    )


def _panel(result: Result, latent: Mapping[str, Any]) -> Html:
    shown = result["shown"]
    value_T = np.array(latent["values"])
    name, words = f"Latent {latent['latent']}", latent.get("held_over")
    told = ", ".join(f"{mean:.3g}" for mean in latent["means"])
    about = f"{latent['information']:.3f} bits about the passage; means over the passages: {told}"
    return element(
        "section",
        element("h3", name),
        element("p", visible(latent["explanation"])) if latent["explanation"] else None,
        element("p", "Held over: ", in_row(words)) if words else None,
        element("p", about, class_="quiet"),
        _strip(shown, value_T, f"{name}: {about}"),
        element("details", element("summary", "read the text"), _coloured(shown, value_T)),
        class_="panel latents",
        style=f"--hue:{_rgb(passage_colour(latent['strongest_in']))};margin-bottom:.75rem",
    )


def _rgb(colour: str) -> str:
    return ",".join(str(int(colour[i : i + 2], 16)) for i in (1, 3, 5))


def _strip(shown: Mapping[str, Any], value_T: np.ndarray, name: str) -> Html:
    """The values as bars; a bar's column says its token and its value under the pointer."""
    floor = min(0.0, float(value_T.min()))
    height = float(value_T.max()) - floor or 1.0
    n = len(value_T)
    columns = []
    for i, (position, value) in enumerate(zip(shown["positions"], value_T.tolist(), strict=True)):
        start, end = shown["offsets"][position]
        tall = 20 * (value - floor) / height
        bar = element("rect", x=i, y=f"{20 - tall:.2f}", width=1, height=f"{tall:.2f}") if tall > 0 else None
        title = element("title", f"{visible(shown['text'][start:end])}  {value:.3g}")
        whole = element("rect", x=i, y=0, width=1, height=20, style="fill-opacity:0")
        columns.append(element("g", title, bar, whole))
    edges = np.flatnonzero(np.diff(shown["passage"])) + 1
    lines = [element("line", x1=x, x2=x, y1=0, y2=20) for x in edges.tolist()]
    attributes = {"viewBox": f"0 0 {n} 20", "preserveAspectRatio": "none"}
    return element("svg", *columns, *lines, class_="strip", role="img", aria_label=name, **attributes)


def _coloured(shown: Mapping[str, Any], value_T: np.ndarray) -> Html:
    """The text, a span a token, a heading a passage."""
    offsets = [(start, end) for start, end in shown["offsets"]]
    tokens = Tokens(np.array(shown["ids"]), offsets, np.zeros(len(offsets), dtype=bool))
    peak = float(value_T.max(initial=0.0)) or 1.0
    ahead = list(zip(shown["starts"], shown["passages"], strict=True))
    children: list[object] = []
    for piece in text_pieces(shown["text"], tokens, np.array(shown["positions"]), value_T):
        while ahead and piece.start + len(piece.text) > ahead[0][0]:
            children.append(element("span", _passage(ahead.pop(0)[1]), class_="part"))
        children.append(token(piece, peak))
    return element("p", *children, class_="tokens")
