"""How every figure of the project looks: one colour a method, one style, one way to save.

    with figures.style():
        fig, axes = figures.subplots(1, 2, figsize=(8, 3))
        axes[0].bar(names, values, color=figures.run_colours(methods))
        figures.save(fig, folder / "eval")

Figures are drawn by matplotlib's Agg canvas without pyplot, so that they need no display, leave no
open figure behind, and change no setting of the caller.
"""

import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dictionary_learning.command.files import offer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's palette, with wine, indigo and olive of Paul Tol's "muted" for those that it has none for:
# told apart by readers with any of the common colour-vision deficiencies.
METHOD_COLOURS = {
    "T-SAE": "#D55E00",
    "Matryoshka": "#0072B2",
    "BatchTopK": "#009E73",
    "TopK": "#E69F00",
    "Standard": "#56B4E9",
    "Gated": "#CC79A7",
    "JumpReLU": "#882255",
    "TFA": "#332288",
    "no learning": "#999933",
    "dense activations": "#7F7F7F",
}
OTHER_COLOUR = "#444444"
SPLIT_COLOURS = {
    "all": "#555555",
    "high": "#D55E00",
    "low": "#56B4E9",
    "predicted": "#332288",
    "novel": "#88CCEE",
}

_METHOD_OF_CLASS = {
    "TemporalMatryoshkaBatchTopKSAE": "T-SAE",
    "MatryoshkaBatchTopKSAE": "Matryoshka",
    "BatchTopKSAE": "BatchTopK",
    "TemporalBatchTopKSAE": "BatchTopK",
    "AutoEncoderTopK": "TopK",
    "AutoEncoder": "Standard",
    "AutoEncoderNew": "Standard",
    "GatedAutoEncoder": "Gated",
    "JumpReluAutoEncoder": "JumpReLU",
    "TemporalSAE": "TFA",
    "ContextMean": "no learning",
    "baseline_model": "dense activations",
}

_STYLE: Any = {
    "figure.dpi": 100,
    "savefig.dpi": 160,
    "savefig.facecolor": "white",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#444444",
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "xtick.color": "#333333",
    "ytick.color": "#333333",
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.8,
    "errorbar.capsize": 3,
    "pdf.fonttype": 42,  # text stays text in a PDF
}


def method_of(dict_class: str | None) -> str:
    """The method's short name for the `dict_class` of a run's config ("baseline_model" too)."""
    return _METHOD_OF_CLASS.get(dict_class or "", dict_class or "unknown")


def colour(method: str) -> str:
    """The colour of a method; a dark grey for one that has none of its own."""
    return METHOD_COLOURS.get(method, OTHER_COLOUR)


def run_colours(methods: Sequence[str]) -> list[str]:
    """One colour a run, given each run's method: its second, third, ... run is lighter."""
    from matplotlib.colors import to_hex, to_rgb

    shades = []
    for i, method in enumerate(methods):
        total = methods.count(method)
        earlier = list(methods[:i]).count(method)
        lightness = 0.65 * earlier / max(1, total - 1)
        red, green, blue = (c + (1 - c) * lightness for c in to_rgb(colour(method)))
        shades.append(to_hex((red, green, blue)))
    return shades


@contextmanager
def style() -> Iterator[None]:
    """The project's look inside the `with`; the caller's settings are back after it."""
    import matplotlib

    with matplotlib.rc_context(_STYLE):
        yield


def subplots(
    rows: int = 1, columns: int = 1, *, figsize: tuple[float, float] = (6.4, 4.0), **keywords: Any
) -> tuple["Figure", Any]:
    """A figure (inches) and its axes, as `pyplot.subplots` gives them; the layout is constrained."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    fig = Figure(figsize=figsize, layout="constrained")
    FigureCanvasAgg(fig)
    return fig, fig.subplots(rows, columns, **keywords)


def save(fig: "Figure", path: str | Path, *, pdf: bool = False) -> list[Path]:
    """Write `<path>.png`, and `<path>.pdf` when asked; a file is whole or is not there.

    Args:
        path: without a suffix; its folder is made. A dot in the name is kept.

    Returns:
        the files written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    written = []
    for suffix in ("png", "pdf") if pdf else ("png",):
        drawn = io.BytesIO()
        with _laid_out(fig) if suffix == "png" else nullcontext():
            # without the date, the same figure is the same file
            fig.savefig(drawn, format=suffix, metadata={"CreationDate": None} if suffix == "pdf" else None)
        target = path.with_name(f"{path.name}.{suffix}")
        temporary = path.with_name(f".{path.name}.{suffix}.{os.getpid()}")
        try:
            temporary.write_bytes(drawn.getvalue())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
        offer(target)
        written.append(target)
    return written


@contextmanager
def _laid_out(fig: "Figure") -> Iterator[None]:
    """Inside the `with` everything has its place for an image of pixels.

    Left to itself matplotlib draws a figure that has a layout twice, first without ink, to lay it out.
    """
    import matplotlib

    engine, dpi = fig.get_layout_engine(), fig.dpi
    if engine is None:
        yield
        return
    fig.dpi = matplotlib.rcParams["savefig.dpi"]
    engine.execute(fig)
    fig.set_layout_engine("none")
    try:
        yield
    finally:
        fig.set_layout_engine(engine)
        fig.dpi = dpi
