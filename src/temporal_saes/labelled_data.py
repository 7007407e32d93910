"""Texts with a class each: the demo's extracts, FineFineWeb, Wikipedia, MMLU, and local files.

    from temporal_saes.labelled_data import load_labelled
    texts = load_labelled("demo", max_texts=4000, seed=0)

Every data set is read from the hub (streamed) or from a local copy in the same format (`data_path`).
The sample is the same on every machine and in whatever order the records come; a larger one begins
with the smaller one.
"""

import hashlib
import heapq
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

from dictionary_learning.errors import UserError
from dictionary_learning.progress import say
from dictionary_learning.records import Record, hub_records, is_local, is_unicode, read_records
from dictionary_learning.text import document_id


class LabelledText(NamedTuple):
    """One text and its class."""

    text: str
    label: str
    title: str  # empty where the data set has none
    source: str  # where the text is from: its address, or the data set's name
    id: int  # of the text alone, see `dictionary_learning.text.document_id`


@dataclass(frozen=True)
class LabelledDataset:
    """Where a data set stands and which of its fields are read."""

    hub_id: str | None  # None: no copy on the hub
    text_field: str
    label_field: str | None  # None: the class comes from a file of categories, by title
    size: str
    licence: str
    subset: str | None = None
    split: str = "train"
    # A data set larger than this is read up to here.
    max_records: int | None = None
    make_text: Callable[[Record, str], object] = Record.get


def _question_with_choices(record: Record, text_field: str) -> object:
    """A question of MMLU with its four answers, one a line; questions alone are often very short."""
    choices = record.get("choices")
    question = record.get(text_field)
    if not isinstance(question, str) or not isinstance(choices, list):
        return question
    lines = [f"{letter}. {choice}" for letter, choice in zip("ABCDEFGHIJ", choices, strict=False)]
    return "\n".join([question, *lines])


DATASETS = {
    "demo": LabelledDataset(
        hub_id=None,
        text_field="text",
        label_field="domain",
        size="9,033 lead sections of English Wikipedia in 11 topics",
        licence="CC BY-SA 4.0",
    ),
    "finefineweb": LabelledDataset(
        hub_id="m-a-p/FineFineWeb-test",
        text_field="text",
        label_field="domain",
        size="web pages by domain; the first 200,000 are read",
        licence="Apache-2.0",
        max_records=200_000,
    ),
    "wikipedia": LabelledDataset(
        hub_id="wikimedia/wikipedia",
        subset="20231101.en",
        text_field="text",
        label_field=None,
        size="6.4 M articles; of the first 200,000 those that --categories names",
        licence="CC BY-SA 3.0 and GFDL",
        max_records=200_000,
    ),
    "mmlu": LabelledDataset(
        hub_id="cais/mmlu",
        subset="all",
        split="test",
        text_field="question",
        label_field="subject",
        size="14,042 questions in 57 subjects",
        licence="MIT",
        make_text=_question_with_choices,
    ),
}


def load_labelled(
    dataset: str,
    *,
    data_path: str | Path | None = None,
    text_field: str | None = None,
    label_field: str | None = None,
    categories: str | Path | None = None,
    split: str | None = None,
    max_texts: int | None = None,
    max_records: int | None = None,
    seed: int = 0,
    log: Callable[[str], None] = say,
) -> list[LabelledText]:
    """A balanced random sample of texts with their classes.

    Args:
        dataset: one of `DATASETS`, a local file, or with both fields any data set on the hub.
        data_path: a local copy of the data set, a file or a folder, instead of the hub.
        text_field, label_field: fields of a record, instead of the data set's own.
        categories: a file of article titles and classes: a JSON object `{title: class}`, or records with
            the fields `title` and `category`. Needed for wikipedia.
        split: of a hub data set, instead of its own.
        max_texts: about so many in all, the same number for every class; a class that has fewer gives
            all. None takes every text.
        max_records: read so many records at most.
        seed: which texts are drawn.
        log: gets a line when records had to be skipped.

    Returns:
        Distinct texts; the classes take turns, so that the first n are balanced for any n.

    Raises:
        UserError: the data set or a field of it is not there, no record can be used, or all have the
            same class.
    """
    if max_texts is not None and max_texts < 2:
        raise UserError(f"--max_texts {max_texts} is too few to compare classes: ask for at least 2.")
    entry, name = _find(dataset, data_path, text_field, label_field)
    text_field = text_field or entry.text_field
    label_field = label_field or entry.label_field
    titles = None
    if label_field is None:
        if categories is None:
            raise UserError(
                f"{name} has no classes of its own: give --categories, a file of article titles and classes, "
                f'for example a JSON object like {{"Anarchism": "Politics"}}.'
            )
        titles = _read_categories(Path(categories))
    records = _open(entry, dataset, data_path, split)
    records = islice(records, max_records or entry.max_records)
    head = list(islice(records, 1))
    for field, flag in ((text_field, "--text_field"), (label_field, "--label_field")):
        if head and field is not None and field not in head[0]:
            raise UserError(
                f"{name} has no field {field!r}: choose one of its fields with {flag} "
                f"({', '.join(map(str, head[0]))})."
            )
    sample = _Sample(max_texts, seed)
    n_read = n_used = 0
    for record in chain(head, records):
        n_read += 1
        label = record.get(label_field) if label_field is not None else None
        if titles is not None:
            label = titles.get(str(record.get("title")))
        text = entry.make_text(record, text_field)
        if not _is_text(text) or label is None or not str(label).strip():
            continue
        n_used += 1
        title, source = record.get("title") or "", record.get("source") or record.get("url") or name
        sample.add(LabelledText(str(text), str(label), str(title), str(source), document_id(str(text))))
    _check(name, n_read, n_used, sample, text_field, label_field)
    if n_used < n_read and titles is None:
        log(f"{name}: {n_read - n_used:,} of {n_read:,} records have no text or no class and were left out.")
    return sample.texts()


def _find(
    dataset: str, data_path: str | Path | None, text_field: str | None, label_field: str | None
) -> tuple[LabelledDataset, str]:
    """The data set of that name, or one described by the two fields; and what to call it."""
    name = f"{dataset} ({data_path})" if data_path is not None else dataset
    if dataset in DATASETS:
        return DATASETS[dataset], name
    local = is_local(dataset) or Path(dataset).is_dir()
    if not local and not (text_field and label_field):
        raise UserError(
            f"there is no labelled data set {dataset!r}: choose {', '.join(DATASETS)}, a local file, or a "
            f"data set on the hub with its --text_field and --label_field."
        )
    entry = LabelledDataset(
        hub_id=dataset,
        text_field=text_field or "text",
        label_field=label_field or "label",
        size="",
        licence="",
    )
    return entry, name


def _open(
    entry: LabelledDataset, dataset: str, data_path: str | Path | None, split: str | None
) -> Iterator[Record]:
    path = data_path if data_path is not None else dataset
    if data_path is not None and not Path(data_path).exists():
        raise UserError(f"there is no file or folder {data_path}: check --data_path.")
    if data_path is None and dataset == "demo":
        from dictionary_learning.demo_assets import corpus_path

        return read_records(corpus_path("extracts"))
    if Path(path).is_file() or (dataset not in DATASETS and is_local(dataset)):
        return read_records(path)
    if Path(path).is_dir():
        files = [file for file in sorted(Path(path).iterdir()) if is_local(str(file)) and file.is_file()]
        files = [file for file in files if file.suffix not in (".txt", ".md")]
        if files:
            return chain.from_iterable(read_records(file) for file in files)
    assert entry.hub_id is not None
    hub = str(path) if Path(path).is_dir() else entry.hub_id
    return _with_progress(hub_records(hub, subset=entry.subset, split=split or entry.split), hub)


def _with_progress(records: Iterable[Record], name: str) -> Iterator[Record]:
    from tqdm import tqdm

    yield from tqdm(records, desc=f"reading {name}", unit=" records", dynamic_ncols=True, disable=None)


def _is_text(text: object) -> bool:
    return isinstance(text, str) and bool(text.strip()) and is_unicode(text)


def _read_categories(path: Path) -> Mapping[str, str]:
    records = list(read_records(path))
    if all("title" in record and "category" in record for record in records):
        return {str(record["title"]): str(record["category"]) for record in records}
    if len(records) == 1 and all(isinstance(value, str) for value in records[0].values()):
        return records[0]
    raise UserError(
        f"{path} is no file of categories: give a JSON object of article titles and classes, or records with "
        f"the fields title and category."
    )


def _check(
    name: str, n_read: int, n_used: int, sample: "_Sample", text_field: str, label_field: str | None
) -> None:
    if n_used == 0:
        wanted = (
            "whose title is in --categories" if label_field is None else f"and a class in {label_field!r}"
        )
        raise UserError(
            f"none of the {n_read:,} records of {name} has a text in {text_field!r} {wanted}: check the "
            f"fields and the file."
        )
    if len(sample.labels) < 2:
        field = "category" if label_field is None else label_field
        raise UserError(
            f"all texts of {name} have the one class {sample.labels[0]!r} in {field!r}: classes can only be "
            f"told apart where there are two; choose another --label_field or more data."
        )


class _Sample:
    """For every class the texts with the lowest hashes: random, but the same in any order of reading.

    The share of a class shrinks as classes appear, so memory is bounded, and a text that is let go
    would not have been in the final sample.
    """

    def __init__(self, max_texts: int | None, seed: int) -> None:
        self._max_texts = max_texts
        self._seed = seed
        self._seen: set[int] = set()
        # per class a heap of (-hash, text): the highest hash is on top
        self._kept: dict[str, list[tuple[int, LabelledText]]] = defaultdict(list)

    @property
    def labels(self) -> list[str]:
        return sorted(self._kept)

    def add(self, text: LabelledText) -> None:
        if text.id in self._seen:
            return
        self._seen.add(text.id)
        heapq.heappush(self._kept[text.label], (-self._priority(text), text))
        share = self._share()
        while share is not None and len(self._kept[text.label]) > share:
            heapq.heappop(self._kept[text.label])

    def texts(self) -> list[LabelledText]:
        share = self._share()
        ranked = []
        for kept in self._kept.values():
            in_order = sorted(kept, reverse=True)
            ranked += [(rank, -negative, text) for rank, (negative, text) in enumerate(in_order[:share])]
        return [text for _, _, text in sorted(ranked)]

    def _share(self) -> int | None:
        return None if self._max_texts is None else max(1, self._max_texts // len(self._kept))

    def _priority(self, text: LabelledText) -> int:
        digest = hashlib.blake2b(f"{self._seed} {text.id}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big")
