"""A chat server on this machine that says what a test wants: good, slow, broken or nonsense."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from temporal_saes.chat.server import ChatServer

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


class Server:
    """Answers the i-th call with what `respond(i, request)` says: a text, a status with headers, or bytes."""

    def __init__(self, respond: Callable[[int, dict], object]) -> None:
        self.requests: list[dict] = []
        self.headers: list[dict[str, str]] = []
        server = self
        lock = threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    number = len(server.requests)
                    server.requests.append(body)
                    server.headers.append({"path": self.path, **dict(self.headers)})
                with suppress(OSError):  # the client may have gone
                    server.send(self, respond(number, body))

            def log_message(self, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"

    def send(self, handler: BaseHTTPRequestHandler, said: object) -> None:
        status, headers, content = 200, {}, b""
        if isinstance(said, str):
            content = json.dumps({"choices": [{"message": {"role": "assistant", "content": said}}]}).encode()
        elif isinstance(said, dict):
            content = json.dumps(said).encode()
        elif isinstance(said, bytes):
            content = said
        elif isinstance(said, tuple):
            status, headers, content = said
        handler.send_response(status)
        for key, value in headers.items():
            handler.send_header(key, value)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    def last_question(self, number: int = -1) -> str:
        return self.requests[number]["messages"][-1]["content"]


@contextmanager
def serving(respond: Callable[[int, dict], object]) -> Iterator[Server]:
    server = Server(respond)
    thread = threading.Thread(target=server.http.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.http.shutdown()
        server.http.server_close()


def client(server: Server, **changes: object) -> ChatServer:
    options = {"timeout": 20.0, "attempts": 3, "workers": 2, "first_wait": 0.01, "log": lambda line: None}
    return ChatServer(server.url, "judge-7b", **{**options, **changes})


def number(text: str) -> int | None:
    return int(text) if text.isdigit() else None
