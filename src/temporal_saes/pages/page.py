"""One self-contained HTML page: markup that escapes by itself, tables, images in the page, the style sheet.

    body = [element("h1", "a < b"), image(png, "png", alt="loss by step")]
    text = page("Title", body)

A page loads nothing: styles and images are inside it, and a script only where it is given. The content
security policy allows that script by its hash, and nothing to whatever may slip in.
"""

import base64
import hashlib
import html
import json
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

STYLE_SHEET = Path(__file__).with_name("page.css")
COMPONENTS = {suffix: Path(__file__).with_name(f"components{suffix}") for suffix in (".css", ".js")}
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
VOID = {"br", "img", "input", "meta"}


class Html(str):
    """Text that is markup already; any other text is escaped when it comes into a page."""


def markup(child: object) -> Html:
    """A child of an element as markup: `Html` as it is, None as nothing, anything else escaped."""
    if isinstance(child, Html):
        return child
    return Html("" if child is None else html.escape(str(child)))


def join(children: Iterable[object]) -> Html:
    """Children one after another."""
    return Html("".join(markup(child) for child in children))


def element(name: str, /, *children: object, **attributes: object) -> Html:
    """`<name attribute="...">children</name>`.

    Args:
        attributes: `class_` is class, `aria_label` is aria-label; one that is None is left out.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in VOID:
        return Html(f"<{name}{written}>")
    return Html(f"<{name}{written}>{join(children)}</{name}>")


def table(
    headers: Sequence[object],
    rows: Iterable[Sequence[object]],
    caption: object,
    *,
    worded: Collection[int] = (),
) -> Html:
    """A table whose first column names the rows; a narrow window scrolls it, not the page.

    Args:
        worded: columns of words, which begin at the left and may take several lines; all others are numbers.
    """
    kind = {i: "words" for i in worded}.get
    head = element(
        "tr", *(element("th", cell, scope="col", class_=kind(i)) for i, cell in enumerate(headers))
    )
    body = []
    for first, *rest in rows:
        cells = (element("td", cell, class_=kind(i)) for i, cell in enumerate(rest, 1))
        body.append(element("tr", element("th", first, scope="row"), *cells))
    inside = [element("caption", element("span", caption)), element("thead", head), element("tbody", *body)]
    # reachable by keyboard, or nobody without a mouse could scroll it
    return element("div", element("table", *inside), class_="scroll", tabindex="0")


def facts(pairs: Iterable[tuple[object, object]]) -> Html:
    """Names with their values; a value that is None or empty is left out."""
    told = [(name, value) for name, value in pairs if value not in (None, "")]
    return element("dl", *(element("div", element("dt", name), element("dd", value)) for name, value in told))


def image(data: bytes, kind: str, alt: str, caption: object = None, *, wide: bool = False) -> Html:
    """A picture inside the page.

    Args:
        kind: png or svg+xml.
        alt: what a reader who cannot see it should know.
        wide: in a narrow window scroll the picture, where it would be too small to read.
    """
    address = f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"
    below = element("figcaption", caption) if caption else None
    picture = element("img", src=address, alt=alt)
    if wide:
        picture = element("div", picture, class_="wide", tabindex="0")
    return element("figure", picture, below)


def commands(lines: Iterable[str]) -> Html:
    """Command lines, as they can be copied."""
    return element("pre", element("code", "\n".join(lines)))


def missing(sentence: str, *lines: str) -> Html:
    """What is not there, and the commands that make it."""
    return element("div", element("p", sentence), commands(lines) if lines else None, class_="missing")


def script_json(data: Any) -> Html:
    """JSON that is no markup in a script element, whatever a text says; the strings are the same."""
    written = json.dumps(data, separators=(",", ":"), allow_nan=False)
    for sign in "<>&":
        written = written.replace(sign, f"\\u{ord(sign):04x}")
    return Html(written)


def with_components(style: Path, *scripts: Path) -> tuple[str, str]:
    """A page's own style and scripts, behind those of the components that pages with a script share."""
    css, js = ([COMPONENTS[kind], *own] for kind, own in ((".css", [style]), (".js", scripts)))
    return "".join(path.read_text("utf-8") for path in css), "".join(path.read_text("utf-8") for path in js)


def page(
    title: str,
    body: Iterable[object],
    *,
    script: str | None = None,
    style: str = "",
    loads_scripts: bool = False,
    connects: bool = False,
) -> str:
    """The whole page.

    Args:
        script: runs when the page is read; it is put behind the body.
        style: rules after those that every page has.
        loads_scripts: the page may load scripts from the place it is at itself, a folder or a server.
        connects: the script may ask the server that the page is from.
    """
    policy, code = POLICY, None
    if script is not None:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
        # 'self' is no place for a page that is read from the disk
        places = " 'self' file:" if loads_scripts else ""
        asks = "; connect-src 'self'" if connects else ""
        policy, code = (
            f"{POLICY}; script-src 'sha256-{digest}'{places}{asks}",
            element("script", Html(script)),
        )
    head = [
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", title),
        element("style", Html(STYLE_SHEET.read_text(encoding="utf-8") + style)),
    ]
    body_element = element("body", element("main", *body), code)
    inside = element("html", element("head", *head), body_element, lang="en")
    return f"<!DOCTYPE html>\n{inside}\n"
