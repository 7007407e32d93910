"""What a folder is read as: which files, which split, one document or many, and the line that says it."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import datasets
import pytest

from dictionary_learning.errors import UserError
from dictionary_learning.texts import folder as folder_module
from dictionary_learning.texts.documents import DocumentStream
from dictionary_learning.texts.folder import data_splits, local_records
from dictionary_learning.texts.records import FORMATS
from temporal_saes.alignment.pairs import load_pairs
from temporal_saes.labelled.data import load_labelled

PAGES = [f"Page {i}: boats leave the harbour." for i in range(5)]


def lines(texts: list[str]) -> bytes:
    return "".join(json.dumps({"text": text, "label": text[:6]}) + "\n" for text in texts).encode()


def parquet(texts: list[str]) -> bytes:
    import pyarrow
    import pyarrow.parquet

    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([{"text": text} for text in texts]), buffer)
    return buffer.getvalue()


def table(texts: list[str]) -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer).writerows([["text"], *([text] for text in texts)])
    return buffer.getvalue().encode()


def fill(folder: Path, files: dict[str, bytes | str]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def documents(folder: Path, **options: str) -> list[str]:
    return [document.text for document in DocumentStream.open(str(folder), part="all", **options)]


# --- data and text files ---


@pytest.mark.parametrize("beside", ["LICENSE.txt", "requirements.txt", "notes.txt", "urls.TXT"])
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("train.jsonl", lines(PAGES)),
        ("pages.parquet", parquet(PAGES)),
        ("pages.csv", table(PAGES)),
        ("data/train-00000-of-00001.parquet", parquet(PAGES)),
        ("data/pages.jsonl", lines(PAGES)),
    ],
)
def test_a_text_file_beside_data_does_not_hide_them(
    tmp_path: Path, name: str, content: bytes, beside: str
) -> None:
    fill(tmp_path, {name: content, beside: "Anyone may use this."})
    assert documents(tmp_path) == PAGES


def test_a_clone_of_a_repository_gives_its_data_alone(tmp_path: Path) -> None:
    copy = {
        "data/pages.jsonl": lines(PAGES),
        "README.md": "# Pages\n",
        "LICENSE.txt": "Anyone may use this.",
        "dataset_infos.json": "{}",
        ".git/hooks/pre-commit.json": "[1]",
        ".git/description.txt": "Unnamed repository",
        ".cache/huggingface/download/pages.jsonl": lines(["stale"]),
        "._LICENSE.txt": b"\x00\x05\x16\x07 Mac OS X",
        "data/._pages.jsonl": b"\x00\x05\x16\x07 Mac OS X",
    }
    fill(tmp_path, copy)
    assert documents(tmp_path) == PAGES
    assert {text.text for text in load_labelled(str(tmp_path))} == set(PAGES)


def test_text_files_alone_are_a_document_each_at_any_depth(tmp_path: Path) -> None:
    article = "A line.\n\nA second line of the article.\nA third."
    names = ["part0/a.txt", "part0/b.TXT", "part1/a.txt", "c.txt"]
    fill(tmp_path, {name: f"{name}\n{article}" for name in names})
    fill(tmp_path, {"._c.txt": b"\x00\x05\x16\x07", ".hidden/d.txt": "hidden"})
    assert sorted(documents(tmp_path)) == sorted(f"{name}\n{article}" for name in names)


@pytest.mark.parametrize("name", ["corpus.txt", "corpus.json"])
def test_a_folder_may_be_named_like_a_file(tmp_path: Path, name: str) -> None:
    folder = fill(tmp_path / name, {"pages.jsonl": lines(PAGES)})
    assert documents(folder) == PAGES
    assert len(load_labelled(str(folder))) == 5


def test_two_formats_are_refused_by_name(tmp_path: Path) -> None:
    fill(tmp_path, {"pages.jsonl": lines(PAGES), "more.jsonl": lines(PAGES), "pages.csv": table(PAGES)})
    with pytest.raises(UserError, match=r"1 file of \.csv and 2 files of \.jsonl: give one of the files"):
        local_records(tmp_path)


def test_a_folder_without_anything_to_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be opened"):
        documents(tmp_path)


@pytest.mark.parametrize("name", ["notes.md", "speech.mp3", "page.xml"])
def test_a_folder_of_other_files_than_texts_is_told_with_the_formats_that_are_read(
    tmp_path: Path, name: str
) -> None:
    fill(tmp_path, {name: "<a>no data set</a>"})
    with pytest.raises(UserError) as raised:
        documents(tmp_path)
    assert str(raised.value).startswith(f"the folder {tmp_path} cannot be opened as a data set of texts (")
    assert str(raised.value).endswith("or give a folder with files of " + ", ".join(FORMATS) + ".")


def test_a_folder_whose_files_take_a_package_that_is_not_there_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, {"a.pdf": "%PDF"})
    missing = ImportError("please install 'pdfplumber'")

    def records() -> Iterator[dict[str, str]]:
        raise missing
        yield {}

    for opened in (Mock(side_effect=missing), Mock(return_value=records())):
        monkeypatch.setattr(datasets, "load_dataset", opened)
        with pytest.raises(UserError, match=r"as a data set of texts \(please install 'pdfplumber'\)"):
            documents(tmp_path)


def test_a_link_to_data_elsewhere_is_followed_and_one_back_is_not(tmp_path: Path) -> None:
    fill(tmp_path / "elsewhere", {"pages.jsonl": lines(PAGES)})
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "data").symlink_to(tmp_path / "elsewhere")
    (folder / "back").symlink_to(folder)
    assert documents(folder) == PAGES


# --- splits ---

LAYOUTS = [
    ["pages.jsonl", "more.jsonl"],
    ["train.jsonl", "test.jsonl", "LICENSE.jsonl"],
    ["data/train-00000-of-00002.jsonl", "data/train-00001-of-00002.jsonl", "data/dev-00000-of-00001.jsonl"],
    ["data/train_sft-00000-of-00001.jsonl", "data/test_sft-00000-of-00001.jsonl"],
    ["train/00.jsonl", "val.jsonl", "test.jsonl"],
    ["training/a.jsonl", "dev/a.jsonl", "testing/a.jsonl"],
    ["my_train_file.jsonl", "eval-2.jsonl", "contest.jsonl", "trains.jsonl"],
    ["en/train.jsonl", "de/validation.jsonl", "de/other.jsonl"],
    ["2024 test/a.jsonl", "2024 train/b.jsonl", "c.jsonl"],
    ["latest.jsonl", "developer.jsonl"],
    ["evaluation.jsonl"],
]


@pytest.mark.parametrize("names", LAYOUTS)
def test_splits_are_those_that_the_datasets_library_finds(tmp_path: Path, names: list[str]) -> None:
    from datasets.data_files import DataFilesDict, get_data_patterns

    fill(tmp_path, {name: lines([name]) for name in names})
    patterns = get_data_patterns(str(tmp_path))
    theirs = DataFilesDict.from_patterns(patterns, str(tmp_path))
    ours = data_splits(tmp_path, [tmp_path / name for name in names])
    assert {str(split): {Path(file) for file in files} for split, files in theirs.items()} == {
        split or "train": set(files) for split, files in ours.items()
    }


def test_the_split_that_is_asked_for_is_read(tmp_path: Path) -> None:
    fill(tmp_path, {f"{split}.jsonl": lines([split]) for split in ("train", "validation", "test")})
    assert documents(tmp_path) == ["train"]
    assert documents(tmp_path, split="validation") == ["validation"]
    with pytest.raises(UserError, match=r"no split 'dev': .* test and train and validation; .*--split"):
        documents(tmp_path, split="dev")


def test_text_files_have_the_split_of_a_folder_and_not_of_their_titles(tmp_path: Path) -> None:
    essays = fill(tmp_path / "essays", {"test of time.txt": "a", "train.txt": "b", "c.txt": "c"})
    assert sorted(documents(essays)) == ["a", "b", "c"]
    reviews = {
        "train/pos/1.txt": "good",
        "train/neg/1.txt": "bad",
        "test/pos/1.txt": "unseen",
        "about.txt": "x",
    }
    fill(tmp_path / "reviews", reviews)
    assert sorted(documents(tmp_path / "reviews")) == ["bad", "good"]
    assert documents(tmp_path / "reviews", split="test") == ["unseen"]


def test_a_data_sets_usual_split_is_a_wish_and_an_asked_one_is_not(tmp_path: Path) -> None:
    fill(tmp_path, {"questions.jsonl": lines(PAGES)})
    assert len(list(local_records(tmp_path, usual_split="test"))) == 5
    with pytest.raises(UserError, match="no split 'test'"):
        local_records(tmp_path, split="test")


def test_a_card_says_which_files_a_split_and_a_subset_have(tmp_path: Path) -> None:
    card = (
        "---\nconfigs:\n"
        "- config_name: one\n  default: true\n  data_files:\n"
        "  - {split: train, path: 'x/*.jsonl'}\n  - {split: test, path: y.jsonl}\n"
        "- config_name: two\n  data_files: z.jsonl\n---\n# Card\n"
    )
    fill(tmp_path, {"README.md": card, "LICENSE.txt": "free", "stray.csv": table(["stray"])})
    fill(tmp_path, {"x/1.jsonl": lines(["one"]), "y.jsonl": lines(["held out"]), "z.jsonl": lines(["two"])})
    assert documents(tmp_path) == ["one"]
    assert documents(tmp_path, split="test") == ["held out"]
    assert documents(tmp_path, subset="two") == ["two"]
    with pytest.raises(UserError, match=r"three.*one.*two"):
        documents(tmp_path, subset="three")


def test_what_a_card_says_of_the_format_is_heeded(tmp_path: Path) -> None:
    card = "---\nconfigs:\n- config_name: default\n  data_files: pages.csv\n  sep: ';'\n---\n"
    fill(tmp_path, {"README.md": card, "pages.csv": "text;n\nfirst, of two;1\nsecond;2\n"})
    assert documents(tmp_path) == ["first, of two", "second"]


# --- what is said ---


def test_what_is_read_is_said_once_however_often_it_is_opened(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder_module._say_once.cache_clear()
    names = ["a.txt", "b.txt", "c.txt", "d.txt", "e.txt", "f.txt", "test.jsonl"]
    fill(tmp_path, {"train.jsonl": lines(PAGES), **dict.fromkeys(names, lines(["no"]))})
    for _ in range(3):
        documents(tmp_path)
    said = [line for line in capfd.readouterr().err.splitlines() if "is read as" in line]
    assert said == [
        f"{tmp_path} is read as 1 file of .jsonl (split train); left out: a.txt, b.txt, c.txt, d.txt, e.txt"
        " and 2 more"
    ]


def test_text_files_are_said_to_be_a_document_each(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    fill(tmp_path, {"a.txt": "a", "b.txt": "b", "README.md": "#"})
    documents(tmp_path)
    assert "is read as 2 files of .txt, a document each; left out: README.md" in capfd.readouterr().err


@pytest.mark.parametrize("asked", [{"split": "test"}, {"subset": "en"}])
def test_a_split_or_subset_of_a_single_file_or_of_the_demo_is_refused(
    tmp_path: Path, asked: dict[str, str]
) -> None:
    file = tmp_path / "a.jsonl"
    file.write_bytes(lines(["one"]))
    sentence = r"is read as a whole, and .* would choose nothing: leave out --(split|subset)"
    for name in (str(file), "demo"):
        with pytest.raises(UserError, match=sentence):
            DocumentStream.open(name, **asked)
    assert documents(file, split="train") == ["one"]
    assert load_pairs("demo", split="train").pairs, "the one that is read anyway"
    if "split" in asked:
        for name in (str(file), "demo"):
            with pytest.raises(UserError, match=sentence):
                load_labelled(name, **asked)
    with pytest.raises(UserError, match=sentence):
        load_pairs("demo", **asked)


def test_preference_pairs_are_read_by_the_same_rule(tmp_path: Path) -> None:
    pair = {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: a\n\nAssistant: c"}
    pairs = [json.dumps({key: value + str(i) for key, value in pair.items()}) for i in range(12)]
    fill(tmp_path, {"train.jsonl": "\n".join(pairs), "LICENSE.txt": "free", "._train.jsonl": b"\x00\x05"})
    assert len(load_pairs(str(tmp_path)).pairs) == 12
