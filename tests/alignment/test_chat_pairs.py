"""Preference pairs of messages, read through a model's chat template."""

import html
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import CHAT_TEMPLATE
from scipy import sparse
from toy_runs import make_run

from dictionary_learning.errors import UserError
from dictionary_learning.language_model import LanguageModel
from dictionary_learning.texts.chat import ChatTemplate
from temporal_saes.alignment.command import main
from temporal_saes.alignment.pairs import load_pairs
from temporal_saes.alignment.responses import ChooseResponses, ResponseText, fit, response_means
from temporal_saes.features import Features, Tokens, extract_features
from temporal_saes.reading import Reading


class Plain:
    chat_template = CHAT_TEMPLATE

    def apply_chat_template(self, messages: Any, *, tokenize: bool, date_string: str) -> str:
        return "".join(f"<|im_start|>{m['role']}\n{m['content'].strip()}<|im_end|>\n" for m in messages)


def said(role: str, text: str) -> dict[str, str]:
    return {"role": role, "content": text}


SYSTEM, ASK = said("system", "Be kind."), said("user", "Which planet is distant?")


def records(n: int = 14, **changes: Any) -> list[dict[str, Any]]:
    return [
        {
            "chosen": [SYSTEM, ASK, said("assistant", f"The comet {i}. No planet.")],
            "rejected": [
                SYSTEM,
                ASK,
                said("assistant", f"An onion {i}. Some garlic is {'very ' * (i % 3)}sweet."),
            ],
            **changes,
        }
        for i in range(n)
    ]


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def load(path: Path, rows: list[dict[str, Any]], *roles: str) -> Any:
    return load_pairs(write(path / "pairs.jsonl", rows), chat=ChatTemplate(Plain(), roles or None))


PROMPT = (
    "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nWhich planet is distant?<|im_end|>\n"
    "<|im_start|>assistant\n"
)


def test_the_prompt_is_what_the_template_writes_before_the_answer(tmp_path: Path) -> None:
    pair = load(tmp_path, records()).pairs[3]
    assert (pair.prompt, pair.chosen) == (PROMPT, "The comet 3. No planet.")
    assert [pair.prompt[a:b] for a, b in pair.turns] == ["Be kind.", "Which planet is distant?"]


def test_messages_of_the_answer_alone_follow_a_prompt_in_messages_or_in_text(tmp_path: Path) -> None:
    whole = load(tmp_path, records()).pairs
    alone = [
        {**row, "prompt": [SYSTEM, ASK], "chosen": row["chosen"][2:], "rejected": row["rejected"][2:]}
        for row in records()
    ]
    assert load(tmp_path, alone).pairs == whole
    assert load(tmp_path, [{**row, "prompt": [SYSTEM, ASK]} for row in records()]).pairs == whole
    texts = [{"prompt": "Late?", "chosen": f"No {i}.", "rejected": "Yes."} for i in range(12)]
    pair = load(tmp_path, texts).pairs[5]
    assert pair.prompt == "<|im_start|>user\nLate?<|im_end|>\n<|im_start|>assistant\n"
    assert (pair.chosen, pair.rejected) == ("No 5.", "Yes.")


def test_an_answer_ends_with_its_message_and_roles_choose_whose(tmp_path: Path) -> None:
    more = [said("user", "Thanks."), said("assistant", "Bye.")]
    rows = [{**row, "chosen": row["chosen"] + more} for row in records()]
    pair = load(tmp_path, rows, "assistant").pairs[0]
    assert pair.chosen == "The comet 0. No planet."
    assert pair.turns == ()  # of the prompt nobody who counts has said anything
    with pytest.raises(UserError, match="14 without a message of these roles"):
        load(tmp_path, records(), "user")


def test_prompts_that_a_template_writes_differently_are_no_pair(tmp_path: Path) -> None:
    class Counting(Plain):
        def apply_chat_template(self, messages: Any, *, tokenize: bool, date_string: str) -> str:
            whole = super().apply_chat_template(messages, tokenize=tokenize, date_string=date_string)
            return f"{len(messages[-1]['content'])} letters: {whole}"

    # the template changes with the message, so that it cannot be told where messages stand
    with pytest.raises(UserError, match="14 whose messages the chat template changes"):
        load_pairs(write(tmp_path / "pairs.jsonl", records()), chat=ChatTemplate(Counting()))


def test_what_is_no_pair_of_conversations_is_counted_by_reason(tmp_path: Path) -> None:
    rows = [
        *records(),
        {"chosen": "text", "rejected": "other"},
        {"chosen": [ASK], "rejected": [ASK]},
        {"chosen": [ASK], "rejected": [ASK, said("assistant", "a")]},
        {"chosen": [ASK, said("assistant", "a")], "rejected": [ASK, said("assistant", " a")]},
        {"chosen": [ASK, said("assistant", "a")], "rejected": [SYSTEM, said("assistant", "b")]},
        {"chosen": [ASK, said("assistant", "a")], "rejected": [said("user", "?"), said("assistant", "b")]},
        {"chosen": [ASK, said("assistant", "a\ud800")], "rejected": [ASK, said("assistant", "b")]},
    ]
    data = load(tmp_path, rows)
    assert len(data.pairs) == 14
    assert data.skipped == {
        "without messages of a role and a text each": 1,
        "with two equal answers": 2,
        "without an answer": 1,
        "whose conversations part before the answers": 2,
        "not valid Unicode": 1,
    }


def test_tokens_of_the_frame_are_neither_of_the_answer_nor_usable(
    chat_lm_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEMPORAL_SAES_CACHE", str(tmp_path / "cache"))
    lm = LanguageModel.load(str(chat_lm_folder), device="cpu")
    pairs = load_pairs(write(tmp_path / "pairs.jsonl", records()), chat=ChatTemplate(lm.tokenizer)).pairs
    for length, before in ((96, ["Be kind.", "Which planet is distant?"]), (40, None)):
        reading = Reading(length, cache=False)
        texts = fit(pairs, lm, reading)
        found = extract_features(
            [text.text for text in texts],
            lm,
            2,
            reading,
            None,
            choose=ChooseResponses(texts),
            turns=[text.turns for text in texts],
        )
        for r, text in enumerate(texts):
            answer = text.text[text.start :]
            tokens = found.tokens[r]
            usable = "".join(text.text[slice(*tokens.offsets[i])] for i in np.flatnonzero(tokens.usable_L))
            chosen = "".join(
                text.text[slice(*tokens.offsets[i])] for i in found.position_N[found.text_N == r]
            )
            assert answer.startswith(chosen.strip())
            assert "assistant" not in usable
            assert "im_" not in usable
            assert usable.endswith(chosen)
            if before is not None:  # nothing is cut
                assert usable == "".join([*before, answer])
                assert chosen == answer


def test_an_answer_is_pooled_over_tokens_over_sentences_or_at_its_last_token() -> None:
    # answers of two sentences: three tokens and one
    text = "Q: a b c. D"
    offsets = [(0, 2), (2, 4), (4, 6), (6, 9), (9, 11)]
    tokens = Tokens(np.zeros(5, dtype=np.int32), offsets, np.ones(5, dtype=bool))
    x = np.array([[1.0], [2], [6], [9]] * 2)
    features = Features(
        sparse.csr_array(x), np.repeat([0, 1], 4), np.tile(np.arange(1, 5), 2), [tokens, tokens], 0.0
    )
    texts = [ResponseText(text, 3, 4)] * 2
    for pool, expected in (("turn", 4.5), ("sentence", (3 + 9) / 2), ("token", 9)):
        found = response_means(texts, features, pool)
        assert found.chosen_PF.toarray().tolist() == found.rejected_PF.toarray().tolist() == [[expected]]


def test_the_study_reads_conversations_and_says_how_answers_were_pooled(
    chat_lm_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEMPORAL_SAES_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("temporal_saes.alignment.figure.draw_study", _draw)
    make_run(tmp_path / "runs" / "grouped", chat_lm_folder)
    where = ["--checkpoints_path", str(tmp_path / "runs"), "--run_name", "grouped", "--device", "cpu"]
    data = ["--dataset", write(tmp_path / "pairs.jsonl", records()), "--chat_template", "--n_flips", "99"]
    main([*where, *data, "--roles", "assistant", "--pool", "sentence", "--context_length", "96"])
    (path,) = (tmp_path / "runs" / "grouped" / "alignment_study").glob("*.json")
    result = json.loads(path.read_text())
    assert result["pairs"]["used"] == 14
    assert result["options"]["pool"] == "sentence"
    assert result["options"]["roles"] == ["assistant"]
    page = html.unescape(path.with_suffix(".html").read_text())
    assert "the mean of its means over the answer's sentences, which count alike" in page
    with pytest.raises(UserError, match="--roles assistant is for conversations: add --chat_template"):
        main([*where, "--roles", "assistant"])


def _draw(found: object, result: object, path: Path) -> list[Path]:
    png = path.with_name(path.name + ".png")
    png.write_bytes(bytes.fromhex("89504e470d0a1a0a"))
    return [png]
