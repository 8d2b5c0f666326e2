"""`Subscriber`: the second GLIDE client, which receives what scripts announce, and checks that it still does.

GLIDE resubscribes by itself and does not report when it cannot, or when it is connected to another server than the
client of the commands. So that client now and then publishes a probe on a private channel. Receiving it proves three
things at once: the subscription, the connection, and that both clients use the same server. If it does not arrive, the
subscriber is replaced, all waits end, and the promoter polls until the next probe arrives.
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

PROBE_S = 2.0  # time between two probe messages
PROBED_S = 2.0  # a probe that is not received in this time is lost
START_S = 1.0  # how long the first call waits for the first attempt
RETRY_S = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)

Heard = Callable[[bytes, bytes], None]  # channel, message


class Unheard(Exception):
    """The subscriber did not receive the other client's probe."""


class Subscriber:
    """Keeps a client subscribed.

    `make` returns a client that is subscribed to CHANNELS and passes messages to a callback. `publish` sends a probe on
    a channel through the client of the commands. `close_soon` ends a client in the background.
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
        """Whether announcements are received from now on."""
        return self._push.hears

    async def start(self) -> None:
        """Return when the first attempt has succeeded or failed, or takes long. It continues in the background."""
        await self._push.start(START_S)

    def renew(self) -> None:
        """Leave the server, which is the wrong one."""
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
        """Connect and subscribe with the client's first command.

        GLIDE never answers it if subscribing is not permitted.
        """
        try:
            async with asyncio.timeout(PROBED_S):
                await client.ping()
        except TimeoutError:
            await self._publish(self._channel)  # raises if the server is unavailable for the other client as well
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
                "announcements of the server at %s do not arrive%s: polling until they do. "
                "Its user needs +psubscribe, +publish and &{chasqui:*",
                self._where,
                f" ({exc})" if isinstance(exc, BackendError) else "",
            )
        elif isinstance(exc, Unheard):
            log.log(level, "a probe message did not arrive: resubscribing to %s", self._where)
        else:
            log.log(level, "listening for changes is interrupted: %s", exc)
