"""The page of an explorer: its frame; the rest is made by its script."""

from pathlib import Path
from typing import Any

from temporal_saes.explorer.writer import MOST_TOKENS
from temporal_saes.pages.page import element, page, script_json, with_components

STYLE = Path(__file__).with_name("explorer.css")
SCRIPTS = [Path(__file__).with_name(name) for name in ("state.js", "text.js", "steering.js")]


def explorer_page(name: str, about: dict[str, str], facts: dict[str, Any], has_browser: bool) -> str:
    """The page.

    Args:
        name: of the run.
        about: the facts at its head.
        facts: what its script has to know: `served`, `latents`, `splits`.
    """
    links = [element("button", "Copy the address", type="button", id="copy")]
    if has_browser:
        links.insert(0, element("a", "All latents", href="browser/index.html"))
    body = [
        element("header", element("nav", *links, aria_label="Links"), element("h1", name, id="title")),
        element("p", id="state", class_="missing", role="status", hidden=""),
        element("div", id="view"),
        element("noscript", element("p", "This page is made by a script: allow it.", class_="missing")),
        element(
            "script",
            script_json({**facts, "about": about, "most_tokens": MOST_TOKENS, "has_browser": has_browser}),
            type="application/json",
            id="facts",
        ),
    ]
    style, script = with_components(STYLE, *SCRIPTS)
    return page(f"Explorer of {name}", body, script=script, style=style, connects=True)
