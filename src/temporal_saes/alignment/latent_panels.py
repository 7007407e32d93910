"""The latents that differ most, in tables, and each in a panel on the pairs in which it differs most."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from temporal_saes.alignment.differences import VIEWS
from temporal_saes.alignment.examples import Answer, Example, Shown
from temporal_saes.alignment.result import VIEW_NAMES
from temporal_saes.alignment.wording import SIDES, Result, is_demo, is_dense, p_value, signed, strong
from temporal_saes.pages import page
from temporal_saes.pages.page import Html, element, join
from temporal_saes.pages.text_latents import text_pieces
from temporal_saes.pages.token_colours import in_row, token, visible

MAX_PIECES = 160  # of an answer; more is too long to take in
PROMPT_CHARACTERS = 300


def top_tables(result: Result) -> list[Html]:
    tables = [top_table(result, side, len(result["top"][side])) for side in SIDES]
    return [cells_told(result), *tables]


def cells_told(result: Result) -> Html:
    ranked = {
        "effect": "d_z",
        "difference": "mean difference",
        "equal_length": "d_z at equal length",
    }[result["options"]["rank_by"]]
    return element(
        "p",
        f"The latents of the tables are ranked by {ranked}. A cell of a view has d_z and q, bold where q ≤ "
        f"{result['options']['fdr']:g}. “by flips” is the p corrected for all latents by flipping the signs "
        "of whole pairs. r is the correlation with the difference in length.",
    )


def top_table(result: Result, side: str, n: int) -> Html:
    latents = result["top"][side][:n]
    if not latents:
        return element("p", f"No tested latent is higher in {side} answers.", class_="quiet")
    views = [view for view in VIEWS if latents[0][view] is not None]
    headers = [f"higher in {side}", "chosen", "rejected", "difference", *(VIEW_NAMES[view] for view in views)]
    rows = []
    for latent in latents:
        means = [f"{latent[one]:.3g}" for one in SIDES]
        cells = [_view_cell(latent[view]) for view in views]
        r = f"{latent['length_r']:+.2f}" + (" length" if latent["is_length_latent"] else "")
        difference = f"{latent['raw']['difference']:+.3g}"
        flips = p_value(latent["p_sign_flips"])
        rows.append(
            [_named(latent), *means, difference, *cells, flips, strong(r, latent["is_length_latent"])]
        )
    return page.table([*headers, "by flips", "r"], rows, f"Latents that are higher in {side} answers.")


def _named(latent: Mapping[str, Any]) -> Html:
    aid = latent["explanation"]
    if aid is None and latent["strongest"]:
        aid = join(["strongest at ", in_row(text.strip() or text for text in latent["strongest"])])
    return join([latent["latent"], element("span", aid, class_="aid") if aid else None])


def _view_cell(effect: Mapping[str, Any]) -> Html:
    return strong(f"{signed(effect['effect'])}, {p_value(effect['q'])}", effect["significant"])


def examples_section(result: Result, shown: Mapping[int, Shown]) -> list[Html]:
    title = element("h2", "On examples")
    if not shown:
        note = (
            "Dense activations are never off, so that colours would show nothing." if is_dense(result) else ""
        )
        return [title, element("p", note or "No examples were asked for.", class_="quiet")]
    parts = [
        title,
        element(
            "p",
            "The pairs in which each latent differs most in its direction: chosen to show what it does, not "
            "how often. Only the answer is coloured, the stronger the larger the activation (its value shows "
            "under the pointer), on one scale for all examples of a latent.",
        ),
    ]
    if not is_demo(result):
        parts.append(
            element("p", "Quoted from the data set as it is; it may hold offensive text.", class_="quiet")
        )
    for side in SIDES:
        parts += [element("h3", f"Higher in {side} answers"), _panels(result, side, shown)]
    return parts


def _panels(result: Result, side: str, shown: Mapping[int, Shown]) -> Html:
    panels = [_panel(latent, side, shown[latent["latent"]]) for latent in result["top"][side]]
    return element("div", *panels, class_="panels")


def _panel(latent: Mapping[str, Any], side: str, shown: Shown) -> Html:
    raw, length = latent["raw"], latent["equal_length"]
    numbers = (
        f"On in {latent['active_chosen']:.0%} of chosen and {latent['active_rejected']:.0%} of rejected "
        f"answers; mean {latent['chosen']:.3g} and {latent['rejected']:.3g}; d_z {signed(raw['effect'])} "
        f"(q = {p_value(raw['q'])})"
    )
    if length is not None:
        numbers += f", at equal length {signed(length['effect'])} (q = {p_value(length['q'])})"
    flag = f"A length latent: r = {latent['length_r']:+.2f}." if latent["is_length_latent"] else None
    peak = max(
        (float(answer.value_T.max()) for one in shown.examples for answer in _answers(one)), default=0.0
    )
    examples = [_example(one, peak, number) for number, one in enumerate(shown.examples)]
    return element(
        "section",
        element("h4", f"Latent {latent['latent']}"),
        element("p", latent["explanation"]) if latent["explanation"] else None,
        element("p", f"{numbers}.", class_="quiet"),
        element("p", element("strong", flag)) if flag else None,
        element("p", "Strongest at ", *_codes(latent["strongest"]), class_="quiet"),
        *examples,
        class_=f"panel {side}",
    )


def _codes(texts: Sequence[str]) -> Iterator[object]:
    for number, text in enumerate(texts):
        yield ", " if number else None
        yield element("code", visible(text))


def _example(example: Example, peak: float, number: int) -> Html:
    inside: list[object] = [element("p", _prompt_end(example.pair.prompt), class_="quiet")]
    for side, answer in zip(SIDES, _answers(example), strict=True):
        told = f"{side}: mean {answer.mean:.3g} over {len(answer.value_T):,} tokens"
        inside.append(
            element("p", element("span", told, class_="part"), *_coloured(answer, peak), class_="tokens")
        )
    if number == 0:
        return element("div", *inside)
    means = " against ".join(f"{answer.mean:.3g}" for answer in _answers(example))
    return element("details", element("summary", f"another pair: {means}"), *inside)


def _answers(example: Example) -> tuple[Answer, Answer]:
    return example.chosen, example.rejected


def _prompt_end(prompt: str) -> str:
    end = prompt.strip()
    return visible(end if len(end) <= PROMPT_CHARACTERS else "…" + end[-PROMPT_CHARACTERS:])


def _coloured(answer: Answer, peak: float) -> Iterator[object]:
    text, start = answer.text.text, answer.text.start
    pieces = text_pieces(text, answer.tokens, answer.position_T, answer.value_T)
    of_answer = [piece for piece in pieces if piece.start + len(piece.text) > start]
    yield from (token(piece, peak or 1.0) for piece in of_answer[:MAX_PIECES])
    if len(of_answer) > MAX_PIECES or of_answer[-1].start + len(of_answer[-1].text) < len(text):
        yield "…"
