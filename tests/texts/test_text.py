"""Documents: every local format, the demo, the hub with its drops, and the split into train and eval."""

import csv
import gzip
import json
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dictionary_learning.errors import UserError
from dictionary_learning.texts import documents, hub_stream
from dictionary_learning.texts.documents import Document, DocumentStream, document_id, is_eval
from dictionary_learning.texts.hub_stream import hub_records
from dictionary_learning.texts.records import is_damage, read_records

ROWS = [{"text": f"Text number {i}, with a comma\nand a second line.", "domain": "ä"} for i in range(5)]


def texts(stream: Iterator[Document]) -> list[str]:
    return [document.text for document in stream]


def write_jsonl(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write(folder: Path, suffix: str) -> Path:
    """ROWS in the format of a suffix."""
    path = folder / f"corpus{suffix}"
    lines = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
    if suffix == ".jsonl":
        path.write_bytes(lines)
    elif suffix == ".jsonl.gz":
        path.write_bytes(gzip.compress(lines))
    elif suffix == ".jsonl.zst":
        import zstandard

        # two frames, as in the Pile: a reader that stops after the first finds half
        compress = zstandard.ZstdCompressor().compress
        path.write_bytes(compress(lines[:200]) + compress(lines[200:]))
    elif suffix == ".json":
        path.write_text(json.dumps(ROWS))
    elif suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8-sig") as file:
            writer = csv.DictWriter(file, ["text", "domain"])
            writer.writeheader()
            writer.writerows(ROWS)
    elif suffix == ".parquet":
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)
    return path


SUFFIXES = [".jsonl", ".jsonl.gz", ".jsonl.zst", ".json", ".csv", ".parquet"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_format_gives_the_same_records(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path, suffix)
    assert list(read_records(path)) == ROWS
    assert texts(DocumentStream.open(str(path), part="all")) == [row["text"] for row in ROWS]


def test_json_may_be_wrapped_in_an_object_or_be_lines(tmp_path: Path) -> None:
    path = tmp_path / "corpus.json"
    path.write_text(json.dumps({"version": 1, "data": ROWS}))
    assert list(read_records(path)) == ROWS
    write_jsonl(path, ROWS)
    assert list(read_records(path)) == ROWS


def test_a_short_text_file_is_one_document(tmp_path: Path) -> None:
    path = tmp_path / "note.txt"
    path.write_text("One paragraph.\n\nAnother.\n", encoding="utf-8-sig")
    assert list(read_records(path)) == [{"text": "One paragraph.\n\nAnother."}]


def test_a_long_text_file_is_cut_at_blank_lines(tmp_path: Path) -> None:
    path = tmp_path / "book.txt"
    paragraphs = [f"Paragraph {i}. " + "word " * 300 for i in range(40)]  # 1,514 characters each
    path.write_text("\n\n".join(paragraphs))
    documents = [record["text"] for record in read_records(path)]
    # The seventh paragraph passes 10,000 characters: 40 = 5 * 7 + 5.
    assert [document.count("Paragraph") for document in documents] == [7, 7, 7, 7, 7, 5]
    assert "\n\n".join(documents).split() == path.read_text().split()


def test_a_book_without_blank_lines_is_cut_at_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "book.txt"
    path.write_text("a line of a poem\n" * 3_000)  # 51,000 characters
    documents = [record["text"] for record in read_records(path)]
    assert len(documents) == 3
    assert all(line == "a line of a poem" for document in documents for line in document.splitlines())


# --- wrong files ---


@pytest.mark.parametrize(
    ("suffix", "data"),
    [
        (".jsonl", b'{"text": "a"}\nnot json\n[1]\n{"text": "b\n\n{"text": "b"}\n'),
        (".json", b'{"text": "a"}\nnot json\n[1]\n{"text": "b\n\n{"text": "b"}\n'),
        (".csv", b'text,n\na,1\nshort\nlong,1,2\n"b"\nb,1\n'),
    ],
)
def test_bad_lines_are_counted_and_skipped(tmp_path: Path, suffix: str, data: bytes) -> None:
    path = tmp_path / f"corpus{suffix}"
    path.write_bytes(data)
    with pytest.warns(UserWarning, match="3 of 5 lines could not be read"):
        assert [record["text"] for record in read_records(path)] == ["a", "b"]


def test_a_file_that_breaks_off_gives_what_comes_before(tmp_path: Path) -> None:
    path = tmp_path / "corpus.jsonl.gz"
    rows = [{"text": f"{i} " + "x" * 10_000} for i in range(30)]
    data = gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode(), compresslevel=0)
    path.write_bytes(data[: len(data) // 2])
    with pytest.warns(UserWarning, match="damaged behind record"):
        read = list(read_records(path))
    assert read == rows[: len(read)]
    assert 5 < len(read) < 30


def write_parquet(path: Path, n: int, with_checksums: bool, **options: Any) -> list[dict[str, str]]:
    import pyarrow
    import pyarrow.parquet

    rows = [{"text": f"Page {i}: ein schöner Hafen."} for i in range(n)]
    table = pyarrow.Table.from_pylist(rows)
    pyarrow.parquet.write_table(table, path, write_page_checksum=with_checksums, **options)
    return rows


@pytest.mark.parametrize("with_checksums", [False, True])
def test_a_flipped_bit_of_a_parquet_file_is_told_as_far_as_it_can_be(
    tmp_path: Path, with_checksums: bool
) -> None:
    path = tmp_path / "pages.parquet"
    rows = write_parquet(path, 30, with_checksums)
    whole = path.read_bytes()
    outcomes: Counter[str] = Counter()
    for byte in range(0, len(whole), 23):
        flipped = bytearray(whole)
        flipped[byte] ^= 1 << byte % 8
        path.write_bytes(flipped)
        try:
            outcomes["same" if list(read_records(path)) == rows else "silent"] += 1
        except UserError as error:
            outcomes["refused" if str(path) in str(error) else "no name"] += 1
    assert outcomes["refused"] > 5
    assert outcomes["no name"] == 0
    # without checksums a letter may become another one
    assert (outcomes["silent"] == 0) is with_checksums


def test_damage_far_into_a_parquet_file_leaves_what_comes_before(tmp_path: Path) -> None:
    path = tmp_path / "pages.parquet"
    plain = {"compression": "none", "use_dictionary": False, "row_group_size": 1000}
    rows = write_parquet(path, 3000, with_checksums=True, **plain)
    data = bytearray(path.read_bytes())
    data[data.index(b"Page 2500")] ^= 1  # in the third group of rows
    path.write_bytes(data)
    with pytest.warns(UserWarning, match=f"{path.name}.*damaged behind record"):
        read = list(read_records(path))
    assert 1000 <= len(read) <= 2000
    assert read == rows[: len(read)]


def test_a_file_of_the_system_that_cannot_be_read_is_no_damage() -> None:
    assert is_damage(OSError("Corrupt snappy compressed data."))
    assert not is_damage(PermissionError(13, "Permission denied"))


def test_a_damaged_file_of_a_streamed_data_set_is_told(
    hub: str, monkeypatch: pytest.MonkeyPatch, waits: list[float]
) -> None:
    drop_at(monkeypatch, [30], OSError("Corrupt snappy compressed data."))
    with pytest.raises(UserError, match=r"is damaged behind record 30 \(Corrupt snappy"):
        list(hub_records(hub))
    assert waits == []


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".txt"])
def test_an_empty_file_is_an_error(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"corpus{suffix}"
    path.touch()
    with pytest.raises(UserError, match="holds no records"):
        list(read_records(path))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_corrupt_file_is_an_error(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"corpus{suffix}"
    path.write_bytes(b"\x00\x9f garbage \xff\n" * 50)
    with pytest.raises(UserError, match=f"{path.name} (holds no records|is not UTF-8)"):
        list(read_records(path))


def test_a_missing_file_and_an_unknown_suffix_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no file .*nothing\.jsonl"):
        DocumentStream.open(str(tmp_path / "nothing.jsonl"))
    path = tmp_path / "corpus.docx"
    path.touch()
    with pytest.raises(UserError, match=r"suffix .*\.jsonl"):
        DocumentStream.open(str(path))


def test_a_missing_text_field_names_the_fields_that_are_there(tiny_corpus: Path) -> None:
    with pytest.raises(UserError, match=r"no field 'body'.*text, domain, title, source"):
        DocumentStream.open(str(tiny_corpus), text_field="body")


def test_records_without_text_are_skipped_and_counted(tmp_path: Path) -> None:
    rows = [{"text": "a"}, {"text": None}, {"title": "b"}, {"text": "  "}, {"text": "\ud800"}, {"text": "b"}]
    path = write_jsonl(tmp_path / "gaps.jsonl", rows)
    with pytest.warns(UserWarning, match=r"4 of 6 .*2 without a text, 1 empty, 1 not valid Unicode"):
        assert texts(DocumentStream.open(str(path), part="all")) == ["a", "b"]


def test_a_file_whose_texts_are_all_empty_is_an_error(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "empty.jsonl", [{"text": ""}, {"text": None}])
    with pytest.raises(UserError, match="none of the 2 records"):
        list(DocumentStream.open(str(path)))


# --- the split ---


def test_train_and_eval_share_no_document_and_leave_none_out(tiny_corpus: Path) -> None:
    parts = {
        part: texts(DocumentStream.open(str(tiny_corpus), part=part, eval_share=0.3))
        for part in ("train", "eval", "all")
    }
    assert not set(parts["train"]) & set(parts["eval"])
    assert sorted(parts["train"] + parts["eval"]) == sorted(parts["all"])
    assert 8 <= len(parts["eval"]) <= 28  # 60 documents, .3 of them expected


@given(st.text(), st.floats(0, 1, exclude_max=True), st.floats(0, 1, exclude_max=True))
def test_a_larger_share_keeps_the_eval_documents_of_a_smaller_one(document: str, a: float, b: float) -> None:
    id_ = document_id(document.encode("utf-8", "replace").decode())
    assert 0 <= id_ < 2**63
    if is_eval(id_, min(a, b)):
        assert is_eval(id_, max(a, b))


def test_the_split_does_not_change_between_versions() -> None:
    # blake2b-8 of b"abc" is d8bb14d833d59559; half of that is dropped to 63 bits.
    assert document_id("abc") == 0xD8BB14D833D59559 >> 1


def test_a_part_without_documents_is_an_error(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "one.jsonl", [{"text": "abc"}])  # its hash is at .85 of the range
    assert texts(DocumentStream.open(str(path), part="train", eval_share=0.5)) == ["abc"]
    with pytest.raises(UserError, match=r"none of the 1 documents .* 'eval' at --eval_share 0\.5"):
        list(DocumentStream.open(str(path), part="eval", eval_share=0.5))


@pytest.mark.parametrize(("name", "value"), [("part", "test"), ("eval_share", 1.0), ("max_documents", 0)])
def test_wrong_options_are_named(tiny_corpus: Path, name: str, value: Any) -> None:
    with pytest.raises(UserError, match=f"{name} .*{value}"):
        DocumentStream.open(str(tiny_corpus), **{name: value})


# --- the position ---


@pytest.mark.parametrize("max_documents", [None, 7])
@pytest.mark.parametrize("part", ["train", "eval", "all"])
def test_a_stream_reopened_at_its_position_goes_on(
    tiny_corpus: Path, part: str, max_documents: int | None
) -> None:
    def reopened(start: int) -> DocumentStream:
        return DocumentStream.open(
            str(tiny_corpus), part=part, eval_share=0.3, start=start, max_documents=max_documents
        )

    stream = reopened(0)
    whole = texts(reopened(0))
    for i in range(len(whole)):
        assert texts(reopened(stream.position)) == whole[i:]
        assert next(stream).text == whole[i]
    assert texts(reopened(stream.position)) == []


def test_max_documents_counts_documents_of_the_part(tiny_corpus: Path) -> None:
    whole = texts(DocumentStream.open(str(tiny_corpus), part="train"))
    assert texts(DocumentStream.open(str(tiny_corpus), part="train", max_documents=9)) == whole[:9]


def test_the_demo_mixes_its_corpora_in_an_order_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import dictionary_learning.texts.demo_assets

    for name in ("articles", "addresses"):
        write_jsonl(tmp_path / f"{name}.jsonl", [{"text": f"{name} {i}"} for i in range(100)])
    monkeypatch.setattr(
        dictionary_learning.texts.demo_assets, "corpus_path", lambda name: tmp_path / f"{name}.jsonl"
    )
    whole = texts(DocumentStream.open("demo", part="all"))
    assert len(whole) == 200
    assert whole == texts(DocumentStream.open("demo", part="all"))
    for quarter in range(0, 200, 50):
        n_articles = sum(document.startswith("articles") for document in whole[quarter : quarter + 50])
        assert 10 <= n_articles <= 40
    # Evaluation documents are not the first ones of that order.
    places = [whole.index(document) for document in texts(DocumentStream.open("demo", part="eval"))]
    assert max(places) > 100


# --- the hub ---


@pytest.fixture
def hub(tmp_path: Path) -> str:
    """A data set repository with two splits, the first in two shards; `datasets` reads it like the hub's."""
    folder = tmp_path / "repository"
    folder.mkdir()
    for shard in range(2):
        rows = [{"text": f"train {shard * 1500 + i}"} for i in range(1500)]
        write_jsonl(folder / f"train-0000{shard}-of-00002.jsonl", rows)
    write_jsonl(folder / "test.jsonl", [{"text": "test 0"}])
    return str(folder)


class Dropping:
    """A streaming data set whose connection drops before the records that `drops` names, each once."""

    def __init__(self, stream: Any, drops: list[int], error: Exception, start: int = 0) -> None:
        self.stream, self.drops, self.error, self.position = stream, drops, error, start

    def skip(self, n: int) -> "Dropping":
        return Dropping(self.stream.skip(n), self.drops, self.error, self.position + n)

    def state_dict(self) -> dict[str, Any]:
        return {"inner": self.stream.state_dict(), "position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.stream.load_state_dict(state["inner"])
        self.position = state["position"]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for record in self.stream:
            if self.drops and self.drops[0] == self.position:
                self.drops.pop(0)
                raise self.error
            self.position += 1
            yield record


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that would have been slept."""
    waited: list[float] = []
    # in this module alone: other threads of the process sleep, too
    patched = SimpleNamespace(**vars(time) | {"sleep": waited.append})
    monkeypatch.setattr(hub_stream, "time", patched)
    return waited


def drop_at(monkeypatch: pytest.MonkeyPatch, drops: list[int], error: Exception) -> None:
    import datasets

    load = datasets.load_dataset
    monkeypatch.setattr(
        datasets, "load_dataset", lambda *args, **kwargs: Dropping(load(*args, **kwargs), drops, error)
    )


def test_a_hub_data_set_is_streamed_by_split(hub: str) -> None:
    assert [record["text"] for record in hub_records(hub)] == [f"train {i}" for i in range(3000)]
    assert texts(DocumentStream.open(hub, split="test", part="all")) == ["test 0"]


@pytest.mark.parametrize("start", [0, 700])
def test_a_dropped_connection_loses_and_repeats_nothing(
    hub: str, monkeypatch: pytest.MonkeyPatch, waits: list[float], start: int
) -> None:
    # In the middle, at a remembered place, right behind it, three times in a row, and in the second shard.
    drop_at(monkeypatch, [800, 1700, 1701, 2500, 2500, 2500, 2999], ConnectionError("reset by peer"))
    with pytest.warns(UserWarning, match="dropped at record 2,500"):
        read = [record["text"] for record in hub_records(hub, start=start)]
    assert read == [f"train {i}" for i in range(start, 3000)]
    assert waits == [1, 1, 1, 1, 2, 4, 1]  # a record that comes through ends the back-off


def test_a_hub_that_stays_away_ends_with_a_sentence(
    hub: str, monkeypatch: pytest.MonkeyPatch, waits: list[float]
) -> None:
    drop_at(monkeypatch, [30] * 100, TimeoutError("timed out"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(
            UserError, match=r"cannot be reached .* behind record 30 \(timed out\).*--dataset demo"
        ):
            list(hub_records(hub))
    assert waits == list(hub_stream._WAITS)


def test_an_error_that_is_no_drop_is_raised(hub: str, monkeypatch: pytest.MonkeyPatch) -> None:
    drop_at(monkeypatch, [30], KeyError("bug"))
    with pytest.raises(KeyError, match="bug"):
        list(hub_records(hub))


def test_a_wrong_split_or_subset_names_those_that_are_there(hub: str) -> None:
    with pytest.raises(UserError, match=r"validation.*\['train', 'test'\]"):
        hub_records(hub, split="validation")
    with pytest.raises(UserError, match=r"english.*\['default'\]"):
        hub_records(hub, subset="english")


class AnswerError(Exception):
    """An HTTP error with a status."""

    def __init__(self, status: int) -> None:
        super().__init__(f"{status} from the server")
        self.status = status


AnswerError.__module__ = "aiohttp.client_exceptions"


@pytest.mark.parametrize(("status", "is_drop"), [(404, False), (401, False), (429, True), (503, True)])
def test_only_answers_that_may_change_are_tried_again(status: int, is_drop: bool) -> None:
    assert hub_stream.is_drop(AnswerError(status)) is is_drop


def test_an_unreachable_hub_is_told_at_once(monkeypatch: pytest.MonkeyPatch, waits: list[float]) -> None:
    import huggingface_hub

    def fail(*args: Any, **kwargs: Any) -> None:
        raise ConnectionError("Name or service not known")

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", fail)
    with pytest.raises(UserError, match=r"'some/corpus' cannot be reached .*--dataset demo or a local file"):
        DocumentStream.open("some/corpus")
    assert waits == [1, 2]


def test_offline_mode_is_told_at_once() -> None:
    with pytest.raises(UserError, match="'some/corpus' cannot be reached"):
        DocumentStream.open("some/corpus")


def test_a_name_that_is_no_data_set_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    with pytest.raises(UserError, match="'not a name' cannot be opened"):
        DocumentStream.open("not a name")


def test_the_module_does_not_import_heavy_libraries() -> None:
    import subprocess
    import sys

    code = (
        f"import sys, {documents.__name__}\n"
        "assert not {'datasets', 'pyarrow', 'transformers', 'huggingface_hub'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("first", "n", "said"),
    [
        (3, 4, r"has 3 records, and none of them is for process 3 of 4, .*: start fewer processes"),
        (2, 3, r"none of the 1 records of documents that are for process 2 of 3 has a text in the field"),
    ],
)
def test_a_process_for_which_there_is_no_text_says_so(first: int, n: int, said: str) -> None:
    records = iter([{"text": "The court sat."}, {"text": "A comet rose."}, {"text": ""}])
    with pytest.raises(UserError, match=said):
        list(DocumentStream(records, every=(first, n)))
