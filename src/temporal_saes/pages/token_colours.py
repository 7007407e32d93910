"""A text in HTML, its tokens coloured by how strong a latent is there; for `page.py` and `page.css`."""

import re
from collections.abc import Iterable, Sequence

from temporal_saes.pages.page import Html, element, join
from temporal_saes.pages.text_latents import Latent, Part, Piece, Shown, Snippet, pieces

STRONGEST = 0.8  # opacity of the colour at the largest value: the letters stay readable
N_SNIPPETS = 3
SPLIT_NAMES = {"high": "high-level", "low": "low-level", "latents": ""}
# Characters that are not seen, or that change the direction or the place of others.
_UNSEEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")


def visible(text: str) -> str:
    """The text with signs for what is not seen: line ends, tabs, tokens of nothing but space, controls."""
    if text and not text.strip(" "):
        return "␣" * len(text)
    text = text.replace("\r\n", "\n").replace("\n", "↵\n").replace("\t", "⇥\t")
    # the joiner of an emoji and the marks of some scripts are unseen and needed: a lone one is shown
    return _UNSEEN.sub(
        lambda found: "�" if len(text) == 1 or found[0] not in "\u200c\u200d" else found[0], text
    )


def in_row(words: Iterable[str]) -> Html:
    """Words in a row, each by itself: one that is written from right to left does not turn the rest."""
    found: list[object] = []
    for word in words:
        found += [", " if found else None, element("bdi", visible(word))]
    return join(found)


def panel(shown: Shown, latent: Latent, held_over: Sequence[str] = ()) -> Html:
    """Everything about one latent: its name, its numbers, the strip, the coloured text, its top tokens.

    Args:
        held_over: words of the passages that it is held over elsewhere, where they are known.
    """
    peak = float(latent.value_T.max(initial=0.0))
    name = " ".join(word for word in (SPLIT_NAMES.get(latent.split, latent.split), "latent") if word)
    title = f"{name} {latent.number}".capitalize()
    scale = element(
        "p", "0", element("span", class_="scale"), f"{peak:.3g}, its largest value here", class_="quiet"
    )
    return element(
        "section",
        element("h3", title),
        element("p", "Held over: ", in_row(held_over)) if held_over else None,
        element("p", _chosen_for(shown, latent), class_="quiet"),
        strip(shown, latent, title),
        scale,
        coloured(shown, latent),
        *_hints(latent.snippets),
        class_=f"panel {latent.split}",
    )


def _chosen_for(shown: Shown, latent: Latent) -> str:
    counts = [
        f"{on} of {n} tokens of {_ordinal(part, shown)}" for part, (on, n) in enumerate(latent.on_in_parts)
    ]
    chosen = f"Chosen for {_ordinal(latent.part, shown)}. " if len(shown.parts) > 1 else ""
    return f"{chosen}On at {' and at '.join(counts)}; steadiness {latent.steadiness:z.2f}."


def _ordinal(part: int, shown: Shown) -> str:
    return ("the first text", "the second text")[part] if len(shown.parts) > 1 else "the text"


def strip(shown: Shown, latent: Latent, title: str) -> Html:
    """Its activation along the text as a row of bars, a bar a token, with a line between the parts."""
    n = len(latent.value_T)
    peak = float(latent.value_T.max(initial=0.0)) or 1.0
    bars = [
        element("rect", x=i, y=f"{20 * (1 - value / peak):.2f}", width=1, height=f"{20 * value / peak:.2f}")
        for i, value in enumerate(latent.value_T.tolist())
        if value > 0
    ]
    border = None
    if len(latent.on_in_parts) > 1:
        x = latent.on_in_parts[0][1]
        border = element("line", x1=x, x2=x, y1=0, y2=20)
    attributes = {"viewBox": f"0 0 {n} 20", "preserveAspectRatio": "none"}
    label = f"{title}, activation along the text. {_chosen_for(shown, latent)}"
    return element("svg", *bars, border, class_="strip", role="img", aria_label=label, **attributes)


def coloured(shown: Shown, latent: Latent) -> Html:
    """The text as it was read, a span a token, its value as the tooltip."""
    peak = float(latent.value_T.max(initial=0.0)) or 1.0
    children: list[object] = []
    if len(shown.parts) > 1:
        children.append(_part_heading(shown.parts[0], "First text"))
    boundary = shown.boundary
    for piece in pieces(shown, latent.value_T):
        if boundary is not None and piece.start >= boundary:
            children.append(_part_heading(shown.parts[1], "Second text"))
            boundary = None
        children.append(token(piece, peak))
    return element("p", *children, class_="tokens")


def _part_heading(part: Part, name: str) -> Html:
    about = [element("bdi", part.title)]
    about += [] if part.domain is None else [join([" (", element("bdi", part.domain), ")"])]
    return element("span", f"{name}: ", *about, class_="part")


def token(piece: Piece, peak: float) -> Html:
    """A piece of a text, coloured by its largest value as a share of `peak`, its values as the tooltip."""
    if piece.values is None:
        return element("span", _signs(piece.text), class_="out", title="not read")
    value = max(piece.values)
    title = " + ".join(f"{value:.3g}" for value in piece.values)
    if value <= 0:
        return element("span", _signs(piece.text), title=title)
    opacity = STRONGEST * value / peak
    return element("span", _signs(piece.text), class_="on", style=f"--a:{opacity:.2f}", title=title)


def _signs(text: str) -> Html:
    """Visible text, the signs that were put in set apart from what the text says."""
    parts = re.split(r"([↵⇥␣�]+)", visible(text))
    return join(element("i", part) if i % 2 else part for i, part in enumerate(parts))


def _hints(snippets: Sequence[Snippet]) -> list[Html]:
    if not snippets:
        return [element("p", "It fires at no token of the held-out texts that were read.", class_="quiet")]
    tokens: list[object] = []
    for snippet in snippets:
        tokens += [
            ", " if tokens else None,
            element("code", _signs(snippet.token), title=f"{snippet.value:.3g}"),
        ]
    examples = [
        element(
            "li",
            f"{snippet.value:.3g}: …{_line(snippet.before)}",
            element("mark", _line(snippet.token)),
            f"{_line(snippet.after)}…",
        )
        for snippet in snippets[:N_SNIPPETS]
    ]
    return [
        element("p", "Strongest in other held-out texts at ", *tokens, class_="quiet"),
        element("details", element("summary", "with what stands around them"), element("ul", *examples)),
    ]


def _line(text: str) -> str:
    return visible(text).replace("\n", "")


def legend() -> Html:
    """How to read the panels."""
    return element(
        "p",
        "The stronger the colour, the larger the latent's activation (its value shows under the pointer); "
        "the bars are the same numbers, token by token. ",
        element("i", "↵"),
        " is a line end, ",
        element("i", "␣"),
        " a token of spaces; a dotted line marks tokens that are not read, such as a first position of "
        "outlying norm. Steadiness is 1 - Σ|change| / 2 Σ activation: 0 for a latent that fires at single "
        "tokens, 1 - 1/n for one that holds its value over n tokens.",
        class_="quiet",
    )


def whole_text_steadiness(shown: Shown) -> str:
    """The splits' steadiness over all latents, which no choice of latents can flatter."""
    told = [
        f"{SPLIT_NAMES.get(name, name) or 'all'} latents {value:.2f}"
        for name, value in shown.steadiness.items()
    ]
    return f"Over all latents that fire in this text, steadiness is: {', '.join(told)}."
