"""A small dump of Wikipedia."""

import bz2
from pathlib import Path

# 27 words and 146 characters: long enough to count as prose
PROSE = (
    "The aardvark is a mammal that lives south of the great desert, where it digs for ants at night and"
    " sleeps through the whole of the day."
)


def write_dump(path: Path, pages: list[tuple[str, str, str]]) -> Path:
    """A MediaWiki dump of (title, namespace, wikitext)."""
    xml = "".join(
        f"<page><title>{title}</title><ns>{ns}</ns><revision><text>{text}</text></revision></page>"
        for title, ns, text in pages
    )
    namespace = "http://www.mediawiki.org/xml/export-0.10/"
    path.write_bytes(bz2.compress(f'<mediawiki xmlns="{namespace}">{xml}</mediawiki>'.encode()))
    return path
