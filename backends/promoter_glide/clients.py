"""`Clients`: the GLIDE client that runs commands, created on demand and dropped when its server is the wrong one.

GLIDE reconnects by itself, but it never leaves a server that still answers, and never notices a connection that died
silently. Both are handled as one event: the client is dropped, the next call creates a new one, which resolves the name
in the URL again, and dependent parts are notified.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

import glide

from promoter_core.spi import BackendError

log = logging.getLogger("promoter.glide")

NOT_OURS = frozenset({"READONLY", "MASTERDOWN"})  # the server answers, but it is a replica
DOUBTFUL = frozenset({"TIMEOUT", "CONNECTION"})  # the server may be gone: a PING decides
PING_S = 1.0  # if a PING after a time-out gets no answer in this time, the run of time-outs continues
YOUNG_S = 0.2  # a client this new has just resolved the name, so another one would reach the same server
CLUSTER_YOUNG_S = 5.0  # in a cluster GLIDE itself follows changes, and a new client pauses the queues of all nodes
CLOSING_S = 1.0
TOLD_S = 60.0  # minimum time between two logs of an outage


class Clients:
    """`make` returns a client that connects with its first command, and retries with every command until it succeeds.

    `dropped` is called when a client was dropped.
    """

    def __init__(
        self, make: Callable[[], Awaitable[Any]], dropped: Callable[[], None], *, young_s: float = YOUNG_S
    ) -> None:
        self._make = make
        self._dropped = dropped
        self._young_s = young_s
        self._client: Any = None
        self._worked: Any = None  # the client that last answered
        self._made_s = 0.0
        self._told_s = float("-inf")
        self._making = asyncio.Lock()  # concurrent callers must share one new client
        self._checking: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def current(self) -> Any:
        return self._client

    async def get(self) -> Any:
        if self._client is None:
            async with self._making:
                if self._client is None:
                    self._client, self._made_s = await self._make(), time.monotonic()
        return self._client

    def worked(self, used: Any) -> None:
        """Record that a call that began with the client `used` was answered."""
        if used is None or used is self._client:
            self._worked = self._client

    def failed(self, error: BackendError, used: Any, cause: BaseException | None = None) -> None:
        """Judge an error of a call that began with the client `used` (None: with one not yet created)."""
        if used is not None and used is not self._client:
            return  # that client has already been given up
        if isinstance(cause, glide.ClosingError):  # a closed client does not recover
            self.drop("it is closed")
        elif self._client is None or time.monotonic() - self._made_s < self._young_s:
            return
        elif error.code in NOT_OURS:
            self.drop(str(error))
        elif error.code in DOUBTFUL and self._client is self._worked and self._checking is None:
            self._checking = asyncio.create_task(self._check(self._client), name="promoter-glide-check")

    def drop(self, why: str) -> None:
        """Drop the client at once, without waiting for it."""
        client, self._client, self._worked = self._client, None, None
        if client is None:
            return
        now_s = time.monotonic()
        log.log(logging.INFO if now_s - self._told_s > TOLD_S else logging.DEBUG, "reconnecting: %s", why)
        self._told_s = now_s
        self.close_soon(client)
        self._dropped()

    def close_soon(self, client: Any) -> None:
        """Close a client in the background, in bounded time. Calls that still wait for it end with an error."""
        task = asyncio.create_task(_close(client), name="promoter-glide-close")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        checking, self._checking = self._checking, None
        if checking is not None:
            checking.cancel()
        client, self._client, self._worked = self._client, None, None
        if client is not None:
            self.close_soon(client)
        if waiting := [*self._closing, *([checking] if checking else [])]:
            await asyncio.wait(waiting, timeout=CLOSING_S)

    async def _check(self, client: Any) -> None:
        """Check whether the server answers at all, after an error that may mean a dead connection."""
        try:
            async with asyncio.timeout(PING_S):
                await client.ping()
        except Exception as exc:
            if client is self._client:
                self.drop(str(exc) or "it does not answer")
        finally:
            self._checking = None


async def _close(client: Any) -> None:
    with contextlib.suppress(Exception):
        async with asyncio.timeout(CLOSING_S):
            await client.close("the connection was given up")
