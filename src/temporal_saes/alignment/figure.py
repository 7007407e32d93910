"""The figures of the alignment study: one subject, and several side by side."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dictionary_learning.command import figures
from temporal_saes.alignment.differences import VIEWS, Differences
from temporal_saes.alignment.result import VIEW_NAMES
from temporal_saes.experiment.results import colours, figure_label

CHOSEN_COLOUR, REJECTED_COLOUR = "#0072B2", "#D55E00"
LENGTH_COLOUR, PLAIN_COLOUR = "#E69F00", "#888888"
_BARS = 13  # on either side of the middle of the histogram, the middle one included


def draw_study(found: Differences, result: Mapping[str, Any], path: Path) -> list[Path]:
    """Length of the answers; each latent's effect against its tie to length; latents that differ, by view."""
    with figures.style():
        fig, axes = figures.subplots(1, 3, figsize=(11.0, 3.7), gridspec_kw={"width_ratios": [1, 1.5, 1]})
        _draw_lengths(axes[0], found)
        _draw_effects(axes[1], found, result)
        _draw_counts(axes[2], result)
        return figures.save(fig, path, pdf=True)


def _draw_lengths(axis: Any, found: Differences) -> None:
    length_P = found.length_P
    # a few very long answers would squeeze the rest into one bar
    limit = max(1.0, float(np.quantile(np.abs(length_P), 0.98)))
    edges = np.linspace(-limit, limit, 2 * _BARS)  # an odd number of bars: one has 0 in its middle
    counts, _, bars = axis.hist(np.clip(length_P, -limit, limit), bins=edges, edgecolor="white")
    for number, bar in enumerate(bars):
        sides = (REJECTED_COLOUR, PLAIN_COLOUR, CHOSEN_COLOUR)
        bar.set_facecolor(sides[1 + int(np.sign(number - (_BARS - 1)))])
    axis.axvline(0, color="#444444", linewidth=1)
    mean = float(length_P.mean())
    axis.axvline(np.clip(mean, -limit, limit), color="#444444", linewidth=1, linestyle="--")
    axis.set_ylim(0, counts.max() * 1.25)
    told = f"mean {mean:+.1f}".replace("-", "−")
    axis.text(0.03, 0.97, told, transform=axis.transAxes, va="top", fontsize=9)
    axis.set_title("length")
    axis.set_xlabel("tokens, chosen − rejected")
    axis.set_ylabel("pairs")
    axis.yaxis.get_major_locator().set_params(integer=True)


def _draw_effects(axis: Any, found: Differences, result: Mapping[str, Any]) -> None:
    raw = found.views["raw"]
    assert raw is not None
    finite_F = np.isfinite(raw.effect_F)
    significant_F = raw.q_F <= result["options"]["fdr"]
    for name, some_F, colour in (
        ("other latents", ~found.is_length_F, PLAIN_COLOUR),
        ("length latents", found.is_length_F, LENGTH_COLOUR),
    ):
        for is_on, size, alpha in ((False, 7, 0.45), (True, 26, 1.0)):
            drawn_F = some_F & finite_F & (significant_F == is_on)
            axis.scatter(
                found.length.r_F[drawn_F],
                raw.effect_F[drawn_F],
                s=size,
                alpha=alpha,
                color=colour,
                linewidth=0.8 if is_on else 0,
                edgecolor="#222222" if is_on else "none",
                label=None if is_on else name,
                rasterized=True,
            )
    effect = result["effect_of_length"]
    x = np.array(axis.get_xlim())
    if effect is not None:
        axis.plot(x, x * effect, color="#444444", linestyle="--", linewidth=1.2, label="length alone")
        axis.set_xlim(*x)
    axis.axhline(0, color="#444444", linewidth=0.8)
    axis.scatter([], [], s=26, color="white", edgecolor="#222222", label="differs significantly")
    axis.set_title("latents")
    axis.set_xlabel("r, latent's difference with difference in length")
    axis.set_ylabel("effect size $d_z$, chosen − rejected")
    low, high = axis.get_ylim()
    axis.set_ylim(low, high + 0.28 * (high - low))
    axis.legend(loc="upper center", ncols=2, handletextpad=0.3, columnspacing=1.0)


def _draw_counts(axis: Any, result: Mapping[str, Any]) -> None:
    views = [result["views"][view] for view in VIEWS]
    at = np.arange(len(VIEWS))[::-1]
    length = np.array([view.get("length_latents", 0) for view in views])
    total = np.array([view.get("significant", 0) for view in views])
    axis.barh(at, total - length, color=PLAIN_COLOUR, height=0.6)
    axis.barh(at, length, left=total - length, color=LENGTH_COLOUR, height=0.6)
    top = max(1, total.max())
    for y, view, count in zip(at, views, total, strict=True):
        told = "not tested" if "missing" in view else f"{count:,} (n = {view['n_pairs']:,})"
        axis.text(count + 0.03 * top, y, told, va="center", fontsize=9)
    axis.set_xlim(0, top * 1.6)
    axis.set_yticks(at, [VIEW_NAMES[view] for view in VIEWS])
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.grid(visible=False)
    axis.set_title("latents that differ")
    axis.set_xlabel(f"q ≤ {result['options']['fdr']:g}, of {result['n_tested']:,} tested")


def draw_comparison(results: Sequence[Mapping[str, Any]], path: Path) -> list[Path]:
    """For each subject: all effects; the share of tested latents that differ, by view; the part of length."""
    with figures.style():
        shape = {"width_ratios": [1.3, 1.8, 0.8]}
        fig, axes = figures.subplots(1, 3, figsize=(11.0, 4.0), gridspec_kw=shape)
        _compare_effects(axes[0], results)
        _compare_counts(axes[1], results)
        _compare_length(axes[2], results)
        handles, labels = axes[1].get_legend_handles_labels()
        figures.legend_below(fig, handles, labels, most=3)
        return figures.save(fig, path, pdf=True)


def _compare_effects(axis: Any, results: Sequence[Mapping[str, Any]]) -> None:
    generator = np.random.default_rng(0)
    for i, (result, colour) in enumerate(zip(results, colours(results), strict=True)):
        effect_F = np.array(result["latents"]["raw_effect"], dtype=np.float64)  # null is NaN: not drawn
        significant_F = np.array(result["latents"]["raw_q"]) <= result["options"]["fdr"]
        x_F = i + generator.uniform(-0.3, 0.3, len(effect_F))
        axis.scatter(x_F, effect_F, s=4, alpha=0.4, linewidth=0, color=colour, rasterized=True)
        some = {"s": 22, "linewidth": 0.8, "edgecolor": "#222222", "rasterized": True}
        axis.scatter(x_F[significant_F], effect_F[significant_F], color=colour, **some)
        for sign in (-1, 1):
            axis.hlines(sign * result["smallest_effect"], i - 0.4, i + 0.4, color="#222222", linewidth=1)
    axis.axhline(0, color="#444444", linewidth=0.8)
    axis.set_xticks([])
    axis.set_ylabel("effect size $d_z$, chosen − rejected")
    axis.set_title("all tested latents")


def _compare_counts(axis: Any, results: Sequence[Mapping[str, Any]]) -> None:
    at, width = np.arange(len(VIEWS)), 0.8 / len(results)
    highest = 1.0
    for i, (result, colour) in enumerate(zip(results, colours(results), strict=True)):
        counts = np.array([result["views"][view].get("significant", np.nan) for view in VIEWS])
        share = 100 * counts / result["n_tested"]
        highest = max(highest, 1.15 * np.nanmax(share))
        place = at + (i - (len(results) - 1) / 2) * width
        axis.bar(place, share, width=0.9 * width, color=colour, label=figure_label(result))
        for x, y, count in zip(place, share, counts, strict=True):
            if np.isfinite(count):
                told = {"ha": "center", "textcoords": "offset points", "fontsize": 7}
                axis.annotate(f"{int(count):,}", (x, y), (0, 2), **told)
    axis.set_ylim(0, highest)  # one latent of a thousand is not to fill the panel
    for x, view in enumerate(VIEWS):
        if all("significant" not in result["views"][view] for result in results):
            axis.text(x, 0, "not\ntested", ha="center", va="bottom", fontsize=8)
    figures.name_bars(axis, [VIEW_NAMES[view].replace(" ", "\n", 1) for view in VIEWS])
    axis.set_ylabel("% of tested latents")
    axis.set_title(f"latents that differ (q ≤ {results[0]['options']['fdr']:g})")


def _compare_length(axis: Any, results: Sequence[Mapping[str, Any]]) -> None:
    for i, (result, colour) in enumerate(zip(results, colours(results), strict=True)):
        predicted = result["predicted_by_length"]
        axis.bar(i, np.nan if predicted is None else 100 * predicted, width=0.7, color=colour)
    axis.axhline(0, color="#444444", linewidth=0.8)
    axis.set_xticks([])
    axis.set_ylim(min(0, axis.get_ylim()[0]), 100)
    axis.set_ylabel("% of the squared $d_z$")
    axis.set_title("predicted by length")
