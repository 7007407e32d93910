"""The figure of similarity kernels, with the boundaries found in them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dictionary_learning.command import figures
from dictionary_learning.command.progress import n_of
from temporal_saes.experiment.results import colours, figure_label
from temporal_saes.labelled.passages import Joined
from temporal_saes.similarity.options import DETECTORS, SimilarityOptions
from temporal_saes.similarity.study import Text, first_words

_TRUE = "#000000"
_TRIANGLE: Any = {"marker": "^", "markersize": 7, "color": "#D55E00", "linestyle": "none"}
_RANGE = 0.7  # of the colours: few cosines are beyond it
Result = Mapping[str, Any]


def draw(
    results: Sequence[Result],
    shown: Sequence[Text],
    joined: Joined,
    options: SimilarityOptions,
    path: Path,
) -> list[Path]:
    """A column a subject (dendrogram, kernel, novelty) of the shown text; below, the scores of all texts.

    Args:
        shown: the text that is shown, as each subject sees it.

    Returns:
        the files written.
    """
    n = len(results)
    scored = bool(results[0]["detectors"])
    heights = [0.9, 3.2, 1.0] + ([2.0] if scored else [])
    with figures.style():
        fig, axes = figures.subplots(
            len(heights),
            n,
            figsize=(max(3.4 * n + 1.4, 6.0), sum(heights) * 1.12 + 0.6),
            squeeze=False,
            gridspec_kw={"height_ratios": heights},
        )
        for column, (result, text) in enumerate(zip(results, shown, strict=True)):
            top, middle, below = axes[:3, column]
            _draw_tree(top, text, options)
            top.set_title(figure_label(result), fontsize=10)
            image = _draw_kernel(middle, text, joined, options, words=column == 0)
            _draw_novelty(below, text, joined, options)
        axes[0, 0].set_ylabel("1 - cosine")
        axes[2, 0].set_ylabel("novelty")
        handles = _mark_handles(options, has_boundaries=scored)
        fig.colorbar(image, ax=axes[1, :].tolist(), label="cosine of centred codes", shrink=0.8, pad=0.01)
        if scored:
            grid = axes[3, 0].get_gridspec()
            for axis in axes[3]:
                axis.remove()
            bottom = fig.add_subplot(grid[3, :])
            _draw_scores(bottom, results, options)
            handles += bottom.get_legend_handles_labels()[0]
        figures.legend_below(fig, handles)
        return figures.save(fig, path, pdf=True)


def _mark_handles(options: SimilarityOptions, *, has_boundaries: bool) -> list[Any]:
    from matplotlib.lines import Line2D

    passage = Line2D([], [], color=_TRUE, linewidth=1, label="passage boundary")
    found = Line2D([], [], **_TRIANGLE, label=f"boundary found ({options.detector})")
    limit = Line2D([], [], color="#888888", linewidth=0.8, linestyle="--", label="cut, threshold")
    return [passage, found, limit] if has_boundaries else [found, limit]


def _mark(axis: Any, text: Text, options: SimilarityOptions) -> None:
    """Passage boundaries as lines; those that were found as triangles on the lower edge."""
    for boundary in _places(text, text.true):
        axis.axvline(boundary - 0.5, color=_TRUE, linewidth=1)
    found = _places(text, text.found[options.detector])
    axis.plot(
        np.array(found) - 0.5,
        np.zeros(len(found)),
        **_TRIANGLE,
        clip_on=False,
        zorder=5,
        transform=axis.get_xaxis_transform(),
    )
    axis.set_xlim(-0.5, len(text.positions_u) - 0.5)
    axis.grid(False)


def _places(text: Text, boundaries: Sequence[int]) -> list[int]:
    """Rows of the kernel at which boundaries among all tokens are."""
    return np.searchsorted(text.positions_u, boundaries).tolist()


def _draw_tree(axis: Any, text: Text, options: SimilarityOptions) -> None:
    from matplotlib.collections import LineCollection

    n = len(text.positions_u)
    # of the segment that begins or ends at a boundary: its middle, height, and other end
    begins = {i: (float(i), 0.0, i + 1) for i in range(n)}
    ends = {i + 1: i for i in range(n)}
    lines = []
    for boundary, height in text.merges:
        first = ends[boundary]
        left, right = begins[first], begins[boundary]
        lines.append([(left[0], left[1]), (left[0], height), (right[0], height), (right[0], right[1])])
        begins[first] = ((left[0] + right[0]) / 2, height, right[2])
        ends[right[2]] = first
    axis.add_collection(LineCollection(lines, colors="#555555", linewidths=0.6))
    axis.axhline(1 - options.cut, color="#888888", linewidth=0.8, linestyle="--")
    axis.set_ylim(0, max(1.05, text.merges[-1].height * 1.05))
    _mark(axis, text, options)
    axis.set_xticks([])


def _draw_kernel(axis: Any, text: Text, joined: Joined, options: SimilarityOptions, *, words: bool) -> Any:
    image = axis.imshow(
        text.kernel_uu, cmap="RdBu_r", vmin=-_RANGE, vmax=_RANGE, aspect="auto", interpolation="nearest"
    )
    for boundary in _places(text, text.true):
        axis.axhline(boundary - 0.5, color=_TRUE, linewidth=1)
    _mark(axis, text, options)
    axis.set_xticks([])
    places, labels = _word_ticks(text, joined)
    axis.set_yticks(places, labels if words else [""] * len(places), fontsize=8)
    return image


def _draw_novelty(axis: Any, text: Text, joined: Joined, options: SimilarityOptions) -> None:
    curve_u = text.curve_u
    axis.plot(np.arange(len(curve_u)) - 0.5, curve_u, color="#555555", linewidth=1.4)
    defined = curve_u[np.isfinite(curve_u)]
    limit = defined.mean() + options.peak_height * defined.std()
    axis.axhline(limit, color="#888888", linewidth=0.8, linestyle="--")
    _mark(axis, text, options)
    places, labels = _word_ticks(text, joined)
    axis.set_xticks(places, labels, fontsize=8, rotation=20, ha="right", rotation_mode="anchor")


def _word_ticks(text: Text, joined: Joined) -> tuple[list[int], list[str]]:
    """Where to write a few words: at the start of every passage, or at even distances in a single one."""
    n = len(text.positions_u)
    places = [0, *_places(text, text.true)] if text.true else np.linspace(0, n - 8, 6).astype(int).tolist()
    offsets = text.tokens.offsets
    words = [first_words(joined.text[offsets[text.positions_u[i]][0] :]) for i in places]
    return places, list(map(figures.as_written, words))


def _draw_scores(axis: Any, results: Sequence[Result], options: SimilarityOptions) -> None:
    """F1 of both detectors, with the number of boundaries unknown and known; chance at every bar."""
    groups = [(detector, number) for detector in DETECTORS for number in ("own_number", "given_number")]
    width = 0.8 / len(results)
    for i, (result, colour) in enumerate(zip(results, colours(results), strict=True)):
        scores = [result["detectors"][detector][number] for detector, number in groups]
        at = np.arange(len(groups)) + (i - (len(results) - 1) / 2) * width
        mean = np.array([one["f1"]["mean"] for one in scores])
        high = np.array([one["f1"]["high"] for one in scores], float)
        axis.bar(
            at,
            mean,
            0.92 * width,
            yerr=high - mean,  # NaN, which draws nothing, where there is no interval
            color=colour,
            label=figure_label(result),
            ecolor="#333333",
        )
        for key, style in (("chance_f1", ":"), ("chance_f1_sentence_starts", "--")):
            chance = [one[key] for one in scores]
            if None in chance:
                continue
            name = "chance" if key == "chance_f1" else "chance among sentence starts"
            axis.hlines(
                chance,
                at - 0.46 * width,
                at + 0.46 * width,
                colors="black",
                linestyles=style,
                label="" if i else name,
            )
    names = {"own_number": "number\nunknown", "given_number": "number\ngiven"}
    axis.set_xticks(range(len(groups)), [f"{detector},\n{names[number]}" for detector, number in groups])
    axis.set_ylim(0, 1)
    axis.set_ylabel("F1 of boundaries")
    first = results[0]
    axis.set_title(
        f"{n_of(first['n_texts'], 'joined text')}, boundaries within {n_of(options.tolerance, 'token')}",
        fontsize=10,
    )
