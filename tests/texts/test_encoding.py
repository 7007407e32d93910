"""Encodings: what a byte order mark says is read, anything else than UTF-8 is refused, wherever texts are."""

import codecs
import csv
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from dictionary_learning.errors import UserError
from dictionary_learning.texts import encoding
from dictionary_learning.texts.documents import DocumentStream
from dictionary_learning.texts.encoding import read_text
from dictionary_learning.texts.records import read_records
from temporal_saes.labelled.data import load_labelled
from temporal_saes.labelled.passages import passages_of_files
from temporal_saes.report.command import ReportOptions, given_text
from temporal_saes.similarity.sentences import read_sentences
from temporal_saes.steering.prompts import read_prompts

TEXTS = ["Page one: a café by the harbour.", "你好 and 🚣, 'twice'."]


def documents(path: Path) -> list[str]:
    return [document.text for document in DocumentStream.open(str(path), part="all")]


def as_folder(folder: Path, encode: Callable[[str], bytes]) -> list[str]:
    for i, text in enumerate(TEXTS):
        (folder / f"{i}.txt").write_bytes(encode(text))
    return documents(folder)


def as_txt(folder: Path, encode: Callable[[str], bytes]) -> list[str]:
    path = folder / "both.txt"
    path.write_bytes(encode("\n".join(TEXTS)))
    return documents(path)[0].split("\n")


def json_lines() -> str:
    return "".join(json.dumps({"text": t, "label": t[:3]}, ensure_ascii=False) + "\n" for t in TEXTS)


def as_jsonl(folder: Path, encode: Callable[[str], bytes]) -> list[str]:
    path = folder / "both.jsonl"
    path.write_bytes(encode(json_lines()))
    return documents(path)


def as_gz(folder: Path, encode: Callable[[str], bytes]) -> list[str]:
    path = folder / "both.jsonl.gz"
    path.write_bytes(gzip.compress(encode(json_lines())))
    return documents(path)


def as_zst(folder: Path, encode: Callable[[str], bytes]) -> list[str]:
    import zstandard

    path = folder / "both.jsonl.zst"
    path.write_bytes(zstandard.compress(encode(json_lines())))
    return documents(path)


def as_json(folder: Path, encode: Callable[[str], bytes]) -> list[str]:
    path = folder / "both.json"
    path.write_bytes(encode(json.dumps([{"text": text} for text in TEXTS], ensure_ascii=False)))
    return documents(path)


@pytest.mark.parametrize(
    "written",
    [
        'text,n\n"one; two",1\n',
        'text;n\n"one; two";1\n',
        "text\tn\r\none; two\t1\r\n",
        "\ntext, n\none; two,1\n",
        "text,n,text\none; two,1,another\n",
    ],
)
def test_a_csv_has_commas_semicolons_or_tabs_and_the_first_of_two_columns_with_one_name(tmp_path, written):
    (tmp_path / "a.csv").write_text(written, newline="")
    assert list(read_records(tmp_path / "a.csv")) == [{"text": "one; two", "n": "1"}]


def as_csv(folder: Path, encode: Callable[[str], bytes]) -> list[str]:
    buffer = io.StringIO()
    csv.writer(buffer).writerows([["text", "n"], *([text, "1"] for text in TEXTS)])
    path = folder / "both.csv"
    path.write_bytes(encode(buffer.getvalue()))
    return documents(path)


def as_labelled(folder: Path, encode: Callable[[str], bytes]) -> list[str]:
    path = folder / "labelled.jsonl"
    path.write_bytes(encode(json_lines()))
    return sorted((text.text for text in load_labelled(str(path))), key=TEXTS.index)


def as_prompts(folder: Path, encode: Callable[[str], bytes]) -> list[str]:
    path = folder / "prompts.txt"
    path.write_bytes(encode("\r\n".join(TEXTS)))
    return read_prompts(path)


def as_sentences(folder: Path, encode: Callable[[str], bytes]) -> list[str]:
    path = folder / "sentences.txt"
    path.write_bytes(encode("\n".join(TEXTS)))
    return read_sentences(path)


def as_passages(folder: Path, encode: Callable[[str], bytes]) -> list[str]:
    paths = [folder / f"{i}.txt" for i in range(2)]
    for path, text in zip(paths, TEXTS, strict=True):
        path.write_bytes(encode(text))
    return [passage.text for passage in passages_of_files(paths)]


def as_report(folder: Path, encode: Callable[[str], bytes]) -> list[str]:
    path = folder / "text.txt"
    path.write_bytes(encode("\n".join(TEXTS)))
    text = given_text(ReportOptions(run_name="x", text_file=str(path)))
    return (text or "").split("\n")


WAYS = [
    as_folder,
    as_txt,
    as_jsonl,
    as_gz,
    as_zst,
    as_json,
    as_csv,
    as_labelled,
    as_prompts,
    as_sentences,
    as_passages,
    as_report,
]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("mark", "codec"),
    [
        (b"", "utf-8"),
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
        (codecs.BOM_UTF32_LE, "utf-32-le"),
        (codecs.BOM_UTF32_BE, "utf-32-be"),
    ],
)
def test_texts_are_read_as_their_byte_order_mark_says(
    tmp_path: Path, way: Callable[..., list[str]], mark: bytes, codec: str
) -> None:
    assert way(tmp_path, lambda text: mark + text.encode(codec)) == TEXTS


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("encode", "sentence"),
    [
        (
            lambda text: b"caf\xe9 " + text.encode(),
            r"(txt|json|gz|zst|csv|jsonl) is not UTF-8 \(byte 3\): .*iconv",
        ),
        (lambda text: text.encode("utf-16-le"), "NUL .byte 1.*iconv -f utf-16le|is not UTF-8"),
        (
            lambda text: codecs.BOM_UTF16_LE + text.encode("utf-16-le") + b"\x00\xd8",
            "UTF-16-LE that its byte order",
        ),
    ],
)
def test_other_texts_are_refused_in_the_same_sentence_everywhere(
    tmp_path: Path, way: Callable[..., list[str]], encode: Callable[[str], bytes], sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        way(tmp_path, encode)


@pytest.mark.parametrize("chunk", [1, 2, 7, 1 << 20])
@pytest.mark.parametrize("n_before", [0, 1, 5, 100])
def test_the_byte_that_is_wrong_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int, n_before: int
) -> None:
    monkeypatch.setattr(encoding, "_CHUNK_BYTES", chunk)
    path = tmp_path / "a.txt"
    before = "é".encode() * n_before
    path.write_bytes(before + b"\xe9 good")
    with pytest.raises(UserError, match=rf"\(byte {2 * n_before}\)"):
        read_text(path)
    path.write_bytes(codecs.BOM_UTF8 + before + b"\xe9 good")
    with pytest.raises(UserError, match=rf"\(byte {2 * n_before + 3}\)"):
        read_text(path)
    path.write_bytes(before + b"\0 good")
    with pytest.raises(UserError, match=rf"NUL \(byte {2 * n_before}\)"):
        read_text(path)
    # a character that is cut off by the end of the file
    path.write_bytes(before + b"\xe4\xbd")
    with pytest.raises(UserError, match=rf"\(byte {2 * n_before}\)"):
        read_text(path)


def test_files_that_were_put_together_may_have_a_mark_in_the_middle(tmp_path: Path) -> None:
    path = tmp_path / "both.jsonl"
    path.write_bytes(b"".join(codecs.BOM_UTF8 + json.dumps({"text": t}).encode() + b"\n" for t in "ab"))
    assert documents(path) == ["a", "b"]


def test_a_letter_that_only_looks_like_a_line_end_ends_no_record(tmp_path: Path) -> None:
    path = tmp_path / "one.jsonl"
    path.write_text(json.dumps({"text": "a\u2028b\x85c"}, ensure_ascii=False) + "\n", encoding="utf-8")
    assert documents(path) == ["a\u2028b\x85c"]


def test_documents_with_the_marks_of_a_wrong_encoding_are_counted(tmp_path: Path) -> None:
    rows = ["caf\ufffd", "\ufeffPage", "N\0U\0L", "right"]
    path = tmp_path / "odd.jsonl"
    path.write_text("".join(json.dumps({"text": row, "label": row[-1]}) + "\n" for row in rows))
    with pytest.warns(UserWarning, match="3 documents hold U"):
        assert documents(path) == rows
    lines: list[str] = []
    load_labelled(str(path), log=lines.append)
    assert ["3 documents hold U" in line for line in lines] == [True]


def test_a_file_that_is_not_there_is_told_under_the_name_of_its_flag(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--prompts .*none\.txt cannot be read \(No such file"):
        read_prompts(tmp_path / "none.txt")
    with pytest.raises(UserError, match=r"--text_file .* cannot be read \(Is a directory"):
        given_text(ReportOptions(run_name="x", text_file=str(tmp_path)))
