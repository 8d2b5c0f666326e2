"""`mount`: an ASGI application among the pages of `serving`, on aiohttp's server. HTTP only, no WebSockets."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from functools import partial
from typing import Any

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
Receive = Callable[[], Awaitable[Message]]
AsgiApp = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]


def mount(web: Any, server: Any, name: str, app: AsgiApp) -> None:
    """Serve `app` at `/name/`. Its `aclose()`, if any, is awaited when the server ends."""
    closing = asyncio.Event()
    server.router.add_route("*", f"/{name}", partial(_to_the_start, web, name))
    server.router.add_route("*", f"/{name}/{{path:.*}}", partial(_answer, web, app, f"/{name}", closing))

    async def close(_: Any) -> None:
        closing.set()
        if (aclose := getattr(app, "aclose", None)) is not None:
            await aclose()

    server.on_shutdown.append(close)


async def _to_the_start(web: Any, name: str, request: Any) -> Any:
    """Return a relative path to the root, so that it works behind a proxy that serves the pages elsewhere."""
    return web.Response(status=308, headers={"location": f"{name}/"})


async def _answer(web: Any, app: AsgiApp, root: str, closing: asyncio.Event, request: Any) -> Any:
    exchange = _Exchange(web, request, await request.read(), closing)
    try:
        await app(_scope(root, request), exchange.receive, exchange.send)
    except Exception:
        if not exchange.gone:
            raise
    if exchange.response is None:
        raise RuntimeError(f"the application at {root} has not answered")
    return exchange.response


def _scope(root: str, request: Any) -> MutableMapping[str, Any]:
    path, _, query = request.raw_path.partition("?")
    host, port = (request.transport.get_extra_info("sockname") or ("", 0))[:2]
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": f"{request.version.major}.{request.version.minor}",
        "method": request.method,
        "scheme": request.scheme,
        "path": request.path,
        "raw_path": path.encode("latin-1", "replace"),
        "query_string": query.encode("latin-1", "replace"),
        "root_path": root,
        "headers": [(name.lower(), value) for name, value in request.raw_headers],
        "client": (request.remote, 0) if request.remote else None,
        "server": (host, port),
    }


class _Exchange:
    """One request and its response. Writing to a client that is `gone` raises OSError, as ASGI requires."""

    def __init__(self, web: Any, request: Any, body: bytes, closing: asyncio.Event) -> None:
        self.response: Any = None
        self._web, self._request = web, request
        self._body: bytes | None = body
        self._closing = closing
        self._ended = False
        self.gone = False

    async def receive(self) -> Message:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        if not self._ended:
            await self._closing.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        try:
            await self._send(message)
        except OSError:
            self.gone = True
            raise

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in message.get("headers", ())]
            self.response = self._web.StreamResponse(status=message["status"], headers=headers)
            await self.response.prepare(self._request)
        elif message["type"] == "http.response.body":
            if (body := message.get("body", b"")) and self._request.method != "HEAD":
                await self.response.write(body)
            if not message.get("more_body", False):
                self._ended = True
                await self.response.write_eof()
