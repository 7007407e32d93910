"""What mkdocs does beside its own: pages of the code, pages of linked files, and text that stays text."""

import logging
import re
from typing import Any

from links import Places, linked_files, shown_page, with_links
from markdown import Markdown
from markdown.extensions import Extension
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page
from rooms import ROOT, find_rooms, navigation, overview, page_of, places

log = logging.getLogger("mkdocs.docs_site")
ROOMS = find_rooms()
PLACES = Places(ROOT, places(ROOMS))
# rel="canonical" says where a page is, and loads nothing
FOREIGN = re.compile(
    r"<(?:script|link(?! rel=.canonical)|img|iframe)\b[^>]*\b(?:src|href)=[\"']?(?:https?:)?//[^>]*>"
)
OVERVIEW = "api/index.md"
FOUND_LATER = "---\nsearch:\n  boost: 0.3\n---\n\n"  # than the pages that a person wrote
NOT_FOUND = "---\nsearch:\n  exclude: true\n---\n\n"


class NoRawHtml(Extension):
    """`<run>` in a text is shown, and is no element."""

    def extendMarkdown(self, md: Markdown) -> None:
        md.preprocessors.deregister("html_block")
        md.inlinePatterns.deregister("html")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the rooms into the menu."""
    assert config.nav is not None
    for entry in config.nav:
        if "API" in entry:
            entry["API"] = [OVERVIEW, *navigation(ROOMS)]
    config.markdown_extensions.append(NoRawHtml())
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made."""
    files.append(File.generated(config, OVERVIEW, content=overview(ROOMS)))
    for room in ROOMS:
        files.append(File.generated(config, room.page, content=FOUND_LATER + page_of(room, ROOMS)))
    texts = {file.src_uri: file.content_string for file in files.documentation_pages()}
    for path, text in linked_files(texts, PLACES).items():
        page = shown_page(path)
        excluded = InclusionLevel.NOT_IN_NAV
        files.append(File.generated(config, page, content=NOT_FOUND + text, inclusion=excluded))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Lead links out of docs/ to pages of the site."""
    return with_links(markdown, page.file.src_uri, PLACES)


def on_post_page(output: str, page: Page, **_: Any) -> None:
    """Refuse a page that would fetch something from elsewhere (a warning ends a strict build)."""
    for element in FOREIGN.findall(output):
        log.warning("%s loads from another server: %s", page.file.src_uri, element)


def on_page_context(context: dict[str, Any], page: Page, **_: Any) -> dict[str, Any]:
    """A page that stands alone in its part of the menu needs none at its side."""
    if page.parent is None:
        page.meta["hide"] = ["navigation"]
    return context
