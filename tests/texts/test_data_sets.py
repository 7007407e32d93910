"""Every data set of the table, opened as from the hub and from a local copy, with `datasets` itself.

The copies are tiny and have the layout of the hub's. `datasets` takes a folder of the name of a hub data set
for the data set, so in the folder that holds the copies every name is opened without the hub.
"""

import gzip
import io
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import yaml
import zstandard

from dictionary_learning.activations.options import from_anywhere
from dictionary_learning.command.options import preset_names, read_preset
from dictionary_learning.jobs.options import TrainOptions
from dictionary_learning.texts import data_sets
from dictionary_learning.texts.data_sets import KINDS, LABELLED, PREFERENCES, TEXTS
from dictionary_learning.texts.documents import DocumentStream
from temporal_saes.alignment.pairs import load_pairs
from temporal_saes.labelled.data import built_in_categories, load_labelled

ROOT = Path(__file__).parents[2]


def lines(records: list[dict]) -> bytes:
    return "".join(json.dumps(record) + "\n" for record in records).encode()


def parquet(records: list[dict]) -> bytes:
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(records), buffer)
    return buffer.getvalue()


def question(i: int, subject: str) -> dict:
    choices = ["one", "two", "three", "four"]
    return {"question": f"What is {i}?", "subject": subject, "choices": choices, "answer": 0}


def pair(i: int, name: str) -> dict:
    asked = f"\n\nHuman: What is {i}?\n\nAssistant:"
    return {"chosen": f"{asked} It is {name} {i}.", "rejected": f"{asked} None of it, {name} {i}."}


def configurations(**files: dict[str, str]) -> bytes:
    """The head of a data set's card, that names its configurations and splits."""
    configs = [
        {
            "config_name": name,
            "data_files": [{"split": split, "path": path} for split, path in splits.items()],
        }
        for name, splits in files.items()
    ]
    return f"---\n{yaml.safe_dump({'configs': configs})}---\n".encode()


PAGES = [{"text": f"Page {i}.", "domain": ("law", "music")[i % 2], "url": f"https://{i}"} for i in range(6)]
ARTICLES = [
    {"id": str(i), "url": f"https://{title}", "title": title, "text": f"On {title}."}
    for i, title in enumerate(["Anarchism", "Jazz", "Some title that nobody knows"])
]
QUESTIONS = [question(i, subject) for i, subject in enumerate(["anatomy", "virology"])]
FILES = {
    "monology/pile-uncopyrighted": {
        "train/00.jsonl.zst": zstandard.compress(lines([{"text": f"train {i}", "meta": {}} for i in "abc"])),
        "val.jsonl.zst": zstandard.compress(lines([{"text": "validation", "meta": {}}])),
        "test.jsonl.zst": zstandard.compress(lines([{"text": "test", "meta": {}}])),
    },
    "m-a-p/FineFineWeb-test": {
        "law.jsonl": lines(PAGES[::2]),
        "music.jsonl": lines(PAGES[1::2]),
    },
    "wikimedia/wikipedia": {
        "README.md": configurations(
            **{
                "20231101.en": {"train": "20231101.en/train-*"},
                "20231101.de": {"train": "20231101.de/train-*"},
            }
        ),
        "20231101.en/train-00000-of-00001.parquet": parquet(ARTICLES),
        "20231101.de/train-00000-of-00001.parquet": parquet(
            [{**article, "text": "Auf Deutsch."} for article in ARTICLES]
        ),
    },
    "cais/mmlu": {
        "README.md": configurations(
            all={"test": "all/test-*", "validation": "all/validation-*"}, anatomy={"test": "anatomy/test-*"}
        ),
        "all/test-00000-of-00001.parquet": parquet(QUESTIONS),
        "all/validation-00000-of-00001.parquet": parquet(
            [question(7, "marketing"), question(8, "prehistory")]
        ),
        "anatomy/test-00000-of-00001.parquet": parquet(QUESTIONS[:1]),
    },
    "Anthropic/hh-rlhf": {
        f"{part}/{split}.jsonl.gz": gzip.compress(lines([pair(i, f"{part} {split}") for i in range(12)]))
        for part in ("harmless-base", "helpful-base")
        for split in ("train", "test")
    },
}


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a copy of every hub data set at `<owner>/<name>`."""
    folder = tmp_path_factory.mktemp("hub")
    for name, files in FILES.items():
        for file, content in files.items():
            path = folder / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    return folder


def check_pile(place: str | None) -> None:
    documents = DocumentStream.open(place or "pile", part="all")
    assert [document.text for document in documents] == ["train a", "train b", "train c"]


def check_finefineweb(place: str | None) -> None:
    texts = load_labelled("finefineweb", data_path=place)
    assert Counter(text.label for text in texts) == {"law": 3, "music": 3}
    assert {text.source for text in texts} == {f"https://{i}" for i in range(6)}


def check_wikipedia(place: str | None) -> None:
    texts = load_labelled("wikipedia", data_path=place)
    assert {(text.text, text.label) for text in texts} == {
        ("On Anarchism.", "philosophy and religion"),
        ("On Jazz.", "arts"),
    }


def check_mmlu(place: str | None) -> None:
    texts = load_labelled("mmlu", data_path=place)
    assert {(text.text, text.label) for text in texts} == {
        ("What is 0?\nA. one\nB. two\nC. three\nD. four", "anatomy"),
        ("What is 1?\nA. one\nB. two\nC. three\nD. four", "virology"),
    }


def check_hh_rlhf(place: str | None) -> None:
    pairs = load_pairs("hh-rlhf", data_path=place).pairs
    assert len(pairs) == 12
    assert pairs[3].prompt == "\n\nHuman: What is 3?\n\nAssistant:"
    assert pairs[3].chosen == " It is harmless-base train 3."


CHECKS: dict[str, Callable[[str | None], None]] = {
    "pile": check_pile,
    "finefineweb": check_finefineweb,
    "wikipedia": check_wikipedia,
    "mmlu": check_mmlu,
    "hh-rlhf": check_hh_rlhf,
}


def of_the_hub() -> dict[str, str]:
    known = {**TEXTS, **LABELLED, **PREFERENCES}
    return {name: entry.hub_id for name, entry in known.items() if entry.hub_id is not None}


def test_every_data_set_of_the_hub_is_opened_here():
    assert of_the_hub().keys() == CHECKS.keys()
    assert set(of_the_hub().values()) == FILES.keys()


@pytest.mark.parametrize("name", CHECKS)
def test_a_name_opens_the_hubs_data_set_with_its_own_configuration_and_split(copies, monkeypatch, name):
    monkeypatch.chdir(copies)
    CHECKS[name](None)


@pytest.mark.parametrize("name", CHECKS)
def test_a_copy_of_the_whole_repository_is_read_alike(copies, name):
    CHECKS[name](str(copies / of_the_hub()[name]))


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("pile", "train/00.jsonl.zst"),
        ("wikipedia", "20231101.en"),
        ("wikipedia", "20231101.en/train-00000-of-00001.parquet"),
        ("mmlu", "all"),
        ("mmlu", "all/test-00000-of-00001.parquet"),
        ("hh-rlhf", "harmless-base"),
        ("hh-rlhf", "harmless-base/train.jsonl.gz"),
    ],
)
def test_a_copy_of_the_part_that_is_read_will_do(copies, name, part):
    CHECKS[name](str(copies / of_the_hub()[name] / part))


def test_another_split_of_a_copy_is_read_where_it_is_asked_for(copies):
    for place in (copies / "cais/mmlu", copies / "cais/mmlu/all"):
        texts = load_labelled("mmlu", data_path=place, split="validation")
        assert {text.label for text in texts} == {"marketing", "prehistory"}


def test_the_presets_train_on_data_sets_of_the_table():
    places = {*TEXTS, *(entry.hub_id for entry in TEXTS.values())}
    assert {read_preset(name)["dataset"] for name in preset_names()} <= places
    assert TrainOptions().dataset == TEXTS["pile"].hub_id


def test_a_run_records_where_its_texts_are_from():
    assert from_anywhere("pile") == "monology/pile-uncopyrighted"
    assert from_anywhere("demo") == "demo"


@pytest.mark.parametrize("kind", KINDS)
def test_the_documentation_has_the_table(kind):
    page = (ROOT / "docs" / "datasets.md").read_text(encoding="utf-8")
    assert data_sets.table(kind) in page


def test_the_documentation_counts_the_articles_with_a_class():
    page = (ROOT / "docs" / "datasets.md").read_text(encoding="utf-8")
    assert f"97 + {len(built_in_categories()) - 97} well-known articles" in page


def test_the_module_prints_every_table(capsys):
    data_sets.main()
    printed = capsys.readouterr().out
    assert all(f"| `{name}` |" in printed for entries in KINDS.values() for name in entries)
