"""The explorer: who is answered, what a text and a prompt give, through real sockets; and mistakes.

Shapes: u usable positions, F latents.
"""

import json
import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import torch
import warm
from run_folders import save_run
from serving import NASTY, exploring, make_site, request
from toy_runs import LAYER

from dictionary_learning.command import cli, rehearsal
from dictionary_learning.errors import UserError
from dictionary_learning.language_model import LanguageModel
from dictionary_learning.language_model.fingerprint import fingerprints
from dictionary_learning.trainers.batch_top_k import BatchTopKSAE
from dictionary_learning.utils import load_dictionary
from temporal_saes.explorer.about import SiteFacts
from temporal_saes.explorer.command import main
from temporal_saes.explorer.key import find_token
from temporal_saes.explorer.turns import Queue, Turns

pytestmark = pytest.mark.usefixtures("own_cache")

pytest.importorskip("uvicorn")
TEXT = "The comet circles the moon. A judge near the oven often overrules it. Every onion softens the butter."


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_lm_folder: Path, tiny_corpus: Path) -> Path:
    """Runs of three kinds, one of them with a feature browser; the cache is here, too."""
    return make_site(tmp_path_factory.mktemp("explorer"), tiny_lm_folder, tiny_corpus)


def flags(folder: Path, run: str = "grouped", *more: str) -> list[str]:
    return [
        "--checkpoints_path",
        str(folder / "runs"),
        "--run_name",
        run,
        "--device",
        "cpu",
        "--port",
        "0",
        *more,
    ]


@pytest.fixture(scope="module")
def addresses(folder: Path) -> Iterator[dict[str, str]]:
    with (
        pytest.MonkeyPatch.context() as patch,
        exploring_in(patch, folder, "grouped") as grouped,
        exploring_in(patch, folder, "attention") as attention,
    ):
        yield {"grouped": grouped, "attention": attention}


def exploring_in(patch: pytest.MonkeyPatch, folder: Path, run: str) -> Any:
    patch.setenv("TEMPORAL_SAES_CACHE", str(folder / "cache"))
    return exploring(*flags(folder, run))


# --- who is answered ---


def test_the_page_has_its_token_in_the_address_and_loads_nothing(addresses: dict[str, str]) -> None:
    answer = request(addresses["grouped"])
    assert answer.status == 200
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "no-store"
    page = answer.body.decode()
    policy = page.split('http-equiv="Content-Security-Policy" content="')[1].split('"')[0]
    assert policy.startswith("default-src &#x27;none&#x27;")
    assert "unsafe-eval" not in policy
    assert "http" not in policy
    assert "<script src" not in page
    assert "<link" not in page
    token = urlsplit(addresses["grouped"]).path.strip("/")
    assert len(token) >= 32
    assert token not in page


@pytest.mark.parametrize(
    "path", ["/", "/api/alive", "/wrong/", "/wrong/api/alive", "//", "/%2e%2e/", "/favicon.ico", "/%C3%A9/"]
)
def test_without_the_token_there_is_403_and_no_body(addresses: dict[str, str], path: str) -> None:
    answer = request(addresses["grouped"], path)
    assert (answer.status, answer.body) == (403, b"")
    assert answer.headers["content-length"] == "0"


def test_a_part_of_the_token_is_none(addresses: dict[str, str]) -> None:
    path = urlsplit(addresses["grouped"]).path
    for wrong in (path[:-2] + "/", path[:-1] + "x/", path.swapcase()):
        assert request(addresses["grouped"], wrong).status == 403
    moved = request(addresses["grouped"], path[:-1])
    assert (moved.status, moved.headers["location"]) == (307, path)


@pytest.mark.parametrize("name", ["evil.example", "127.0.0.1", "127.0.0.1:1", "localhost.evil.example", ""])
def test_another_host_is_refused(addresses: dict[str, str], name: str) -> None:
    answer = request(addresses["grouped"], "api/alive", Host=name)
    assert (answer.status, answer.body) == (403, b"")


def test_another_origin_is_refused_and_the_own_one_is_not(addresses: dict[str, str]) -> None:
    port = urlsplit(addresses["grouped"]).port
    for origin in (
        "https://evil.example",
        "null",
        f"https://127.0.0.1:{port}",
        "http://127.0.0.1:1",
        "file://",
    ):
        answer = request(addresses["grouped"], "api/read", {"text": TEXT}, Origin=origin)
        assert (answer.status, answer.body) == (403, b"")
    for name in ("127.0.0.1", "localhost"):
        own = {"Origin": f"http://{name}:{port}", "Host": f"{name}:{port}"}
        assert request(addresses["grouped"], "api/alive", **own).status == 200


def test_it_listens_on_this_machine_alone(addresses: dict[str, str]) -> None:
    port = urlsplit(addresses["grouped"]).port
    lines = Path("/proc/net/tcp").read_text().splitlines() if Path("/proc/net/tcp").exists() else []
    listening = [line.split()[1] for line in lines[1:] if line.split()[3] == "0A"]
    assert [one for one in listening if one.endswith(f":{port:04X}")] in ([], [f"0100007F:{port:04X}"])


def test_the_token_is_kept_for_its_owner_alone_and_another_one_can_be_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "cache" / "explorer" / "token"
    token = find_token()
    assert path.read_text() == token
    assert path.stat().st_mode & 0o777 == 0o600
    assert find_token() == token
    other = find_token(new=True)
    assert other != token
    assert find_token() == other
    path.chmod(0o644)  # others may have read it
    assert find_token() != other
    path.write_text("short")
    assert len(find_token()) >= 32


# --- reading ---


def read(address: str, text: str) -> list[dict[str, Any]]:
    return request(address, "api/read", {"text": text}).events


@pytest.mark.parametrize("run", ["grouped", "attention"])
def test_a_text_has_the_codes_that_encode_gives(
    addresses: dict[str, str], folder: Path, tiny_lm_folder: Path, run: str
) -> None:
    text = " ".join([TEXT] * 4)  # contexts of 48 tokens
    first, *contexts, last = read(addresses[run], text)
    assert first["text"]["contexts"] == len(contexts) > 1
    units = [unit for one in contexts for unit in one["context"]["units"]]
    assert "".join(unit[0] for unit in units) == text
    assert sum(unit[1] for unit in units) == first["text"]["tokens"]
    assert [one["context"]["start"] for one in contexts] == [48 * i for i in range(len(contexts))]

    lm = LanguageModel.load(str(tiny_lm_folder), device="cpu")
    dictionary, _ = load_dictionary(folder / "runs" / run, device="cpu")
    ids = torch.tensor(lm.tokenizer(text)["input_ids"])
    codes = []
    for ids_L in ids.split(48):
        x_LD = lm.record(ids_L[None], torch.ones(1, len(ids_L), dtype=torch.bool), LAYER)
        codes.append(dictionary.encode(x_LD)[0])
    f_uF = torch.cat(codes)
    splits = list(dictionary.splits().values())
    for unit, f_F in zip(units, f_uF, strict=True):
        expected = {}
        for split in splits:
            best = f_F[split].topk(min(40, split.stop - split.start))
            pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
            expected |= {split.start + latent: value for latent, value in pairs if value > 0}
        told = dict(unit[3])
        assert told.keys() == expected.keys()
        values = [told[latent] for latent in expected]
        assert values == pytest.approx(list(expected.values()), rel=1e-3, abs=float(f_uF.max()) * 1e-4)
        assert [value for _, value in unit[3]] == sorted(told.values(), reverse=True)
    mean_F = f_uF.mean(0)
    for name, split in dictionary.splits().items():
        means = dict(last["whole"]["means"][name])
        best = int(mean_F[split].argmax()) + split.start
        assert next(iter(means)) == best
        assert means[best] == pytest.approx(float(mean_F[best]), rel=1e-3)
    about = {one["latent"]: one for one in last["whole"]["about"]}
    assert {latent for unit in units for latent, _ in unit[3]} <= about.keys()
    kernel = np.array(last["whole"]["kernel"])
    assert kernel.shape == (len(last["whole"]["rows"]),) * 2
    np.testing.assert_array_equal(kernel, kernel.T)
    assert last["whole"]["compared"] == next(iter(dictionary.splits()))


def test_special_tokens_are_shown_and_not_read(addresses: dict[str, str]) -> None:
    _, context, _ = read(addresses["grouped"], "A judge.<|endoftext|>A comet.")
    by_text = {unit[0]: unit for unit in context["context"]["units"]}
    assert by_text["<|endoftext|>"][2:] == [0, []]
    assert by_text["."][2] == 1


def test_a_text_of_five_thousand_tokens_is_read_context_by_context(addresses: dict[str, str]) -> None:
    text = " ".join([TEXT] * 240)
    first, *contexts, last = read(addresses["grouped"], text)
    assert first["text"]["tokens"] > 5000
    assert "".join(unit[0] for one in contexts for unit in one["context"]["units"]) == text
    assert len(last["whole"]["kernel"]) <= 160
    assert first["text"]["per_row"] == -(-first["text"]["tokens"] // 160)


@pytest.mark.parametrize("text", [NASTY, "日本語 😀 \u202e evil \x00", "a", "\n\n\t ", "é" * 300])
def test_any_text_comes_back_as_text(addresses: dict[str, str], text: str) -> None:
    _, *contexts, last = read(addresses["grouped"], text)
    assert "whole" in last
    assert contexts


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({"text": ""}, "there is nothing to read: type a text."),
        ({}, "there is nothing to read: type a text."),
        ([1], "there is nothing to read: type a text."),
        (b"{", "this is no JSON."),
        (b"[" * 100_000, "this is no JSON."),
        (
            {"text": "a" + " a" * 20_999},
            "this text has 21,000 tokens, and the page takes 20,000: leave some out.",
        ),
    ],
)
def test_what_cannot_be_read_is_told_in_a_sentence(
    addresses: dict[str, str], body: Any, sentence: str
) -> None:
    assert request(addresses["grouped"], "api/read", body).events[-1] == {"error": sentence}


def test_more_than_a_page_may_send_is_not_taken(addresses: dict[str, str]) -> None:
    assert request(addresses["grouped"], "api/read", b"x" * (2**20 + 1)).status == 413


# --- latents ---


def latents(address: str, query: str) -> Any:
    return json.loads(request(address, f"api/latents?{query}").body)


def test_latents_are_found_by_number_explanation_and_token(addresses: dict[str, str], folder: Path) -> None:
    address = addresses["grouped"]
    (planets,) = latents(address, "search=PLANETS")
    assert (planets["latent"], planets["split"], planets["explanation"]) == (3, "high", f"planets {NASTY}")
    assert planets["has_page"]
    assert planets["maximum"] > 0
    word = planets["tokens"][0].strip()
    assert 3 in [one["latent"] for one in latents(address, f"search={word}")]
    assert latents(address, "search=40")[0]["latent"] == 40
    assert latents(address, "search=nothing+of+that+kind") == []
    assert latents(address, "search=") == []
    low, high = latents(address, "numbers=40,3")
    assert (low["split"], high["split"]) == ("low", "high")
    assert len(low["raised"]) == 8
    assert latents(address, "numbers=96") == {"error": "there is no latent 96: the dictionary has 0 to 95."}
    assert "error" in latents(address, "numbers=x")
    # without a feature browser there are the explanations
    (planets,) = latents(addresses["attention"], "search=planets")
    assert (planets["split"], planets["has_page"], planets["tokens"]) == ("predicted", False, [])


def test_the_feature_browser_is_served_behind_the_token(addresses: dict[str, str]) -> None:
    assert b"Latents of grouped" in request(addresses["grouped"], "browser/index.html").body
    assert request(addresses["grouped"], "browser/data/index.js").status == 200
    for path in ("browser", "browser/", "browser/data", "api/alive/"):
        assert request(addresses["grouped"], path).status == 404
    for path in ("browser/../../trainer_0/config.json", "browser/%2e%2e/%2e%2e/trainer_0/config.json"):
        assert request(addresses["grouped"], path).status == 404
    assert request(addresses["attention"], "browser/index.html").status == 404


# --- writing ---


def write(address: str, **wish: Any) -> list[dict[str, Any]]:
    return request(address, "api/write", {"prompt": "The judge", "tokens": 8, **wish}).events


@pytest.mark.parametrize("mode", ["add", "clamp"])
@pytest.mark.parametrize("run", ["grouped", "attention"])
def test_both_texts_are_those_that_the_model_writes(
    addresses: dict[str, str], folder: Path, tiny_lm_folder: Path, run: str, mode: str
) -> None:
    *told, last = write(addresses[run], strengths={"3": 8.0, "60": -4.0}, mode=mode)
    lm = LanguageModel.load(str(tiny_lm_folder), device="cpu")
    dictionary, _ = load_dictionary(folder / "runs" / run, device="cpu")
    (plain,) = lm.generate(["The judge"], max_new_tokens=8)
    with lm.steered(dictionary, {3: 8.0, 60: -4.0}, LAYER, mode=mode):
        (steered,) = lm.generate(["The judge"], max_new_tokens=8)
    assert told[-1]["texts"] == [plain, steered]
    assert plain != steered
    assert [one["tokens"] for one in told] == list(range(1, len(told) + 1))
    assert last == {"done": True}


def test_without_steering_both_texts_are_the_same_also_at_a_temperature(addresses: dict[str, str]) -> None:
    texts = [write(addresses["grouped"], temperature=1.5, seed=seed)[-2]["texts"] for seed in (1, 1, 2)]
    assert all(plain == steered for plain, steered in texts)
    assert texts[0] == texts[1] != texts[2]


@pytest.mark.parametrize(
    ("wish", "sentence"),
    [
        ({"prompt": ""}, "there is nothing to go on from: type a prompt."),
        ({"strengths": {"96": 1.0}}, "there is no latent 96: the dictionary has 0 to 95."),
        ({"strengths": {"3": "much"}}, "this is no wish for a text."),
        ({"strengths": [3]}, "this is no wish for a text."),
        ({"strengths": {str(i): 1 for i in range(40)}}, "40 latents are too many: steer at most 32."),
        ({"mode": "set"}, "mode 'set' does not exist: choose add or clamp."),
        ({"tokens": 0}, "0 tokens cannot be written: choose 1 to 400."),
        ({"temperature": -1}, "temperature -1.0 is none: choose 0 to 10."),
        (
            {"prompt": "a" + " a" * 509},
            "a prompt of 510 tokens and 8 new ones are more than the 512 positions",
        ),
    ],
)
def test_what_cannot_be_written_is_told_in_a_sentence(
    addresses: dict[str, str], wish: dict[str, Any], sentence: str
) -> None:
    assert write(addresses["grouped"], **wish)[-1]["error"].startswith(sentence)
    assert write(addresses["grouped"])[-1] == {"done": True}


# --- several people ---


def test_whoever_waits_first_is_served_first() -> None:
    queue, served = Queue(), []
    queue.acquire()

    def wait(name: int) -> None:
        with queue:
            served.append(name)

    threads = []
    for name in range(5):
        threads.append(threading.Thread(target=wait, args=(name,)))
        threads[-1].start()
        while len(queue._waiting) <= name:
            time.sleep(0.001)
    queue.release()
    for thread in threads:
        thread.join()
    assert served == [0, 1, 2, 3, 4]
    assert not queue.is_taken


def test_a_step_can_be_paused_for_others() -> None:
    turns, order = Turns(), []

    def other() -> None:
        with turns.step():
            order.append("other")

    with turns.step():
        thread = threading.Thread(target=other)
        thread.start()
        while not turns._model._waiting:
            time.sleep(0.001)
        order.append("before")
        turns.pause()
        order.append("after")
    thread.join()
    assert order == ["before", "other", "after"]


def test_two_people_get_what_each_would_get_alone(addresses: dict[str, str]) -> None:
    """Reading goes on between the tokens that are written for others, unsteered."""
    address = addresses["grouped"]
    wishes = [
        {"strengths": {"3": 9.0}, "tokens": 40},
        {"strengths": {"60": -9.0}, "mode": "clamp", "tokens": 40},
    ]
    texts = [" ".join([TEXT] * 12), TEXT]
    alone = [read(address, text) for text in texts], [write(address, **wish)[-2] for wish in wishes]
    made: dict[Any, Any] = {}

    def keep(key: Any, call: Any, *args: Any, **more: Any) -> None:
        made[key] = call(*args, **more)

    threads = [
        threading.Thread(target=keep, args=(("w", i), write, address), kwargs=w) for i, w in enumerate(wishes)
    ]
    for k in range(3):
        threads += [
            threading.Thread(target=keep, args=(("r", k, i), read, address, t)) for i, t in enumerate(texts)
        ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i in range(2):
        assert made["w", i][-2] == alone[1][i]
        for k in range(3):
            assert made["r", k, i] == alone[0][i]


def test_a_page_that_leaves_ends_what_is_written_for_it(addresses: dict[str, str]) -> None:
    address = addresses["grouped"]
    parts = urlsplit(address)
    body = json.dumps({"prompt": "The judge", "tokens": 400, "strengths": {"3": 1.0}}).encode()
    with socket.create_connection(("127.0.0.1", parts.port)) as connection:
        lines = [f"POST {parts.path}api/write HTTP/1.1", f"Host: 127.0.0.1:{parts.port}"]
        head = "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""])
        connection.sendall(head.encode() + body)
        assert b"texts" in connection.recv(4096) + connection.recv(4096)
    began = time.monotonic()
    *_, last = write(address)
    assert last == {"done": True}
    assert time.monotonic() - began < 20  # 400 tokens are not waited for
    assert len(threading.enumerate()) < 20


# --- the command ---


def started(folder: Path, tmp_path: Path, *more: str) -> tuple[warm.Process, str]:
    words = ["-m", "temporal_saes", "explore", *flags(folder, "grouped", *more)]
    process = warm.Process(words, tmp_path)
    return process, process.first_line()


def test_the_command_prints_its_address_and_ends_at_once_when_it_is_interrupted(
    folder: Path, tmp_path: Path
) -> None:
    process, address = started(folder, tmp_path)
    try:
        assert json.loads(request(address, "api/alive").body).keys() == {"served"}
        token = urlsplit(address).path
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "Traceback" not in err
    assert token not in err  # no log of what was asked
    assert list(tmp_path.iterdir()) == [tmp_path / "cache"]


def test_a_port_that_is_taken_is_told_before_the_model_is_loaded(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(LanguageModel, "load", lambda *args, **more: pytest.fail("loaded"))
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(SystemExit) as stopped:
            cli.run(lambda: main(flags(folder, "grouped", "--port", str(port))))
    assert stopped.value.code == 2
    said = f"error: --port {port} is taken: give another, or 0 for any that is free.\n"
    assert capsys.readouterr().err == said


def test_a_model_that_is_larger_than_the_memory_is_told_before_it_is_loaded(
    folder: Path, tiny_lm_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    n_bytes = 4 * sum(weight.numel() for weight in LanguageModel.load(str(tiny_lm_folder)).model.parameters())
    monkeypatch.setattr("dictionary_learning.command.memory.available_memory", lambda device: n_bytes - 1)
    monkeypatch.setattr(LanguageModel, "load", lambda *args, **more: pytest.fail("loaded"))
    with pytest.raises(
        UserError, match=r"of weights in float32, and .* are free on cpu: choose a smaller model"
    ):
        main(flags(folder))


def test_a_rehearsal_serves_nothing_and_keeps_no_token(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(rehearsal.Reached, match="serve a page"), rehearsal.rehearsing():
        main(flags(folder))
    assert not (tmp_path / "cache").exists()


def test_a_dictionary_of_another_model_is_known_by_fingerprint(
    folder: Path, tmp_path: Path, tiny_lm_folder: Path
) -> None:
    lm = LanguageModel.load(str(tiny_lm_folder), device="cpu")
    own = {"model": "some/model", **fingerprints(lm, LAYER)}
    for name, changed, said in (
        ("same", {}, None),
        ("weights", {"weights_sha256": "0" * 64}, r"another some/model .* \(its weights differ\)"),
        ("both", {"weights_sha256": "0", "tokenizer_sha256": "1"}, "its tokenizer and weights differ"),
        # the fingerprint is of the weights as they were loaded then
        ("dtype", {"weights_sha256": "0" * 64, "lm_dtype": "bfloat16"}, None),
    ):
        run = save_run(tmp_path / "runs" / name, BatchTopKSAE(32, 64, k=8), tiny_lm_folder, LAYER)
        path = run / "trainer_0" / "config.json"
        config = json.loads(path.read_text())
        config["buffer"] |= own | changed
        path.write_text(json.dumps(config))
        words = flags(tmp_path, name, *(["--lm_dtype", "float32"] if name == "dtype" else []))
        if said is None:
            with exploring(*words) as address:
                assert request(address).status == 200
        else:
            with pytest.raises(UserError, match=said):
                main(words)


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--run_name", "nobody"], "no run 'nobody'"),
        (["--run_name", "baseline_model", "--model", "demo", "--layer", "2"], "no latents to look at"),
        (["--port", "70000"], "--port 70000 does not exist"),
        (["--browser", "/nowhere"], "--browser /nowhere holds no feature browser"),
        (["--explanation_path", "/nowhere/e.json"], "cannot be read"),
        (["--layer", "9"], "has no layer 9"),
    ],
)
def test_mistakes_are_told_in_a_sentence(folder: Path, more: list[str], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        main(flags(folder, "grouped", *more))


def test_a_feature_browser_of_another_dictionary_or_that_is_damaged_is_told(
    folder: Path, tmp_path: Path, tiny_lm_folder: Path
) -> None:
    (site,) = (folder / "runs" / "grouped" / "dashboard").iterdir()
    save_run(tmp_path / "runs" / "small", BatchTopKSAE(32, 64, k=8), tiny_lm_folder, LAYER)
    with pytest.raises(UserError, match="shows latent 95, and the dictionary has 0 to 63"):
        main(flags(tmp_path, "small", "--browser", str(site)))
    (tmp_path / "site" / "data").mkdir(parents=True)
    (tmp_path / "site" / "browser.json").write_text("{}")
    (tmp_path / "site" / "data" / "index.js").write_text("receive(")
    with pytest.raises(UserError, match=r"is damaged .*write it anew"):
        main(flags(folder, "grouped", "--browser", str(tmp_path / "site")))


def test_a_feature_browser_of_an_earlier_version_will_do(folder: Path, tmp_path: Path) -> None:
    """One without the words that latents are held over."""
    (site,) = (folder / "runs" / "grouped" / "dashboard").iterdir()
    old = Path(shutil.copytree(site, tmp_path / "site"))
    index = old / "data" / "index.js"
    call = index.read_text(encoding="ascii")
    content = json.loads(call[call.index(",") + 1 : call.rindex(")")])
    for name in ("words", "classes", "stretch", "information", "telling"):
        del content[name]
    index.write_text(f'receive("index",{json.dumps(content)})\n', encoding="ascii")
    facts = SiteFacts.of(old, 96).by_latent[3]
    assert facts["tokens"]
    assert facts["words"] == []


def test_a_feature_browser_that_is_older_than_the_weights_is_not_linked_to(
    folder: Path, tmp_path: Path
) -> None:
    runs = Path(shutil.copytree(folder / "runs", tmp_path / "runs"))
    weights = runs / "grouped" / "trainer_0" / "ae.pt"
    os.utime(weights, (time.time() + 60,) * 2)
    with exploring(*flags(tmp_path)) as address:
        assert request(address, "browser/index.html").status == 404


def test_a_missing_server_library_is_told_with_its_remedy(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "uvicorn" else find(name, *rest)
    )
    with pytest.raises(UserError, match=r"need the package uvicorn.*temporal-saes\[explore\]"):
        main(flags(folder))
