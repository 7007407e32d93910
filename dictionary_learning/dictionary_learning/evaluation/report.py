"""Evaluations of one or several runs as a table for the terminal and as a figure.

A run's results are what `evaluation.evaluate` returns; runs are told apart by a name.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dictionary_learning.command import figures
from dictionary_learning.command.progress import n_of

Results = Mapping[str, Mapping[str, Any]]  # name of a run: its results

_ROWS = (
    (
        "reconstruction",
        ("nmse", "fve_global", "fve_context_mean", "cosine", "cosine_centred", "l2_ratio", "relative_bias"),
    ),
    ("parts of the reconstruction", ("norm_share", "energy_share", "cosine_of_parts")),
    ("sparsity", ("l0", "l0_context", "alive")),
    (
        "smoothness",
        (
            "smoothness_lipschitz",
            "smoothness_total_variation",
            "smoothness_fourier",
            "smoothness_wavelet",
            "smoothness_multiscale",
        ),
    ),
    ("language model", ("loss_clean", "loss_reconstructed", "loss_ablated", "loss_recovered")),
)
_LABELS = {
    "nmse": "NMSE",
    "fve_global": "FVE, global",
    "fve_context_mean": "FVE, mean over contexts",
    "norm_share": "share of the norm",
    "energy_share": "share of the energy",
    "cosine_of_parts": "cosine of the parts",
    "cosine": "cosine",
    "cosine_centred": "cosine, less the mean",
    "l2_ratio": "length of x̂ / x",
    "relative_bias": "relative bias",
    "l0": "L0",
    "l0_context": "L0 of a context",
    "alive": "alive",
    "smoothness_lipschitz": "Lipschitz",
    "smoothness_total_variation": "total variation",
    "smoothness_fourier": "Fourier high / low",
    "smoothness_wavelet": "wavelet detail / coarse",
    "smoothness_multiscale": "multiscale",
    "loss_clean": "loss, clean",
    "loss_reconstructed": "loss, reconstructed",
    "loss_ablated": "loss, ablated",
    "loss_recovered": "loss recovered",
}


def table(results: Results) -> str:
    """Rows of measures and splits, a column a run; what a run has no value for is a dash."""
    names = list(results)
    width = max(12, *(len(name) for name in names))
    lines = [" " * 32 + "".join(f"  {name:>{width}}" for name in names)]
    for title, measures in _ROWS:
        rows = [_row(label, cells, width) for label, cells in _cells(results, measures)]
        if rows:
            lines += [title, *rows]
    lines.append("counted")
    for label, key in (("text tokens", "tokens"), ("contexts", "contexts")):
        lines.append(_row(label, [f"{results[name][key]:,}" for name in names], width))
    predictions = [_measure(results[name], "all", "loss_clean").get("predictions") for name in names]
    if any(predictions):
        lines.append(_row("predictions", [f"{n:,}" if n else "-" for n in predictions], width))
    return "\n".join(lines)


def _cells(results: Results, measures: Sequence[str]) -> list[tuple[str, list[str]]]:
    rows = []
    for measure in measures:
        for split in splits(results):
            found = [_measure(result, split, measure) for result in results.values()]
            if any(found):
                label = _LABELS[measure]
                if split != "all":
                    has_all = any(_measure(result, "all", measure) for result in results.values())
                    label = f"  {split}" if has_all else f"{label}, {split}"
                rows.append((label, [_number(cell.get("value")) for cell in found]))
    return rows


def _row(label: str, cells: Sequence[str], width: int) -> str:
    return f"  {label:<30}" + "".join(f"  {cell:>{width}}" for cell in cells)


def _measure(result: Mapping[str, Any], split: str, name: str) -> Mapping[str, Any]:
    return result["measures"].get(split, {}).get(name, {})


def splits(results: Results) -> list[str]:
    """ "all" and every split that any run has, in order."""
    return list(dict.fromkeys(split for result in results.values() for split in result["measures"]))


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


_PANELS = (
    ("fve_global", "FVE, global", "share of variance"),
    ("fve_context_mean", "FVE, mean over contexts", "share of variance"),
    ("l0", "L0", "latents a token"),
    ("alive", "Alive latents", "share"),
    ("smoothness_lipschitz", "Lipschitz", "lower is smoother"),
    ("smoothness_total_variation", "Total variation", "lower is smoother"),
    ("smoothness_fourier", "Fourier, high / low", "lower is smoother"),
    ("smoothness_wavelet", "Wavelet, detail / coarse", "lower is smoother"),
    ("smoothness_multiscale", "Multiscale, fine / coarse", "lower is smoother"),
)


def draw(results: Results, methods: Sequence[str], path: Path) -> list[Path]:
    """Draw a panel a measure, with a group of bars a split and a bar a run, to `<path>.png`.

    Args:
        methods: each run's method (`figures.method_of`), for its colour.

    Returns:
        the files written.
    """
    has_loss = any(_measure(result, "all", "loss_clean") for result in results.values())
    with figures.style():
        fig, axes = figures.subplots(2, 5, figsize=(17, 7))
        colours = dict(zip(results, figures.run_colours(methods), strict=True))
        panels = list(axes.flat)
        loss_panel = panels.pop(4)
        for ax, (measure, title, unit) in zip(panels, _PANELS, strict=True):
            groups = [s for s in splits(results) if any(_measure(r, s, measure) for r in results.values())]
            values = {
                name: [_measure(result, split, measure).get("value") for split in groups]
                for name, result in results.items()
            }
            _bars(ax, groups, values, colours, title, unit)
        if has_loss:
            losses = ("clean", "reconstructed", "ablated")
            values = {
                name: [_measure(result, "all", f"loss_{loss}").get("value") for loss in losses]
                for name, result in results.items()
            }
            _bars(loss_panel, losses, values, colours, "Cross-entropy", "nats a token")
            recovered = [
                _number(_measure(result, "all", "loss_recovered").get("value")) for result in results.values()
            ]
            loss_panel.set_xlabel("recovered " + ", ".join(recovered))
        else:
            loss_panel.axis("off")
        swatches = [
            _swatch(colours[name], figures.as_written(f"{name} ({method})"))
            for name, method in zip(results, methods, strict=True)
        ]
        figures.legend_below(fig, swatches, above=True)
        fig.supxlabel(_counted(results), fontsize=9, color="#555555")
        return figures.save(fig, path)


def _bars(
    ax: Any,
    groups: Sequence[str],
    values: Mapping[str, Sequence[float | None]],
    colours: Mapping[str, str],
    title: str,
    unit: str,
) -> None:
    width = 0.8 / len(values)
    for at in range(len(groups)):
        known = [(name, row[at]) for name, row in values.items() if row[at] is not None]
        bars = ax.bar(
            [at + (i - (len(known) - 1) / 2) * width for i in range(len(known))],
            [value for _, value in known],
            width=0.92 * width,
            color=[colours[name] for name, _ in known],
        )
        if len(values) <= 4:
            labels = [_short(value) for _, value in known if value is not None]
            ax.bar_label(bars, labels, fontsize=8 if len(values) < 3 else 7, padding=2)
    ax.set_title(title)
    ax.set_ylabel(unit)
    ax.set_xticks(range(len(groups)), groups)
    ax.margins(y=0.12)


def _short(value: float) -> str:
    """As short as can be: 4.1k 405 16.8 1.04 .123"""
    if abs(value) >= 1000:
        return f"{value / 1000:.1f}k"
    if abs(value) >= 100:
        return f"{value:.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if abs(value) >= 1 else f"{value:.3f}".replace("0.", ".", 1)


def _swatch(colour: str, label: str) -> Any:
    from matplotlib.patches import Patch

    return Patch(color=colour, label=label)


def _counted(results: Results) -> str:
    counts = {(result["tokens"], result["contexts"]) for result in results.values()}
    return "; ".join(
        f"{n_of(tokens, 'text token')} in {n_of(contexts, 'context')}" for tokens, contexts in sorted(counts)
    )
