"""Conversations: rendered by the model's template, trained on where somebody speaks, the same every day."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import CHAT_TEMPLATE, corpus_records
from tokenizer_kinds import KINDS, tiny_lm
from transformers import AutoTokenizer

from dictionary_learning import cache_activations, eval_temporal, train_temporal
from dictionary_learning.activations.cache import ActivationCache
from dictionary_learning.activations.contexts import read_contexts
from dictionary_learning.errors import UserError
from dictionary_learning.texts.chat import CHANGED, NO_MESSAGES, OTHER_ROLES, REFUSED, ChatTemplate
from dictionary_learning.texts.documents import DocumentStream

ASKED = [
    {"role": "user", "content": "Where does the comet go?"},
    {"role": "assistant", "content": "Far away."},
]


class Plain:
    """What a template needs of a tokenizer."""

    chat_template = CHAT_TEMPLATE

    def __init__(self, render: Any = None) -> None:
        self._render = render

    def apply_chat_template(self, messages: Any, *, tokenize: bool, date_string: str) -> str:
        if self._render is not None:
            return str(self._render(messages))
        return "".join(f"<|im_start|>{m['role']}\n{m['content'].strip()}<|im_end|>\n" for m in messages)


def said(text: str, spans: Any) -> list[str]:
    return [text[start:end] for start, end in spans]


def test_what_the_roles_say_is_text_and_marks_and_names_are_not() -> None:
    rendered = ChatTemplate(Plain()).render(ASKED)
    assert not isinstance(rendered, str)
    assert said(rendered.text, rendered.spans) == ["Where does the comet go?", "Far away."]
    one = ChatTemplate(Plain(), ["assistant"]).render(ASKED)
    assert not isinstance(one, str)
    assert said(one.text, one.spans) == ["Far away."]
    assert one.text == rendered.text  # the model reads all of it


def test_a_message_that_repeats_an_earlier_one_is_found_where_it_stands() -> None:
    messages = [{"role": "user", "content": "user"}, {"role": "assistant", "content": " user \n"}]
    rendered = ChatTemplate(Plain()).render(messages)
    assert not isinstance(rendered, str)
    assert said(rendered.text, rendered.spans) == ["user", "user"]
    second = rendered.spans[1][0]
    assert rendered.text[:second].endswith("assistant\n")


@pytest.mark.parametrize(
    ("messages", "why"),
    [
        ("text", NO_MESSAGES),
        ([], NO_MESSAGES),
        ([{"role": "user"}], NO_MESSAGES),
        ([{"role": "user", "content": [{"type": "image"}]}], NO_MESSAGES),
        ([{"role": "system", "content": "Be kind."}], OTHER_ROLES),
        ([{"role": "assistant", "content": "  "}], OTHER_ROLES),
    ],
)
def test_what_is_no_conversation_says_why(messages: object, why: str) -> None:
    assert ChatTemplate(Plain(), ["assistant"]).render(messages) == why


def test_a_template_that_refuses_or_changes_messages_says_so() -> None:
    def refuse(messages: Any) -> str:
        raise ValueError("roles must take turns")

    assert ChatTemplate(Plain(refuse)).render(ASKED) == REFUSED
    assert ChatTemplate(Plain(lambda messages: "nothing of it")).render(ASKED) == CHANGED


def test_a_document_is_the_same_whatever_the_template_writes_around_it() -> None:
    def ids(render: Any) -> list[int]:
        stream = DocumentStream(
            iter([{"messages": ASKED}]), text_field="messages", chat=ChatTemplate(Plain(render))
        )
        return [document.id for document in stream]

    def dated(messages: Any) -> str:
        return "Today is Monday.\n" + "\n".join(m["content"] for m in messages)

    assert ids(None) == ids(dated)


def test_what_a_message_holds_beside_its_text_may_be_anything() -> None:
    messages = [dict(ASKED[0], name="\ud800"), ASKED[1]]
    stream = DocumentStream(iter([{"messages": messages}]), text_field="messages", chat=ChatTemplate(Plain()))
    (document,) = stream
    assert "comet" in document.text


@pytest.fixture(scope="module")
def chats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 conversations, and three records that are none."""
    path = tmp_path_factory.mktemp("chats") / "chats.jsonl"
    texts = [record["text"] for record in corpus_records(240)]
    records: list[Any] = [
        {"messages": [{"role": "user", "content": a}, {"role": "assistant", "content": b}]}
        for a, b in zip(texts[::2], texts[1::2], strict=True)
    ]
    records += [{"messages": "text"}, {"messages": []}, {"other": 1}]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_of_every_kind_of_tokenizer_are_masked_by_what_was_said(kind: str) -> None:
    lm = tiny_lm(kind)
    chat = ChatTemplate(
        Plain(lambda m: f"SYSTEM\n{m[0]['content']}\nREPLY\n{m[1]['content']}\n"), ["assistant"]
    )
    stream = DocumentStream(iter([{"messages": ASKED}]), text_field="messages", chat=chat)
    (context,) = read_contexts(lm, stream, 256)
    kept = lm.tokenizer.decode(context.tokens_L[context.text_L])
    assert kept.strip() == "Far away."
    assert "comet" in lm.tokenizer.decode(context.tokens_L)
    assert context.n_text == int(context.text_L.sum())


def flags(lm: Path, chats: Path) -> list[str]:
    model = ["--model", str(lm), "--layer", "1", "--lm_dtype", "float32", "--context_length", "48"]
    return [*model, "--dataset", str(chats), "--chat_template", "--max_tokens", "2000"]


def test_a_cache_holds_what_the_assistant_says_and_training_and_evaluation_follow(
    chat_lm_folder: Path, chats: Path, tmp_path: Path
) -> None:
    where = ["--activations", str(tmp_path / "cache")]
    parts = ["--parts", "train", "eval", "--eval_tokens", "400", "--max_tokens", "100000"]
    with pytest.warns(UserWarning, match="without messages of a role and a text each"):
        cache_activations.main([*flags(chat_lm_folder, chats), *where, *parts, "--roles", "assistant"])
    cache = ActivationCache.open(tmp_path / "cache")
    assert cache.options["chat_template"] is True
    tokenizer = AutoTokenizer.from_pretrained(chat_lm_folder)
    answers = " ".join(
        record["messages"][1]["content"] for record in map(json.loads, chats.read_text().splitlines()[:120])
    ).split()
    for batch in cache.store("train").contexts(4):
        kept = tokenizer.decode(batch.tokens_NL[batch.mask_NL]).split()
        assert {"user", "assistant"}.isdisjoint(kept)
        assert len(set(kept) - set(answers)) < 0.2 * len(set(kept))  # words that a context cuts

    run = ["--run_name", "chat", "--checkpoints_path", str(tmp_path / "runs")]
    sizes = ["--dict_size", "64", "--k", "4", "--steps", "3", "--batch_size", "64", "--warmup_steps", "1"]
    train_temporal.main([*where, *run, *sizes, "--decay_start", "2", "--threshold_start_step", "1"])
    config = json.loads((tmp_path / "runs/chat/trainer_0/config.json").read_text())
    assert (config["buffer"]["chat_template"], config["buffer"]["roles"]) == (True, ["assistant"])
    eval_temporal.main([*run, "--max_tokens", "300", "--no_lm_loss"])
    result = json.loads((tmp_path / "runs/chat/trainer_0/eval_results.json").read_text())
    assert result["setting"]["chat_template"] is True
    n_tokens = result["measures"]["all"]["l0"]["tokens"]
    eval_temporal.main([*run, *where, "--max_tokens", "300", "--no_lm_loss"])
    again = json.loads((tmp_path / "runs/chat/trainer_0/eval_results.json").read_text())
    assert again["measures"]["all"]["l0"]["tokens"] == n_tokens  # the cache's are those of the texts


def test_mistakes_are_sentences_before_the_model_is_read(
    tiny_lm_folder: Path, chat_lm_folder: Path, chats: Path, tmp_path: Path
) -> None:
    out = ["--activations", str(tmp_path / "cache")]
    with pytest.raises(UserError, match="tokenizer has no chat template"):
        cache_activations.main([*flags(tiny_lm_folder, chats), *out])
    with pytest.raises(
        UserError, match="--roles is assistant, and is for conversations: add --chat_template"
    ):
        cache_activations.main(
            ["--model", str(chat_lm_folder), "--dataset", str(chats), "--roles", "assistant", *out]
        )
    with pytest.raises(UserError, match="has no field 'turns'"):
        cache_activations.main([*flags(chat_lm_folder, chats), "--text_field", "turns", *out])
    with pytest.raises(
        UserError,
        match=r"none of the 123 records .* gives a conversation \(.*\d without a message of these roles",
    ):
        cache_activations.main([*flags(chat_lm_folder, chats), "--roles", "tool", *out])
    assert not (tmp_path / "cache").exists()
    assert torch.is_grad_enabled()
