"""Wikitext to plain paragraphs: the running prose of an article and nothing else.

Tables, captions, formulas, references, short list items and the sections after the text go; what is left are
whole paragraphs that end in a sentence, in the order of the article.
"""

import bz2
import contextlib
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

MIN_CHARACTERS = 120
MIN_WORDS = 20
MIN_PROSE_SHARE = 0.85  # letters and spaces among the characters of a paragraph

# sections that hold lists of sources and links, with everything below them
_BACK_MATTER = frozenset(
    (
        "bibliography",
        "citations",
        "discography",
        "external links",
        "filmography",
        "footnotes",
        "further reading",
        "gallery",
        "notes",
        "notes and references",
        "publications",
        "references",
        "references and notes",
        "see also",
        "selected works",
        "sources",
        "works",
        "works cited",
    )
)
# tags whose content is not prose
_DROPPED_TAGS = frozenset(
    (
        "chem",
        "code",
        "gallery",
        "hiero",
        "imagemap",
        "math",
        "ref",
        "references",
        "score",
        "source",
        "syntaxhighlight",
        "table",
        "timeline",
    )
)
# [[File:...]], [[Category:...]], [[fr:...]]: a link with a prefix is not part of a sentence
_PREFIXED_LINK = re.compile(r"\s*:?[a-z][a-z-]{1,11}:\S", re.IGNORECASE)
_HEADING = re.compile(r"^(={2,6})\s*(.+?)\s*\1\s*$", re.MULTILINE)
_TABLE_EDGE = re.compile(r"^[ \t:*]*(\{\||\|\}(?!\}))", re.MULTILINE)
_SENTENCE_END = re.compile(r"[.!?][\"')\]”’]*$")


class Page(NamedTuple):
    """One article of a MediaWiki dump."""

    title: str
    wikitext: str


def read_pages(path: Path) -> Iterator[Page]:
    """The articles of a bzip2-compressed MediaWiki XML dump: no redirects, no talk or help pages."""
    with bz2.open(path) as file:
        for _, element in ElementTree.iterparse(file):
            if _local_name(element) != "page":
                continue
            parts = {_local_name(child): child for child in element.iter()}
            text = parts["text"].text or ""
            is_redirect = "redirect" in parts or text.lstrip().lower().startswith("#redirect")
            if parts["ns"].text == "0" and not is_redirect:
                yield Page(parts["title"].text or "", text)
            element.clear()


def _local_name(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


def paragraphs(wikitext: str) -> list[str]:
    """The prose paragraphs of an article, in order, as plain text."""
    return [
        paragraph
        for section in _sections(_without_tables(_without_comments(wikitext)))
        for line in _plain_text(section).split("\n")
        if _is_prose(paragraph := _tidy(line))
    ]


def _without_comments(wikitext: str) -> str:
    return re.sub(r"<!--.*?-->", "", wikitext, flags=re.DOTALL)


def _without_tables(wikitext: str) -> str:
    """Cut `{| ... |}`, nested ones too; an unclosed table ends with the text."""
    kept = []
    depth = 0
    start = 0
    for edge in _TABLE_EDGE.finditer(wikitext):
        if edge[1] == "{|":
            if depth == 0:
                kept.append(wikitext[start : edge.start()])
            depth += 1
        elif depth:
            depth -= 1
            if depth == 0:
                start = edge.end()
    if depth == 0:
        kept.append(wikitext[start:])
    return "".join(kept)


def _sections(wikitext: str) -> Iterator[str]:
    """Bodies of the sections without their headings; back matter and its subsections are left out."""
    skipped_level = 0  # of the back-matter heading we are under; 0 is none
    start = 0
    for heading in _HEADING.finditer(wikitext):
        if not skipped_level:
            yield wikitext[start : heading.start()]
        start = heading.end()
        level = len(heading[1])
        if not skipped_level or level <= skipped_level:
            skipped_level = level if heading[2].strip("' ").lower() in _BACK_MATTER else 0
    if not skipped_level:
        yield wikitext[start:]


def _plain_text(wikitext: str) -> str:
    import mwparserfromhell

    code = mwparserfromhell.parse(wikitext, skip_style_tags=True)
    for tag in code.filter_tags():
        if str(tag.tag).strip().lower() in _DROPPED_TAGS:
            _replace(code, tag, "")
    for link in code.filter_wikilinks():
        if _PREFIXED_LINK.match(str(link.title)):
            _replace(code, link, "")
    # inside out, so that a template within a template is already text
    for template in reversed(code.filter_templates()):
        _replace(code, template, _template_text(template))
    return code.strip_code(normalize=True, collapse=True)


def _replace(code: Any, node: Any, text: str) -> None:
    """Put `text` where `node` stands, unless it went away together with something around it."""
    with contextlib.suppress(ValueError):
        code.replace(node, text)


def _template_text(template: Any) -> str:
    """What a template shows within a sentence; most show nothing there."""
    name = str(template.name).strip().lower().replace("_", " ")
    values = [str(p.value).strip() for p in template.params if not p.showkey]
    show = _TEMPLATES.get(name)
    return show(values) if show and values else ""


def _convert(values: list[str]) -> str:
    """{{convert|10|km|mi}} is "10 km"; {{convert|10|to|12|km}} is "10 to 12 km"."""
    words = {"-": "–", "–": "–", "to": " to ", "and": " and ", "or": " or ", "by": " by ", "x": " by "}
    if len(values) >= 4 and values[1] in words:
        return f"{values[0]}{words[values[1]]}{values[2]} {values[3]}"
    return " ".join(values[:2])


def _first(values: list[str]) -> str:
    return values[0]


def _last(values: list[str]) -> str:
    return values[-1]


_TEMPLATES: dict[str, Callable[[list[str]], str]] = {
    "convert": _convert,
    "cvt": _convert,
    "lang": _last,
    "transl": _last,
    "transliteration": _last,
    "as of": lambda values: f"As of {values[0]}",
    "abbr": _first,
    "angbr": lambda values: f"⟨{values[0]}⟩",
    "nihongo": _first,
    "nobold": _first,
    "nowrap": _first,
    "small": _first,
    "smaller": _first,
    "vanchor": _first,
}


def _tidy(line: str) -> str:
    """One line without quote marks of wikitext, doubled spaces, or the holes that templates leave."""
    line = re.sub(r"'{2,}", "", line)
    line = re.sub(r"\s+", " ", line)
    line = re.sub(r"([(\[])[\s,;:/]+", r"\1", line)
    line = re.sub(r"[\s,;:/]+([)\]])", r"\1", line)
    line = re.sub(r" ?(\(\)|\[\])", "", line)
    line = re.sub(r" +([,.;:!?])(?=\s|$)", r"\1", line)
    return line.strip()


def _is_prose(line: str) -> bool:
    if len(line) < MIN_CHARACTERS or len(line.split()) < MIN_WORDS:
        return False
    if line[0] in "|!{}=" or ",," in line or not _SENTENCE_END.search(line):
        return False  # two commas in a row: a list of formulas stood there
    return sum(c.isalpha() or c.isspace() for c in line) / len(line) >= MIN_PROSE_SHARE
