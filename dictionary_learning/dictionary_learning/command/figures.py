"""How every figure of the project looks: one colour a method, one style, one way to save.

    with figures.style():
        fig, axes = figures.subplots(1, 2, figsize=(8, 3))
        axes[0].bar(names, values, color=figures.run_colours(methods))
        figures.save(fig, folder / "eval")

Figures are drawn by matplotlib's Agg canvas without pyplot, so that they need no display, leave no
open figure behind, and change no setting of the caller.
"""

import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dictionary_learning.command.files import save_bytes
from dictionary_learning.command.progress import say

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


# of scripts that matplotlib's own font has no letters for; of these a machine has some, or none
_OTHER_FONTS = (
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans CJK KR", "Noto Sans SC", "Source Han Sans SC"),
    *("WenQuanYi Micro Hei", "WenQuanYi Zen Hei", "PingFang SC", "Hiragino Sans", "Apple SD Gothic Neo"),
    *("Microsoft YaHei", "Yu Gothic", "Malgun Gothic", "Nirmala UI", "Leelawadee UI", "Arial Unicode MS"),
    *("Noto Sans Devanagari", "Noto Sans Bengali", "Noto Sans Tamil", "Noto Sans Thai", "Noto Sans Ethiopic"),
)
SHAPES = "os^Dv<>PXph*"  # of the points of lines side by side, which a print without colours keeps
_SHORTEST = 12  # letters of a name in a legend, however narrow the figure
_TWO_ROWS = 0.5  # inches of a legend for which every figure has room


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
        lightness = earlier * min(0.4, 0.65 / max(1, total - 1))  # two are told apart, and both seen in print
        red, green, blue = (c + (1 - c) * lightness for c in to_rgb(colour(method)))
        shades.append(to_hex((red, green, blue)))
    return shades


@contextmanager
def style() -> Iterator[None]:
    """The project's look inside the `with`; the caller's settings are back after it.

    Letters that no font of this machine has are told of in one sentence at its end.
    """
    import matplotlib
    from matplotlib.font_manager import fontManager

    known = {font.name for font in fontManager.ttflist}
    fonts = ["sans-serif", *(name for name in _OTHER_FONTS if name in known)]
    with (
        matplotlib.rc_context({**_STYLE, "font.family": fonts}),
        warnings.catch_warnings(record=True) as told,
    ):
        warnings.simplefilter("always")
        yield
    lacking: dict[str, None] = {}
    for one in {(str(one.message), one.category): one for one in told}.values():
        if found := re.match(r"Glyph (\d+) .*missing from", str(one.message)):
            lacking[chr(int(found[1]))] = None
        else:
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
    if lacking:
        letters = "".join(lacking)
        named = letters if len(letters) <= 20 else f"{letters[:20]}…"
        boxes = "a box" if len(letters) == 1 else "boxes"
        say(
            f"no font of this machine has {named}, so the figure shows {boxes} there: install one that has, "
            "such as Noto Sans CJK, and draw it again."
        )


def subplots(
    rows: int = 1, columns: int = 1, *, figsize: tuple[float, float] = (6.4, 4.0), **keywords: Any
) -> tuple["Figure", Any]:
    """A figure (inches) and its axes, as `pyplot.subplots` gives them; the layout is constrained."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    fig = Figure(figsize=figsize, layout="constrained")
    FigureCanvasAgg(fig)
    return fig, fig.subplots(rows, columns, **keywords)


def as_written(name: str) -> str:
    """A name that somebody gave, for a figure: with its dollar signs, and in legends whatever it begins with.

    Matplotlib reads what stands between dollar signs as a formula, and leaves labels that begin with an
    underscore out of legends.
    """
    shielded = name.replace("$", r"\$")
    return f"\N{ZERO WIDTH SPACE}{shielded}" if shielded.startswith("_") else shielded


def legend_below(
    fig: "Figure",
    handles: Sequence[Any] | None = None,
    labels: Sequence[str] | None = None,
    *,
    most: int = 4,
    above: bool = False,
) -> None:
    """A legend of the whole figure, in as many columns as fit; the figure grows by what is beyond two rows.

    Args:
        handles, labels: as `Figure.legend` takes them; all of the figure if not given.
        most: columns at most.
        above: above the panels instead of below them.
    """
    if handles is None:
        found = [axis.get_legend_handles_labels() for axis in fig.axes]
        handles = [handle for some, _ in found for handle in some]
        labels = [text for _, some in found for text in some]
    names = [str(handle.get_label()) for handle in handles] if labels is None else list(labels)
    if not names:
        return
    place = "outside upper center" if above else "outside lower center"
    renderer = fig.canvas.get_renderer()  # type: ignore[attr-defined]
    columns = min(most, len(names))
    while True:
        made = fig.legend(handles, names, loc=place, ncols=columns)
        box = made.get_window_extent(renderer)
        longest = max(names, key=len)
        if box.width <= fig.bbox.width or (columns == 1 and len(longest) <= _SHORTEST):
            break
        made.remove()
        if columns > 1:
            columns -= 1
        else:
            length = max(_SHORTEST, int(0.95 * len(longest) * fig.bbox.width / box.width))
            names = [without_middle(name, min(length, len(longest) - 1)) for name in names]
    fig.set_figheight(fig.get_figheight() + max(0.0, box.height / fig.dpi - _TWO_ROWS))


def without_middle(name: str, length: int) -> str:
    """The name without its middle, where the least is that tells names apart."""
    if len(name) <= length:
        return name
    front = length // 2
    return f"{name[:front]}…{name[len(name) - (length - front - 1) :]}"


def name_bars(axis: Any, names: Sequence[str], **style: Any) -> None:
    """Names below what stands at 0, 1, 2 and so on, and room for each, also where there is nothing."""
    axis.set_xticks(range(len(names)), names, **style)
    axis.set_xlim(-0.5, len(names) - 0.5)


def bar_numbers(axis: Any, bars: Any, n: int) -> None:
    """The value above each bar; upright where there are more than six of them side by side.

    Args:
        n: bars of the panel.
    """
    many = n > 6
    axis.bar_label(bars, fmt="%.3g", fontsize=7 if many else 8, padding=2, rotation=90 if many else 0)


def save(fig: "Figure", path: str | Path, *, pdf: bool = False) -> list[Path]:
    """Write `<path>.png`, and `<path>.pdf` when asked; a file is whole or is not there.

    Args:
        path: without a suffix; its folder is made. A dot in the name is kept.

    Returns:
        the files written.
    """
    path = Path(path)
    written = []
    for suffix in ("png", "pdf") if pdf else ("png",):
        drawn = io.BytesIO()
        with _laid_out(fig) if suffix == "png" else nullcontext():
            # without the date, the same figure is the same file
            fig.savefig(drawn, format=suffix, metadata={"CreationDate": None} if suffix == "pdf" else None)
        target = path.with_name(f"{path.name}.{suffix}")
        save_bytes(target, drawn.getvalue())
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
