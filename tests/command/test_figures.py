"""A figure is laid out once, and looks as matplotlib saves it by itself."""

import io
from pathlib import Path

import pytest

from dictionary_learning.command import figures

WRITTEN = figures._STYLE["pdf.fonttype"]  # of users; conftest.py has another one for the tests


def drawn():
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
        figures.save(drawn(), tmp_path / "figure", pdf=True)
    written = (tmp_path / "figure.pdf").read_bytes()
    assert b"/CIDFontType2" in written
    assert b"/Type3" not in written


@pytest.mark.parametrize("suffix", ["png", "pdf"])
def test_a_saved_figure_is_the_one_that_matplotlib_lays_out_while_it_draws(tmp_path: Path, suffix: str):
    with figures.style():
        figures.save(drawn(), tmp_path / "figure", pdf=True)
        expected = io.BytesIO()
        metadata = {"CreationDate": None} if suffix == "pdf" else None
        drawn().savefig(expected, format=suffix, metadata=metadata)
    assert (tmp_path / f"figure.{suffix}").read_bytes() == expected.getvalue()


def test_a_figure_can_be_changed_and_saved_again(tmp_path: Path):
    with figures.style():
        fig = drawn()
        engine, dpi = fig.get_layout_engine(), fig.dpi
        figures.save(fig, tmp_path / "first")
        assert (fig.get_layout_engine(), fig.dpi) == (engine, dpi)
        fig.axes[0].set_ylabel("two\nlines")
        figures.save(fig, tmp_path / "second")
        expected = drawn()
        expected.axes[0].set_ylabel("two\nlines")
        figures.save(expected, tmp_path / "expected")
    assert (tmp_path / "second.png").read_bytes() == (tmp_path / "expected.png").read_bytes()
