"""Who is answered: requests to this address, from this page or none, whose path begins with the token.

All others get 403 and no body. A page elsewhere can make a browser send requests here, and a name that it
owns can be made to lead here; neither knows the token, and both are told by the headers Origin and Host.
"""

import hmac
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": "frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
    # the address has the token in it
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class Guard:
    """An application in front of another, which sees paths without the token.

    Args:
        port: at which it is served.
    """

    def __init__(self, app: App, token: str, port: int) -> None:
        self._app, self._token = app, token.encode("ascii")
        self._hosts = {f"{name}:{port}".encode() for name in ("127.0.0.1", "localhost")}
        if port == 80:  # a browser leaves it out
            self._hosts |= {b"127.0.0.1", b"localhost"}
        self._origins = {b"http://" + host for host in self._hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http" or not self._is_allowed(scope):
            await _refuse(scope, send)
            return
        _, token, *rest = scope["path"].split("/", 2)
        if not hmac.compare_digest(token.encode("utf-8", "surrogatepass"), self._token):
            await _refuse(scope, send)
            return
        inside = {**scope, "path": f"/{rest[0] if rest else ''}", "raw_path": b"", "root_path": ""}
        if not rest:  # the page's own addresses are beside it
            await _answer(send, 307, [(b"location", b"/" + self._token + b"/")])
            return
        await self._app(inside, receive, _with_headers(send))

    def _is_allowed(self, scope: Scope) -> bool:
        headers = list(scope["headers"])
        hosts = [value for name, value in headers if name == b"host"]
        origins = [value for name, value in headers if name == b"origin"]
        return len(hosts) == 1 and hosts[0] in self._hosts and set(origins) <= self._origins


async def _refuse(scope: Scope, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
        return
    await _answer(send, 403, [])


async def _answer(send: Send, status: int, headers: list[tuple[bytes, bytes]]) -> None:
    await send(
        {"type": "http.response.start", "status": status, "headers": [*headers, (b"content-length", b"0")]}
    )
    await send({"type": "http.response.body", "body": b""})


def _with_headers(send: Send) -> Send:
    async def sending(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            more = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
            message = {**message, "headers": [*message["headers"], *more]}
        await send(message)

    return sending
