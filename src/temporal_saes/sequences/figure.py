"""The figure of latents along joined passages: their values over the tokens, and the scores of all texts."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dictionary_learning.command import figures
from dictionary_learning.command.progress import n_of
from temporal_saes.experiment.results import colours, figure_label
from temporal_saes.experiment.short_text import fitting, shortened
from temporal_saes.pages.token_colours import visible

Result = Mapping[str, Any]
PASSAGE_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#882255", "#332288")
SCORES = (
    ("information", "bits about the passage"),
    ("distance", "tokens from the boundary"),
    ("flicker", "changes a token"),
    ("relative_flicker", "changes, share of luck's"),
)
LABEL_WIDTH = 22  # columns of a line


def passage_colour(passage: int) -> str:
    """The colour of a passage, and of the latents that are strongest in it."""
    return PASSAGE_COLOURS[passage % len(PASSAGE_COLOURS)]


def draw(results: Sequence[Result], path: Path) -> list[Path]:
    """A panel of stacked latents for each result, the scores below; the files written.

    Each latent is drawn as a share of its largest value in the text. In the PDF every token can be read
    below the lowest panel when it is enlarged.
    """
    n = len(results)
    n_columns = 1 if n < 3 else 2
    n_rows = math.ceil(n / n_columns)
    most = max(1, *(len(result["shown"]["latents"]) for result in results))
    stack = 0.24 * most + 0.75
    heights = [stack] * n_rows + [0.3 * n + 0.9]
    with figures.style():
        fig, spare = figures.subplots(figsize=(7.2 * n_columns, sum(heights) + 0.7 + 0.2 * n_rows))
        spare.remove()
        grid = fig.add_gridspec(n_rows + 1, 4 * 3, height_ratios=heights)
        width = 12 // n_columns
        for i, result in enumerate(results):
            row, column = divmod(i, n_columns)
            axis = fig.add_subplot(grid[row, column * width : (column + 1) * width])
            _stack(axis, result, most, tokens=i >= n - n_columns, names=row == 0)
        left = None
        for i, (name, title) in enumerate(SCORES):
            left = axis = fig.add_subplot(grid[n_rows, 3 * i : 3 * i + 3], sharey=left)
            _scores(axis, results, name, title, first=i == 0)
        handles, labels = axis.get_legend_handles_labels()
        figures.legend_below(fig, handles, labels)
        return figures.save(fig, path, pdf=True)


def token_text(shown: Mapping[str, Any], position: int) -> str:
    """The characters of a token, with signs for those that are not seen."""
    start, end = shown["offsets"][position]
    text = shown["text"][start:end]
    return visible(text.strip(" ") or text).replace("\n", "")


def _stack(axis: Any, result: Result, most: int, *, tokens: bool, names: bool) -> None:
    shown = result["shown"]
    passage_T = np.array(shown["passage"])
    n = len(passage_T)
    starts = np.searchsorted(passage_T, np.arange(len(shown["passages"])))
    ends = [*starts[1:], n]
    for passage, (start, end) in enumerate(zip(starts, ends, strict=True)):
        axis.axvspan(start - 0.5, end - 0.5, color=passage_colour(passage), alpha=0.06, linewidth=0)
        if passage:
            axis.axvline(start - 0.5, color="black", linewidth=1)
        if names:
            axis.text(
                (start + end - 1) / 2,
                1.0,
                _passage_name(shown["passages"][passage], (end - start) / n, most),
                transform=axis.get_xaxis_transform(),
                ha="center",
                va="bottom",
                fontsize=8,
                color=passage_colour(passage),
                parse_math=False,
            )
    edges = np.arange(n + 1) - 0.5
    for row, latent in enumerate(shown["latents"]):
        value_T = np.array(latent["values"])
        floor = min(0.0, float(value_T.min()))  # the dense activations have a sign
        height = float(value_T.max()) - floor or 1.0
        base = most - 1 - row
        axis.stairs(
            base + 0.85 * (value_T - floor) / height,
            edges,
            baseline=base,
            fill=True,
            color=passage_colour(latent["strongest_in"]),
            linewidth=0,
        )
    if not shown["latents"]:
        axis.text(0.5, 0.5, "no latent is on", transform=axis.transAxes, ha="center", va="center")
    axis.set_title(figure_label(result), fontsize=10, pad=16 if names else 4)
    axis.set_xlim(-0.5, n - 0.5)
    axis.set_ylim(0, most)
    at = [most - 1 - row + 0.4 for row in range(len(shown["latents"]))]
    axis.set_yticks(at, [latent_label(latent) for latent in shown["latents"]], fontsize=7.5, parse_math=False)
    axis.tick_params(axis="y", length=0)
    axis.grid(False)
    axis.set_xticks([])
    if tokens:
        words = [token_text(shown, position) for position in shown["positions"]]
        axis.set_xticks(range(n), words, rotation=90, fontsize=min(6.0, 340 / n), parse_math=False)
        axis.tick_params(axis="x", length=0, pad=1)


def _passage_name(passage: Mapping[str, str], share: float, most: int) -> str:
    name = passage["title"] or passage["label"]
    about = f"{name} ({passage['label']})" if passage["label"] and passage["title"] else name
    return shortened(visible(about), max(10, int(90 * share)))


def latent_label(latent: Mapping[str, Any]) -> str:
    """The latent's number, and the beginning of its explanation, or of the words it is held over.

    Two lines at most, as the rows of a panel are no higher.
    """
    text = latent["explanation"] or ", ".join(latent.get("held_over", ()))
    if not text:
        return str(latent["latent"])
    line = " ".join(visible(text).split())
    at = fitting(line, LABEL_WIDTH)
    rest = shortened(line[at:], LABEL_WIDTH)
    return "\n".join(filter(None, (line[:at].rstrip(), rest))) + f" · {latent['latent']}"


def _scores(axis: Any, results: Sequence[Result], name: str, title: str, *, first: bool) -> None:
    """Dots for the chosen latents, rings for all; a mark where luck alone would be."""
    for row, (result, colour) in enumerate(zip(results, colours(results), strict=True)):
        for which, face, shift in (("chosen", colour, 0.12), ("all", "white", -0.16)):
            interval = result["scores"][which][name]
            y = len(results) - 1 - row + shift
            if interval is None:
                continue
            mean, high = interval["mean"], interval["high"]
            axis.errorbar(
                mean,
                y,
                xerr=None if high is None else high - mean,
                marker="o",
                markersize=5,
                color=colour,
                markerfacecolor=face,
                linewidth=1.2,
                linestyle="none",
            )
            if name == "information":
                axis.plot(
                    result["scores"][which]["shifted"]["mean"], y, marker="|", markersize=9, color="black"
                )
    for style, text in (
        ({"marker": "o"}, "chosen latents"),
        ({"marker": "o", "mfc": "white"}, "all that are on"),
    ):
        axis.plot([], [], color="#444444", linestyle="none", label=text, **style)
    axis.plot([], [], color="black", linestyle="none", marker="|", markersize=9, label="boundaries elsewhere")
    if name == "relative_flicker":
        # before the axis is cut at 0, which ends the search for limits that show everything
        axis.axvline(1, color="#888888", linewidth=0.8, linestyle="--")
    axis.set_xlim(left=0)
    axis.set_ylim(-0.6, len(results) - 0.4)
    # four of them stand side by side below a single panel, too
    axis.set_xlabel(textwrap.fill(title, 16), fontsize=9)
    axis.locator_params(axis="x", nbins=4)
    if all(result["scores"][which][name] is None for result in results for which in ("chosen", "all")):
        axis.text(0.5, 0.5, "none", transform=axis.transAxes, ha="center", va="center", fontsize=8)
        axis.set_xticks([])
    axis.grid(visible=True, axis="x")
    axis.grid(visible=False, axis="y")
    axis.set_yticks(range(len(results)), [figure_label(result) for result in results[::-1]], fontsize=8)
    axis.tick_params(axis="y", length=0, labelleft=first)
    if first:
        axis.set_title(n_of(results[0]["n_texts"], "joined text"), fontsize=10)
