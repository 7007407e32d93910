"""Documents that a run kept out of its training, with all their fields."""

from collections.abc import Mapping, Sequence
from itertools import chain, islice, zip_longest
from typing import Any

from dictionary_learning.texts.documents import document_id, is_eval, open_records, text_fault
from dictionary_learning.texts.records import Record
from temporal_saes.pages.text_latents import paragraphs

MAX_RECORDS, MAX_DOCUMENTS = 5000, 50


def held_out_records(buffer: Mapping[str, Any], text_field: str) -> list[Record]:
    """The first of them in the run's data set, in its order; at most `MAX_DOCUMENTS`.

    Args:
        buffer: "buffer" of the run's config.json.

    Raises:
        UserError: the data set cannot be read.
    """
    dataset = buffer.get("dataset")
    if dataset is None:
        return []
    records = open_records(dataset, buffer.get("split") or "train", buffer.get("subset"), 0)
    kept = (record for record in islice(records, MAX_RECORDS) if _is_held_out(record, buffer, text_field))
    return list(islice(kept, MAX_DOCUMENTS))


def _is_held_out(record: Record, buffer: Mapping[str, Any], text_field: str) -> bool:
    text = record.get(text_field)
    return text_fault(text) is None and is_eval(document_id(str(text)), buffer.get("eval_share", 0.1))


def some_paragraphs(records: Sequence[Record], text_field: str, n: int) -> list[str]:
    """`n` paragraphs, taken from the documents in turn."""
    rounds = zip_longest(*(paragraphs(record[text_field]) for record in records))
    return list(islice((text for text in chain.from_iterable(rounds) if text is not None), n))
