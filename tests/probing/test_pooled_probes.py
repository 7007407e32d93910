"""Probes on means over sentences, turns and documents, and on conversations."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import corpus_records
from toy_runs import make_run

from dictionary_learning.errors import UserError
from dictionary_learning.language_model import LanguageModel
from temporal_saes.features import Tokens
from temporal_saes.labelled.data import LabelledText
from temporal_saes.probing.command import main
from temporal_saes.probing.examples import Positions
from temporal_saes.probing.options import ProbingOptions

pytestmark = pytest.mark.usefixtures("own_cache")

SMALL = [
    *("--k", "2", "--repeats", "1", "--n_train", "60", "--n_test", "30"),
    *("--device", "cpu", "--context_length", "48"),
]


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def results(runs: Path) -> dict[str, Any]:
    return {str(path): json.loads(path.read_text()) for path in runs.glob("*/probing/*.json")}


def test_the_span_of_a_text_is_that_of_the_token_which_stands_for_it() -> None:
    text = "One two. Three four five. Six seven"  # sentences of 2, 3 and 2 tokens
    starts = [0, 3, 8, 14, 19, 25, 29]
    tokens = Tokens(
        np.zeros(7, dtype=np.int32),
        list(zip(starts, [*starts[1:], len(text)], strict=True)),
        np.ones(7, bool),
    )
    sentences = [[0, 1], [2, 3, 4], [5, 6]]

    def spans(text_: LabelledText, **asked: Any) -> list[list[int]]:
        positions = Positions([text_], ProbingOptions(**{"tasks": ("semantics",), **asked}))
        return [span.tolist() for span in positions(0, tokens)]

    for id_ in range(12):
        one = LabelledText(text, "a", "", "", id=id_)
        ((token,),) = spans(one)
        assert spans(one, pool="sentence") == [next(s for s in sentences if token in s)]
        assert spans(one, pool="document") == [list(range(7))]
        assert spans(one, pool="last") == [[6]]
        assert spans(one, pool="3") == [[token - 2, token - 1, token]]
    tokens.usable_L[:] = False
    assert spans(one, pool="sentence") == []


def test_tasks_of_single_tokens_read_what_they_read_without_pooling(
    tmp_path: Path, tiny_lm_folder: Path
) -> None:
    runs = tmp_path / "runs"
    make_run(runs / "grouped", tiny_lm_folder)
    data = write(tmp_path / "corpus.jsonl", corpus_records(90))
    words = ["--checkpoints_path", str(runs), "--dataset", data, "--label_field", "domain", *SMALL]
    words += ["--run_name", "grouped", "--tasks", "semantics", "context", "--context_texts", "4"]
    for pool in ("token", "document"):
        main([*words, "--context_tokens", "10", "--pool", pool])
    single, pooled = sorted(results(runs).values(), key=lambda result: "averaged" in result)
    assert single["tasks"]["context"] == pooled["tasks"]["context"]
    assert single["tasks"]["semantics"] != pooled["tasks"]["semantics"]


def test_every_pool_has_a_result_of_its_own_and_a_document_tells_more_than_a_token(
    tmp_path: Path, tiny_lm_folder: Path
) -> None:
    runs = tmp_path / "runs"
    make_run(runs / "grouped", tiny_lm_folder)
    data = write(tmp_path / "corpus.jsonl", corpus_records(90))
    words = ["--checkpoints_path", str(runs), "--dataset", data, "--label_field", "domain", *SMALL]
    for pool in ("last", "sentence", "document"):
        main([*words, "--run_name", "grouped", "--tasks", "semantics", "--pool", pool])
    main([*words, "--run_name", "grouped", "--tasks", "semantics"])
    found = results(runs)
    assert len(found) == 4
    values = {
        result["options"].get("pool", "token"): result["tasks"]["semantics"]["accuracy"][0]["mean"]
        for result in found.values()
    }
    assert values["document"] > values["last"]
    assert {result.get("averaged") for result in found.values()} == {"codes", None}
    assert sorted(name.partition("chunk0")[2] for name in found) == [
        *(".json", "_pooldocument.json", "_poollast.json", "_poolsentence.json")
    ]


def test_conversations_are_probed_by_what_their_roles_say(
    tmp_path: Path, chat_lm_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = tmp_path / "runs"
    make_run(runs / "grouped", chat_lm_folder)
    rows: list[dict[str, Any]] = [
        {
            "label": record["domain"],
            "messages": [
                {"role": "system", "content": "Be kind."},
                {"role": "user", "content": record["text"].split(". ")[0]},
                {"role": "assistant", "content": f"{record['title']}. {record['text'].split('. ')[-1]}"},
            ],
        }
        for record in corpus_records(90)
    ]
    data = write(tmp_path / "chats.jsonl", [*rows, {"label": "Law", "messages": "no"}])
    words = ["--checkpoints_path", str(runs), "--run_name", "grouped", "--dataset", data, *SMALL]
    chat = ["--chat_template", "--roles", "assistant"]
    chat += ["--tasks", "semantics"]
    main([*words, *chat, "--pool", "turn", "--output_dir", str(tmp_path / "turn")])
    main([*words, *chat, "--output_dir", str(tmp_path / "token")])
    assert "1 without messages of a role and a text each" in capsys.readouterr().err
    paths = [next((tmp_path / folder).rglob("*.json")) for folder in ("turn", "token")]
    turn, token = (json.loads(path.read_text()) for path in paths)
    assert turn["options"]["roles"] == ["assistant"]
    assert turn["texts_sha256"] == token["texts_sha256"]
    assert turn["tasks"]["semantics"]["accuracy"][0]["mean"] > 0.4  # chance is 1/3


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--pool", "sentences"], "--pool sentences is nothing to average over"),
        (["--pool", "0"], "--pool 0 is nothing to average over"),
        (["--pool", "turn"], "--pool turn needs the turns of conversations: add --chat_template"),
        (["--roles", "user"], "--roles user is for conversations"),
        (["--chat_template"], "demo has texts and no conversations"),
        (["--chat_template", "--dataset", "OTHER"], "has no field 'messages'"),
        (["--chat_template", "--compare", "grouped", "plain"], "the runs are of the language models"),
        (["--chat_template", "--run_name", "plain"], "tokenizer has no chat template"),
    ],
)
def test_mistakes_are_told_before_the_language_model_is_loaded(
    tmp_path: Path,
    tiny_lm_folder: Path,
    chat_lm_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    more,
    sentence,
) -> None:
    def refuse(*args: Any, **options: Any) -> None:
        raise AssertionError("loaded before the mistake was seen")

    make_run(tmp_path / "runs" / "grouped", chat_lm_folder)
    make_run(tmp_path / "runs" / "plain", tiny_lm_folder)
    data = write(tmp_path / "corpus.jsonl", corpus_records(9))
    monkeypatch.setattr(LanguageModel, "load", refuse)
    words = [data if word == "OTHER" else word for word in more]
    words += [] if {"--compare", "--run_name"} & set(more) else ["--run_name", "grouped"]
    with pytest.raises(UserError, match=sentence):
        main(["--checkpoints_path", str(tmp_path / "runs"), *words])
    assert not list((tmp_path / "runs").glob("*/probing"))
