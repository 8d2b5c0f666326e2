"""`promoter exporter`: metrics of queues for Prometheus, read from the store."""

from __future__ import annotations

import asyncio
import logging
from typing import Annotated

from promoter_core import Backend, ConfigError
from promoter_core.cli import logs, options, session
from promoter_core.cli.arguments import Option
from promoter_core.cli.lasting import until_stopped
from promoter_core.cli.run import LogFormat
from promoter_core.cli.signals import stop_on_signals
from promoter_core.monitor import Sampler

log = logging.getLogger("promoter.monitor")


def exporter(
    url: options.Url,
    queue: options.AnyQueues = None,
    layout: options.Layout = None,
    listen: Annotated[
        str,
        Option(
            "--listen", envvar="PROMOTER_LISTEN", metavar="HOST:PORT", help="Answer /metrics, /livez, /readyz there."
        ),
    ] = "127.0.0.1:9465",
    refresh: Annotated[
        float,
        Option("--refresh", envvar="PROMOTER_REFRESH", help="Seconds between two reads of a queue."),
    ] = 5.0,
    max_queues: Annotated[
        int,
        Option(
            "--max-queues",
            envvar="PROMOTER_MAX_QUEUES",
            help="Maximum number of queues with separate series; the rest are combined by pattern.",
        ),
    ] = 1_000,
    queues_per_second: Annotated[
        int,
        Option(
            "--queues-per-second",
            envvar="PROMOTER_QUEUES_PER_SECOND",
            help="Maximum number of queues to read per second; with more queues, each is read less often.",
        ),
    ] = 80,
    forget_after: Annotated[
        float,
        Option(
            "--forget-after",
            envvar="PROMOTER_FORGET_AFTER",
            help="Seconds without a job or leader after which a discovered queue is dropped.",
        ),
    ] = 300.0,
    log_format: Annotated[
        LogFormat, Option("--log-format", envvar="PROMOTER_LOG_FORMAT", help="Format of the logs on stderr.")
    ] = LogFormat.TEXT,
) -> None:
    """Serve metrics of all queues for Prometheus, read from the store. Promotes nothing."""
    logs.set_up_logging(log_format)
    for option, seconds in (("--refresh", refresh), ("--forget-after", forget_after)):
        if not 0 < seconds < float("inf"):  # false for NaN as well
            raise ConfigError(f"{option} must be above 0, in seconds, not {seconds:g}")
    for option, count in (("--max-queues", max_queues), ("--queues-per-second", queues_per_second)):
        if count < 1:
            raise ConfigError(f"{option} must be at least 1, not {count}")
    backend = session.registry().backend(url, layout=layout)
    sampler = Sampler(
        backend,
        queue or "*",
        every_s=refresh,
        max_queues=max_queues,
        queues_per_s=queues_per_second,
        forget_s=forget_after,
    )
    asyncio.run(_serve(backend, sampler, listen))


async def _serve(backend: Backend, sampler: Sampler, listen: str) -> None:
    from promoter_core.web import serving

    stop = asyncio.Event()
    stop_on_signals(stop)
    async with serving(listen, [], sampler=sampler) as at:
        log.info("metrics on %s/metrics", at)
        await until_stopped(backend, sampler.run, stop, log)
    log.info("stopped")
