"""`GlideDriver`: `promoter_resp.driver.Driver` on Valkey GLIDE's asyncio client, for one server or a cluster.

GLIDE does not hand out the pushes of client tracking, so changes are announced: scripts PUBLISH when they make a new
head or release a lock, and the leader's subscribing client hears of it. Who does not announce (a plain ZADD) is polled
for.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine, Sequence
from typing import Any

import glide

from promoter_core.ending import all_ended
from promoter_core.errors import BackendError, PermanentError
from promoter_core.model import Wake
from promoter_core.urls import Credentials
from promoter_glide.errors import translate
from promoter_resp.driver import SCANNED, Arg, Call, Changed
from promoter_resp.errors import closed_error
from promoter_resp.keys import CHANNELS, QueueKeys

log = logging.getLogger("promoter.glide")

GRACE_S = 1.0  # GLIDE bounds its requests itself; this is for one that it forgets


class GlideDriver:
    """One server, or a cluster, through GLIDE's multiplexed connection, and a second client that subscribes."""

    durable = True
    shared = True
    clustered: bool

    def __init__(
        self, settings: dict[str, Any], *, cluster: bool, where: str, timeout_ms: int, login: Credentials | None = None
    ) -> None:
        self._settings = settings
        self._login = login
        self.clustered = cluster
        self._where = where
        self._timeout_s = timeout_ms / 1000 + GRACE_S
        self._client: Any = None
        self._subscriber: Any = None
        self._scripts: dict[str, glide.Script] = {}
        self._refused = False
        self._closed = False
        self._making = asyncio.Lock()  # callers at the same time must not make a client each

    @property
    def wake(self) -> Wake:
        return Wake.POLL if self._refused else Wake.ANNOUNCED

    async def open(self) -> None:
        self._closed = False
        await self._guard(self._ping())

    async def close(self) -> None:
        self._closed = True
        clients, self._client, self._subscriber = (self._client, self._subscriber), None, None
        await all_ended(*(client.close() for client in clients if client is not None))

    async def ticks(self, calls: Sequence[Call]) -> list[Any]:
        if len(calls) == 1:
            return [await self._guard(self._invoke(calls[0]))]
        replies: list[Any] = await self._guard(self._batch(calls))
        return replies

    async def run(self, calls: Sequence[Call], after: Sequence[Arg] = ()) -> list[Any]:
        replies = await self.ticks(calls)
        if error := next((reply for reply in replies if isinstance(reply, BackendError)), None):
            raise error
        return [*replies, await self._guard(self._command(after))] if after else replies

    async def command(self, key: bytes, *args: Arg) -> Any:
        return await self._guard(self._command(args))

    async def watch(self, keys: QueueKeys, changed: Changed) -> None:
        await self._listen(changed)

    async def _listen(self, changed: Changed) -> None:
        if self._subscriber is None and not self._refused:
            async with self._making:
                if self._subscriber is None:
                    await self._guard(self._subscribe(changed))

    async def hear(self, changed: Changed) -> None:
        await self._listen(changed)

    async def scan(self, match: bytes, type: str) -> AsyncIterator[Sequence[bytes]]:
        client: Any = await self._connected()
        cursor: Any = glide.ClusterScanCursor() if self.clustered else b"0"  # type: ignore[no-untyped-call]
        options = {"match": match, "count": SCANNED, "type": glide.ObjectType[type.upper()]}
        while True:
            cursor, page = await self._guard(client.scan(cursor, **options))
            yield page
            if cursor.is_finished() if self.clustered else cursor == b"0":
                return

    async def _guard(self, call: Coroutine[Any, Any, Any]) -> Any:
        """Bound `call` in time, and raise what GLIDE raises as our errors."""
        if self._closed:
            call.close()
            raise closed_error()
        try:
            async with asyncio.timeout(self._timeout_s):
                return await call
        except Exception as exc:
            if isinstance(exc, glide.ClosingError):  # that client will not come back
                self._client = self._subscriber = None
            raise translate(exc, self._where) from exc

    async def _made(self, **more: Any) -> Any:
        """A new client. It connects with its first command: `create` would block the event loop."""
        kinds = (glide.GlideClusterClient, glide.GlideClusterClientConfiguration)
        client, configuration = kinds if self.clustered else (glide.GlideClient, glide.GlideClientConfiguration)
        if self._login is not None:  # GLIDE keeps a password for as long as the client lives
            user, password = await self._login()
            more["credentials"] = glide.ServerCredentials(password, user)
        return await client.create(configuration(**(self._settings | more), lazy_connect=True))

    async def _connected(self) -> Any:
        if self._client is None:
            async with self._making:
                self._client = self._client or await self._made()
        return self._client

    async def _ping(self) -> None:
        try:
            await (await self._connected()).ping()
        except Exception:
            await self._try_database()
            raise

    async def _try_database(self) -> None:
        """GLIDE tells a database that there is not as a time-out. Ask the server itself, which says so."""
        if (database := self._settings.get("database_id")) is not None:
            client = await self._made(database_id=None)
            try:
                await client.custom_command(["SELECT", str(database)])
            finally:
                await client.close()

    async def _invoke(self, call: Call) -> Any:
        script = self._scripts.get(call.script.name)
        if script is None:
            script = self._scripts[call.script.name] = glide.Script(call.script.source)  # type: ignore[no-untyped-call]
        return await (await self._connected()).invoke_script(script, keys=list(call.keys), args=_texts(call.args))

    async def _batch(self, calls: Sequence[Call]) -> list[Any]:
        """Several calls in one round trip, in order; the reply of one that failed is its error."""
        batch: Any = glide.ClusterBatch(is_atomic=False) if self.clustered else glide.Batch(is_atomic=False)
        for call in calls:
            batch.custom_command(["EVALSHA", call.script.sha, str(len(call.keys)), *call.keys, *_texts(call.args)])
        replies = await (await self._connected()).exec(batch, raise_on_error=False)
        for i, (call, reply) in enumerate(zip(calls, replies, strict=True)):
            if isinstance(reply, Exception):
                error = translate(reply, self._where)
                again = error.code == "NOSCRIPT"  # it has not run, so running it now is no repetition
                replies[i] = await self._invoke(call) if again else error
        return list(replies)

    async def _command(self, args: Sequence[Arg]) -> Any:
        return await (await self._connected()).custom_command(_texts(args))

    async def _subscribe(self, changed: Changed) -> None:
        def heard(message: Any, context: Any) -> None:
            changed(bytes(message.message))

        configuration: Any = glide.GlideClusterClientConfiguration if self.clustered else glide.GlideClientConfiguration
        modes = configuration.PubSubChannelModes
        wanted = configuration.PubSubSubscriptions({modes.Pattern: {CHANNELS}}, heard, None)
        subscriber = await self._made(pubsub_subscriptions=wanted)
        try:
            await subscriber.ping()
        except Exception as exc:
            await subscriber.close()
            error = translate(exc, self._where)
            if not isinstance(error, PermanentError):
                raise error from exc
            log.warning("the server does not let us subscribe (%s): polling instead", error)
            self._refused = True
            return
        self._subscriber = subscriber


def _texts(args: Sequence[Arg]) -> list[bytes | str]:
    return [str(arg) if isinstance(arg, int) else arg for arg in args]
