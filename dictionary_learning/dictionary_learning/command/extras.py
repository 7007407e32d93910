"""Packages that only some parts need, and the extra of this project that brings each."""

import importlib.util

from dictionary_learning.errors import UserError

BROUGHT_BY = {
    "gguf": "demo",
    "mwparserfromhell": "demo",
    "spacy": "syntax",
    "starlette": "explore",
    "uvicorn": "explore",
    "wandb": "wandb",
    "neuronpedia": "neuronpedia",
}


def need(package: str, for_what: str) -> None:
    """Ask for a package of an extra before anything slow starts; nothing is imported.

    Args:
        for_what: what needs it, in the plural or with "the", such as "parts of speech".

    Raises:
        UserError: it is not installed; names the extra.
    """
    if importlib.util.find_spec(package) is None:
        extra = BROUGHT_BY[package]
        raise UserError(
            f"{for_what} need the package {package}, which is not installed: pip install "
            f"'temporal-saes[{extra}]' (from a checkout: pip install -e '.[{extra}]')."
        )
