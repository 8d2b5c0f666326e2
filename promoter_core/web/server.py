"""`serving`: /metrics, /livez, /readyz and /status for the runners of a process."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import fields
from functools import partial
from typing import Any, Generic, TypeVar

from promoter_core import ConfigError, Health, PluginError, Runner
from promoter_core.monitor import CONTENT_TYPE, Sampler, render
from promoter_core.spi import host_port, sink_options
from promoter_core.web.mounted import AsgiApp, mount

LOOPBACK = "127.0.0.1"
RENDERING = 0.25  # maximum share of the time spent on rendering a page
KEPT_S = 10.0  # maximum time a page is cached

T = TypeVar("T")

log = logging.getLogger("promoter.http")


def parse_address(text: str) -> tuple[str, int]:
    """Parse `HOST:PORT`, `:PORT` or `PORT`; the default host is loopback, and port 0 is any free port.

    Raises ConfigError.
    """
    host, _, port = text.rpartition(":")
    number = sink_options.port_number(port, low=0)
    if number is None:
        raise ConfigError(f"expected HOST:PORT to serve pages on, such as 127.0.0.1:9464 or :9464, not {text!r}")
    return host.strip("[]") or LOOPBACK, number


@asynccontextmanager
async def serving(
    address: str,
    runners: Sequence[Runner],
    *,
    sampler: Sampler | None = None,
    pages: Mapping[str, AsgiApp] | None = None,
) -> AsyncIterator[str]:
    """Serve on `address` for the length of an `async with`, and yield the URL, such as `http://127.0.0.1:9464`.

    With a `sampler`, /metrics also shows what it has read from the store. Without runners, /readyz reports on the
    sampler, and /status is missing. `pages` are ASGI applications: one named `ui` is served at /ui/. Other paths answer
    with a line that names the pages. Raises ConfigError, or PluginError without aiohttp.
    """
    host, port = parse_address(address)
    try:
        from aiohttp import web
    except ModuleNotFoundError:
        raise PluginError("serving pages needs the module aiohttp: pip install 'promoter-core[http]'") from None
    paths = ["/metrics", "/livez", "/readyz", *(["/status"] if runners else []), *(f"/{name}/" for name in pages or {})]
    app = web.Application(middlewares=[web.middleware(partial(_name_pages, web, paths))])
    metrics, reasons = Page(partial(_metrics, runners, sampler)), Page(partial(_reasons, runners, sampler))
    app.add_routes(
        [
            web.get("/metrics", partial(_answer_metrics, web, metrics)),
            web.get("/livez", partial(_live, web)),
            web.get("/readyz", partial(_answer_ready, web, reasons)),
        ]
    )
    if runners:
        app.add_routes([web.get("/status", partial(_answer_status, web, Page(partial(_status, runners))))])
    for name, page in (pages or {}).items():
        mount(web, app, name, page)
    first = next(iter(pages)) if pages and not runners else None
    app.add_routes([web.get("/", partial(_index, web, paths) if first is None else partial(_to_page, web, first))])
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as exc:
            raise ConfigError(f"cannot listen on {host}:{port}: {exc.strerror or exc}") from exc
        yield f"http://{host_port(host, runner.addresses[0][1])}"
    finally:
        await runner.cleanup()


class Page(Generic[T]):
    """A page that is slow with thousands of queues.

    It is rendered in a thread, once for all who wait for it, and cached for a while that grows with the rendering time.
    The event loop, which promotes, continues meanwhile.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._making: asyncio.Future[T] | None = None
        self._kept_until_s = 0.0

    async def get(self) -> T:
        loop = asyncio.get_running_loop()
        if self._making is None or (self._making.done() and loop.time() >= self._kept_until_s):
            self._making = asyncio.ensure_future(self._made(loop.time()))
        return await asyncio.shield(self._making)  # shared: a client that disconnects must not cancel it

    async def _made(self, began_s: float) -> T:
        try:
            return await in_thread(self._make)
        finally:
            now_s = asyncio.get_running_loop().time()
            self._kept_until_s = now_s + min((now_s - began_s) * (1 / RENDERING - 1), KEPT_S)


async def in_thread(call: Callable[[], T]) -> T:
    """Run in a daemon thread, so that the process can exit meanwhile."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def finish(result: T | None, error: BaseException | None) -> None:
        if not done.done():
            done.set_exception(error) if error is not None else done.set_result(result)  # type: ignore[arg-type]

    def work() -> None:
        result, error = None, None
        try:
            result = call()
        except Exception as exc:
            error = exc
        with suppress(RuntimeError):  # the loop is closed by now
            loop.call_soon_threadsafe(finish, result, error)

    threading.Thread(target=work, name="promoter-page", daemon=True).start()
    return await done


def _metrics(runners: Sequence[Runner], sampler: Sampler | None) -> tuple[bytes, str] | None:
    page = next((page for runner in runners if (page := runner.exposition()) is not None), None)
    if sampler is None:
        return page
    body, content_type = page or (b"", CONTENT_TYPE)
    return body + render(sampler.state()).encode(), content_type


def _reasons(runners: Sequence[Runner], sampler: Sampler | None) -> list[str]:
    if sampler is not None and not runners:
        return sampler.unready()
    return [reason for runner in runners for reason in runner.unready()]


def _status(runners: Sequence[Runner]) -> str:
    queues = [health for runner in runners for health in runner.health()]
    names = [field.name for field in fields(Health)]
    rest = {
        "ready": not any(runner.unready() for runner in runners),
        "leads": sum(health.leads for health in queues),
        "dropped_batches": sum(runner.dropped_batches for runner in runners),
    }
    # Encode one at a time: a single call for all would hold the GIL for long.
    shown = [json.dumps({name: getattr(health, name) for name in names}) for health in queues]
    return f'{json.dumps(rest)[:-1]}, "queues": [{", ".join(shown)}]}}'


async def _answer_metrics(web: Any, page: Page[tuple[bytes, str] | None], request: Any) -> Any:
    try:
        found = await page.get()
    except Exception as exc:
        log.exception("the metrics page could not be rendered")
        return web.Response(status=500, text=f"the metrics sink failed: {exc!r}\n")
    if found is None:
        return web.Response(status=404, text="no metrics sink serves a page: pip install 'promoter-core[prometheus]'\n")
    return web.Response(body=found[0], headers={"content-type": found[1]})


async def _live(web: Any, request: Any) -> Any:
    """Answer if the event loop runs; /readyz reports whether promotion works."""
    return web.Response(text="ok\n")


async def _answer_ready(web: Any, page: Page[list[str]], request: Any) -> Any:
    reasons = await page.get()
    return web.Response(status=503 if reasons else 200, text="\n".join(reasons or ["ok"]) + "\n")


async def _answer_status(web: Any, page: Page[str], request: Any) -> Any:
    return web.json_response(text=await page.get())


async def _index(web: Any, paths: Sequence[str], request: Any) -> Any:
    return web.Response(text=f"{_named(paths)}\n")


async def _name_pages(web: Any, paths: Sequence[str], request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
    """Answer for a path that no page has."""
    try:
        return await handler(request)
    except web.HTTPNotFound:
        return web.Response(status=404, text=f"404: Not Found. {_named(paths)}\n")


def _named(paths: Sequence[str]) -> str:
    return f"Promoter's pages: {' '.join(paths)}"


async def _to_page(web: Any, name: str, request: Any) -> Any:
    return web.Response(status=307, headers={"location": f"{name}/"})
