"""A figure is laid out once, and looks as matplotlib saves it by itself."""

import io
import re
import warnings
from pathlib import Path

import pytest

from dictionary_learning.command import figures

pytestmark = pytest.mark.usefixtures("drawn")

WRITTEN = figures._STYLE["pdf.fonttype"]  # of users; conftest.py has another one for the tests


def a_figure():
    fig, axes = figures.subplots(1, 2, figsize=(5, 3))
    for ax, values in zip(axes, ([1, 20, 3], [0.1, 1e5, 0.3]), strict=True):
        ax.bar(["all", "high", "low"], values)
        ax.set_title("a title that is too long for its panel")
        ax.set_ylabel("a unit")
    fig.legend(handles=axes[0].containers, labels=["values"], loc="outside upper center")
    return fig


@pytest.fixture(autouse=True)
def fonts_of_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(figures._STYLE, "pdf.fonttype", WRITTEN)


def test_the_text_of_a_pdf_stays_text_in_a_font_that_can_be_edited(tmp_path: Path):
    with figures.style():
        figures.save(a_figure(), tmp_path / "figure", pdf=True)
    written = (tmp_path / "figure.pdf").read_bytes()
    assert b"/CIDFontType2" in written
    assert b"/Type3" not in written


@pytest.mark.parametrize("suffix", ["png", "pdf"])
def test_a_saved_figure_is_the_one_that_matplotlib_lays_out_while_it_draws(tmp_path: Path, suffix: str):
    with figures.style():
        figures.save(a_figure(), tmp_path / "figure", pdf=True)
        expected = io.BytesIO()
        metadata = {"CreationDate": None} if suffix == "pdf" else None
        a_figure().savefig(expected, format=suffix, metadata=metadata)
    assert (tmp_path / f"figure.{suffix}").read_bytes() == expected.getvalue()


def test_a_figure_can_be_changed_and_saved_again(tmp_path: Path):
    with figures.style():
        fig = a_figure()
        engine, dpi = fig.get_layout_engine(), fig.dpi
        figures.save(fig, tmp_path / "first")
        assert (fig.get_layout_engine(), fig.dpi) == (engine, dpi)
        fig.axes[0].set_ylabel("two\nlines")
        figures.save(fig, tmp_path / "second")
        expected = a_figure()
        expected.axes[0].set_ylabel("two\nlines")
        figures.save(expected, tmp_path / "expected")
    assert (tmp_path / "second.png").read_bytes() == (tmp_path / "expected.png").read_bytes()


# --- names that somebody gave ---


def pixels(name: str, **look) -> bytes:
    with figures.style():
        fig, axis = figures.subplots(figsize=(3, 1))
        axis.set_axis_off()
        fig.text(0.1, 0.4, name, **look)
        drawn = io.BytesIO()
        fig.savefig(drawn, format="png")
    return drawn.getvalue()


@pytest.mark.parametrize("name", ["a$b$c", "$5", r"from \$5 to $6", "plain"])
def test_dollar_signs_of_a_name_are_no_formula(name: str):
    assert pixels(figures.as_written(name)) == pixels(name, parse_math=False)


def legend_of(names: list[str], width: float = 4.0):
    with figures.style():
        fig, axis = figures.subplots(figsize=(width, 3))
        for name in names:
            axis.plot([0, 1], [0, 1], label=figures.as_written(name))
        figures.legend_below(fig)
        (legend,) = fig.legends
        size = legend.get_window_extent(fig.canvas.get_renderer())
        return fig, size, [text.get_text() for text in legend.get_texts()]


def test_a_name_that_begins_with_an_underscore_is_in_the_legend():
    _, _, names = legend_of(["one", "_two", "three"])
    assert [name.lstrip("\N{ZERO WIDTH SPACE}") for name in names] == ["one", "_two", "three"]


def test_a_legend_of_a_dozen_names_is_no_wider_than_its_figure_which_has_room_for_it():
    names = [f"a_run_of_some_length_{i}:0 (Matryoshka)" for i in range(12)]
    fig, size, shown = legend_of(names)
    assert shown == names
    assert size.width <= fig.bbox.width
    assert fig.get_figheight() > 3 + size.height / fig.dpi - 1  # two rows were there before


def test_few_short_names_stand_side_by_side_in_a_figure_of_the_size_that_was_asked_for():
    fig, size, _ = legend_of(["one", "two", "three", "four"], width=6)
    assert fig.get_figheight() == 3
    assert size.height < 0.4 * fig.dpi


def test_a_name_that_is_wider_than_the_figure_loses_its_middle():
    name = "a_run_" + "of_much_to_say_" * 10 + "seed_7"
    fig, size, (shown,) = legend_of([name], width=3)
    front, back = shown.split("…")
    assert name.startswith(front)
    assert name.endswith(back)
    assert min(len(front), len(back)) > 5
    assert size.width <= fig.bbox.width


def test_legends_of_whole_figures_are_made_in_one_way():
    root = Path(figures.__file__).parents[3]
    modules = [path for folder in ("dictionary_learning", "src") for path in (root / folder).rglob("*.py")]
    assert len(modules) > 300
    for path in modules:
        written = path.read_text("utf-8")
        if path != Path(figures.__file__):
            assert "fig.legend(" not in written, f"{path}: figures.legend_below keeps it in the figure"
        if path.name == "figure.py":
            assert not re.search(r"\blabel\(result\)", written), f"{path}: a figure takes figure_label"


def test_letters_that_no_font_has_are_told_in_one_sentence(capsys):
    letters = "\U0010fff0\U0010fff1"  # of nobody's alphabet
    with figures.style():
        fig, axis = figures.subplots()
        axis.set_title(letters + letters)
        axis.set_xlabel(letters)
        fig.savefig(io.BytesIO(), format="png")
    said = capsys.readouterr()
    lines = [line for line in (said.out + said.err).splitlines() if line]
    assert lines == [
        f"no font of this machine has {letters}, so the figure shows boxes there: install one that has, such "
        "as Noto Sans CJK, and draw it again."
    ]


def test_letters_of_another_script_are_taken_from_another_font(monkeypatch, capsys):
    letter = "\u2312"  # in this font of matplotlib's, and not in the one it draws with
    monkeypatch.setattr(figures, "_OTHER_FONTS", ("No Such Font", "STIXGeneral"))
    drawn = pixels(letter)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(figures, "_OTHER_FONTS", ())
    assert pixels(letter) != drawn
    assert f"no font of this machine has {letter}, so the figure shows a box" in "".join(capsys.readouterr())


def test_other_warnings_are_heard():
    with pytest.warns(UserWarning, match="something else"), figures.style():
        warnings.warn("something else", UserWarning, stacklevel=1)


def test_numbers_of_many_bars_stand_upright():
    with figures.style():
        _, axis = figures.subplots()
        for n, rotation in ((6, 0), (7, 90)):
            figures.bar_numbers(axis, axis.bar(range(n), range(n)), n)
            assert {text.get_rotation() for text in axis.texts[-n:]} == {rotation}


def test_the_second_run_of_a_method_is_lighter_and_can_still_be_seen_on_white():
    def luminance(colour: str) -> float:  # of WCAG
        parts = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return sum(w * part for w, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    for method in ("T-SAE", "Matryoshka", "TFA"):
        first, second = map(luminance, figures.run_colours([method, method]))
        assert first < second
        assert 1.05 / (second + 0.05) > 2, method
    assert figures.run_colours(["T-SAE"]) == ["#d55e00"]
