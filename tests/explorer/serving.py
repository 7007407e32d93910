"""Explorers served in a thread, and requests to them through real sockets."""

import http.client
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from toy_runs import make_runs

from temporal_saes.browser.command import main as browse
from temporal_saes.experiment.command import read_options
from temporal_saes.explorer.command import explorer, parser, server
from temporal_saes.explorer.options import ExplorerOptions
from temporal_saes.latents.explanations import save_explanations

NASTY = "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'>"


def make_site(folder: Path, model: Path, corpus: Path) -> Path:
    """Runs of three kinds with explanations, one of them with a feature browser."""
    for run in make_runs(folder / "runs", model).iterdir():
        said = {3: f"planets {NASTY}", 40: "cooking words"}
        save_explanations(run / "trainer_0" / "explanations.json", said)
    words = ["--checkpoints_path", str(folder / "runs"), "--run_name", "grouped", "--dataset", str(corpus)]
    words += ["--label_field", "domain", "--device", "cpu", "--no_cache", "--max_tokens", "2000"]
    browse(words)
    return folder


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.body.splitlines()]


@contextmanager
def exploring(*flags: str) -> Iterator[str]:
    """The address of an explorer with these flags."""
    with explorer(read_options(ExplorerOptions, parser(), list(flags))) as made:
        serving = server(made)
        thread = threading.Thread(target=serving.run, kwargs={"sockets": [made.listening]}, daemon=True)
        thread.start()
        while not serving.started:
            time.sleep(0.01)
        try:
            yield made.address
        finally:
            serving.should_exit = True
            thread.join(30)
            assert not thread.is_alive()


def request(
    address: str, path: str = "", body: Any = None, *, method: str | None = None, **headers: str
) -> Answer:
    """One request to a path below the address, with headers whose dashes are written as underscores."""
    parts = urlsplit(address)
    connection = http.client.HTTPConnection("127.0.0.1", parts.port, timeout=60)
    sent = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    try:
        connection.request(
            method or ("GET" if body is None else "POST"),
            path if path.startswith("/") else parts.path + path,
            sent,
            {name.replace("_", "-"): value for name, value in headers.items()},
        )
        answer = connection.getresponse()
        told = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(answer.status, told, answer.read())
    finally:
        connection.close()
