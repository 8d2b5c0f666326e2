"""`promoter run`: promote until a signal. Imports at module level what every start needs, and the rest on use."""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, suppress
from enum import StrEnum
from typing import Annotated, Any

from promoter_core import (
    Backend,
    ConfigError,
    Overflow,
    PluginError,
    Promoter,
    PromoterSettings,
    Runner,
    TransientError,
)
from promoter_core.cli import config_file, lasting, logs, options, session
from promoter_core.cli.arguments import ConfigFile, Option, TyperOnly
from promoter_core.cli.signals import leave_what_hangs, stop_on_signals
from promoter_core.spi import (
    FleetSupport,
    LayoutSupport,
    cancel_and_wait,
    check_queue_name,
    in_place,
    is_pattern,
    parse_url,
)

log = logging.getLogger("promoter")

CONNECT_RETRY_S = 0.25
THREADS_S = 2.0  # after a signal, for threads that still hang when everything else has ended
QUIET_S = 30.0  # time without a job after which a hint about other queues is logged
SHOWN = 5  # queues whose waiting jobs are logged at the end
CLOSE_S = 2.0  # for a backend to close; the built-in ones take at most half of it


class LogFormat(StrEnum):
    TEXT = "text"
    JSON = "json"


def run(
    url: options.Url,
    queue: Annotated[
        list[str],
        Option(
            "--queue",
            "-q",
            envvar="PROMOTER_QUEUE",
            help="A queue, or a pattern such as 'mail-*'; repeat it for more.",
            show_default=False,
        ),
    ],
    layout: options.Layout = None,
    config: Annotated[
        str | None,
        ConfigFile(
            "--config",
            read=config_file.read,
            envvar="PROMOTER_CONFIG",
            metavar="FILE",
            help="A TOML file with these options; the command line and the environment take precedence.",
        ),
    ] = None,
    print_config: Annotated[
        bool,
        TyperOnly("--print-config", help="Print all options as TOML with their origins, and exit."),
    ] = False,
    until_idle: Annotated[
        bool, Option("--until-idle", envvar="PROMOTER_UNTIL_IDLE", help="Exit when nothing is due.")
    ] = False,
    poll_interval_ms: Annotated[
        int,
        Option(
            "--poll-interval-ms",
            envvar="PROMOTER_POLL_INTERVAL_MS",
            help="Time between ticks, if the backend can only poll.",
        ),
    ] = 100,
    batch: Annotated[int, Option("--batch", envvar="PROMOTER_BATCH", help="Initial number of jobs a tick.")] = 256,
    max_tick_ms: Annotated[
        int,
        Option(
            "--max-tick-ms",
            envvar="PROMOTER_MAX_TICK_MS",
            help="The batch adapts so that a tick takes no longer; 0: fixed batch.",
        ),
    ] = 5,
    lock_ttl_ms: Annotated[
        int, Option("--lock-ttl-ms", envvar="PROMOTER_LOCK_TTL_MS", help="The leader's lease.")
    ] = 5_000,
    follower_poll_ms: Annotated[
        int,
        Option(
            "--follower-poll-ms",
            envvar="PROMOTER_FOLLOWER_POLL_MS",
            help="A follower checks the lock at least this often.",
        ),
    ] = 2_000,
    holder_id: Annotated[
        str | None,
        Option(
            "--holder-id",
            envvar="PROMOTER_HOLDER_ID",
            help="Identifies this process on the lock; must be unique.",
            show_default="made up",
        ),
    ] = None,
    max_stream_len: Annotated[
        int,
        Option("--max-stream-len", envvar="PROMOTER_MAX_STREAM_LEN", help="Maximum number of entries in the stream."),
    ] = 1_000_000,
    overflow: Annotated[
        Overflow,
        Option("--overflow", envvar="PROMOTER_OVERFLOW", help="When the stream is full: hold jobs back, or trim it."),
    ] = Overflow.HOLD,
    events: Annotated[
        bool, Option("--events/--no-events", envvar="PROMOTER_EVENTS", help="Write `waiting` events.")
    ] = True,
    events_max_stream_len: Annotated[
        int,
        Option(
            "--events-max-stream-len",
            envvar="PROMOTER_EVENTS_MAX_STREAM_LEN",
            help="Maximum number of entries in the events stream; the oldest are trimmed.",
        ),
    ] = 100_000,
    metrics: Annotated[
        list[str] | None,
        Option(
            "--metrics",
            envvar="PROMOTER_METRICS",
            metavar="NAME[:k=v,…]",
            help="A metrics sink; repeat it for more.",
        ),
    ] = None,
    event_sink: Annotated[
        list[str] | None,
        Option(
            "--event-sink",
            envvar="PROMOTER_EVENT_SINK",
            metavar="NAME[:k=v,…]",
            help="An event sink; repeat it for more.",
        ),
    ] = None,
    connect_timeout: Annotated[
        float,
        Option("--connect-timeout", envvar="PROMOTER_CONNECT_TIMEOUT", help="Seconds to keep trying at the start."),
    ] = 10.0,
    http: Annotated[
        str | None,
        Option(
            "--http",
            envvar="PROMOTER_HTTP",
            metavar="HOST:PORT",
            help="Serve /metrics, /livez, /readyz and /status on this address.",
        ),
    ] = None,
    store_metrics: Annotated[
        bool,
        Option(
            "--store-metrics",
            envvar="PROMOTER_STORE_METRICS",
            help="Also show the state of queues in the store on /metrics, like `promoter exporter`.",
        ),
    ] = False,
    page: Annotated[
        list[str] | None,
        Option(
            "--page",
            envvar="PROMOTER_PAGE",
            metavar="NAME[:k=v,…]",
            help="Also serve the pages of a plugin, such as `ui` at /ui; repeat it for more.",
        ),
    ] = None,
    uvloop: Annotated[bool, Option("--uvloop", envvar="PROMOTER_UVLOOP", help="Run on uvloop's event loop.")] = False,
    log_format: Annotated[
        LogFormat, Option("--log-format", envvar="PROMOTER_LOG_FORMAT", help="Format of the logs on stderr.")
    ] = LogFormat.TEXT,
) -> None:
    """Promote due jobs. SIGINT, SIGTERM and SIGHUP release the lock and end it with exit code 0."""
    given = dict(locals())
    logs.set_up_logging(log_format)
    if len(set(queue)) < len(queue):
        raise ConfigError("the same --queue is given twice")
    if http is not None:
        from promoter_core.web import parse_address

        parse_address(http)
    elif store_metrics:
        raise ConfigError("--store-metrics needs the page /metrics: give --http HOST:PORT as well")
    elif page:
        raise ConfigError("--page needs an address to serve on: give --http HOST:PORT as well")
    if not 0 <= connect_timeout < float("inf"):  # false for NaN as well
        raise ConfigError(f"--connect-timeout must be a number of seconds from 0, not {connect_timeout}")
    settings = PromoterSettings(
        poll_interval_ms=poll_interval_ms,
        promote_batch=batch,
        max_tick_ms=max_tick_ms,
        max_stream_len=max_stream_len,
        overflow=overflow,
        lock_ttl_ms=lock_ttl_ms,
        follower_poll_ms=follower_poll_ms,
        events=events,
        events_max_stream_len=events_max_stream_len,
    )
    for name in queue:
        check_queue_name(name)
    patterns = any(map(is_pattern, queue))
    registry = session.registry()
    backend = registry.backend(url, layout=layout)
    session.opened = url, layout
    if print_config:
        config_file.show(given)
        return
    pages = _pages(page, backend, queue, http)
    if isinstance(backend, LayoutSupport):
        for name in queue:
            backend.layout.check_queue(name)

    async def go() -> None:
        common: dict[str, Any] = {"metrics": _metrics(metrics or [], http), "events": event_sink or ()}
        common |= {"registry": registry, "holder_id": holder_id}
        runners: list[Runner]
        if patterns or (len(queue) > 1 and isinstance(backend, FleetSupport)):
            from promoter_core import PromoterFleet

            runners = [PromoterFleet(backend, queue, settings, **common)]
        else:
            runners = [Promoter(backend, name, settings, **common) for name in queue]
        where = str(parse_url(url))
        await _run(backend, runners, queue, where, connect_timeout, until_idle, http, store_metrics, pages)

    with asyncio.Runner(loop_factory=_uvloop() if uvloop else None) as runner:
        runner.run(go())


def _uvloop() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop
    except ModuleNotFoundError:
        raise PluginError("--uvloop needs the module uvloop: pip install 'promoter-core[uvloop]'") from None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def _metrics(names: list[str], http: str | None) -> list[str]:
    """Return the metrics sinks. With --http, add one with a page if it is installed."""
    if http is None or any(name.partition(":")[0] == "prometheus" for name in names):
        return names
    found = any(
        r.kind == "metrics sink" and r.spec.name == "prometheus" and not r.missing for r in session.registry().all()
    )
    return [*names, "prometheus"] if found else names


def _pages(wanted: list[str] | None, backend: Backend, queues: list[str], http: str | None) -> dict[str, Any]:
    if not wanted or http is None:
        return {}
    from promoter_core.cli.run_pages import made

    return made(wanted, backend, queues, http)


async def _run(
    backend: Backend,
    runners: list[Runner],
    queues: list[str],
    where: str,
    connect_timeout_s: float,
    until_idle: bool,
    http: str | None,
    store_metrics: bool,
    pages: Mapping[str, Any],
) -> None:
    stop, sampler = asyncio.Event(), None
    stop_on_signals(stop)
    async with AsyncExitStack() as stack:
        stack.callback(lambda: leave_what_hangs(lasting.THREADS_S, 0) if stop.is_set() else None)
        stack.push_async_callback(lasting.close, backend, log)
        if http is not None:
            from promoter_core.monitor import Sampler
            from promoter_core.web import serving

            sampler = Sampler(backend, queues) if store_metrics else None
            at = await stack.enter_async_context(serving(http, runners, sampler=sampler, pages=pages))
            log.info("pages on %s: /metrics /livez /readyz /status%s", at, "".join(f" /{name}/" for name in pages))
        if not await _open(backend, connect_timeout_s, stop):
            return
        if pages:
            from promoter_core.cli.run_pages import begin

            await begin(pages.values())
        if sampler is not None:
            await stack.enter_async_context(sampler.running())
        gc.freeze()  # exclude loaded modules from garbage collection, so that collections are shorter
        log.info("promoting %s of %s", ", ".join(map(repr, queues)), where)
        try:
            # A permanent error ends the process with exit code 1, so that its supervisor notices.
            async with asyncio.TaskGroup() as group:
                stopper = group.create_task(_stop_all(stop, runners))
                quiet = group.create_task(_say_if_quiet(backend, queues))
                runs = [group.create_task(p.run(until_idle=until_idle)) for p in runners]
                await asyncio.wait(runs, return_when=asyncio.FIRST_EXCEPTION)
                stopper.cancel()
                quiet.cancel()
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        if until_idle and not stop.is_set():
            await _say_what_waits(backend, queues)
    log.info("stopped")


async def _say_if_quiet(backend: Backend, queues: list[str]) -> None:
    if isinstance(backend, LayoutSupport) and isinstance(backend.layout, in_place.InPlace):
        return  # the layout names the keys of its framework
    await asyncio.sleep(QUIET_S)
    from promoter_core.cli import near  # imported here because few runs need it

    try:
        await near.say_if_quiet(backend, queues, QUIET_S)
    except Exception:  # a plugin that searches for queues may raise anything, and a hint must not end promotion
        log.debug("cannot look for what the store has instead of idle queues", exc_info=True)


async def _say_what_waits(backend: Backend, queues: list[str]) -> None:
    """After a run until nothing is due: log how many jobs of some named queues still wait, and for how long."""
    with suppress(TransientError):
        for queue in [queue for queue in queues if not is_pattern(queue)][:SHOWN]:
            stats = await backend.stats(queue)
            if not stats.depth:
                log.info("queue %r: no job waits", queue)
            elif stats.next_due_ms is not None:
                next_s = max(stats.next_due_ms - stats.now_ms, 0) / 1000
                log.info("queue %r: waiting jobs: %d, the next is due in %.1f s", queue, stats.depth, next_s)


async def _stop_all(stop: asyncio.Event, runners: list[Runner]) -> None:
    await stop.wait()
    for runner in runners:
        runner.stop()


async def _open(backend: Backend, timeout_s: float, stop: asyncio.Event) -> bool:
    """Open the backend, retrying for `timeout_s` seconds. Return False on a stop."""
    deadline_s = time.monotonic() + timeout_s
    complained = False
    stopping = asyncio.create_task(stop.wait())
    while not stop.is_set():
        opening = asyncio.create_task(backend.open())
        try:
            await asyncio.wait((opening, stopping), return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not opening.done():
                await cancel_and_wait(opening)
        try:
            if not opening.done() or opening.cancelled():
                break
            opening.result()
            stopping.cancel()
            return True
        except TransientError as exc:
            if time.monotonic() + CONNECT_RETRY_S > deadline_s:
                raise
            if not complained:
                log.warning("%s; retrying for %g s", exc, timeout_s)
                complained = True
        await asyncio.wait((stopping,), timeout=CONNECT_RETRY_S)
    stopping.cancel()
    return False
