"""`Delivery`: keeps events until they have been posted, a batch at a time, and retries failed batches.

It knows no HTTP except status codes. A batch is a `Message`, which keeps its id and its events through all attempts.
The buffer is bounded: `add` waits while it is full, so that the caller drops and counts the excess.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from promoter_core.spi import Clock, SinkFailure

log = logging.getLogger("promoter.webhook")

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 60.0
LONGEST_RETRY_AFTER_S = 3_600.0  # longest Retry-After that is respected
GONE = 410
TRY_AGAIN = frozenset({408, 425, 429})  # and 5xx


@dataclass(frozen=True, slots=True)
class Message:
    """The content of one request. `id` is unique, and the same for every attempt."""

    id: str
    events: Sequence[Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """The receiver's answer: the HTTP status, and how long it asks us to wait."""

    status: int
    retry_after_s: float | None = None


Post = Callable[[Message], Awaitable[Answer]]


class Delivery:
    """Delivers messages. `post` sends one and returns the answer; any exception is a failed attempt.

    - 2xx: done.
    - 408, 425, 429, 5xx, or an exception: retry after a pause that doubles, from 0.5 s to a minute, or after the time
      that the receiver asks for, an hour at most.
    - 410: the receiver wants no more. Everything is refused until the next run.
    - Any other status: the message is refused, and the next one is sent.

    Refused messages are lost, logged and reported.
    """

    def __init__(self, post: Post, clock: Clock, *, batch: int, buffer: int) -> None:
        self.report: Callable[[SinkFailure], None] = lambda failure: None
        self.refused = 0  # number of events
        self._refusals = 0  # number of messages
        self._post = post
        self._clock = clock
        self._batch = batch
        self._buffer = buffer
        self._events: deque[Any] = deque()  # starts with those of the current message
        self._task: asyncio.Task[None] | None = None
        self._reset()

    def __len__(self) -> int:
        return len(self._events)

    def _reset(self) -> None:
        self._message: Message | None = None  # the current message
        self._failures = 0  # consecutive failures
        self._gone = False
        self._closing = False

    async def add(self, events: Sequence[Any]) -> None:
        """Queue the events as soon as there is room. Starts the delivery, for the first time or after `close`."""
        for first in range(0, len(events), self._batch):
            some = events[first : first + self._batch]
            self._start()
            while len(self._events) >= self._buffer and not self._gone:
                self._room.clear()
                await self._room.wait()
                self._start()
            if self._gone:
                self._refuse(len(some), GONE)
                continue
            self._events.extend(some)
            self._changed.set()

    async def close(self) -> None:
        """Post the remaining events, with one attempt at most; what fails then is lost."""
        if self._task is None:
            return
        self._closing = True
        self._start()
        self._changed.set()
        task = self._task
        try:
            await asyncio.wait((task,))
        finally:
            task.cancel()
            self._task = None
            if self._events:
                log.warning("webhook: %d events that could not be delivered are lost at the end", len(self._events))
                self.report(SinkFailure.DROPPED)
                self._events.clear()
            self._reset()

    def _start(self) -> None:
        """Ensure that a task delivers, replacing one that has unexpectedly ended."""
        if self._task is not None and not self._task.done():
            return
        if self._task is not None:
            exc = None if self._task.cancelled() else self._task.exception()
            log.error("webhook: the delivery has ended and is started again", exc_info=exc)
            self.report(SinkFailure.FAILED)
        # Both are bound to the event loop of the run.
        self._changed = asyncio.Event()  # set when events arrive or the sink closes
        self._room = room = asyncio.Event()
        self._task = asyncio.create_task(self._run(), name="promoter-webhook")
        self._task.add_done_callback(lambda task: room.set())

    async def _run(self) -> None:
        while True:
            if not self._events:
                if self._closing:
                    return
                self._changed.clear()
                await self._changed.wait()
                continue
            if self._message is None:
                self._message = Message(f"msg_{uuid.uuid4().hex}", tuple(islice(self._events, self._batch)))
            problem, retry_after_s = await self._try(self._message)
            if not problem:
                for _ in self._message.events:
                    self._events.popleft()
                self._message = None
                self._failures = 0
                if self._gone:
                    self._refuse_rest()
                self._room.set()
            elif self._closing:
                return
            else:
                await self._pause(problem, retry_after_s)

    async def _try(self, message: Message) -> tuple[str, float]:
        """Return the problem, if the message must be sent again, and how long the receiver asks to wait before that."""
        try:
            answer = await self._post(message)
        except asyncio.CancelledError as exc:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            return f"cannot be reached ({exc!r})", 0.0  # raised by `post`, not a cancellation of this task
        except Exception as exc:
            log.debug("webhook: an attempt failed", exc_info=True)
            return f"cannot be reached ({str(exc) or type(exc).__name__})", 0.0
        status = answer.status
        if 200 <= status < 300:
            if self._failures:
                log.info("webhook: recovered after %d failures", self._failures)
        elif status in TRY_AGAIN or status >= 500:
            return f"answers {status}", min(answer.retry_after_s or 0.0, LONGEST_RETRY_AFTER_S)
        else:
            self._gone = status == GONE
            self._refuse(len(message.events), status)
        return "", 0.0

    def _refuse(self, events: int, status: int) -> None:
        self.refused += events
        self._refusals += 1
        self.report(SinkFailure.REFUSED)
        if self._refusals & (self._refusals - 1) == 0:  # the 1st, 2nd, 4th, 8th …
            then = "; nothing more is sent until the next start" if status == GONE else ""
            text = "webhook: the receiver answers %d and refuses %d events, %d so far, which are dropped%s"
            log.error(text, status, events, self.refused, then)

    def _refuse_rest(self) -> None:
        while self._events:
            some = min(self._batch, len(self._events))
            for _ in range(some):
                self._events.popleft()
            self._refuse(some, GONE)

    async def _pause(self, problem: str, retry_after_s: float) -> None:
        pause_s = max(min(FIRST_PAUSE_S * 2 ** min(self._failures, 10), LONGEST_PAUSE_S), retry_after_s)
        level = logging.WARNING if self._failures == 0 else logging.DEBUG  # an outage is logged once
        log.log(level, "webhook: the receiver %s; retrying in %g s", problem, pause_s)
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
