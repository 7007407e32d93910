"""Every data set that is known by name: where it stands, what is read of it, how much, and its licence.

    from dictionary_learning.data_sets import LABELLED
    LABELLED["mmlu"].hub_id, LABELLED["mmlu"].fields["class"]

The code that opens a data set reads this table; `python -m dictionary_learning.texts.data_sets` prints it for
docs/datasets.md. A data set that is not in it is opened by its name on the hub, or by its path. What is not
known for certain is left to the data set's own page.
"""

from collections.abc import Mapping
from dataclasses import dataclass

SEE_PAGE = "see the hub page"


@dataclass(frozen=True)
class DataSet:
    """A data set and what is read of it."""

    hub_id: str | None
    """None: no copy on the hub; it comes with the demo's assets or with this repository."""
    fields: Mapping[str, str]
    """The field of a record for each thing that is read."""
    size: str
    licence: str
    subset: str | None = None
    """The configuration on the hub."""
    folder: str | None = None
    """The folder on the hub, where parts have no configuration but a folder."""
    split: str | None = "train"
    """None where there is only one, that has no name."""
    max_records: int | None = None
    """Of a data set that is larger so many records are read."""
    corpora: tuple[str, ...] = ()
    """What it is made of, among the corpora of `demo_assets`."""


_WIKIPEDIA_TEXT = "CC BY-SA 4.0"
_PUBLIC = "public domain"

# Documents to train on and to evaluate on.
TEXTS = {
    "demo": DataSet(
        hub_id=None,
        fields={"text": "text"},
        size="97 whole articles of English Wikipedia and 249 State of the Union addresses",
        licence=f"articles {_WIKIPEDIA_TEXT}, addresses {_PUBLIC}",
        split=None,
        corpora=("articles", "addresses"),
    ),
    "demo-extracts": DataSet(
        hub_id=None,
        fields={"text": "text"},
        size="10,033 lead sections of English Wikipedia",
        licence=_WIKIPEDIA_TEXT,
        split=None,
        corpora=("extracts",),
    ),
    "pile": DataSet(
        hub_id="monology/pile-uncopyrighted",
        fields={"text": "text"},
        size="streamed: as much is read as a run asks for",
        licence=SEE_PAGE,
    ),
}

# Texts with a class each.
LABELLED = {
    "demo": DataSet(
        hub_id=None,
        fields={"text": "text", "class": "domain", "title": "title"},
        size="9,033 lead sections of English Wikipedia in 11 topics",
        licence=_WIKIPEDIA_TEXT,
        split=None,
        corpora=("extracts",),
    ),
    "finefineweb": DataSet(
        hub_id="m-a-p/FineFineWeb-test",
        fields={"text": "text", "class": "domain"},
        size="the first 200,000 records are read",
        licence=SEE_PAGE,
        max_records=200_000,
    ),
    "wikipedia": DataSet(
        hub_id="wikimedia/wikipedia",
        subset="20231101.en",
        # the class is that of the title in a list of categories
        fields={"text": "text", "title": "title"},
        size="of the first 200,000 articles those that the list of categories names",
        licence=SEE_PAGE,
        max_records=200_000,
    ),
    "mmlu": DataSet(
        hub_id="cais/mmlu",
        subset="all",
        fields={"text": "question", "choices": "choices", "class": "subject"},
        split="test",
        size="questions with four answers each, in 57 subjects",
        licence=SEE_PAGE,
    ),
}

# Two answers to the same thing, one preferred.
PREFERENCES = {
    "demo": DataSet(
        hub_id=None,
        fields={"chosen": "chosen", "rejected": "rejected"},
        size="100 pairs written for this repository, see src/temporal_saes/alignment/README.md",
        licence="MIT",
        split=None,
    ),
    "hh-rlhf": DataSet(
        hub_id="Anthropic/hh-rlhf",
        folder="harmless-base",
        fields={"chosen": "chosen", "rejected": "rejected"},
        size="the first 1,000 pairs are read, as the T-SAE paper does (--max_pairs)",
        licence=SEE_PAGE,
    ),
}

KINDS = {"texts": TEXTS, "labelled texts": LABELLED, "preference pairs": PREFERENCES}


def table(kind: str) -> str:
    """The data sets of a kind, as a table in markdown."""
    lines = [
        "| name | on the hub | configuration | split | fields | how much | licence |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, entry in KINDS[kind].items():
        place = entry.subset or entry.folder
        cells = [
            f"`{name}`",
            f"`{entry.hub_id}`" if entry.hub_id else "–",
            f"`{place}`{' (a folder)' if entry.folder else ''}" if place else "–",
            f"`{entry.split}`" if entry.split else "–",
            ", ".join(f"`{of}`" if of == what else f"`{of}` ({what})" for what, of in entry.fields.items()),
            entry.size,
            entry.licence,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Print every table."""
    for kind in KINDS:
        print(f"## {kind.capitalize()}\n\n{table(kind)}\n")


if __name__ == "__main__":
    main()
