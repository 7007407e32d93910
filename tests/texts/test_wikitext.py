"""Wikitext to prose, on wikitext written by hand."""

from pathlib import Path

import pytest
from wiki_dump import PROSE, write_dump

from dictionary_learning.texts.wikitext import paragraphs, read_pages


def test_markup_goes_and_words_stay() -> None:
    marked = PROSE.replace("aardvark", "'''[[Aardvark|aardvark]]'''").replace("mammal", "[[mammal]]")
    assert paragraphs(marked) == [PROSE]


def test_paragraphs_keep_the_order_of_the_article() -> None:
    second = PROSE.replace("aardvark", "aardwolf")
    assert paragraphs(f"{PROSE}\n\n== Habits ==\n{second}") == [PROSE, second]


def test_comments_references_and_files_leave_no_trace() -> None:
    noise = "<!-- a note\nover two lines --><ref name=a>{{cite book|title=B}}</ref><ref name=a/>"
    link = "[[File:Ant.jpg|thumb|An ant, [[Formica]], at work on a very long caption of many words.]]"
    assert paragraphs(f"{link}\n" + PROSE.replace(" at night", f"{noise} at night")) == [PROSE]


def test_a_nested_table_is_cut_and_the_text_after_it_is_kept() -> None:
    table = f"{{| class=x\n| {PROSE}\n{{|\n| inner\n|}}\n| {PROSE}\n|}}\n"
    assert paragraphs(table + PROSE) == [PROSE]


def test_a_table_that_never_ends_takes_only_what_follows_it() -> None:
    assert paragraphs(f"{PROSE}\n{{|\n| {PROSE}") == [PROSE]


def test_back_matter_goes_with_its_subsections_and_the_next_section_returns() -> None:
    article = f"{PROSE}\n== References ==\n{PROSE}\n=== Books ===\n{PROSE}\n== Habits ==\n{PROSE}"
    assert len(paragraphs(article)) == 2


def test_a_back_matter_subsection_does_not_end_its_section() -> None:
    article = f"== Habits ==\n{PROSE}\n=== Sources ===\n{PROSE}\n=== Food ===\n{PROSE}"
    assert len(paragraphs(article)) == 2


@pytest.mark.parametrize(
    "line",
    [
        pytest.param("* Ants, at night.\n* Termites.", id="short list items"),
        pytest.param("| " + PROSE, id="a row of a table"),
        pytest.param("A short sentence.", id="a short line"),
        pytest.param(PROSE.rstrip("."), id="no end of sentence"),
        pytest.param("1.5 " * 60 + "and so on.", id="numbers"),
        pytest.param(PROSE.replace(" ants", " ants,, and"), id="a hole where formulas stood"),
    ],
)
def test_what_is_not_prose_is_left_out(line: str) -> None:
    assert paragraphs(line) == []


@pytest.mark.parametrize(
    ("template", "shown"),
    [
        ("{{convert|10|km|mi}}", "10 km"),
        ("{{convert|10|to|12|km|mi}}", "10 to 12 km"),
        ("{{convert|10|-|12|km|mi}}", "10–12 km"),
        ("{{lang|la|porcus}}", "porcus"),
        ("{{nowrap|{{lang|la|porcus terrae}}}}", "porcus terrae"),
        ("{{As of|2004}}", "As of 2004"),
    ],
)
def test_a_template_within_a_sentence_shows_its_words(template: str, shown: str) -> None:
    assert paragraphs(PROSE.replace("mammal", template)) == [PROSE.replace("mammal", shown)]


def test_the_brackets_around_a_dropped_template_go_with_it() -> None:
    assert paragraphs(PROSE.replace("aardvark", "aardvark ({{IPA|x}}; {{audio|y}})")) == [PROSE]
    assert paragraphs(PROSE.replace("aardvark", "aardvark ({{IPA|x}}, a pig)")) == [
        PROSE.replace("aardvark", "aardvark (a pig)")
    ]


def test_a_dump_gives_its_articles_without_redirects_and_talk(tmp_path: Path) -> None:
    pages = [
        ("Aardvark", "0", PROSE),
        ("Talk:Aardvark", "1", PROSE),
        ("AardVark", "0", "#REDIRECT [[Aardvark]]"),
    ]
    assert list(read_pages(write_dump(tmp_path / "dump.bz2", pages))) == [("Aardvark", PROSE)]
