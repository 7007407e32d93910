"""Texts at a URL are the documents that the same files are on this machine."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
import zstandard
from caches import forbid_language_model, refused
from stores import ShakyStore, put, put_folder

from dictionary_learning import cache_activations, train_temporal
from dictionary_learning.errors import UserError
from dictionary_learning.texts.documents import DocumentStream
from dictionary_learning.texts.folder import local_records
from dictionary_learning.texts.records import read_records

pytestmark = [pytest.mark.usefixtures("stores"), pytest.mark.filterwarnings("ignore")]

RECORDS = [{"text": f"Document {i}, größer.", "label": "ab"[i % 2]} for i in range(300)]
LINES = "".join(json.dumps(record) + "\n" for record in RECORDS)


def write_parquet(path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(RECORDS), path, row_group_size=50)


FILES: dict[str, Callable[[Path], object]] = {
    "a.jsonl": lambda path: path.write_text(LINES),
    "bad_lines.jsonl": lambda path: path.write_text(LINES + "{\n" + LINES),
    "marked.jsonl": lambda path: path.write_text(LINES, encoding="utf-16"),
    "a.jsonl.gz": lambda path: path.write_bytes(gzip.compress(LINES.encode())),
    "a.jsonl.zst": lambda path: path.write_bytes(zstandard.compress(LINES.encode())),
    "a.json": lambda path: path.write_text(json.dumps(RECORDS)),
    "a.csv": lambda path: path.write_text("text,label\n" + '"Two\nlines, quoted",a\n' * 200),
    "a.parquet": write_parquet,
    "a.txt": lambda path: path.write_text("A paragraph of a book.\n\n" * 2000),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("protocol", ["memory", "shaky", "file"])
def test_a_file_of_every_format_gives_the_same_records(name: str, protocol: str, tmp_path: Path) -> None:
    FILES[name](tmp_path / name)
    put(f"bucket/{name}", (tmp_path / name).read_bytes())
    place = f"file://{tmp_path}/{name}" if protocol == "file" else f"{protocol}://bucket/{name}"
    assert list(read_records(place)) == list(read_records(tmp_path / name))


@pytest.mark.parametrize("name", [name for name in FILES if name != "a.parquet"])
def test_a_connection_that_drops_loses_and_repeats_no_record(name: str, tmp_path: Path) -> None:
    FILES[name](tmp_path / name)
    put(f"bucket/{name}", (tmp_path / name).read_bytes())
    ShakyStore.drop_after = (tmp_path / name).stat().st_size // 2
    assert list(read_records(f"shaky://bucket/{name}")) == list(read_records(tmp_path / name))
    assert ShakyStore.drop_after is None, "it did drop"


def test_a_stream_goes_on_at_its_position(tmp_path: Path) -> None:
    dataset = put("bucket/a.jsonl", LINES)
    stream = DocumentStream.open(dataset, part="all")
    first = [next(stream).text for _ in range(100)]
    rest = [document.text for document in DocumentStream.open(dataset, part="all", start=stream.position)]
    assert first + rest == [record["text"] for record in RECORDS]


def card(data_files: dict[str, object]) -> str:
    """The README.md of a data set whose configurations have these files."""
    configs = [{"config_name": name, "data_files": files} for name, files in data_files.items()]
    return f"---\n{yaml.safe_dump({'configs': configs})}---\n"


FOLDERS: dict[str, dict[str, str]] = {
    "data wins over texts": {
        "a.jsonl": LINES,
        "LICENSE.txt": "MIT",
        ".hidden/b.jsonl": "{",
        "in/c.jsonl": LINES,
    },
    "the split of the names": {"train-1.jsonl": LINES, "test-1.jsonl": "{}\n"},
    "folders that say the split": {"train/a.jsonl": LINES, "test/a.jsonl": "{}\n"},
    "a document each": {"a.txt": "A.", "in/b.txt": "B.", "__MACOSX/._a.txt": "\0"},
    "a card": {
        "README.md": card({"default": [{"split": "train", "path": "one/*.jsonl"}]}),
        "one/a.jsonl": LINES,
        "two/b.jsonl": "{}\n",
    },
    "names with spaces and per cent": {"in here/a 100%.jsonl": LINES},
}


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_gives_the_same_records(
    folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, content in FOLDERS[folder].items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    url = put_folder(tmp_path, "bucket/texts")
    assert list(local_records(url, split="train")) == list(local_records(tmp_path, split="train")) != []
    here, there = (line for line in capsys.readouterr().err.splitlines()[::-1])
    assert there == here.replace(str(tmp_path), url)


def test_a_subset_is_a_configuration_of_the_card_or_a_folder() -> None:
    put("bucket/texts/README.md", card({"big": "one/*.jsonl", "small": "b.jsonl"}))
    put("bucket/texts/one/a.jsonl", LINES)
    put("bucket/texts/b.jsonl", '{"text": "B"}\n')
    url = "memory://bucket/texts"
    assert list(local_records(url, subset="small")) == [{"text": "B"}]
    assert list(local_records(url, subset="one")) == RECORDS
    with pytest.raises(UserError, match=r"the folder memory://bucket/texts cannot be opened"):
        local_records(url, subset="none")


@pytest.mark.parametrize(
    ("dataset", "said"),
    [
        ("memory://bucket/none.jsonl", "there is no file memory://bucket/none.jsonl"),
        ("memory://bucket/none", "there is no file memory://bucket/none"),
        ("memory://bucket/two", "holds 1 file of .csv and 1 file of .jsonl: give one of the files"),
        ("memory://bucket/arrow", "memory://bucket/arrow holds nothing that can be read at a URL"),
        ("memory://bucket/latin.txt", "memory://bucket/latin.txt is not UTF-8 (byte 3)"),
        ("memory://bucket/a.bin", "memory://bucket/a.bin has no suffix that can be read"),
        ("memory://bucket/two/a.jsonl", "memory://bucket/two/a.jsonl has no field 'text'"),
        ("shaky://bucket/two", "shaky://bucket/two cannot be reached (reset by peer)"),
        ("s4://bucket/a.jsonl", "s4://bucket/a.jsonl has the protocol s4://"),
    ],
)
def test_what_cannot_be_read_is_one_sentence_before_the_model_is_loaded(
    tmp_path: Path,
    tiny_lm_folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    dataset: str,
    said: str,
) -> None:
    forbid_language_model(monkeypatch)
    put("bucket/two/a.jsonl", '{"body": "A"}\n')
    put("bucket/two/b.csv", "text\nA\n")
    put("bucket/arrow/a.arrow", b"ARROW1")
    put("bucket/latin.txt", "Größe".encode("latin-1").replace(b"Gr", b"Gro"))
    put("bucket/a.bin", b"A")
    ShakyStore.drops = 1000
    where = ["--checkpoints_path", str(tmp_path / "runs"), "--device", "cpu"]
    words = ["--model", str(tiny_lm_folder), "--layer", "1", "--dataset", dataset, *where]
    assert said in refused(capsys, lambda: train_temporal.main(words))
    assert not (tmp_path / "runs").exists()


def test_a_cache_of_texts_at_a_url_is_the_one_of_the_texts_here(
    tmp_path: Path, cache_flags: list[str], written_cache: Path
) -> None:
    at = cache_flags.index("--dataset") + 1
    dataset = put("bucket/texts.jsonl", Path(cache_flags[at]).read_bytes())
    flags = [*cache_flags[:at], dataset, *cache_flags[at + 1 :]]
    cache_activations.main([*flags, "--activations", str(tmp_path / "cache")])
    for path in (tmp_path / "cache").glob("train*"):
        assert path.read_bytes() == (written_cache / path.name).read_bytes()
    assert json.loads((tmp_path / "cache" / "index.json").read_text())["options"]["dataset"] == dataset


def test_labelled_texts_and_preference_pairs_are_read_at_a_url(tiny_corpus: Path) -> None:
    from temporal_saes.alignment.pairs import load_pairs
    from temporal_saes.labelled.data import load_labelled

    url = put("bucket/labelled.jsonl", tiny_corpus.read_bytes())
    fields = {"label_field": "domain", "log": lambda line: None}
    here, there = (load_labelled(place, **fields) for place in (str(tiny_corpus), url))  # type: ignore[arg-type]
    assert [text.text for text in here] == [text.text for text in there]
    by_path = load_labelled("finefineweb", data_path=url, log=lambda line: None)
    assert {text.label for text in by_path} == {text.label for text in here}
    pairs = [
        {"chosen": f"Human: a\n\nAssistant: {i}", "rejected": f"Human: a\n\nAssistant: no {i}"}
        for i in range(12)
    ]
    put("bucket/pairs/a.jsonl", "".join(json.dumps(pair) + "\n" for pair in pairs))
    assert len(load_pairs("memory://bucket/pairs/a.jsonl").pairs) == 12
    assert len(load_pairs("hh-rlhf", data_path="memory://bucket/pairs").pairs) == 12
    with pytest.raises(UserError, match="there is no file or folder memory://bucket/none: check --data_path"):
        load_pairs("hh-rlhf", data_path="memory://bucket/none")
