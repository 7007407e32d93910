"""Texts, caches and runs on a web server of this machine, which can be read and not written."""

import json
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from caches import cached_store, refused
from stores import on_machine

from dictionary_learning import eval_temporal, train_temporal
from dictionary_learning.errors import UserError
from dictionary_learning.remote.path import RemotePath
from dictionary_learning.texts.folder import local_records
from dictionary_learning.texts.records import read_records
from dictionary_learning.utils import load_dictionary

pytest.importorskip("aiohttp", reason="https:// needs the package aiohttp: pip install aiohttp")
pytestmark = pytest.mark.filterwarnings("ignore")

RECORDS = [{"text": f"Document {i}."} for i in range(3000)]
LINES = "".join(json.dumps(record) + "\n" for record in RECORDS)


class Handler(SimpleHTTPRequestHandler):
    """Python's own: it lists folders, and gives whole files only.

    With `key` it asks for `?key=...` and says so in its refusal; with `parts` it gives parts of files.
    """

    key: str | None = None
    parts = False
    served: list[str] = []  # noqa: RUF012

    def do_GET(self) -> None:
        Handler.served.append(self.path)
        if self.key is not None and f"key={self.key}" not in self.path:
            self.send_error(403, "no key")
        elif self.parts and self.headers.get("Range"):
            self._send_part()
        else:
            super().do_GET()

    def do_HEAD(self) -> None:
        if self.key is not None and f"key={self.key}" not in self.path:
            self.send_error(403, "no key")
        else:
            super().do_HEAD()

    def _send_part(self) -> None:
        content = Path(self.translate_path(self.path)).read_bytes()
        first, last = self.headers["Range"].removeprefix("bytes=").split("-")
        part = content[int(first) : int(last) + 1]
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{int(first) + len(part) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Path]]:
    """The URL of a server, and the folder that it serves."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.setattr(Handler, "key", None)
    monkeypatch.setattr(Handler, "parts", False)
    Handler.served.clear()
    on_machine(tmp_path / "machine", monkeypatch)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", folder
        server.shutdown()


@pytest.mark.parametrize("parts", [True, False])
def test_files_are_read(site: tuple[str, Path], monkeypatch: pytest.MonkeyPatch, parts: bool) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    url, folder = site
    monkeypatch.setattr(Handler, "parts", parts)
    (folder / "two words.jsonl").write_text(LINES)
    pq.write_table(pa.Table.from_pylist(RECORDS), folder / "a.parquet")
    assert list(read_records(f"{url}/two words.jsonl")) == RECORDS
    assert list(read_records(f"{url}/a.parquet")) == RECORDS


def test_a_folder_is_read_as_it_lists_itself(site: tuple[str, Path]) -> None:
    url, folder = site
    (folder / "texts" / "in").mkdir(parents=True)
    for name in ("texts/LICENSE.txt", "texts/train-1.jsonl", "texts/in/train-2.jsonl", "texts/test.jsonl"):
        (folder / name).write_text(LINES)
    assert list(local_records(f"{url}/texts", split="train")) == RECORDS * 2


def test_a_cache_is_read_and_a_run_trained_from_it(
    site: tuple[str, Path], written_cache: Path, tmp_path: Path
) -> None:
    url, folder = site
    (folder / "cache").symlink_to(written_cache)
    for here, there in zip(
        cached_store(written_cache).contexts(50), cached_store(f"{url}/cache").contexts(50), strict=True
    ):
        assert torch.equal(here.x_NLD, there.x_NLD)
    shards = [path for path in Handler.served if path.endswith("safetensors")]
    assert len(shards) == len(set(shards))
    words = ["--activations", f"{url}/cache", "--steps", "3", "--batch_size", "32", "--dict_size", "64"]
    words += ["--k", "4", "--device", "cpu", "--run_name", "mine", "--checkpoints_path", str(tmp_path)]
    train_temporal.main(words)
    assert (tmp_path / "mine" / "trainer_0" / "ae.pt").is_file()


def test_a_dictionary_is_loaded_and_a_run_evaluated_with_its_results_elsewhere(
    site: tuple[str, Path], written_cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url, folder = site
    words = ["--activations", str(written_cache), "--steps", "3", "--batch_size", "32", "--dict_size", "64"]
    words += ["--k", "4", "--device", "cpu", "--run_name", "mine", "--checkpoints_path", str(folder)]
    train_temporal.main(words)
    there, _ = load_dictionary(f"{url}/mine", "cpu")
    here, _ = load_dictionary(folder / "mine", "cpu")
    assert torch.equal(there.state_dict()["threshold"], here.state_dict()["threshold"])
    words = ["--run_name", "mine", "--checkpoints_path", url, "--activations", str(written_cache)]
    words += ["--no_lm_loss"]
    said = refused(capsys, lambda: eval_temporal.main(words))
    assert said.endswith("can only be read, over http://: choose another --output_dir.")
    eval_temporal.main([*words, "--output_dir", str(tmp_path / "out")])
    assert (tmp_path / "out" / "mine_eval_results.json").is_file()


def test_a_key_in_a_url_opens_what_it_should_and_is_in_no_record(
    site: tuple[str, Path],
    written_cache: Path,
    tiny_lm_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    from dictionary_learning.command import cli

    url, folder = site
    monkeypatch.setattr(Handler, "key", "pa55word")
    (folder / "texts.jsonl").write_text(
        "".join(json.dumps({"text": "The judge. " * 20}) + "\n" for _ in range(9))
    )
    dataset = f"{url}/texts.jsonl?key=pa55word"
    words = ["--model", str(tiny_lm_folder), "--layer", "1", "--context_length", "32", "--eval_share", "0"]
    words += ["--steps", "3", "--batch_size", "32", "--dict_size", "64", "--k", "4", "--device", "cpu"]
    words += ["--run_name", "mine", "--checkpoints_path", str(tmp_path / "runs"), "--dataset"]
    monkeypatch.setattr("sys.argv", ["train_temporal.py", *words, dataset])
    cli.run(train_temporal.main)
    with pytest.raises(SystemExit):  # another key, which is told, too
        cli.run(lambda: train_temporal.main([*words, f"{url}/texts.jsonl?key=wr0ngword"]))
    said = capfd.readouterr()
    files = [path for path in (tmp_path / "runs").rglob("*") if path.is_file()]
    assert any(path.name == "config.yaml" for path in files)
    for text in (said.out, said.err, *(path.read_bytes().decode("latin-1") for path in files)):
        assert "pa55word" not in text
        assert "wr0ngword" not in text


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/none.jsonl", "there is no file {url}/none.jsonl"),
        ("/refused.jsonl", "{url}/refused.jsonl may not be read (403"),
    ],
)
def test_what_the_server_refuses_is_one_sentence(
    site: tuple[str, Path], monkeypatch: pytest.MonkeyPatch, path: str, said: str
) -> None:
    url, folder = site
    (folder / "refused.jsonl").write_text(LINES)
    if path == "/refused.jsonl":
        monkeypatch.setattr(Handler, "key", "pa55word")
    with pytest.raises(UserError) as error:
        list(read_records(url + path))
    assert said.format(url=url) in str(error.value)


def test_a_server_that_is_not_there_is_one_sentence(stores: Path) -> None:
    with pytest.raises(
        UserError, match=r"http://127.0.0.1:9/a.jsonl cannot be reached \(.*\): check the URL"
    ):
        RemotePath("http://127.0.0.1:9/a.jsonl").is_file()
