"""`promoter exporter`: metrics of queues for Prometheus, read from the store, whoever leads them."""

from __future__ import annotations

import asyncio
import logging
from typing import Annotated

from promoter_core import Backend, ConfigError, TransientError
from promoter_core.cli import logs, options, session
from promoter_core.cli.arguments import Option
from promoter_core.cli.run import LogFormat
from promoter_core.cli.signals import leave_what_hangs, stop_on_signals
from promoter_core.monitor import Sampler
from promoter_core.spi import cancel_and_wait, run_within

log = logging.getLogger("promoter.monitor")

CLOSE_S = 2.0  # for the backend to close
THREADS_S = 2.0  # and then for what hangs in threads
RETRY_S = 1.0  # between tries to reach the store at the start


def exporter(
    url: options.Url,
    queue: Annotated[
        list[str] | None,
        Option(
            "--queue",
            "-q",
            envvar="PROMOTER_QUEUE",
            help="A queue, or a pattern such as 'mail-*'; give it again for more.",
            show_default="*",
        ),
    ] = None,
    layout: options.Layout = None,
    listen: Annotated[
        str,
        Option(
            "--listen", envvar="PROMOTER_LISTEN", metavar="HOST:PORT", help="Answer /metrics, /livez, /readyz there."
        ),
    ] = "127.0.0.1:9465",
    refresh: Annotated[
        float,
        Option("--refresh", envvar="PROMOTER_REFRESH", help="Seconds from one look at a queue to the next."),
    ] = 5.0,
    max_queues: Annotated[
        int,
        Option(
            "--max-queues",
            envvar="PROMOTER_MAX_QUEUES",
            help="Queues with separate series; the rest are summed up by pattern.",
        ),
    ] = 1_000,
    queues_per_second: Annotated[
        int,
        Option(
            "--queues-per-second",
            envvar="PROMOTER_QUEUES_PER_SECOND",
            help="Queues that are read, at most. More of them are read as often as this allows.",
        ),
    ] = 80,
    forget_after: Annotated[
        float,
        Option(
            "--forget-after",
            envvar="PROMOTER_FORGET_AFTER",
            help="Seconds without a job or a leader until a queue that was found goes.",
        ),
    ] = 300.0,
    log_format: Annotated[
        LogFormat, Option("--log-format", envvar="PROMOTER_LOG_FORMAT", help="Logs, on stderr.")
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
    async with serving(listen, [], sampler=sampler):
        sampling = asyncio.create_task(_sample(backend, sampler), name="promoter-exporter")
        stopping = asyncio.create_task(stop.wait())
        log.info("metrics on http://%s/metrics", listen)
        try:
            await asyncio.wait((sampling, stopping), return_when=asyncio.FIRST_COMPLETED)
            if sampling.done():
                sampling.result()  # raises PermanentError
        finally:
            await cancel_and_wait(stopping)
            await cancel_and_wait(sampling)
            try:
                await run_within(backend.close(), CLOSE_S)
            except TimeoutError:
                log.warning("the backend did not close in %g s; its connections end with the process", CLOSE_S)
            if stop.is_set():
                leave_what_hangs(THREADS_S, 0)
    log.info("stopped")


async def _sample(backend: Backend, sampler: Sampler) -> None:
    """Sample as soon as the store answers. Raises PermanentError."""
    complained = False
    while True:
        try:
            await backend.open()
            break
        except TransientError as exc:
            if not complained:
                log.warning("%s; trying again", exc)
                complained = True
            await asyncio.sleep(RETRY_S)
    await sampler.run()
