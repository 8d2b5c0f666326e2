"""`Delivery`: keeps events until they have been posted, so many at a time, and again when that fails. Knows no HTTP.

Its buffer is bounded. Who adds to a full one waits, so what is too much is dropped, and counted, by whoever feeds it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from promoter_core.contracts import Clock

log = logging.getLogger("promoter.webhook")

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 60.0

Post = Callable[[Sequence[Any]], Awaitable[int]]


class Delivery:
    """`post` sends some events and gives the status of HTTP; it may raise OSError or TimeoutError.

    2xx: they are done. 408, 429, 5xx and errors: again after a pause that doubles, from 0.5 s to a minute. Any other
    status: the receiver will never take them, so they are dropped.
    """

    def __init__(self, post: Post, clock: Clock, *, batch: int, buffer: int) -> None:
        self.refused = 0  # events that the receiver will not have
        self._post = post
        self._clock = clock
        self._batch = batch
        self._buffer = buffer
        self._events: deque[Any] = deque()
        self._changed = asyncio.Event()  # there are events, or it ends
        self._room = asyncio.Event()
        self._closing = False
        self._task: asyncio.Task[None] | None = None
        self._failures = 0

    def __len__(self) -> int:
        return len(self._events)

    async def add(self, events: Sequence[Any]) -> None:
        """Take the events, as soon as there is room."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="promoter-webhook")
        for first in range(0, len(events), self._batch):
            while len(self._events) >= self._buffer:
                self._room.clear()
                await self._room.wait()
            self._events.extend(events[first : first + self._batch])
            self._changed.set()

    async def close(self) -> None:
        """Post what is left, once more at most; what fails then is lost."""
        self._closing = True
        self._changed.set()
        task, self._task = self._task, None
        if task is not None:
            try:
                await task
            finally:
                task.cancel()

    async def _run(self) -> None:
        while True:
            if not self._events:
                if self._closing:
                    return
                self._changed.clear()
                await self._changed.wait()
                continue
            events = [self._events[i] for i in range(min(self._batch, len(self._events)))]
            done, said = await self._try(events)
            if done:
                for _ in events:
                    self._events.popleft()
                self._room.set()
                self._failures = 0
                continue
            if self._closing:
                log.warning("the webhook %s: %d events are lost at the end", said, len(self._events))
                return
            await self._pause(said)

    async def _try(self, events: Sequence[Any]) -> tuple[bool, str]:
        try:
            status = await self._post(events)
        except (OSError, TimeoutError) as exc:
            return False, f"cannot be reached ({exc or type(exc).__name__})"
        if 200 <= status < 300:
            if self._failures:
                log.info("the webhook works again, after %d failures", self._failures)
            return True, ""
        if status in (408, 429) or status >= 500:
            return False, f"answers {status}"
        self.refused += len(events)
        log.error("the webhook refuses %d events with %d; they are dropped", len(events), status)
        return True, ""

    async def _pause(self, said: str) -> None:
        pause_s = min(FIRST_PAUSE_S * 2 ** min(self._failures, 10), LONGEST_PAUSE_S)
        level = logging.WARNING if self._failures == 0 else logging.DEBUG  # an outage is told of once
        log.log(level, "the webhook %s; again in %g s", said, pause_s)
        self._failures += 1
        sleep = asyncio.ensure_future(self._clock.sleep(pause_s))
        ending = asyncio.ensure_future(self._ending())
        try:
            await asyncio.wait((sleep, ending), return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleep.cancel()
            ending.cancel()

    async def _ending(self) -> None:
        while not self._closing:
            self._changed.clear()
            await self._changed.wait()
