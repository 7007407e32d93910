"""A Hugging Face hub of this machine: enough of its HTTP interface to make, fill, list and read repositories.

Repositories live in memory: `repositories[name][branch]` is a dictionary of paths and bytes. `refuse` answers
every request with one status, as a hub that is down, busy or does not know us.
"""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import yaml


class FakeHub:
    """Listens on a free port of this machine."""

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, dict[str, bytes]]] = {}
        self.private: dict[str, bool] = {}
        self.blobs: dict[str, bytes] = {}  # uploaded in advance, by SHA-256
        self.requests: list[tuple[str, str]] = []
        self.tokens: dict[str, str | None] = {}  # who asked last, by path
        self.refuse: int | None = None
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length)
                if self.headers.get("Transfer-Encoding") == "chunked":
                    while (size := int(self.rfile.readline(), 16)) > 0:
                        body += self.rfile.read(size)
                        self.rfile.readline()
                    self.rfile.readline()
                with suppress(OSError):  # the client may have gone
                    hub._answer(self, body)

            do_GET = do_HEAD = do_POST = do_PUT = answer

            def log_message(self, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    def _answer(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        path = unquote(urlsplit(handler.path).path)
        self.requests.append((handler.command, path))
        self.tokens[path] = handler.headers.get("Authorization")
        if self.refuse is not None:
            return self._send(handler, self.refuse, {"error": "refused"})
        if path == "/api/repos/create":
            return self._create(handler, json.loads(body))
        if path == "/api/validate-yaml":
            yaml.safe_load(json.loads(body)["content"].split("---")[1])
            return self._send(handler, 200, {"errors": [], "warnings": []})
        if path.startswith("/upload/"):
            self.blobs[path.removeprefix("/upload/")] = body
            return self._send(handler, 200, {})
        if path.startswith("/api/models/"):
            return self._api(handler, path.removeprefix("/api/models/").split("/"), body)
        if ".git/info/lfs/" in path:
            return self._large_files(handler, json.loads(body))
        user, name, kind, revision, *inside = [*path.strip("/").split("/"), "", "", ""]
        if kind != "resolve":  # what a client asks for its own sake
            return self._send(handler, 404, {"error": "no such page"})
        return self._file(handler, f"{user}/{name}", revision, "/".join(inside).strip("/"))

    def _create(self, handler: BaseHTTPRequestHandler, asked: dict[str, Any]) -> None:
        name = "/".join(part for part in (asked.get("organization"), asked["name"]) if part)
        is_new = name not in self.repositories
        if is_new:
            self.repositories[name] = {"main": {".gitattributes": b""}}
            self.private[name] = bool(asked.get("private") or asked.get("visibility") == "private")
        self._send(handler, 200 if is_new else 409, {"url": f"{self.url}/{name}", "error": "it is there"})

    def _api(self, handler: BaseHTTPRequestHandler, parts: list[str], body: bytes) -> None:
        name, rest = "/".join(parts[:2]), parts[2:]
        if name not in self.repositories:
            return self._send(handler, 404, {"error": "no repository"}, {"X-Error-Code": "RepoNotFound"})
        branches = self.repositories[name]
        action, revision = (rest[0], "/".join(rest[1:2]) or "main") if rest else ("info", "main")
        if action == "branch":
            branches.setdefault(revision, dict(branches["main"]))
            return self._send(handler, 200, {})
        files = self._files(name, revision)
        if files is None:
            return self._send(handler, 404, {"error": "no revision"}, {"X-Error-Code": "RevisionNotFound"})
        if action == "preupload":
            asked = json.loads(body)["files"]
            kinds = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["path"].endswith((".pt", ".safetensors")) else "regular",
                    "shouldIgnore": False,
                }
                for file in asked
            ]
            return self._send(handler, 200, {"files": kinds})
        if action == "commit":
            for line in body.decode().splitlines():
                self._operation(files, json.loads(line))
            commit = {"commitOid": _sha(files), "commitUrl": f"{self.url}/{name}/commit/{_sha(files)}"}
            return self._send(handler, 200, commit | {"pullRequestUrl": None})
        if action == "tree":
            entries = [
                {"type": "file", "path": path, "size": len(data), "oid": _oid(data)}
                for path, data in files.items()
            ]
            return self._send(handler, 200, entries)
        assert action in ("info", "revision")
        siblings = [{"rfilename": path, "size": len(data)} for path, data in files.items()]
        return self._send(
            handler, 200, {"id": name, "sha": _sha(files), "siblings": siblings, "private": False}
        )

    def _operation(self, files: dict[str, bytes], operation: dict[str, Any]) -> None:
        value = operation["value"]
        if operation["key"] == "file":
            files[value["path"]] = base64.b64decode(value["content"])
        elif operation["key"] == "lfsFile":
            files[value["path"]] = self.blobs[value["oid"]]
        elif operation["key"] == "deletedFile":
            del files[value["path"]]

    def _large_files(self, handler: BaseHTTPRequestHandler, asked: dict[str, Any]) -> None:
        objects = [
            {**item, "actions": {"upload": {"href": f"{self.url}/upload/{item['oid']}"}}}
            for item in asked["objects"]
        ]
        self._send(handler, 200, {"transfer": "basic", "objects": objects})

    def _file(self, handler: BaseHTTPRequestHandler, name: str, revision: str, path: str) -> None:
        files = self._files(name, revision) if name in self.repositories else None
        if files is None or path not in files:
            return self._send(handler, 404, {"error": "no file"}, {"X-Error-Code": "EntryNotFound"})
        headers = {"ETag": f'"{_oid(files[path])}"', "X-Repo-Commit": _sha(files)}
        return self._send(handler, 200, files[path], headers)

    def _files(self, name: str, revision: str) -> dict[str, bytes] | None:
        branches = self.repositories[name]
        by_commit = {_sha(files): files for files in branches.values()}
        return branches.get(revision) or by_commit.get(revision)

    def _send(
        self,
        handler: BaseHTTPRequestHandler,
        status: int,
        content: object,
        headers: dict[str, str] | None = None,
    ) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        handler.send_response(status)
        for key, value in (headers or {}).items():
            handler.send_header(key, value)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(data)


def _oid(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


def _sha(files: dict[str, bytes]) -> str:
    return hashlib.sha1(repr(sorted((path, _oid(data)) for path, data in files.items())).encode()).hexdigest()


@contextmanager
def serving() -> Iterator[FakeHub]:
    """A hub that is there as long as the block lasts."""
    hub = FakeHub()
    thread = threading.Thread(target=hub.http.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.http.shutdown()
        hub.http.server_close()


@contextmanager
def in_place_of_the_hub(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """The hub that huggingface_hub asks, with an empty cache, and a working folder without names in it."""
    from huggingface_hub import constants, utils

    with serving() as hub:
        template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        for name, value in {
            "ENDPOINT": hub.url,
            "HUGGINGFACE_CO_URL_TEMPLATE": template,
            "HF_HUB_OFFLINE": False,
            "HF_HUB_DISABLE_XET": True,
            "HF_HUB_CACHE": str(folder / "cache"),
            "HF_HUB_DISABLE_PROGRESS_BARS": True,
        }.items():
            monkeypatch.setattr(constants, name, value)
        monkeypatch.setenv("HF_TOKEN", "hf_test")
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.delenv(name, raising=False)
        utils.close_session()  # of the offline hub
        work = folder / "work"
        work.mkdir()
        monkeypatch.chdir(work)
        yield hub
        utils.close_session()
