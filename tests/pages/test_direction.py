"""Texts and words that are written from right to left, in a real browser."""

from pathlib import Path

import pytest
from chromium import Browser

from temporal_saes.pages.page import COMPONENTS, Html, element, page
from temporal_saes.pages.text_latents import Piece
from temporal_saes.pages.token_colours import in_row, token

WORDS = ("قريب", "المدار", "في")


def from_the_left(window: Browser, selector: str) -> list[str]:
    """What elements say, the leftmost first."""
    return window.run(
        f"[...document.querySelectorAll('{selector}')].map((one) => [one.getBoundingClientRect().left, "
        "one.textContent.trim()]).sort((a, b) => a[0] - b[0]).map(([, text]) => text)"
    )


def show(window: Browser, folder: Path, *body: object, **asked: str) -> None:
    (folder / "page.html").write_text(page("a page", body, **asked), encoding="utf-8")
    window.size(1280)
    window.open(folder / "page.html", "document.readyState === 'complete'")


def coloured(text: str) -> Html:
    pieces = [Piece(0, word + " ", [1.0]) for word in text.split()]
    return element("p", *(token(piece, 1.0) for piece in pieces), class_="tokens")


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        (" ".join(WORDS), list(WORDS[::-1])),
        ("The moon here", ["The", "moon", "here"]),
        ("The قريب المدار here", ["The", "المدار", "قريب", "here"]),
    ],
)
def test_a_coloured_text_is_read_in_its_own_direction(window, tmp_path, text, seen):
    show(window, tmp_path, coloured(text))
    assert from_the_left(window, ".tokens span") == seen


def test_words_in_a_row_and_their_numbers_keep_their_places(window, tmp_path):
    numbers = [element("b", number) for number in ("13", "7")]
    classes = [in_row([WORDS[0]]), " ", numbers[0], ", ", in_row([WORDS[1]]), " ", numbers[1]]
    show(window, tmp_path, element("p", in_row(WORDS), id="words"), element("p", *classes, id="classes"))
    assert from_the_left(window, "#words bdi") == list(WORDS)
    assert from_the_left(window, "#classes bdi, #classes b") == [WORDS[0], "13", WORDS[1], "7"]
    tokens = [part for word in WORDS for part in (element("code", word), " ")]
    show(window, tmp_path, element("p", *tokens))
    assert from_the_left(window, "code") == list(WORDS)


def test_so_do_those_that_a_script_writes(window, tmp_path):
    own = f'document.querySelector("main").append(inRow({list(WORDS)!r}));'
    show(window, tmp_path, script=COMPONENTS[".js"].read_text(encoding="utf-8") + own)
    assert from_the_left(window, "bdi") == list(WORDS)
