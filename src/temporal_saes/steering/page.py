"""One self-contained page of steered texts, latent by latent; for `page.py` and `page.css`."""

from collections.abc import Mapping, Sequence
from typing import Any

from dictionary_learning.command.progress import n_of
from temporal_saes.experiment.results import label, model_and_place
from temporal_saes.pages.page import Html, element, facts, image, page, table
from temporal_saes.pages.token_colours import visible
from temporal_saes.steering.options import RULES

Record = Mapping[str, Any]
TEXT = "text-align: left; min-width: 24rem"
CAPTION = (
    "Solid: the latents, with 95 % intervals over them. Dashed: random directions of the same length. The "
    "first panel is the frontier: up is gain, right is coherent, and the numbers are strengths."
)


def steering_page(result: Mapping[str, Any], figure_png: bytes | None = None) -> str:
    """Every latent with what is known of it, and its texts strength by strength."""
    options, corpus, probe = result["options"], result["corpus"], result["probe"]
    judge = result["judge"]
    body = [
        element("h1", f"Steering with {label(result)}"),
        facts(
            [
                ("language model", model_and_place(result["subject"])),
                ("mode, positions", f"{options['mode']}, {options['positions']}"),
                ("latents chosen", "as given" if options["latents"] else RULES[options["choose"]]),
                ("maxima measured on", f"{corpus['n_tokens']:,} tokens of {options['dataset']}"),
                (
                    "domain probe",
                    f"{probe['accuracy']:.0%} right of {n_of(probe['n_test'], 'held-out text')}",
                ),
                ("judge", None if judge is None else _judged(judge)),
            ]
        ),
        element(
            "p",
            "Each text continues its opening while one latent is pushed. “Surprise” is nats a token under "
            "the model without steering, “domain” the probability of the latent's class, “activation” the "
            "latent read back from the text, in multiples of its maximum.",
            class_="quiet",
        ),
        None
        if figure_png is None
        else image(figure_png, "png", "Gain and cost of steering by strength.", CAPTION, wide=True),
        *(_latent(one, result) for one in result["latents"]),
    ]
    return page(f"Steering with {result['name']}", [part for part in body if part is not None])


def _judged(judge: Mapping[str, Any]) -> str:
    failures = ", ".join(f"{n:,} {kind}" for kind, n in judge["failures"].items())
    return f"{judge['model']}, {n_of(judge['asked'], 'answer')}, failed: {failures or 'none'}"


def _latent(latent: Mapping[str, Any], result: Mapping[str, Any]) -> Html:
    records = [record for record in result["records"] if record["latent"] == latent["latent"]]
    tokens: list[object] = []
    for token in latent["top_tokens"]:
        tokens += [" " if tokens else None, element("code", visible(token))]
    places = [
        element(
            "li",
            f"{one['value']:.3g}: …{visible(one['before'])}",
            element("mark", visible(one["token"])),
            f"{visible(one['after'])}…",
        )
        for one in latent["strongest"]
    ]
    return element(
        "section",
        element("h2", f"Latent {latent['latent']}"),
        element("p", latent["explanation"]) if latent["explanation"] else None,
        facts(
            [
                ("most active in", latent["target"]),
                ("maximum", f"{latent['maximum']:.3g}"),
                ("fires at", f"{latent['n_active']:,} of {result['corpus']['n_tokens']:,} tokens"),
                ("top tokens (unembedding)", element("span", *tokens)),
            ]
        ),
        element(
            "details",
            element("summary", "where it is strongest"),
            element("ul", *places, style="--hue: var(--latents)"),
        ),
        *(
            element(
                "details",
                element("summary", f"opening: {prompt}"),
                _texts(records, index),
                open=None if index else "open",
            )
            for index, prompt in enumerate(result["prompts"])
        ),
    )


def _texts(records: Sequence[Record], prompt: int) -> Html:
    some = [record for record in records if record["prompt"] == prompt]
    judged = any(record["success"] is not None or record["coherence"] is not None for record in some)
    text = element("div", "text", style="text-align: left")
    headers: list[object] = ["pushed", text, "surprise", "repetition", "domain", "activation"]
    headers += ["success", "coherence"] if judged else []
    rows = []
    for record in sorted(some, key=lambda record: record["control"]):
        row: list[object] = [
            _pushed(record),
            element("div", visible(record["text"]), class_="tokens", style=TEXT),
        ]
        row += [
            _number(record[name], 2) for name in ("nll", "repetition", "domain_probability", "activation")
        ]
        row += [_number(record[name], 0) for name in ("success", "coherence")] if judged else []
        rows.append(row)
    return table(headers, rows, "")


def _pushed(record: Record) -> str:
    if record["strength"] is None:
        return "not pushed"
    return f"{record['strength']:g}" + (", random direction" if record["control"] else "")


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
