"""What the page may ask, and the answers.

    GET  /                                     the page
    GET  /api/alive                            which dictionary is served
    GET  /api/latents?numbers=3,40&search=...  what is known of latents
    POST /api/read   {"text"}                  events of a text, see `reader`
    POST /api/write  {"prompt", "strengths"}   two texts as they are written, see `writer`
    GET  /browser/index.html                   the feature browser, if there is one

All stand behind the token (`guard`). Events are lines of JSON, sent as they are made; a mistake is the event
{"error": sentence}. A page that leaves ends what is made for it.
"""

import json
import sys
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from anyio import CapacityLimiter, to_thread
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from dictionary_learning.errors import UserError
from temporal_saes.explorer.about import Latents
from temporal_saes.explorer.guard import App, Guard
from temporal_saes.explorer.reader import Reader
from temporal_saes.explorer.writer import Wish, Writer

MOST_BYTES = 2**20  # of what a page may send
MOST_TOLD = 100  # latents in an answer
PEOPLE = 32  # whose requests may wait or be served at a time
_UNKNOWN = "something went wrong on the server: what it was stands in its terminal."


def application(
    page: str, served: str, reader: Reader, writer: Writer, latents: Latents, token: str, port: int
) -> App:
    """The application behind its guard.

    Args:
        page: HTML.
        served: tells this dictionary from others, for a page that was left open.
    """
    threads = CapacityLimiter(PEOPLE)

    async def show(request: Request) -> Response:
        return HTMLResponse(page)

    async def alive(request: Request) -> Response:
        return JSONResponse({"served": served})

    async def tell(request: Request) -> Response:
        try:
            asked = request.query_params.get("numbers", "")
            numbers = [int(number) for number in asked.split(",") if number][:MOST_TOLD]
            found = numbers or latents.find(request.query_params.get("search", ""))
            told = await to_thread.run_sync(
                lambda: latents.tell(found, raised=bool(numbers)), limiter=threads
            )
            return JSONResponse(told)
        except UserError as error:
            return JSONResponse({"error": str(error)}, status_code=400)
        except ValueError:
            return JSONResponse({"error": "a latent is a number."}, status_code=400)

    def answering(events: Callable[[Any], Iterator[dict[str, Any]]]) -> Callable[[Request], Any]:
        async def answer(request: Request) -> Response:
            body = await _body(request)
            if body is None:
                return Response(status_code=413)
            return StreamingResponse(
                _lines(events, body, threads),
                media_type="application/x-ndjson",
                headers={"x-accel-buffering": "no"},
            )

        return answer

    def read(asked: Any) -> Iterator[dict[str, Any]]:
        text = asked.get("text") if isinstance(asked, dict) else None
        if not isinstance(text, str):
            raise UserError("there is nothing to read: type a text.")
        yield from reader.read(text)

    def write(asked: Any) -> Iterator[dict[str, Any]]:
        yield from writer.write(Wish.of(asked))

    routes: list[Route | Mount] = [
        Route("/", show),
        Route("/api/alive", alive),
        Route("/api/latents", tell),
        Route("/api/read", answering(read), methods=["POST"]),
        Route("/api/write", answering(write), methods=["POST"]),
    ]
    if latents.site is not None:
        routes.append(Mount("/browser", StaticFiles(directory=latents.site.folder)))
    made = Starlette(routes=routes)
    made.router.redirect_slashes = False  # it would lead to an address without the token
    return Guard(made, token, port)


async def _body(request: Request) -> bytes | None:
    """What was sent; None if it is too much."""
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > MOST_BYTES:
            return None
    return body


async def _lines(
    events: Callable[[Any], Iterator[dict[str, Any]]], body: bytes, threads: CapacityLimiter
) -> AsyncIterator[bytes]:
    """Events as lines of JSON, each made in a thread; closed at the end, or when nobody reads on."""
    made: Iterator[dict[str, Any]] | None = None

    def following() -> dict[str, Any] | None:
        nonlocal made
        try:
            if made is None:
                made = events(_json(body))
            return next(made, None)
        except UserError as error:
            return {"error": str(error)}
        except Exception:
            traceback.print_exc(file=sys.stderr)
            return {"error": _UNKNOWN}

    try:
        while (event := await to_thread.run_sync(following, limiter=threads)) is not None:
            yield json.dumps(event, separators=(",", ":"), allow_nan=False).encode() + b"\n"
            if "error" in event:
                return
    finally:
        if made is not None:
            made.close()  # type: ignore[attr-defined]


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise UserError("this is no JSON.") from None
