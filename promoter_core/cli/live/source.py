"""`Source`: reads the figures of the live view at a bounded rate, and tracks whether the store answers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

from promoter_core import Backend, BackendError, ConfigError, PermanentError, TransientError
from promoter_core.cli.lasting import open_at_last
from promoter_core.cli.live.chart import Zoom
from promoter_core.monitor import Future, LatenessProbe, QueueSnapshot, Sampler, SamplerState, future
from promoter_core.spi import ManagementSupport, cancel_and_wait, run_within

CLOSE_S = 2.0
SHOWN = 12  # queues that are read at every refresh, and whose lateness is measured
SUMMED = 50  # queues summed up in the chart
MOST = 10_000  # queues


class Source:
    """Reads the store in the background, within `running()`. No other method waits for the store."""

    def __init__(self, backend: Backend, patterns: Sequence[str], *, refresh_s: float) -> None:
        """Raises ConfigError."""
        self.backend = backend
        self.refresh_s = refresh_s
        self._sampler = Sampler(backend, patterns, every_s=refresh_s, max_queues=MOST)
        self._probes: dict[str, LatenessProbe] = {}
        self._shown: tuple[str, ...] = ()
        self._wanted: tuple[tuple[str, ...], Zoom] | None = None
        self._future: tuple[tuple[tuple[str, ...], Zoom], Future] | None = None
        self._asked = asyncio.Event()
        self._opening: BackendError | None = None
        self.opened = False
        self.failed: asyncio.Future[BackendError] | None = None  # done when the store is unusable, with the error

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Source]:
        self.failed = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(self._run(), name="promoter-watch")
        try:
            yield self
        finally:
            await cancel_and_wait(task)
            with suppress(TimeoutError, BackendError):
                await run_within(self.backend.close(), CLOSE_S)

    def state(self) -> SamplerState:
        return self._sampler.state()

    def probe(self, queue: str) -> LatenessProbe | None:
        """Return the lateness probe of a queue on the screen."""
        return self._probes.get(queue)

    def trouble(self) -> str:
        """Return why the figures are out of date, in a line; empty if they are not."""
        if self._opening is not None:
            return f"retrying: {self._opening}"
        state = self._sampler.state()
        if state.reached:
            return ""
        if state.error is None:
            return "" if self.opened and state.last_read_s is not None else "waiting for the store"
        if state.last_read_s is None:
            return f"retrying: {state.error}"
        return f"no answer for {state.now_s - state.last_read_s:.0f} s, retrying: {state.error}"

    def show(self, queues: Sequence[str]) -> None:
        """Read these queues at every refresh, and measure their lateness; at most the first 12."""
        names = tuple(queues[:SHOWN])
        if names == self._shown:
            return
        self._shown = names
        self._sampler.focus(names)
        for name in names:
            if name not in self._probes:
                self._probes[name] = LatenessProbe(self.backend, name)

    def want_future(self, queues: Sequence[QueueSnapshot], zoom: Zoom) -> tuple[Future | None, int]:
        """Return the upcoming jobs of up to 50 queues, those with the most jobs, and their number. None until read."""
        by_depth = sorted(queues, key=lambda queue: -(queue.stats.depth if queue.stats is not None else 0))
        names = tuple(queue.name for queue in by_depth[:SUMMED])
        if names and self._wanted != (names, zoom):
            same = self._wanted is not None and set(self._wanted[0]) == set(names) and self._wanted[1] is zoom
            self._wanted = (names, zoom)
            if not same:
                self._asked.set()
        had = self._future
        if had is None or self._wanted is None or had[0][1] is not zoom or set(had[0][0]) != set(names):
            return None, len(names)
        return had[1], len(names)

    async def _run(self) -> None:
        if not await self._open():
            return
        tasks = [
            asyncio.create_task(self._sampler.run(), name="promoter-watch-sampler"),
            asyncio.create_task(self._look_ahead(), name="promoter-watch-future"),
            asyncio.create_task(self._look_back(), name="promoter-watch-lateness"),
        ]
        try:
            await asyncio.gather(*tasks)
        except Exception as exc:  # a bug, here or in the backend: the view would freeze
            self._fail(PermanentError(f"the view failed: {exc!r}", code="BACKEND"))
        finally:
            for task in tasks:
                await cancel_and_wait(task)

    async def _open(self) -> bool:
        try:
            await open_at_last(self.backend, self._wait_for)
        except BackendError as exc:
            self._fail(exc)
            return False
        self.opened, self._opening = True, None
        return True

    def _wait_for(self, error: TransientError) -> None:
        self._opening = error

    def _fail(self, error: BackendError) -> None:
        if self.failed is not None and not self.failed.done():
            self.failed.set_result(error)

    async def _look_ahead(self) -> None:
        """Read the chart that is shown; less often if it covers many queues."""
        while isinstance(self.backend, ManagementSupport):
            pause_s = self.refresh_s
            if (wanted := self._wanted) is not None:
                names, zoom = wanted
                pause_s = max(pause_s, len(names) / 10)
                with suppress(BackendError, ConfigError):
                    self._future = wanted, await future(self.backend, names, ahead_s=zoom.ahead_s, bars=zoom.bars)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._asked.wait()
            self._asked.clear()

    async def _look_back(self) -> None:
        """Measure the lateness of the queues on the screen."""
        while True:
            if len(self._probes) > 4 * SHOWN:
                self._probes = {name: probe for name, probe in self._probes.items() if name in self._shown}
            for name in self._shown:
                with suppress(BackendError):
                    await self._probes[name].look()
            await asyncio.sleep(self.refresh_s)


def silence_logs() -> None:
    """Discard logs, which would overwrite the screen. It shows the same errors."""
    logging.basicConfig(handlers=[logging.NullHandler()], force=True)
