"""`promoter run --http HOST:PORT`: /metrics, /livez, /readyz and /status, for whoever watches the process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any

from promoter_core.errors import ConfigError, PluginError
from promoter_core.fleet import PromoterFleet
from promoter_core.model import Health
from promoter_core.options import port_number
from promoter_core.promoter import Promoter

LOOPBACK = "127.0.0.1"

Runner = Promoter | PromoterFleet


def parse_address(text: str) -> tuple[str, int]:
    """`HOST:PORT`, `:PORT` or `PORT`; without a host, loopback. Raises ConfigError."""
    host, _, port = text.rpartition(":")
    number = port_number(port)
    if number is None:
        raise ConfigError(f"--http: expected HOST:PORT, such as 127.0.0.1:9464 or 0.0.0.0:9464, not {text!r}")
    return host.strip("[]") or LOOPBACK, number


@asynccontextmanager
async def serving(address: str, runners: Sequence[Runner]) -> AsyncIterator[None]:
    """Answer on `address` for the length of an `async with`. Raises ConfigError, or PluginError without aiohttp."""
    host, port = parse_address(address)
    try:
        from aiohttp import web
    except ModuleNotFoundError:
        raise PluginError("--http needs the module aiohttp: pip install 'promoter-core[http]'") from None
    app = web.Application()
    app.add_routes(
        [
            web.get("/metrics", lambda request: _metrics(web, runners)),
            web.get("/livez", lambda request: _live(web)),
            web.get("/readyz", lambda request: _ready(web, runners)),
            web.get("/status", lambda request: _status(web, runners)),
        ]
    )
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as exc:
            raise ConfigError(f"--http {host}:{port} cannot be had: {exc.strerror or exc}") from exc
        yield
    finally:
        await runner.cleanup()


async def _metrics(web: Any, runners: Sequence[Runner]) -> Any:
    page = next((page for runner in runners if (page := runner.exposition()) is not None), None)
    if page is None:
        return web.Response(status=404, text="no metrics sink has a page: pip install 'promoter-core[prometheus]'\n")
    return web.Response(body=page[0], headers={"content-type": page[1]})


async def _live(web: Any) -> Any:
    """The event loop answers; whether promotion works is what /readyz says."""
    return web.Response(text="ok\n")


async def _ready(web: Any, runners: Sequence[Runner]) -> Any:
    reasons = [reason for runner in runners for reason in runner.unready()]
    return web.Response(status=503 if reasons else 200, text="\n".join(reasons or ["ok"]) + "\n")


async def _status(web: Any, runners: Sequence[Runner]) -> Any:
    queues: list[Health] = []
    for runner in runners:
        health = runner.health()
        queues += health if isinstance(health, list) else [health]
    return web.json_response(
        {
            "ready": not any(runner.unready() for runner in runners),
            "leads": sum(health.leads for health in queues),
            "queues": [asdict(health) for health in queues],
            "dropped_batches": sum(runner.dropped_batches for runner in runners),
        }
    )
