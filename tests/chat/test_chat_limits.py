"""What limits the asking of a chat model: tokens, time, and answers that are there already."""

import json
import socket
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from types import SimpleNamespace

import pytest
from chat_server import TEMPLATE, client, number, serving

from dictionary_learning.errors import UserError
from dictionary_learning.language_model import LanguageModel
from temporal_saes.chat import model as chat
from temporal_saes.chat import server as remote
from temporal_saes.chat.journal import RecordedChat, read_journal
from temporal_saes.chat.local import LocalChat
from temporal_saes.chat.model import Completion, question
from temporal_saes.chat.server import ChatServer
from temporal_saes.chat.token_budget import TokenBudget, Usage, estimate_tokens


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def said(text: str, prompt: int, answer: int) -> dict:
    usage = {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer}
    return {"choices": [{"message": {"content": text}}], "usage": usage}


# --- tokens ---


def test_a_reservation_holds_until_it_is_settled_and_only_what_was_used_is_spent():
    budget = TokenBudget(100)
    assert budget.reserve(60)
    assert not budget.reserve(50)
    assert budget.reserve(40)
    budget.settle(60, Usage(20, 5))
    assert (budget.spent, budget.left) == (25, 75)
    assert not budget.reserve(36)
    budget.settle(40, None)
    assert budget.reserve(75)


def test_tokens_are_those_that_the_server_says_and_an_estimate_where_it_does_not():
    with serving(
        lambda i, body: said("1", 11, 3) if "a" in body["messages"][0]["content"] else "22"
    ) as server:
        budget = TokenBudget()
        asked = client(server, budget=budget)
        asked.ask([question("a")], number)
        assert (budget.prompt, budget.answer, budget.estimated_calls) == (11, 3, 0)
        asked.ask([question("b" * 35)], number)
    # 35 bytes are 10 tokens, and a message 6; two bytes are 0.57 tokens
    assert estimate_tokens(question("b" * 35)) == 16
    assert (budget.prompt, budget.answer, budget.estimated_calls) == (27, 4, 1)


@pytest.mark.parametrize("usage", [None, {}, [1], {"prompt_tokens": "7", "completion_tokens": 1}])
def test_a_server_that_says_nonsense_of_its_tokens_is_estimated(usage):
    with serving(lambda i, body: {**said("1", 1, 1), "usage": usage}) as server:
        budget = TokenBudget()
        (answer,) = client(server, budget=budget).ask([question("a")], number)
    assert (answer.value, budget.estimated_calls) == (1, 1)


def test_a_budget_is_never_passed_by_calls_at_the_same_time():
    with serving(lambda i, body: said("1", 100, 20)) as server:
        budget = TokenBudget(500)
        asked = client(server, workers=8, max_tokens=110, budget=budget)
        answers = asked.ask([question(str(i)) for i in range(20)], number)
        kinds = {answer.failure for answer in answers}
        assert kinds == {None, chat.OVER_BUDGET}
        assert budget.spent == 120 * len(server.requests) <= 500
        assert len(server.requests) == sum(answer.failure is None for answer in answers)


def test_a_call_that_runs_out_of_time_counts_as_read_by_the_server():
    with serving(lambda i, body: time.sleep(5)) as server:
        budget = TokenBudget()
        client(server, timeout=0.1, attempts=1, budget=budget).ask([question("b" * 35)], number)
    assert (budget.prompt, budget.answer, budget.estimated_calls) == (16, 0, 1)


def test_an_answer_in_no_form_counts_as_paid_and_a_busy_server_as_free():
    answers = [(429, {}, b""), (500, {}, b""), b"<html>", said("1", 7, 1)]
    with serving(lambda i, body: answers[i]) as server:
        budget = TokenBudget()
        (answer,) = client(server, attempts=4, budget=budget).ask([question("b" * 35)], number)
    assert answer.value == 1
    assert (budget.prompt, budget.answer, budget.estimated_calls) == (16 + 7, 1, 1)


def test_a_server_that_takes_the_key_no_more_is_not_asked_on():
    with serving(lambda i, body: (401, {}, b"")) as server:
        asked = client(server, workers=1, give_up_after=3)
        answers = asked.ask([question(str(i)) for i in range(6)], number)
        kinds = [answer.failure for answer in answers]
        assert kinds == [chat.DENIED] * 3 + [chat.NOT_ASKED] * 3
        assert len(server.requests) == 3


def test_a_local_model_counts_its_tokens_and_keeps_to_a_budget(tiny_lm_folder):
    lm = LanguageModel.load(str(tiny_lm_folder), device="cpu")
    lm.tokenizer.chat_template = TEMPLATE
    budget = TokenBudget(40)
    local = LocalChat(lm, max_tokens=5, budget=budget)
    (answer,) = local.ask([question("a")], str)
    prompt = len(lm.tokenizer("<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n")["input_ids"])
    assert answer.failure is None
    assert budget.prompt == prompt
    assert 0 < budget.answer <= 5
    (answer,) = local.ask([question("a b c d e f g h i j k l m n o p")], str)
    assert answer.failure == chat.OVER_BUDGET
    late = LocalChat(lm, max_tokens=5, time_limit=-1)
    assert late.ask([question("a")], str)[0].failure == chat.OUT_OF_TIME


# --- time ---


def test_when_the_time_is_up_nothing_more_is_asked_and_no_wait_is_longer():
    with serving(lambda i, body: (429, {"Retry-After": "50"}, b"")) as server:
        began = time.monotonic()
        answers = client(server, workers=2, time_limit=0.5).ask([question(str(i)) for i in range(6)], number)
        assert time.monotonic() - began < 10
        assert {answer.failure for answer in answers} == {chat.OUT_OF_TIME}
        assert len(server.requests) == 2  # one of each worker, which then waited


def test_a_server_whose_answer_never_ends_is_left_and_its_connection_closed():
    listener = socket.create_server(("127.0.0.1", 0))
    closed = threading.Event()

    def stream() -> None:
        connection, _ = listener.accept()
        with suppress(OSError):
            connection.recv(65536)
            connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{"choices": [')
            while True:
                connection.sendall(b" " * 100)
                time.sleep(0.02)
        closed.set()

    threading.Thread(target=stream, daemon=True).start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    asked = ChatServer(url, "m", timeout=0.3, attempts=1, log=lambda line: None)
    began = time.monotonic()
    (answer,) = asked.ask([question("?")], number)
    assert answer.failure == chat.TIMEOUT
    assert time.monotonic() - began < 10
    assert closed.wait(10)
    listener.close()


def test_a_retry_after_may_be_a_date(monkeypatch):
    slept = []
    monkeypatch.setattr(remote, "time", SimpleNamespace(**vars(time) | {"sleep": slept.append}))
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    answers = [(429, {"Retry-After": date}, b""), (429, {"Retry-After": "soon"}, b""), "2"]
    with serving(lambda i, body: answers[i]) as server:
        (answer,) = client(server).ask([question("?")], number)
    assert answer.value == 2
    assert 20 < slept[0] <= 30
    assert slept[1] < 1


# --- answers that are there ---


def test_what_was_answered_is_not_asked_again_and_still_counts(tmp_path):
    path = tmp_path / "new" / "answers.jsonl"
    with serving(lambda i, body: said("1", 10, 2)) as server:
        first = RecordedChat(client(server), path)
        assert [answer.value for answer in first.ask([question("a"), question("b")], number)] == [1, 1]
        budget = TokenBudget(1000)
        second = RecordedChat(client(server, budget=budget), path)
        assert second.n_found == 2
        assert second.is_answered(question("a"))
        assert not second.is_answered(question("c"))
        assert [answer.value for answer in second.ask([question(x) for x in "cab"], number)] == [1, 1, 1]
        assert [body["messages"][0]["content"] for body in server.requests[2:]] == ["c"]
        assert budget.spent == 3 * 12


def test_refusals_are_kept_and_trouble_is_asked_for_again(tmp_path):
    path = tmp_path / "answers.jsonl"
    refusal = {"choices": [{"message": {"content": None, "refusal": "no"}}]}

    def respond(i: int, body: dict) -> object:
        return {"no": refusal, "bad": (400, {}, b""), "odd": "odd"}[body["messages"][0]["content"]]

    with serving(respond) as server:
        for _ in range(2):
            asked = RecordedChat(client(server), path)
            answers = asked.ask([question(word) for word in ("no", "bad", "odd")], number)
            kinds = [answer.failure for answer in answers]
            assert kinds == [chat.REFUSAL, chat.REJECTED, chat.UNREADABLE]
        words = [body["messages"][0]["content"] for body in server.requests]
    # "odd" was asked for twice in the first run, the second time with a reminder
    assert sorted(words) == ["bad", "bad", "no", "odd", "odd"]


def test_another_model_is_asked_anew(tmp_path):
    path = tmp_path / "answers.jsonl"
    with serving(lambda i, body: "1") as server:
        RecordedChat(client(server), path).ask([question("a")], number)
        other = RecordedChat(ChatServer(server.url, "other", log=lambda line: None), path)
        other.ask([question("a")], number)
        assert len(server.requests) == 2


def test_a_line_that_was_cut_short_is_left_out_and_the_next_one_is_whole(tmp_path):
    path = tmp_path / "answers.jsonl"
    with serving(lambda i, body: "1") as server:
        RecordedChat(client(server), path).ask([question("a")], number)
        path.write_bytes(path.read_bytes() + b'{"asked": "12')
        RecordedChat(client(server), path).ask([question("b")], number)
    found = read_journal(path)
    assert list(found.values()) == [Completion("1", None, Usage(6, 0, True))] * 2


@pytest.mark.parametrize("content", [b"hello\n", b"[1]\n", b'{"asked": "1"}\n', b"\xff\xfe\n"])
def test_a_file_of_something_else_is_refused(tmp_path, content):
    path = tmp_path / "answers.jsonl"
    path.write_bytes(content)
    with pytest.raises(UserError, match="no answer of a chat model"):
        read_journal(path)
    assert path.read_bytes() == content


def test_the_file_holds_no_key_and_no_question(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    path = tmp_path / "answers.jsonl"
    with serving(lambda i, body: "1") as server:
        RecordedChat(client(server), path).ask([question("what is asked")], number)
        assert server.headers[0]["Authorization"] == "Bearer sk-secret"
    written = path.read_text()
    assert json.loads(written)["text"] == "1"
    assert "sk-secret" not in written
    assert "what is asked" not in written
