"""Commands that run until a signal: open a store that may be unavailable, and end in bounded time.

`exporter` and `ui` use `until_stopped`. `run`, which has more to end, shares `close`. The live view shares
`open_at_last`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from promoter_core import Backend, TransientError
from promoter_core.cli.signals import leave_what_hangs
from promoter_core.spi import cancel_and_wait, run_within

RETRY_S = 1.0  # between attempts to reach the store at startup
CLOSE_S = 2.0  # for a backend to close; the built-in ones take at most half of it
THREADS_S = 2.0  # after a signal, for threads that still hang when everything else has ended


async def until_stopped(
    backend: Backend,
    work: Callable[[], Awaitable[None]],
    stop: asyncio.Event,
    log: logging.Logger,
    *,
    first_end: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Run `work`, which continues until it is cancelled, as soon as the store answers. Raises PermanentError.

    `first_end` is awaited at the end, whether or not the work has started.
    """
    working = asyncio.create_task(_work(backend, work, log), name="promoter-lasting")
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
    finally:
        if first_end is not None:
            await first_end()
        await cancel_and_wait(stopping)
        await cancel_and_wait(working)
        await close(backend, log)
        if stop.is_set():
            leave_what_hangs(THREADS_S, 0)


async def close(backend: Backend, log: logging.Logger) -> None:
    """Close the backend, in bounded time."""
    try:
        await run_within(backend.close(), CLOSE_S)
    except TimeoutError:
        log.warning("the backend did not close in %g s; its connections end with the process", CLOSE_S)


async def _work(backend: Backend, work: Callable[[], Awaitable[None]], log: logging.Logger) -> None:
    complained = False

    def complain(error: TransientError) -> None:
        nonlocal complained
        if not complained:
            log.warning("%s; retrying", error)
            complained = True

    await open_at_last(backend, complain)
    await work()


async def open_at_last(backend: Backend, trouble: Callable[[TransientError], None]) -> None:
    """Open the backend as soon as its store answers; `trouble` receives each failure. Raises PermanentError."""
    while True:
        try:
            await backend.open()
            return
        except TransientError as exc:
            trouble(exc)
            await asyncio.sleep(RETRY_S)
