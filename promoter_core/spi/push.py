"""`PushChannel`: one connection on which a store reports changes, kept alive in the background."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from promoter_core.spi.errors import PermanentError
from promoter_core.spi.tasks import being_cancelled, cancel_and_wait

LOG = logging.getLogger("promoter")
RETRY_S = (0.05, 0.1, 0.2, 0.5, 1.0)  # between attempts
CONNECT_S = 5.0  # for an attempt
REFUSED_S = 300.0  # before the next attempt after a permanent refusal


class PushChannel:
    """Calls `listen` again and again, in the background.

    `hears` is True while a connection exists. While it is False, the backend polls. `listen` can also be a loop that
    polls the store itself, such as a file whose version shows each commit: it calls `connected` after the first look.

        async def listen(connected):
            async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as db:
                await db.execute("LISTEN promoter")
                connected()
                async for message in db.notifies():
                    flags.set(ChangeKind.JOBS, message.payload)

        channel = PushChannel(listen, flags.set_all, name="listening to db:5432")
        await channel.start()                                                       # in `open`
        Capabilities(wake=Wake.ANNOUNCED if channel.hears else Wake.POLL)
        await channel.stop()                                                        # in `close`
    """

    def __init__(
        self,
        listen: Callable[[Callable[[], None]], Awaitable[object]],
        missed: Callable[[], object],
        *,
        name: str,
        connect_s: float | None = CONNECT_S,
        retry_s: Sequence[float] = RETRY_S,
        log: logging.Logger = LOG,
        failed: Callable[[Exception, int], None] | None = None,
    ) -> None:
        """Create a channel; `start` starts it.

        `listen(connected)` handles one connection: it connects, calls `connected` once it will miss no change, and
        passes messages on until the connection breaks. It cleans up after itself, even when cancelled. It is cancelled
        unless it connects within `connect_s` seconds.

        `missed` is called whenever a connection starts or ends, since changes may have been missed. `log` gets one line
        per outage, "`name` is interrupted: …", and one for each PermanentError, after which the next attempt is minutes
        away. `failed` is called instead, with the exception and the number of failures since the last connection.
        """
        self.hears = False
        self._listen = listen
        self._missed = missed
        self._name = name
        self._connect_s = connect_s
        self._retry_s = retry_s
        self._logger = log
        self._failed = failed or self._log
        self._task: asyncio.Task[None] | None = None
        self._scope: asyncio.Timeout | None = None  # the timeout of the current connection
        self._tried = asyncio.Event()
        self._renewing = False
        self._failures = 0  # consecutive failures since the last connection
        self._pause_s = 0.0  # minimum pause before the next attempt

    async def start(self, within_s: float | None = None) -> None:
        """Return when the first attempt has succeeded, failed, or taken too long. It continues in the background."""
        if self._task is None:
            self._tried.clear()
            self._task = asyncio.create_task(self._keep(), name=f"promoter-push {self._name}")
        if not self._tried.is_set():
            try:
                async with asyncio.timeout(within_s):
                    await self._tried.wait()
            except TimeoutError:
                self._tried.set()  # later callers do not wait

    async def stop(self) -> None:
        """Stop listening, in bounded time. The channel can be started again."""
        task, self._task = self._task, None
        self.hears = False
        self._tried.set()
        if task is not None:
            await cancel_and_wait(task)

    def reconnect(self, after_s: float = 0.0) -> None:
        """Drop the current connection in the background, and connect again after at least `after_s` seconds."""
        self.hears = False
        self._pause_s = max(self._pause_s, after_s)
        if self._scope is not None and not self._scope.expired():
            self._renewing = True
            self._scope.reschedule(asyncio.get_running_loop().time())

    async def _keep(self) -> None:
        while not being_cancelled():  # a client may swallow the cancellation
            self._pause_s, self._renewing = 0.0, False
            error: Exception | None = None
            try:
                async with asyncio.timeout(self._connect_s) as self._scope:
                    await self._listen(self._connected)
            except Exception as exc:
                error = exc
            finally:
                self._scope, self.hears = None, False
            if error is not None and not self._renewing:
                self._failed(error, self._failures)
            self._tried.set()
            self._missed()
            await asyncio.sleep(max(self._retry_s[min(self._failures, len(self._retry_s) - 1)], self._pause_s))
            self._failures += 1

    def _connected(self) -> None:
        if self._scope is not None and not self._scope.expired() and not self._renewing:
            self._scope.reschedule(None)
            self.hears, self._failures = True, 0
            self._tried.set()
            self._missed()

    def _log(self, exc: Exception, failures: int) -> None:
        said = str(exc) or type(exc).__name__
        if isinstance(exc, PermanentError):
            self.reconnect(after_s=REFUSED_S)
            self._logger.warning("%s is refused, and tried again in %d s: %s", self._name, REFUSED_S, said)
        else:
            level = logging.DEBUG if failures else logging.INFO
            self._logger.log(level, "%s is interrupted: %s", self._name, said)
