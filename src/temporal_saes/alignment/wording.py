"""Numbers and names as the page writes them."""

from collections.abc import Mapping
from typing import Any

from temporal_saes.pages import page
from temporal_saes.pages.page import Html, element

SIDES = ("chosen", "rejected")
POOLED = {
    "turn": "its mean over the answer's tokens",
    "sentence": "the mean of its means over the answer's sentences, which count alike however long they are",
    "token": "its value at the answer's last token",
}
Result = Mapping[str, Any]


def is_demo(result: Result) -> bool:
    return result["options"]["dataset"] == "demo" and result["options"]["data_path"] is None


def is_dense(result: Result) -> bool:
    return result["subject"]["trainer_folder"] is None


def strong(text: str, is_strong: bool) -> Html:
    return element("strong", text) if is_strong else page.markup(text)


def signed(value: float | None) -> str:
    return "∞" if value is None else f"{value:+.2f}"


def p_value(value: float) -> str:
    """A p or q with two digits."""
    return f"{value:.2g}" if value >= 1e-3 else f"{value:.0e}".replace("e-0", "e-")
