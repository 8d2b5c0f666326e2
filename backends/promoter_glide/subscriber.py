"""`Subscriber`: the second GLIDE client, which hears what scripts announce, and how we know that it still does.

GLIDE resubscribes by itself and says nothing of it: not when it cannot, nor when it is with another server than the
client of the commands. So a message of our own is sent now and then through that client, on a channel that nobody else
waits for. Heard, it proves all at once: the subscription, the connection, and that both clients are with one server.
Unheard, the subscriber is made anew, everybody is woken, and until it hears again the promoter polls.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any
from uuid import uuid4

from promoter_core.spi import BackendError, Layout, PermanentError, PushChannel
from promoter_resp.driver import Changed

log = logging.getLogger("promoter.glide")

PROBE_S = 2.0  # between two messages of our own
PROBED_S = 2.0  # an own message that is not heard by then is lost
START_S = 1.0  # how long the first call waits for the first attempt
RETRY_S = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)

Heard = Callable[[bytes, bytes], None]  # channel, message


class Unheard(Exception):
    """The subscriber does not hear what the other client has just sent."""


class Subscriber:
    """`make` gives a client that is subscribed to CHANNELS and hands what it hears to a callback; `publish` sends a
    probe on a channel through the client of the commands; `close_soon` ends a client in the background.
    """

    def __init__(
        self,
        make: Callable[[Heard], Awaitable[Any]],
        publish: Callable[[bytes], Awaitable[Any]],
        close_soon: Callable[[Any], None],
        changed: Changed,
        *,
        where: str,
        layout: Layout,
    ) -> None:
        self._make = make
        self._publish = publish
        self._close_soon = close_soon
        self._changed = changed
        self._where = where
        self._probes = layout.probes
        self._channel = layout.probes + uuid4().hex.encode() + layout.end
        self._answered = asyncio.Event()
        self._warned = False
        self._push = PushChannel(
            self._listen, partial(changed, None), name="listening", connect_s=None, retry_s=RETRY_S, failed=self._tell
        )

    @property
    def hears(self) -> bool:
        """From now on, announcements are received."""
        return self._push.hears

    async def start(self) -> None:
        """Returns when the first attempt has succeeded or failed, or takes long; goes on in the background."""
        await self._push.start(START_S)

    def renew(self) -> None:
        """The server is not ours any more: leave it."""
        self._push.reconnect()
        self._changed(None)

    async def stop(self) -> None:
        await self._push.stop()

    async def _listen(self, connected: Callable[[], None]) -> None:
        client = await self._make(self._heard)
        try:
            await self._connect(client)
            connected()
            while True:
                await asyncio.sleep(PROBE_S)
                await self._probe()
        finally:
            self._close_soon(client)

    async def _connect(self, client: Any) -> None:
        """Its first command has it connect and subscribe. GLIDE never answers it where we may not subscribe."""
        try:
            async with asyncio.timeout(PROBED_S):
                await client.ping()
        except TimeoutError:
            await self._publish(self._channel)  # raises when the server is away for the other client, too
            raise Unheard from None
        await self._probe()

    async def _probe(self) -> None:
        self._answered.clear()
        await self._publish(self._channel)
        try:
            async with asyncio.timeout(PROBED_S):
                await self._answered.wait()
        except TimeoutError:
            raise Unheard from None

    def _heard(self, channel: bytes, message: bytes) -> None:
        if channel == self._channel:
            self._answered.set()
        elif not channel.startswith(self._probes):
            self._changed(message)

    def _tell(self, exc: Exception, failures: int) -> None:
        level = logging.DEBUG if failures else logging.INFO
        if (isinstance(exc, PermanentError) or (isinstance(exc, Unheard) and failures)) and not self._warned:
            self._warned = True
            log.warning(
                "announcements of the server at %s are not heard%s: polling until they are. "
                "Its user needs +psubscribe, +publish and &{chasqui:*",
                self._where,
                f" ({exc})" if isinstance(exc, BackendError) else "",
            )
        elif isinstance(exc, Unheard):
            log.log(level, "a message of our own was not heard: subscribing anew to %s", self._where)
        else:
            log.log(level, "listening for changes is interrupted: %s", exc)
