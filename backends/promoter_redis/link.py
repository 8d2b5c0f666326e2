"""`Link`: one redis-py connection, with its state."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any

import redis.exceptions as rx

from promoter_resp.driver import Arg

pack_command: Any
try:
    from hiredis import pack_command  # six times as fast as redis-py's packer
except ImportError:  # hiredis is missing, or older than 2.2
    pack_command = None

SENT_AT_ONCE = 64 * 1024  # bytes
PROBE_S = 5.0  # a PING follows this much silence; without a reply in the same time, the connection is given up


async def next_push(connection: Any) -> Any:
    """Return the server's next push, or its answer to a probe. Raises TimeoutError when a probe stays unanswered."""
    if (push := await connection.read_response(timeout=PROBE_S)) is not None:
        return push
    await connection.send_command("PING", check_health=False)
    if (push := await connection.read_response(timeout=PROBE_S)) is None:
        raise TimeoutError("the listening connection does not answer")
    return push


class Link:
    """An established connection, with its id on the server and the epoch in which it was made."""

    def __init__(self, connection: Any, epoch: int = 0, client_id: int | None = None) -> None:
        self.connection = connection
        self.epoch = epoch
        self.client_id = client_id  # None if the server does not report it

    async def send(self, commands: Sequence[Sequence[Arg]]) -> list[Any]:
        """Return the replies, in order. A refused command has its ResponseError instead of a reply."""
        if not self.connection.is_connected:  # the link was given up; redis-py would reconnect
            raise rx.ConnectionError("the connection was given up")
        packed, size = list[bytes](), 0
        for command in commands:
            one = pack_command(tuple(command)) if pack_command else b"".join(self.connection.pack_command(*command))
            packed.append(one)
            size += len(one)
            if size >= SENT_AT_ONCE:  # the server starts on these while the next are packed
                await self.connection.send_packed_command(packed, check_health=False)
                packed, size = [], 0
        if packed:
            await self.connection.send_packed_command(packed, check_health=False)
        return [await self._reply() for _ in commands]

    async def ask(self, *command: Arg) -> Any:
        """Return one reply. Raises ResponseError."""
        (reply,) = await self.send([command])
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def close(self) -> None:
        """Close at once, without a farewell: the peer may be dead, and a TLS farewell outlives a short event loop."""
        transport = getattr(getattr(self.connection, "_writer", None), "transport", None)
        with contextlib.suppress(Exception):
            await self.connection.disconnect(nowait=True)
        abort = getattr(transport, "abort", None)  # missing in fakeredis
        if abort is not None:
            abort()

    @property
    def at_eof(self) -> bool:
        """Whether the server has closed the connection, by local state only."""
        reader = getattr(self.connection, "_reader", None)  # redis-py has no public way to check without reading
        return reader is None or bool(reader.at_eof())

    async def is_usable(self) -> bool:
        """Whether the connection is open and no reply is pending."""
        look = getattr(self.connection, "can_read", None) or self.connection.can_read_destructive
        if getattr(asyncio.current_task(), "_must_cancel", False):
            # A cancellation is pending. `look` uses a zero time-out, which would swallow it, so raise it here.
            await asyncio.sleep(0)
        try:
            return self.connection.is_connected and not await look()
        except (rx.ConnectionError, OSError):
            return False

    async def _reply(self) -> Any:
        try:
            return await self.connection.read_response()
        except rx.ResponseError as error:
            return error
