"""Texts with a class each: the demo's extracts, FineFineWeb, Wikipedia, MMLU, sae-probes, and local files.

    from temporal_saes.labelled.data import load_labelled
    texts = load_labelled("demo", max_texts=4000, seed=0)

Every data set is read from the hub (streamed) or from a local copy in the same format (`data_path`).
The sample is the same on every machine and in whatever order the records come; a larger one begins
with the smaller one.
"""

import dataclasses
import hashlib
import heapq
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

from dictionary_learning.command.progress import say
from dictionary_learning.errors import UserError
from dictionary_learning.remote.file_system import told
from dictionary_learning.remote.path import path_of
from dictionary_learning.texts.chat import ChatTemplate
from dictionary_learning.texts.data_sets import LABELLED, DataSet
from dictionary_learning.texts.documents import (
    MESSAGES,
    counted,
    document_of,
    is_odd,
    told_left_out,
    told_odd,
)
from dictionary_learning.texts.folder import CARD, check_undivided, local_records
from dictionary_learning.texts.hub_stream import hub_records
from dictionary_learning.texts.records import HEAD, Record, as_unicode, fields_of, is_local, read_records
from dictionary_learning.texts.sae_probes import PREFIX, is_sae_probes, sae_probes_file
from dictionary_learning.texts.spans import Spans

DEMO_TOPICS = "demo"  # for --categories: the topics of the demo's extracts
DUPLICATE, NO_LABEL, NOT_LISTED = "there already", "without a class", "not in the list of categories"
OTHER_LABEL = "there already with another class"
SEVERAL = "with a list or an object in place of a class"
CATEGORIES = Path(__file__).with_name("wikipedia_categories.yaml")


class LabelledText(NamedTuple):
    """One text and its class."""

    text: str
    label: str  # empty where the data set has none
    title: str  # empty where the data set has none
    source: str  # where the text is from: its address, or the data set's name
    id: int  # of the text alone, or the messages, see `dictionary_learning.texts.documents.document_id`
    turns: Spans | None = None  # its characters that somebody said, of a chat


def _text(record: Record, fields: Mapping[str, str]) -> object:
    """What is in the text's field; a question with its answers, one a line, as questions are often short."""
    question = record.get(fields["text"])
    choices = record.get(fields["choices"]) if "choices" in fields else None
    if not isinstance(question, str) or not isinstance(choices, list):
        return question
    lines = [f"{letter}. {choice}" for letter, choice in zip("ABCDEFGHIJ", choices, strict=False)]
    return "\n".join([question, *lines])


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
    needs_label: bool = True,
    chat: ChatTemplate | None = None,
    log: Callable[[str], None] = say,
) -> list[LabelledText]:
    """A balanced random sample of texts with their classes.

    Args:
        dataset: one of `data_sets.LABELLED`, a local file, or with both fields any data set on the hub.
        data_path: a local copy of the data set, a file or a folder, instead of the hub.
        text_field, label_field: fields of a record, instead of the data set's own.
        categories: for wikipedia, the classes of articles by title: a JSON object `{title: class}`, or
            records with the fields `title` and `category`; "demo" for the topics of the demo's extracts;
            `built_in_categories` if not given.
        split: of a hub data set, instead of its own.
        max_texts: about so many in all, the same number for every class; a class that has fewer gives
            all. None takes every text.
        max_records: read so many records at most.
        seed: which texts are drawn.
        needs_label: False reads texts without a class as well (`label` is empty then), and lets all have
            the same; but of a data set in `data_sets.LABELLED` those with a class, as ever.
        chat: records are conversations: what stands in the field of the text, which is "messages" if
            `text_field` says no other, is rendered by it.
        log: gets a line that counts what was left out, by reason.

    Returns:
        Distinct texts; the classes take turns, so that the first n are balanced for any n.

    Raises:
        UserError: the data set or a field of it is not there, no record can be used, or all have the
            same class.
    """
    if max_texts is not None and max_texts < 2:
        raise UserError(f"--max_texts {max_texts} is too few to compare classes: ask for at least 2.")
    if chat is not None and text_field is None:
        if dataset in LABELLED:
            raise UserError(
                f"{dataset} has texts and no conversations: give another --dataset, or leave out "
                "--chat_template."
            )
        text_field = MESSAGES
    entry, name = _find(dataset, data_path, text_field, label_field, needs_label)
    records = _open(entry, dataset, data_path, split)
    records = islice(records, max_records or entry.max_records)
    head = list(islice(records, HEAD))
    there = fields_of(head)
    # a text of a data set that is known by name is one with a class
    may_lack_label = not needs_label and dataset not in LABELLED
    if may_lack_label and label_field is None and head and entry.fields["class"] not in there:
        entry = dataclasses.replace(entry, fields={"text": entry.fields["text"]})
    text_field, label_field = entry.fields["text"], entry.fields.get("class")
    titles = _read_categories(categories) if label_field is None and not may_lack_label else None
    for field, flag in ((text_field, "--text_field"), (label_field, "--label_field")):
        if head and field is not None and field not in there:
            raise UserError(
                f"{name} has no field {field!r}: choose one of its fields with {flag} ({', '.join(there)})."
            )
    sample = _Sample(max_texts, seed)
    left_out: Counter[str] = Counter()
    n_read = n_odd = 0
    for record in chain(head, records):
        n_read += 1
        label = record.get(label_field) if label_field is not None else None
        if titles is not None:
            label = titles.get(str(record.get("title")))
        document = document_of(_text(record, entry.fields), chat)
        class_ = class_name(label)
        if isinstance(document, str):
            left_out[document] += 1
            continue
        if not class_ and not may_lack_label:
            reason = NO_LABEL if titles is None else NOT_LISTED
            left_out[SEVERAL if isinstance(label, list | dict) else reason] += 1
            continue
        text, id_, turns = document
        title, source = record.get("title") or "", record.get("source") or record.get("url") or name
        there_as = sample.class_of(id_)
        is_new = there_as is None
        if is_new:
            sample.add(
                LabelledText(text, class_, as_unicode(str(title)), as_unicode(str(source)), id_, turns)
            )
        else:
            left_out[DUPLICATE if there_as == class_ else OTHER_LABEL] += 1
        n_odd += is_new and is_odd(text)
    _check(name, n_read, sample, text_field, label_field, needs_label, left_out)
    if left_out:
        log(told_left_out(name, n_read, left_out) + ".")
    if n_odd:
        log(told_odd(name, n_odd) + ".")
    return sample.texts()


def class_name(label: object) -> str:
    """What a class is called, whatever type it has in its file; empty for none, and for several.

    Blanks around a name do not make another class of it, nor does a figure that pandas has written as 1.0
    because the column lacks others.
    """
    if label is None or isinstance(label, list | dict):
        return ""
    if isinstance(label, float):
        if math.isnan(label):
            return ""
        label = int(label) if label.is_integer() else label
    return as_unicode(str(label).strip())


def _find(
    dataset: str,
    data_path: str | Path | None,
    text_field: str | None,
    label_field: str | None,
    needs_label: bool,
) -> tuple[DataSet, str]:
    """The data set of that name, or one described by the two fields; and what to call it."""
    name = f"{dataset} ({told(str(data_path))})" if data_path is not None else told(dataset)
    local = is_sae_probes(dataset) or is_local(dataset) or Path(dataset).is_dir()
    if dataset not in LABELLED and not local and not (text_field and (label_field or not needs_label)):
        fields = "--text_field and --label_field" if needs_label else "--text_field"
        raise UserError(
            f"there is no labelled data set {dataset!r}: choose {', '.join(LABELLED)}, {PREFIX}NAME, a local "
            f"file, or a data set on the hub with its {fields}."
        )
    entry = LABELLED.get(dataset) or DataSet(
        hub_id=dataset, fields={"text": "text", "class": "label"}, size="", licence=""
    )
    asked = {"text": text_field, "class": label_field}
    named = {**entry.fields, **{what: given for what, given in asked.items() if given}}
    return dataclasses.replace(entry, fields=named), name


def _open(entry: DataSet, dataset: str, data_path: str | Path | None, split: str | None) -> Iterator[Record]:
    usual = entry.split or "train"
    if data_path is None and dataset in LABELLED:
        if entry.corpora:
            check_undivided(dataset, split)
            from dictionary_learning.texts.demo_assets import corpus_path

            return chain.from_iterable(read_records(corpus_path(corpus)) for corpus in entry.corpora)
        assert entry.hub_id is not None
        records = hub_records(entry.hub_id, subset=entry.subset, split=split or usual)
        return _with_progress(records, entry.hub_id)
    if data_path is None and is_sae_probes(dataset):
        check_undivided(dataset, split)
        return read_records(sae_probes_file(dataset))
    path = path_of(data_path if data_path is not None else dataset)
    if data_path is not None and not path.exists():
        raise UserError(f"there is no file or folder {path}: check --data_path.")
    if path.is_dir():
        subset = entry.subset
        # a copy of the whole repository, or of the one folder
        if subset is not None and not (path / subset).is_dir() and not (path / CARD).is_file():
            subset = None
        records = local_records(path, split=split, usual_split=usual, subset=subset)
        return _with_progress(records, str(path))
    if path.is_file() or (data_path is None and is_local(dataset)):
        return local_records(path, split=split, usual_split=usual)
    return _with_progress(hub_records(dataset, subset=entry.subset, split=split or usual), dataset)


def _with_progress(records: Iterable[Record], name: str) -> Iterator[Record]:
    from tqdm import tqdm

    yield from tqdm(records, desc=f"reading {name}", unit=" records", dynamic_ncols=True, disable=None)


def _read_categories(asked: str | Path | None) -> Mapping[str, str]:
    """The class of each article by its title."""
    if asked is None:
        return built_in_categories()
    if str(asked) == DEMO_TOPICS:
        return {text.title: text.label for text in load_labelled("demo", log=lambda line: None)}
    path = path_of(asked)
    records = list(read_records(path))
    if all("title" in record and "category" in record for record in records):
        return {str(record["title"]): str(record["category"]) for record in records}
    if len(records) == 1 and all(isinstance(value, str) for value in records[0].values()):
        return records[0]
    raise UserError(
        f"{path} is no file of categories: give a JSON object of article titles and classes, or records with "
        f"the fields title and category."
    )


def built_in_categories() -> dict[str, str]:
    """The class of some Wikipedia articles by title: the demo's articles and those of `CATEGORIES`."""
    import yaml

    from dictionary_learning.texts.demo_assets import article_domains

    classes = yaml.safe_load(CATEGORIES.read_text(encoding="utf-8"))
    return article_domains() | {title: name for name, titles in classes.items() for title in titles}


def _check(
    name: str,
    n_read: int,
    sample: "_Sample",
    text_field: str,
    label_field: str | None,
    needs_label: bool,
    left_out: Counter[str],
) -> None:
    if not sample.labels:
        wanted = ""
        if needs_label:
            wanted = (
                " with a title in the list of categories (--categories)"
                if label_field is None
                else f" and a class in {label_field!r}"
            )
        raise UserError(
            f"none of the {n_read:,} records of {name} has a text in {text_field!r}{wanted} "
            f"({counted(left_out)}): check the fields and the file."
        )
    if needs_label and len(sample.labels) < 2:
        field, flag = (label_field, "--label_field") if label_field else ("category", "--categories")
        raise UserError(
            f"all texts of {name} have the one class {sample.labels[0]!r} in {field!r}: classes can only be "
            f"told apart where there are two; choose another {flag} or more data."
        )


class _Sample:
    """For every class the texts with the lowest hashes: random, but the same in any order of reading.

    The share of a class shrinks as classes appear, so memory is bounded, and a text that is let go
    would not have been in the final sample.
    """

    def __init__(self, max_texts: int | None, seed: int) -> None:
        self._max_texts = max_texts
        self._seed = seed
        self._class_of: dict[int, str] = {}
        # per class a heap of (-hash, text): the highest hash is on top
        self._kept: dict[str, list[tuple[int, LabelledText]]] = defaultdict(list)

    @property
    def labels(self) -> list[str]:
        return sorted(self._kept)

    def class_of(self, id_: int) -> str | None:
        """Of a text that was added, whether it is kept or not."""
        return self._class_of.get(id_)

    def add(self, text: LabelledText) -> None:
        """Add a text that was not added before."""
        self._class_of[text.id] = text.label
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
