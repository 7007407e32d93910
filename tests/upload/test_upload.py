"""Uploads: the real client of Neuronpedia against a local server that is busy, refuses and remembers."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from dictionary_learning.errors import UserError
from temporal_saes.upload import sending
from temporal_saes.upload.command import main

KEY = "sk-np-secret"
ACTIVATION = {
    "tokens": ["a", "b"],
    "values": [0.0, 2.5],
    "quantileMin": 0.0,
    "quantileMax": 2.5,
    "quantileFraction": 0.25,
}


class Server(ThreadingHTTPServer):
    """What it was sent, and what goes wrong next: statuses that are answered before it works again."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.sets: dict[str, dict[str, Any]] = {}
        self.uploads: list[dict[str, Any]] = []
        self.failures: list[int] = []
        self.keys: set[str | None] = set()
        self.layers = 12

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *args: object) -> None:
        pass

    def answer(self, status: int, content: Any) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        name = self.path.removeprefix("/api/source-set/").rstrip("/")
        found = self.server.sets.get(name)
        self.answer(*((404, {"error": "none"}) if found is None else (200, found)))

    def do_POST(self) -> None:
        self.server.keys.add(self.headers.get("X-Api-Key"))
        content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.headers.get("X-Api-Key") != KEY:
            self.answer(401, {})
        elif self.path.rstrip("/") == "/api/source-set/new":
            model, name = content["modelId"], content["name"]
            sources = [
                {"id": f"{layer}-{name}", "modelId": model, "setName": name}
                for layer in range(self.server.layers)
            ]
            made = {"name": name, "modelId": model, "description": content["description"], "urls": []}
            self.server.sets[f"{model}/{name}"] = made | {"sources": sources}
            self.answer(200, self.server.sets[f"{model}/{name}"])
        elif self.server.failures:
            status = self.server.failures.pop(0)
            self.answer(status, {"error": "that is not right"})
        else:
            self.server.uploads.append(content)
            self.answer(200, {"message": "done"})


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv(sending.KEY, KEY)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    server = Server()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def browser(tmp_path: Path) -> Path:
    """A folder with three files of latents, two of them in one."""
    folder = tmp_path / "site"
    (folder / "neuronpedia/upload").mkdir(parents=True)
    (folder / "index.html").write_text("<html>")
    for number, latents in enumerate(([0, 1], [2], [10])):
        features = [
            {
                "index": latent,
                "density": 0.5,
                "topLogits": [{"token": " the", "value": 1.5}],
                "bottomLogits": [],
                "explanations": [{"text": "moons", "methodName": "m", "modelName": "x"}] if latent else [],
                "activations": [ACTIVATION],
            }
            for latent in latents
        ]
        body = {"modelId": "pup", "source": "3-tsae", "features": features}
        (folder / f"neuronpedia/upload/features-{number}.json").write_text(json.dumps(body))
    return folder


def test_nothing_is_sent_unless_asked_and_what_would_be_is_told(
    browser: Path, server: Server, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(sending.KEY)  # a look needs no key
    main(["--browser", str(browser), "--url", server.url])
    said = "".join(capfd.readouterr())
    assert "3-tsae of pup: 4 latents, 3 with an explanation" in said
    assert "nothing was sent" in said
    assert not server.sets
    assert not server.uploads


def test_latents_arrive_as_the_browser_wrote_them_and_the_set_is_made(
    browser: Path, server: Server, capfd: pytest.CaptureFixture[str]
) -> None:
    main(["--browser", str(browser), "--url", server.url + "/", "--send", "--description", "high"])
    assert server.sets["pup/tsae"]["description"] == "high"
    assert server.uploads == [
        json.loads((browser / f"neuronpedia/upload/features-{number}.json").read_text())
        for number in range(3)
    ]
    said = "".join(capfd.readouterr())
    assert "sent: 3 files" in said
    assert KEY not in said
    assert KEY not in "".join(path.read_text() for path in (browser / "neuronpedia").rglob("*.json"))


def test_a_second_time_only_what_is_new_or_changed_is_sent(browser: Path, server: Server) -> None:
    main(["--browser", str(browser), "--url", server.url, "--send"])
    main(["--browser", str(browser), "--url", server.url, "--send"])
    assert len(server.uploads) == 3
    path = browser / "neuronpedia/upload/features-1.json"
    path.write_text(path.read_text().replace("moons", "stars"))
    main(["--browser", str(browser), "--url", server.url, "--send"])
    assert len(server.uploads) == 4
    assert server.uploads[-1]["features"][0]["explanations"][0]["text"] == "stars"


def test_a_server_that_is_busy_is_asked_again(browser: Path, server: Server) -> None:
    server.failures = [429, 503, 500]
    with pytest.warns(UserWarning, match="trying again"):
        main(["--browser", str(browser), "--url", server.url, "--send"])
    assert len(server.uploads) == 3


def test_what_is_refused_half_way_is_a_sentence_and_goes_on_behind_what_arrived(
    browser: Path, server: Server
) -> None:
    sent = []
    monkey = sending._remember

    def remember(*args: Any) -> None:
        monkey(*args)
        sent.append(args)
        server.failures = [400] if len(sent) == 2 else []

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sending, "_remember", remember)
        with pytest.raises(UserError, match=r"refuses: Request failed with status 400.*that is not right"):
            main(["--browser", str(browser), "--url", server.url, "--send"])
    assert len(server.uploads) == 2
    main(["--browser", str(browser), "--url", server.url, "--send"])
    assert [upload["features"][0]["index"] for upload in server.uploads] == [0, 2, 10]


def test_a_wrong_and_a_missing_key_are_sentences_without_the_key(
    browser: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(sending.KEY, "wrong-secret")
    with pytest.raises(UserError, match="does not take the key in NEURONPEDIA_API_KEY") as error:
        main(["--browser", str(browser), "--url", server.url, "--send"])
    assert "wrong-secret" not in str(error.value)
    monkeypatch.delenv(sending.KEY)
    with pytest.raises(UserError, match="NEURONPEDIA_API_KEY is not set"):
        main(["--browser", str(browser), "--url", server.url, "--send"])


def test_a_layer_that_the_model_has_not_is_told_before_anything_is_sent(
    browser: Path, server: Server
) -> None:
    server.layers = 2
    with pytest.raises(UserError, match=r"has no source 3-tsae \(it has 0-tsae, 1-tsae\)"):
        main(["--browser", str(browser), "--url", server.url, "--send"])
    assert not server.uploads


def test_a_server_that_is_not_there_is_a_sentence(browser: Path, server: Server) -> None:
    url = server.url
    server.shutdown()
    server.server_close()
    with pytest.raises(UserError, match="cannot be reached"), pytest.warns(UserWarning, match="dropped"):
        main(["--browser", str(browser), "--url", url, "--send"])


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ([], "--browser is missing"),
        (["--browser", "nowhere"], "nowhere is no folder of a feature browser"),
        (["--url", "neuronpedia.org"], "is no address of a server"),
        (["--url", "https://me:secret@host"], "is no address of a server"),
        (["--url", "http://far.example"], "would send your key unencrypted"),
    ],
)
def test_mistakes_are_sentences(browser: Path, flags: list[str], said: str) -> None:
    given = flags if not flags or flags[0] == "--browser" else ["--browser", str(browser), *flags]
    with pytest.raises(UserError, match=said):
        main(given)


def test_a_browser_without_files_for_it_says_how_to_make_them(browser: Path) -> None:
    for path in (browser / "neuronpedia/upload").iterdir():
        path.unlink()
    with pytest.raises(UserError, match="make it again with --neuronpedia NAME"):
        main(["--browser", str(browser)])
    (browser / "neuronpedia/upload/features-0.json").write_text("[1]")
    with pytest.raises(UserError, match="is no part of an upload"):
        main(["--browser", str(browser)])
