"""Preference pairs: how a record becomes prompt and answers, what is skipped, where pairs come from."""

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dictionary_learning.errors import UserError
from temporal_saes.alignment import pairs as pairs_module
from temporal_saes.alignment.pairs import DEMO_PAIRS, load_pairs, split_conversation

ASK = "\n\nHuman: Is it late?\n\nAssistant:"


def records(n: int, *, name: str = "") -> list[dict[str, Any]]:
    return [{"chosen": f"{ASK} No, {name}{i}.", "rejected": f"{ASK} Yes, {name}{i}."} for i in range(n)]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


# --- one record ---


def test_the_prompt_ends_behind_the_last_shared_assistant_turn():
    talk = f"{ASK} It is nine.\n\nHuman: And now?\n\nAssistant:"
    assert split_conversation(f"{talk} Ten.", f"{talk} Time flies.") == (talk, " Ten.", " Time flies.")


def test_a_beginning_that_both_answers_share_belongs_to_the_answers():
    assert split_conversation(f"{ASK} I am sorry, no.", f"{ASK} I am sorry, yes.") == (
        ASK,
        " I am sorry, no.",
        " I am sorry, yes.",
    )


def test_an_answer_ends_where_the_human_speaks_again():
    more = "\n\nHuman: Thanks!\n\nAssistant: Bye."
    assert split_conversation(f"{ASK} No.{more}", f"{ASK} Yes.") == (ASK, " No.", " Yes.")


def test_texts_without_turns_share_the_lines_that_both_begin_with():
    assert split_conversation("Question: a?\nAn a.", "Question: a?\nA b.") == (
        "Question: a?\n",
        "An a.",
        "A b.",
    )
    assert split_conversation("An a.", "A b.") == ("", "An a.", "A b.")


@pytest.mark.parametrize(
    ("chosen", "rejected", "prompt"),
    [
        ("No.", "Yes.", "Is it late?"),
        ("No.", "Yes.", "\n\nHuman: Is it late?"),
        (" No.", " Yes.", ASK),
        (f"{ASK} No.", f"{ASK} Yes.", "Is it late?"),
        (f"{ASK} No.", f"{ASK} Yes.", ASK),
        (f"{ASK} No.", f"{ASK} Yes.", None),
    ],
)
def test_a_prompt_of_its_own_gives_the_same_pair(chosen, rejected, prompt):
    assert split_conversation(chosen, rejected, prompt) == (ASK, " No.", " Yes.")


def test_a_plain_prompt_that_both_begin_with_is_cut_off():
    assert split_conversation("Late? No.", "Late? Nope.", "Late?") == ("Late?", " No.", " Nope.")


def test_messages_are_turns(tmp_path):
    def said(answer: str) -> list[dict[str, str]]:
        return [{"role": "user", "content": "Is it late?"}, {"role": "assistant", "content": answer}]

    whole = [
        {"prompt": "Is it late?", "chosen": said(f"No {i}."), "rejected": said("Yes.")} for i in range(10)
    ]
    alone = [{**row, "chosen": row["chosen"][1:], "rejected": row["rejected"][1:]} for row in whole]
    for rows in (whole, alone):
        pairs = load_pairs(str(write(tmp_path / "pairs.jsonl", rows))).pairs
        assert (pairs[3].prompt, pairs[3].chosen, pairs[3].rejected) == (ASK, " No 3.", " Yes.")


@given(st.text(), st.text(), st.none() | st.text())
def test_any_two_texts_are_cut_without_losing_what_differs(chosen, rejected, prompt):
    shared, first, second = split_conversation(chosen, rejected, prompt)
    if pairs_module.HUMAN not in chosen + rejected and pairs_module.ASSISTANT not in chosen + rejected:
        assert (shared + first).rstrip().endswith(chosen.strip())
        assert (shared + second).rstrip().endswith(rejected.strip())


# --- a data set ---


def test_what_cannot_be_used_is_skipped_and_counted(tmp_path):
    rows = [
        *records(11),
        {"chosen": f"{ASK} No.", "rejected": f"{ASK} No. "},
        {"chosen": f"{ASK} No.", "rejected": ASK},
        {"chosen": None, "rejected": "Yes."},
        {"chosen": [{"role": "poet", "content": "a"}], "rejected": "Yes."},
        {"chosen": "a\ud800", "rejected": "Yes."},
        records(1)[0],
    ]
    data = load_pairs(str(write(tmp_path / "pairs.jsonl", rows)))
    assert len(data.pairs) == 11
    assert data.n_read == 17
    assert data.skipped == {
        "with two equal answers": 1,
        "without an answer": 1,
        "neither text nor messages": 3,
        "there already": 1,
    }


def test_the_first_pairs_are_taken_and_no_more_is_read(tmp_path):
    path = str(write(tmp_path / "pairs.jsonl", records(30)))
    data = load_pairs(path, max_pairs=12)
    assert (len(data.pairs), data.n_read) == (12, 12)
    assert data.pairs == load_pairs(path).pairs[:12]
    assert load_pairs(path, max_records=15).n_read == 15


def test_other_names_of_the_fields_can_be_given(tmp_path):
    rows = [{"q": "Late?", "good": f"No {i}.", "bad": "Yes."} for i in range(10)]
    path = str(write(tmp_path / "pairs.jsonl", rows))
    data = load_pairs(path, chosen_field="good", rejected_field="bad", prompt_field="q")
    assert data.pairs[0].prompt == "\n\nHuman: Late?\n\nAssistant:"


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([{"text": "a"}], "no field 'chosen'.*--chosen_field.*text"),
        ([{"chosen": "a", "worse": "b"}], "no field 'rejected'.*--rejected_field.*chosen, worse"),
        (records(9), "gives 9 pairs that can be used.*at least 10"),
        ([{"chosen": "a", "rejected": "a"}] * 20, "gives 0 pairs.*20 with two equal answers"),
    ],
)
def test_a_file_without_the_two_fields_or_with_too_few_pairs_is_refused(tmp_path, rows, sentence):
    with pytest.raises(UserError, match=sentence):
        load_pairs(str(write(tmp_path / "pairs.jsonl", rows)))


def test_missing_and_empty_files_are_refused(tmp_path):
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(UserError, match="holds no records"):
        load_pairs(str(tmp_path / "empty.jsonl"))
    with pytest.raises(UserError, match="there is no file"):
        load_pairs(str(tmp_path / "missing.jsonl"))
    with pytest.raises(UserError, match="check --data_path"):
        load_pairs("hh-rlhf", data_path=tmp_path / "missing")


# --- the hub ---


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A copy of HH-RLHF's repository with a few records: a folder a part, a file a split."""
    for folder in ("harmless-base", "helpful-base"):
        for split in ("train", "test"):
            write(tmp_path / folder / f"{split}.jsonl.gz", records(12, name=f"{folder} {split} "))
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\nabout\n")
    return tmp_path


@pytest.mark.parametrize(
    ("options", "first"),
    [
        ({}, " No, harmless-base train 0."),
        ({"split": "test"}, " No, harmless-base test 0."),
        ({"subset": "helpful-base"}, " No, helpful-base train 0."),
    ],
)
def test_a_copy_of_hh_rlhf_is_read_like_the_hubs(repository, options, first):
    data = load_pairs("hh-rlhf", data_path=repository, **options)
    assert (data.pairs[0].prompt, data.pairs[0].chosen) == (ASK, first)
    assert len(data.pairs) == 12


def test_one_folder_or_one_file_of_it_is_read_too(repository):
    folder = load_pairs("hh-rlhf", data_path=repository / "harmless-base", split="test")
    file = load_pairs("hh-rlhf", data_path=repository / "harmless-base" / "test.jsonl.gz")
    assert folder.pairs == file.pairs
    assert load_pairs(str(repository / "helpful-base")).pairs[0].chosen == " No, helpful-base train 0."


def test_a_part_or_split_that_is_not_there_is_refused(repository):
    with pytest.raises(UserError, match=r"no split .validation.*test and train"):
        load_pairs("hh-rlhf", data_path=repository, split="validation")


def test_the_hub_is_asked_for_the_folder_and_no_more_than_is_needed(monkeypatch):
    asked = []

    def stream(name, **options):
        asked.append((name, options))
        for i, record in enumerate(records(1000)):
            assert i < 21, "read more than was asked for"
            yield record

    monkeypatch.setattr(pairs_module, "hub_records", stream)
    assert len(load_pairs("hh-rlhf", max_pairs=20).pairs) == 20
    assert len(load_pairs("some/pairs", max_pairs=20, subset="a", split="test").pairs) == 20
    assert asked == [
        ("Anthropic/hh-rlhf", {"data_dir": "harmless-base", "split": "train"}),
        ("some/pairs", {"subset": "a", "split": "test"}),
    ]


# --- the pairs that are shipped ---


def test_the_demo_pairs_are_what_their_readme_says():
    data = load_pairs("demo")
    assert (len(data.pairs), data.n_read, data.skipped) == (100, 100, {})
    rows = [json.loads(line) for line in DEMO_PAIRS.read_text(encoding="utf-8").splitlines()]
    kinds = {"boundary": 45, "honesty": 19, "tone": 14, "over-caution": 12, "everyday": 10}
    assert Counter(row["kind"] for row in rows) == kinds
    assert Counter(row["length"] for row in rows) == {"free": 71, "matched": 29}
    longer = [len(pair.rejected.split()) > len(pair.chosen.split()) for pair in data.pairs]
    assert sum(longer[i] for i, row in enumerate(rows) if row["length"] == "free") == 56
    for pair, row in zip(data.pairs, rows, strict=True):
        assert pair.prompt.startswith("\n\nHuman: ")
        assert pair.prompt.endswith("\n\nAssistant:")
        assert row["chosen"] == pair.prompt + pair.chosen
        assert row["rejected"] == pair.prompt + pair.rejected


def test_the_matched_demo_pairs_have_equally_many_tokens(demo):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(demo.language_model)
    rows = [json.loads(line) for line in DEMO_PAIRS.read_text(encoding="utf-8").splitlines()]
    for pair, row in zip(load_pairs("demo").pairs, rows, strict=True):
        n_chosen, n_rejected = (
            len(tokenizer(answer)["input_ids"]) for answer in (pair.chosen, pair.rejected)
        )
        alike = abs(n_chosen - n_rejected) <= 0.1 * max(n_chosen, n_rejected)
        assert alike == (row["length"] == "matched"), pair
