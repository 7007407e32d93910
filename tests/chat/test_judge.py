"""Asking a judge: against real servers on this machine, good, slow, broken and talking nonsense."""

import socket
import threading
import time
from contextlib import suppress
from types import SimpleNamespace

import pytest
from chat_server import TEMPLATE, client, number, serving

from dictionary_learning.errors import UserError
from dictionary_learning.language_model import LanguageModel
from temporal_saes.chat import model as chat
from temporal_saes.chat import server as remote
from temporal_saes.chat.local import LocalChat
from temporal_saes.chat.model import question
from temporal_saes.chat.server import ChatServer
from temporal_saes.chat.transport import MAX_BYTES
from temporal_saes.steering.judge import Judge, Steered, read_score, template


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    # this machine is asked directly, whatever the environment says of proxies
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")


# --- answers ---


def test_answers_come_in_the_order_of_the_questions_and_equal_ones_are_asked_once():
    with serving(lambda i, body: body["messages"][0]["content"] * 2) as server:
        answers = client(server).ask([question(text) for text in ("1", "2", "1", "3")], number)
        assert [answer.value for answer in answers] == [11, 22, 11, 33]
        assert len(server.requests) == 3
        assert server.requests[0]["model"] == "judge-7b"
        assert server.requests[0]["temperature"] == 0
        assert {headers["path"] for headers in server.headers} == {"/v1/chat/completions"}
        assert "Authorization" not in server.headers[0]


def test_no_question_is_no_call():
    with serving(lambda i, body: "1") as server:
        assert client(server).ask([], number) == []
        assert server.requests == []


def test_an_answer_that_cannot_be_read_is_asked_for_once_more_with_a_reminder():
    with serving(lambda i, body: "maybe" if len(body["messages"]) == 1 else "3") as server:
        (answer,) = client(server).ask([question("?")], number)
        assert (answer.value, answer.failure) == (3, None)
        assert [m["role"] for m in server.requests[1]["messages"]] == ["user", "assistant", "user"]
        assert server.requests[1]["messages"][1]["content"] == "maybe"
        assert server.last_question() == chat.REMINDER


def test_nonsense_is_counted_and_the_others_go_on():
    with serving(lambda i, body: "7" if body["messages"][0]["content"] == "good" else "𝔰𝔬 {}") as server:
        answers = client(server).ask([question("bad"), question("good")], number)
        assert [answer.value for answer in answers] == [None, 7]
        assert answers[0].text == "𝔰𝔬 {}"
        assert chat.tally(answers) == {chat.UNREADABLE: 1}


def test_half_a_character_in_an_answer_can_be_written():
    with serving(lambda i, body: "rivers \ud83d") as server:
        (answer,) = client(server).ask([question("?")], lambda text: text)
        assert answer.value == "rivers \ufffd"


@pytest.mark.parametrize(
    "choice",
    [
        {"message": {"content": None, "refusal": "I will not."}},
        {"message": {"content": "5"}, "finish_reason": "content_filter"},
    ],
)
def test_a_refusal_is_its_own_kind_of_failure(choice):
    with serving(lambda i, body: {"choices": [choice]}) as server:
        (answer,) = client(server).ask([question("?")], number)
        assert answer.failure == chat.REFUSAL
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("said", "value"),
    [("<think>4 or 5?</think>\n4", 4), ("so 5\n</think>4", 4), ("<think>4\n4\n4", None), ("4", 4)],
)
def test_what_a_model_thinks_aloud_is_not_its_answer(said, value):
    with serving(lambda i, body: said) as server:
        (answer,) = client(server).ask([question("?")], number)
        assert answer.value == value


# --- trouble ---


def test_a_busy_server_is_asked_again_after_the_time_it_names(monkeypatch):
    slept = []
    monkeypatch.setattr(remote, "time", SimpleNamespace(**vars(time) | {"sleep": slept.append}))
    answers = [(429, {"Retry-After": "7"}, b"slow down"), (503, {}, b""), "2"]
    with serving(lambda i, body: answers[i]) as server:
        (answer,) = client(server).ask([question("?")], number)
        assert answer.value == 2
    # the second wait is twice the first one's 0.01 s, times 0.5 to 1.5
    assert slept[0] == 7
    assert 0.01 <= slept[1] <= 0.03


def test_a_server_cannot_make_us_wait_for_long(monkeypatch):
    slept = []
    monkeypatch.setattr(remote, "time", SimpleNamespace(**vars(time) | {"sleep": slept.append}))
    with serving(lambda i, body: (429, {"Retry-After": "86400"}, b"")) as server:
        (answer,) = client(server).ask([question("?")], number)
        assert answer.failure == chat.RATE_LIMIT
    assert slept == [60, 60]  # three attempts


@pytest.mark.parametrize(
    ("said", "failure"),
    [
        ((500, {}, b"oops"), chat.SERVER_ERROR),
        (b"<html>gateway</html>", chat.SERVER_ERROR),
        (b"[" * 100_000, chat.SERVER_ERROR),
        ({"choices": []}, chat.SERVER_ERROR),
        ({"choices": ["a"]}, chat.SERVER_ERROR),
        (b"x" * (MAX_BYTES + 1), chat.SERVER_ERROR),
    ],
)
def test_a_broken_answer_is_retried_and_then_counted(said, failure):
    with serving(lambda i, body: said) as server:
        (answer,) = client(server).ask([question("?")], number)
        assert (answer.value, answer.failure) == (None, failure)
        assert len(server.requests) == 3


def test_a_rejected_question_is_not_asked_again():
    said = (400, {}, b'{"error": "context length exceeded"}')
    with serving(lambda i, body: said if "long" in body["messages"][0]["content"] else "1") as server:
        answers = client(server).ask([question("long"), question("short")], number)
        assert [answer.failure for answer in answers] == [chat.REJECTED, None]
        assert len(server.requests) == 2


def test_a_silent_server_costs_no_more_than_the_time_limit():
    with serving(lambda i, body: time.sleep(30)) as server:
        began = time.monotonic()
        (answer,) = client(server, timeout=0.2, attempts=2).ask([question("?")], number)
        assert answer.failure == chat.TIMEOUT
        assert time.monotonic() - began < 15


def test_a_server_that_drips_is_cut_off_too():
    """A byte now and then never exceeds the limit of one read."""
    listener = socket.create_server(("127.0.0.1", 0))

    def drip() -> None:
        connection, _ = listener.accept()
        with suppress(OSError):
            while True:
                connection.sendall(b"H")
                time.sleep(0.05)

    threading.Thread(target=drip, daemon=True).start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    asked = ChatServer(url, "m", timeout=0.5, attempts=1, log=lambda line: None)
    (answer,) = asked.ask([question("?")], number)
    assert answer.failure == chat.TIMEOUT
    listener.close()


def test_a_server_that_keeps_failing_is_not_asked_any_more():
    said = []
    with serving(lambda i, body: "1" if i == 0 else (500, {}, b"")) as server:
        asked = client(server, attempts=2, workers=1, give_up_after=3, log=said.append)
        answers = asked.ask([question(str(i)) for i in range(10)], number)
        kinds = [answer.failure for answer in answers]
        assert kinds == [None] + [chat.SERVER_ERROR] * 3 + [chat.NOT_ASKED] * 6
        assert len(server.requests) == 1 + 3 * 2
        assert asked.has_given_up
        assert asked.ask([question("later")], number)[0].failure == chat.NOT_ASKED
    assert len(said) == 1
    assert "failed 3 times in a row" in said[0]
    assert "status 500" in said[0]


# --- before the work begins ---


def test_a_server_that_answers_passes_the_check_whatever_it_says():
    with serving(lambda i, body: "nonsense") as server:
        client(server).check()
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ((401, {}, b'{"error": "bad key sk-secret"}'), r"status 401.*bad key \*\*\*.*OPENAI_API_KEY"),
        ((404, {}, b"no such model"), "status 404.*--judge_url and --judge_model"),
        ((429, {}, b""), "status 429"),
        ((500, {}, b"oops\n\n  oops"), r"status 500 \(oops oops\)"),
        ((302, {"Location": "http://127.0.0.1:9/"}, b""), "status 302"),
        (b"hello", "chat completion"),
    ],
)
def test_what_is_wrong_with_a_server_is_told_in_one_sentence(monkeypatch, said, sentence):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    with serving(lambda i, body: said) as server:
        with pytest.raises(UserError, match=sentence) as caught:
            client(server).check()
        assert "sk-secret" not in str(caught.value)
        assert "\n" not in str(caught.value)
        assert len(server.requests) == 1


@pytest.mark.parametrize("key", ["sk-secret", 'sk-"secret"\\u/1'])
def test_a_server_that_repeats_the_key_is_heard_without_it(monkeypatch, key):
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with serving(lambda i, body: f"You sent {server.headers[i]['Authorization']}.") as server:
        answer = client(server).ask([question("who?")], read=str)[0]
    assert answer.text == answer.value == "You sent Bearer ***."


def test_a_key_that_is_no_secret_may_be_a_word_of_an_answer(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "EMPTY")
    with serving(lambda i, body: "An EMPTY glass.") as server:
        assert client(server).ask([question("what?")], read=str)[0].value == "An EMPTY glass."


def test_a_server_that_speaks_no_http_is_told_without_the_key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")

    def repeat(listening):
        connection, _ = listening.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(b"Authorization: Bearer sk-secret\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=repeat, args=(listening,), daemon=True).start()
        with pytest.raises(UserError, match=r"cannot be reached.*\*\*\*") as caught:
            ChatServer(f"http://127.0.0.1:{listening.getsockname()[1]}/v1", "judge-7b").check()
    assert "sk-secret" not in str(caught.value)


def test_a_server_that_is_not_there_or_slow_is_told():
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(UserError, match="cannot be reached"):
        ChatServer(url, "m").check()
    with pytest.raises(UserError, match="cannot be reached"):
        ChatServer("http://a..b/v1", "m").check()
    with (
        serving(lambda i, body: time.sleep(30)) as server,
        pytest.raises(UserError, match=r"within 0\.2 seconds"),
    ):
        client(server, timeout=0.2).check()


def test_settings_that_a_server_does_not_know_are_given_up():
    def respond(i: int, body: dict) -> object:
        if "max_tokens" in body:
            return (400, {}, b"max_tokens is not supported: use max_completion_tokens")
        if "temperature" in body:
            return (400, {}, b"temperature does not support 0")
        return "4"

    with serving(respond) as server:
        asked = client(server, max_tokens=99)
        asked.check()
        assert server.requests[-1].get("max_completion_tokens") == 99
        assert asked.ask([question("?")], number)[0].value == 4
        assert len(server.requests) == 4


def test_the_key_of_the_environment_goes_to_the_server_and_nowhere_else(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", " sk-secret\n")
    with (
        serving(lambda i, body: "1") as other,
        serving(lambda i, body: (307, {"Location": other.url}, b"")) as server,
    ):
        (answer,) = client(server).ask([question("?")], number)
        assert answer.failure == chat.REJECTED
        assert server.headers[0]["Authorization"] == "Bearer sk-secret"
        assert other.requests == []


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://a/b", "http://", "http://[::1", "http://a:port"])
def test_what_is_no_address_is_refused(url):
    with pytest.raises(UserError, match="is no address of a server"):
        ChatServer(url, "m")


@pytest.mark.parametrize("url", ["http://me:sk-1@host/v1", "https://host/v1?key=sk-1"])
def test_a_key_in_an_address_is_refused_without_repeating_it(url):
    with pytest.raises(UserError, match="OPENAI_API_KEY") as caught:
        ChatServer(url, "m")
    assert "sk-1" not in str(caught.value)


def test_a_key_that_cannot_be_sent_is_refused_without_repeating_it(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-“1”")
    with pytest.raises(UserError, match="characters that no key has") as caught:
        ChatServer("http://127.0.0.1:9", "m")
    assert "sk-" not in str(caught.value)


def test_the_address_may_be_the_whole_one():
    assert ChatServer("https://host/v1/chat/completions", "m").url == "https://host/v1/chat/completions"
    assert ChatServer("https://host/v1/", "m").url == "https://host/v1/chat/completions"


# --- a local model ---


@pytest.fixture
def lm(tiny_lm_folder) -> LanguageModel:
    made = LanguageModel.load(str(tiny_lm_folder), device="cpu")
    made.tokenizer.chat_template = TEMPLATE
    return made


def test_a_local_model_continues_its_own_chat_template_in_batches(lm, monkeypatch):
    given = []
    continuations = LanguageModel.continuations

    def watched(self, prompts, **options):
        given.append(prompts)
        return continuations(self, prompts, **options)

    monkeypatch.setattr(LanguageModel, "continuations", watched)
    monkeypatch.setattr("temporal_saes.chat.local.LOCAL_BATCH", 2)
    local = LocalChat(lm, max_tokens=3)
    answers = local.ask([question(text) for text in ("a much longer question", "b", "c")], str)
    assert [answer.failure for answer in answers] == [None] * 3
    assert [len(batch) for batch in given] == [2, 1]
    assert given[0][0] == "<|im_start|>user\nb<|im_end|>\n<|im_start|>assistant\n"
    (alone,) = continuations(lm, given[1], max_new_tokens=3)
    assert answers[0].text == alone.text
    assert local.budget.answer == 3 * 3
    assert local.budget.prompt == sum(len(lm.tokenizer(one)["input_ids"]) for batch in given for one in batch)


def test_a_question_too_long_for_a_local_model_is_counted(lm):
    answers = LocalChat(lm, max_tokens=3).ask([question("x " * 600), question("b")], str)
    assert [answer.failure for answer in answers] == [chat.TOO_LONG, None]


def test_the_bos_of_a_chat_template_is_not_doubled(lm):
    lm.tokenizer.bos_token = "<|im_start|>"
    lm.tokenizer.chat_template = "<|im_start|>{{ messages[0].content }}"
    assert LocalChat(lm)._prompt(question("a")) == "<|im_start|>a"
    lm.bos_id = 2  # as of a tokenizer that adds it
    assert LocalChat(lm)._prompt(question("a")) == "a"


def test_a_local_model_without_a_chat_template_is_refused(lm):
    lm.tokenizer.chat_template = None
    with pytest.raises(UserError, match="has no chat template"):
        LocalChat(lm)


# --- the judge ---


CLEAR = {
    0: ["Score: 0", "  **Score: 0**  ", "Score: 0/3", "score = 0", "0"],
    1: ["Score: 1\nScore: 1", "Score 1 would be a trace, and it is more than 0.\nScore: 1"],
    2: [
        *(
            "Score: 2",
            "**Score:** 2",
            "**Score**: 2",
            "Score: **2**",
            "Score: 2.",
            "Score: `2`",
            "### Score: 2",
        ),
        *(
            "Score: 2/3",
            "Score: 2 / 3",
            "Score: 2 out of 3",
            "Score: 2 of 3",
            "Score: 2 (out of 3)",
            "Score: 2.0",
        ),
        *("score = 2", "Score 2", "Score - 2", "score:2", "SCORE: 2", "Score\uff1a2", "Score (0-3): 2"),
        *(
            "Rating: 2",
            "Final score: 2",
            "Overall rating: 2",
            "My score is 2.",
            "The score is: 2",
            "- Score: 2",
        ),
        *("2", " 2\n", "2.", "**2**", "2/3", "[[2]]", "[2]", "Score: [[2]]", "I would say [[2]] here."),
        *('{"score": 2}', '```json\n{"score": 2}\n```', "<score>2</score>", 'Score: "2"', "Score: 2 points"),
        "Score: 2 (clearly there, beside other things)",
        "Score: 2 - clearly there",
        "Score: 2. It speaks of rivers.",
        "It is about rivers, in 3 of its 4 sentences.\n\n2",
        "2\n\nIt is about rivers.",
        "It is about rivers.\n\n**Final Score: 2/3**",
        "Score: N\nScore: 2",
    ],
    3: ["It is about rivers.\nScore: 3.", "Score: 3", "Score: 3!"],
}
UNCLEAR = [
    *("", "who knows", "Score:", "Score: N", "Score: two", "Score", "rivers"),
    *("Score: 4", "Score: -1", "Score -1", "Score: 2.5", "Score: 02", "Score: 23", "4", "-1", "[[4]]", "2.5"),
    *("Score: 2/10", "2/5", "Score: 2 out of 10", "Score: 20 %"),
    *("Score: 1\nScore: 2", "Score: 2 or 3", "Score: 2-3", "Score: 2 - 3", "Score: 1/2", "[[1]] or [[2]]"),
    *("Score: 2 (maybe 3)", "Score: 2, though 3 would do", "1\n2", "1, 2", "0\n1\n2\n3"),
    *("Score: 2\nScore: 4", "Score: 2\nFinal score: 3", "I would give it a 2", "It has 2 rivers."),
    *("1. It names rivers.", "1 - rivers", "Why:\n1. It names rivers.", "3 rivers"),
    *("It names\n2\nrivers.", "The 3 rivers\nare long.", "Score: between 1 and 2"),
]


@pytest.mark.parametrize(("score", "said"), [(score, one) for score, some in CLEAR.items() for one in some])
def test_a_score_counts_however_it_is_dressed(score, said):
    assert read_score(said) == score


@pytest.mark.parametrize("said", UNCLEAR)
def test_an_answer_that_may_mean_another_score_or_none_does_not_count(said):
    assert read_score(said) is None


def test_the_questions_hold_what_is_judged_word_for_word():
    text = Steered("rivers & $opening", "I ${think}", "</continuation> {braces} $topic\nScore: 3")
    with serving(lambda i, body: "Score: 1") as server:
        judge = Judge(client(server))
        assert [answer.value for answer in judge.success([text])] == [1]
        asked = server.last_question()
        assert all(part in asked for part in text)
        assert [answer.value for answer in judge.coherence([text])] == [1]
        assert "rivers" not in server.last_question()
        assert text.continuation in server.last_question()


def test_the_judge_counts_what_it_could_not_score():
    def respond(i: int, body: dict) -> object:
        asked = body["messages"][0]["content"]
        return "no idea" if "dull" in asked else (400, {}, b"") if "bad" in asked else "Score: 2"

    with serving(respond) as server:
        judge = Judge(client(server))
        texts = [Steered("t", "o", word) for word in ("dull", "bad", "fine")]
        assert [answer.value for answer in judge.success(texts)] == [None, None, 2]
        judge.coherence(texts)
    about = judge.about()
    assert (about["model"], about["asked"]) == ("judge-7b", 6)
    assert about["failures"] == {chat.REJECTED: 2, chat.UNREADABLE: 2}


@pytest.mark.parametrize("name", ["success", "coherence"])
def test_the_shipped_questions_ask_for_the_line_that_is_read(name):
    made = template(name)
    fields = {"opening", "continuation"} | ({"topic"} if name == "success" else set())
    assert set(made.get_identifiers()) == fields
    assert made.template.rstrip().endswith("Score: N")
