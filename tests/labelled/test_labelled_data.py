import json
from collections import Counter
from pathlib import Path

import pytest

from dictionary_learning.errors import UserError
from temporal_saes.labelled import data
from temporal_saes.labelled.data import load_labelled

QUIET = {"log": lambda line: None}


def write(path: Path, records: list[dict]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def many(n_by_label: dict[str, int]) -> list[dict]:
    return [
        {"text": f"{label} number {i}", "label": label} for label, n in n_by_label.items() for i in range(n)
    ]


def test_a_local_file_gives_its_texts_with_class_title_and_source(tiny_corpus):
    texts = load_labelled(str(tiny_corpus), label_field="domain")
    assert len(texts) == 60
    assert Counter(text.label for text in texts) == {"Astronomy": 20, "Cooking": 20, "Law": 20}
    one = next(text for text in texts if text.title == "Law 2")
    assert one.source == "tests"
    assert len({text.id for text in texts}) == 60


def test_a_sample_is_balanced_and_a_small_class_gives_all_it_has(tmp_path):
    path = write(tmp_path / "x.jsonl", many({"a": 50, "b": 30, "c": 5}))
    texts = load_labelled(str(path), max_texts=30)
    assert Counter(text.label for text in texts) == {"a": 10, "b": 10, "c": 5}
    # the classes take turns: the first six are two of each
    assert Counter(text.label for text in texts[:6]) == {"a": 2, "b": 2, "c": 2}


def test_a_sample_does_not_depend_on_the_order_of_the_records(tmp_path):
    records = many({"a": 40, "b": 40, "c": 40})
    one = write(tmp_path / "one.jsonl", records)
    other = write(tmp_path / "other.jsonl", records[::-1])
    sample = load_labelled(str(one), max_texts=24)
    assert [text.text for text in sample] == [text.text for text in load_labelled(str(other), max_texts=24)]
    assert sample != load_labelled(str(one), max_texts=24, seed=1)


def test_a_larger_sample_begins_with_the_smaller_one(tmp_path):
    path = write(tmp_path / "x.jsonl", many({"a": 40, "b": 40}))
    small, large = (load_labelled(str(path), max_texts=n) for n in (20, 60))
    assert large[:20] == small


def test_a_text_that_is_there_twice_is_taken_once(tmp_path):
    path = write(tmp_path / "x.jsonl", many({"a": 3, "b": 3}) * 2)
    assert len(load_labelled(str(path))) == 6


def test_what_is_left_out_is_counted_by_reason(tmp_path):
    records = [*many({"a": 3, "b": 3}), {"text": "none", "label": None}, {"text": " ", "label": "a"}]
    records += [*many({"a": 2}), {"text": "a number 0", "label": "b"}, {"label": "a"}]
    lines: list[str] = []
    path = write(tmp_path / "x.jsonl", records)
    assert len(load_labelled(str(path), log=lines.append)) == 6
    reasons = (
        "1 without a class, 1 empty, 2 there already, 1 there already with another class, 1 without a text"
    )
    assert lines == [f"{path}: 6 of 12 records were left out ({reasons})."]


@pytest.mark.parametrize("needs_label", [True, False])
def test_the_first_record_may_lack_its_class(tmp_path, needs_label):
    path = write(tmp_path / "x.jsonl", [{"text": "first"}, *many({"a": 2, "b": 2})])
    lines: list[str] = []
    found = load_labelled(str(path), needs_label=needs_label, log=lines.append)
    assert {text.label for text in found} == {"a", "b"} | (set() if needs_label else {""})
    assert lines == ([f"{path}: 1 of 5 records were left out (1 without a class)."] if needs_label else [])


def test_what_is_missing_in_a_column_of_numbers_is_no_class(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    labels = pa.array([0.0, 1.5, None, float("nan")] * 3)
    texts = [f"a text {i}" for i in range(12)]
    pq.write_table(pa.table({"text": texts, "label": labels}), tmp_path / "x.parquet")
    lines: list[str] = []
    found = load_labelled(str(tmp_path / "x.parquet"), log=lines.append)
    assert {text.label for text in found} == {"0", "1.5"}
    assert lines[-1].endswith("6 of 12 records were left out (6 without a class).")


def test_nothing_is_said_where_nothing_is_left_out(tmp_path):
    lines: list[str] = []
    load_labelled(str(write(tmp_path / "x.jsonl", many({"a": 3, "b": 3}))), log=lines.append)
    assert lines == []


def test_articles_without_a_category_are_counted(tmp_path):
    path = write(tmp_path / "w.jsonl", [{"title": t, "text": t} for t in ("Anarchism", "Jazz", "Zzz")])
    lines: list[str] = []
    load_labelled("wikipedia", data_path=path, log=lines.append)
    assert lines[-1].endswith("1 of 3 records were left out (1 not in the list of categories).")


# --- texts without a class ---


def test_texts_without_a_class_are_read_where_none_is_needed(tmp_path):
    path = write(tmp_path / "x.jsonl", [{"text": f"t{i}"} for i in range(5)])
    texts = load_labelled(str(path), needs_label=False, max_texts=3)
    assert [text.label for text in texts] == [""] * 3
    assert len({text.text for text in texts}) == 3
    with pytest.raises(UserError, match=r"no field 'label'.*--label_field"):
        load_labelled(str(path))


def test_one_class_and_a_missing_class_will_do_where_none_is_needed(tmp_path):
    path = write(tmp_path / "x.jsonl", [*many({"a": 2}), {"text": "t", "label": None}])
    assert Counter(text.label for text in load_labelled(str(path), needs_label=False)) == {"a": 2, "": 1}
    path = write(tmp_path / "y.jsonl", many({"a": 2}))
    assert len(load_labelled(str(path), needs_label=False)) == 2


def test_a_class_that_is_asked_for_has_to_be_there(tmp_path):
    path = write(tmp_path / "x.jsonl", [{"text": "t"}])
    with pytest.raises(UserError, match="no field 'topic'"):
        load_labelled(str(path), needs_label=False, label_field="topic")


def test_a_data_set_that_has_classes_gives_the_same_texts_where_none_is_needed(tmp_path):
    records = [{"text": f"t{i}", "domain": ("law", "music", None)[i % 3]} for i in range(30)]
    path = write(tmp_path / "f.jsonl", records)
    with_class = load_labelled("finefineweb", data_path=path, max_texts=8)
    assert load_labelled("finefineweb", data_path=path, max_texts=8, needs_label=False) == with_class


def test_a_data_set_of_the_hub_needs_no_field_for_a_class_that_is_not_needed(monkeypatch):
    monkeypatch.setattr(data, "hub_records", lambda name, **options: iter([{"body": "a"}, {"body": "b"}]))
    assert len(load_labelled("some/thing", text_field="body", needs_label=False)) == 2
    with pytest.raises(UserError, match="--text_field and --label_field"):
        load_labelled("some/thing", text_field="body")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"text_field": "body"}, "no field 'body'.*--text_field.*text, label"),
        ({"label_field": "topic"}, "no field 'topic'.*--label_field.*text, label"),
        ({"max_texts": 1}, "--max_texts 1 is too few"),
        ({"data_path": "nowhere.jsonl"}, "no file or folder nowhere.jsonl"),
    ],
)
def test_a_wrong_option_is_told_in_one_sentence(tmp_path, options, sentence):
    path = write(tmp_path / "x.jsonl", many({"a": 3, "b": 3}))
    with pytest.raises(UserError, match=sentence):
        load_labelled(str(path), **options)


def test_one_class_only_is_refused(tmp_path):
    path = write(tmp_path / "x.jsonl", many({"a": 5}))
    with pytest.raises(UserError, match="the one class 'a'"):
        load_labelled(str(path))


def test_no_usable_record_is_refused(tmp_path):
    path = write(tmp_path / "x.jsonl", [{"text": "", "label": "a"}])
    with pytest.raises(UserError, match=r"none of the 1 records .* \(1 "):
        load_labelled(str(path))


def test_an_unknown_name_is_refused_with_the_names_there_are():
    with pytest.raises(UserError, match="demo, finefineweb, wikipedia, mmlu"):
        load_labelled("finewebb")


def test_the_demo_is_the_extracts_with_their_topic(tmp_path, monkeypatch):
    records = [{"text": f"t{i}", "domain": "Arts" if i % 2 else "History", "title": str(i)} for i in range(6)]
    path = write(tmp_path / "extracts.jsonl", [*records, {"text": "t9", "domain": None}])
    monkeypatch.setattr("dictionary_learning.texts.demo_assets.corpus_path", {"extracts": path}.get)
    texts = load_labelled("demo", **QUIET)
    assert Counter(text.label for text in texts) == {"Arts": 3, "History": 3}


def test_a_local_copy_of_finefineweb_has_text_and_domain(tmp_path):
    path = write(
        tmp_path / "f.jsonl", [{"text": f"t{i}", "domain": "law" if i < 3 else "music"} for i in range(6)]
    )
    texts = load_labelled("finefineweb", data_path=path)
    assert Counter(text.label for text in texts) == {"law": 3, "music": 3}


def test_a_local_copy_of_mmlu_has_questions_with_their_choices(tmp_path):
    records = [
        {
            "question": f"What is {i}?",
            "subject": subject,
            "choices": ["one", "two", "three", "four"],
            "answer": 0,
        }
        for i, subject in enumerate(["anatomy", "virology"])
    ]
    texts = load_labelled("mmlu", data_path=write(tmp_path / "m.jsonl", records))
    assert {(text.text, text.label) for text in texts} == {
        (f"What is {i}?\nA. one\nB. two\nC. three\nD. four", subject)
        for i, subject in enumerate(["anatomy", "virology"])
    }


@pytest.mark.parametrize("form", ["object", "records"])
def test_a_local_copy_of_wikipedia_takes_its_classes_from_the_categories(tmp_path, form):
    titles = {"Anarchism": "Politics", "Albedo": "Physics"}
    articles = [
        {"id": "1", "url": f"https://{t}", "title": t, "text": f"About {t}."} for t in [*titles, "Zzz"]
    ]
    path = write(tmp_path / "w.jsonl", articles)
    if form == "object":
        categories = tmp_path / "categories.json"
        categories.write_text(json.dumps(titles))
    else:
        rows = [{"title": title, "category": category} for title, category in titles.items()]
        categories = write(tmp_path / "categories.jsonl", rows)
    texts = load_labelled("wikipedia", data_path=path, categories=categories)
    assert {(text.title, text.label, text.source) for text in texts} == {
        ("Anarchism", "Politics", "https://Anarchism"),
        ("Albedo", "Physics", "https://Albedo"),
    }


def test_wikipedia_has_the_built_in_classes_where_no_others_are_given(tmp_path):
    # Anarchism is one of the demo's articles, Jazz of the further ones
    titles = ["Anarchism", "Jazz", "Some title that nobody knows"]
    path = write(tmp_path / "w.jsonl", [{"title": title, "text": title} for title in titles])
    texts = load_labelled("wikipedia", data_path=path)
    assert {text.title: text.label for text in texts} == {
        "Anarchism": "philosophy and religion",
        "Jazz": "arts",
    }


def test_the_built_in_classes_are_those_of_the_demo_and_no_title_is_there_twice():
    import yaml

    from dictionary_learning.texts.demo_assets import article_domains

    ours = yaml.safe_load(data.CATEGORIES.read_text(encoding="utf-8"))
    titles = [title for some in ours.values() for title in some]
    assert set(ours) == set(article_domains().values())
    assert len(titles) == len(set(titles))
    assert not set(titles) & set(article_domains())
    assert all(isinstance(title, str) for title in titles)
    assert len(data.built_in_categories()) == len(titles) + 97


def test_wikipedia_takes_the_topics_of_the_demos_extracts_for_its_classes(tmp_path, monkeypatch):
    extracts = [{"text": f"About {t}.", "title": t, "domain": d} for t, d in (("A", "Arts"), ("B", "People"))]
    found = {"extracts": write(tmp_path / "extracts.jsonl", extracts)}
    monkeypatch.setattr("dictionary_learning.texts.demo_assets.corpus_path", found.get)
    path = write(tmp_path / "w.jsonl", [{"title": title, "text": f"On {title}."} for title in "ABC"])
    texts = load_labelled("wikipedia", data_path=path, categories="demo")
    assert {text.text: text.label for text in texts} == {"On A.": "Arts", "On B.": "People"}


def test_a_wrong_file_of_categories_and_one_that_names_no_article_are_refused(tmp_path):
    path = write(tmp_path / "w.jsonl", [{"title": title, "text": title} for title in ("Qq", "Ww")])
    with pytest.raises(UserError, match="no file of categories"):
        load_labelled("wikipedia", data_path=path, categories=path)
    with pytest.raises(UserError, match=r"none of the 2 records .* list of categories \(--categories\)"):
        load_labelled("wikipedia", data_path=path)


def test_a_folder_is_read_file_by_file(tmp_path):
    write(tmp_path / "1.jsonl", many({"a": 3}))
    write(tmp_path / "2.jsonl", many({"b": 3}))
    (tmp_path / "README.md").write_text("about")
    assert len(load_labelled(str(tmp_path))) == 6


def test_the_hub_is_read_with_the_data_sets_own_subset_and_split_up_to_the_limit(monkeypatch):
    asked = []

    def stream(name, *, subset, split):
        asked.append((name, subset, split))
        for i in range(1_000_000):
            yield {"question": f"q{i}", "subject": "ab"[i % 2], "label": "cd"[i % 2]}

    monkeypatch.setattr(data, "hub_records", stream)
    assert len(load_labelled("mmlu", max_records=50)) == 50
    assert len(load_labelled("mmlu", max_records=50, split="validation")) == 50
    both = {"text_field": "question", "label_field": "label"}
    assert {text.label for text in load_labelled("some/thing", max_records=10, **both)} == {"c", "d"}
    assert asked == [
        ("cais/mmlu", "all", "test"),
        ("cais/mmlu", "all", "validation"),
        ("some/thing", None, "train"),
    ]


def test_a_sample_of_a_large_stream_holds_no_more_than_asked_for():
    sample = data._Sample(max_texts=20, seed=0)
    for i in range(1000):
        sample.add(data.LabelledText(f"t{i}", "abcd"[i % 4], "", "", i))
        assert sum(map(len, sample._kept.values())) <= 20
    assert Counter(text.label for text in sample.texts()) == dict.fromkeys("abcd", 5)


def test_blanks_around_the_name_of_a_class_make_no_other_class(tmp_path):
    labels = ["law", " law", "law\n", "art", "art\t"]
    path = write(
        tmp_path / "a.jsonl", [{"text": f"text {i}", "label": name} for i, name in enumerate(labels)]
    )
    texts = load_labelled(str(path))
    assert sorted(text.label for text in texts) == ["art", "art", "law", "law", "law"]


@pytest.mark.parametrize(
    ("label", "name"),
    [
        *((1, "1"), (1.0, "1"), ("1", "1"), (0.5, "0.5"), (0, "0"), (True, "True"), (float("inf"), "inf")),
        *((None, ""), (float("nan"), ""), ("  ", ""), (["law", "art"], ""), ([], ""), ({"a": 1}, "")),
    ],
)
def test_a_class_has_one_name_whatever_type_it_has_and_several_are_none(label, name):
    assert data.class_name(label) == name


def test_a_text_with_two_classes_and_one_with_a_list_of_them_are_counted(tmp_path):
    records = [
        {"text": "one", "label": "law"},
        {"text": "one", "label": "art"},
        {"text": "one", "label": "law"},
    ]
    records += [{"text": "two", "label": "art"}, {"text": "three", "label": ["art", "law"]}]
    said: list[str] = []
    texts = load_labelled(str(write(tmp_path / "a.jsonl", records)), log=said.append)
    assert sorted((text.text, text.label) for text in texts) == [("one", "law"), ("two", "art")]
    (line,) = said
    reasons = (
        "1 there already with another class, 1 there already, 1 with a list or an object in place of a class"
    )
    assert line.endswith(f"3 of 5 records were left out ({reasons}).")


def test_half_a_character_in_a_class_or_a_title_can_be_written(tmp_path):
    records = [
        {"text": "one", "label": "law\ud83d", "title": "\ude00 a", "source": "\ud800"},
        {"text": "two", "label": "smile \ud83d\ude00", "title": "b"},  # both halves are a character
    ]
    texts = load_labelled(str(write(tmp_path / "a.jsonl", records)))
    found = {text.text: text for text in texts}
    assert (found["one"].label, found["one"].title, found["one"].source) == (
        "law\ufffd",
        "\ufffd a",
        "\ufffd",
    )
    assert found["two"].label == "smile 😀"
