"""`GlideDriver`: `promoter_resp.driver.Driver` on Valkey GLIDE's asyncio client, for one server or a cluster.

GLIDE does not expose the pushes of client tracking, so changes are announced: scripts PUBLISH when they create a new
head or release a lock, and the leader's subscribing client receives it. Writes that are not announced (a plain ZADD)
are found by polling.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Coroutine, Iterator, Sequence
from functools import partial
from typing import Any

import glide

from promoter_core.spi import (
    CHASQUIMQ,
    BackendError,
    Credentials,
    Layout,
    Lifecycle,
    QueueKeys,
    Wake,
    closed_error,
    run_call,
)
from promoter_glide.clients import CLUSTER_YOUNG_S, YOUNG_S, Clients
from promoter_glide.errors import translate
from promoter_glide.subscriber import Heard, Subscriber
from promoter_resp.driver import SCANNED, Arg, Call, Changed, Timed, between_ms
from promoter_resp.errors import server_error

GRACE_S = 1.0  # GLIDE has its own time-outs; this covers requests that it loses
# GLIDE repeats a refused subscription without a pause, tens of thousands of times a second, so we ask before it tries.
MAY_SUBSCRIBE = """
if redis.acl_check_cmd and not redis.acl_check_cmd('PSUBSCRIBE', ARGV[1]) then return 0 end
return 1
"""


class GlideDriver:
    """One server or cluster, through GLIDE's multiplexed connection and a second client that subscribes."""

    durable = True
    shared = True
    clustered: bool

    def __init__(
        self,
        settings: dict[str, Any],
        *,
        cluster: bool,
        where: str,
        timeout_ms: int,
        login: Credentials | None = None,
        layout: Layout | None = None,
    ) -> None:
        self._settings = settings
        self._login = login
        self._layout = layout or CHASQUIMQ
        self.clustered = cluster
        self._where = where
        self._timeout_s = timeout_ms / 1000 + GRACE_S
        self._clients = Clients(self._made, self._dropped, young_s=CLUSTER_YOUNG_S if cluster else YOUNG_S)
        self._subscriber: Subscriber | None = None
        self._translate = partial(translate, where=where)
        self._life = Lifecycle()

    @property
    def wake(self) -> Wake:
        """ANNOUNCED before the first `track_writes`; then whether announcements are received."""
        return Wake.ANNOUNCED if self._subscriber is None or self._subscriber.hears else Wake.POLL

    async def open(self) -> None:
        await self._life.open(lambda: self._guard(self._ping()))

    async def close(self) -> None:
        await self._life.close(self._stop)

    async def _stop(self) -> None:
        subscriber, self._subscriber = self._subscriber, None
        if subscriber is not None:
            await subscriber.stop()
        await self._clients.close()

    async def run_tracked(self, calls: Sequence[Call]) -> list[Any]:
        if len(calls) == 1 and not calls[0].timed:
            return [await self._guard(self._invoke(calls[0]))]
        used = self._clients.current
        replies: list[Any] = await self._guard(self._batch(calls))
        for error in {e.code: e for e in replies if isinstance(e, BackendError)}.values():
            self._clients.failed(error, used)
        return replies

    async def run_scripts(self, calls: Sequence[Call], after: Sequence[Arg] = ()) -> list[Any]:
        replies = await self._guard(self._run(calls, after)) if after else await self.run_tracked(calls)
        if error := next((reply for reply in replies if isinstance(reply, BackendError)), None):
            raise error
        return replies

    async def _run(self, calls: Sequence[Call], after: Sequence[Arg]) -> list[Any]:
        """Run all calls in one batch, and so on one connection: GLIDE can reconnect between two commands.

        `after` may block, so it is sent once: the batch itself loads the scripts, so none can be missing.
        """
        return await self._send(calls, after, load={call.script.source for call in calls})

    async def command(self, key: bytes, *args: Arg) -> Any:
        return await self._guard(self._command(args))

    async def track_writes(self, keys: QueueKeys, changed: Changed) -> None:
        await self._listen(changed)

    async def _listen(self, changed: Changed) -> None:
        if self._life.is_closed:
            raise closed_error()
        if self._subscriber is None:
            self._subscriber = Subscriber(
                self._subscribed,
                self._publish,
                self._clients.close_soon,
                changed,
                where=self._where,
                layout=self._layout,
            )
        await self._subscriber.start()

    async def subscribe(self, changed: Changed) -> None:
        await self._listen(changed)

    async def scan(self, match: bytes) -> AsyncIterator[Sequence[bytes]]:
        client: Any = await self._connected()
        cursor: Any = glide.ClusterScanCursor() if self.clustered else b"0"  # type: ignore[no-untyped-call]
        while True:
            cursor, page = await self._guard(client.scan(cursor, match=match, count=SCANNED))
            yield page
            if cursor.is_finished() if self.clustered else cursor == b"0":
                return

    async def _guard(self, call: Coroutine[Any, Any, Any]) -> Any:
        """Limit `call` in time, and translate GLIDE's exceptions."""
        used = self._clients.current
        try:
            reply = await run_call(call, self._translate, self._life, timeout_s=self._timeout_s)
        except BackendError as error:
            self._clients.failed(error, used, error.__cause__)
            raise
        self._clients.worked(used)
        return reply

    async def _made(self, **more: Any) -> Any:
        """Return a new client, which connects with its first command: `create` would block the event loop."""
        kinds = (glide.GlideClusterClient, glide.GlideClusterClientConfiguration)
        client, configuration = kinds if self.clustered else (glide.GlideClient, glide.GlideClientConfiguration)
        if self._login is not None:  # GLIDE keeps a password as long as the client lives
            user, password = await self._login()
            more["credentials"] = glide.ServerCredentials(password, user)
        return await client.create(configuration(**(self._settings | more), lazy_connect=True))

    async def _connected(self) -> Any:
        return await self._clients.get()

    def _dropped(self) -> None:
        if self._subscriber is not None:
            self._subscriber.renew()

    async def _ping(self) -> None:
        try:
            await (await self._connected()).ping()
        except Exception:
            await self._try_database()
            raise

    async def _try_database(self) -> None:
        """Ask the server about a missing database, which GLIDE reports as a timeout."""
        if (database := self._settings.get("database_id")) is not None:
            client = await self._made(database_id=None)
            try:
                await client.custom_command(["SELECT", str(database)])
            finally:
                await client.close()

    async def _invoke(self, call: Call) -> Any:
        """Run a script as a command: GLIDE's `invoke_script` reads arguments that a cancelled call has freed."""
        try:
            return await self._command(_script("EVALSHA", call.script.sha, call))
        except glide.RequestError as exc:
            if translate(exc, self._where).code != "NOSCRIPT":
                raise
        return await self._command(_script("EVAL", call.script.source, call))  # this also loads the script

    async def _batch(self, calls: Sequence[Call]) -> list[Any]:
        """Run several calls in one round trip, in order. The reply to a failed one is its error."""
        replies = await self._send(calls, ())
        for i, (call, reply) in enumerate(zip(calls, replies, strict=True)):
            if isinstance(reply, BackendError) and reply.code == "NOSCRIPT":
                replies[i] = await self._invoke(call)  # the script has not run, so this is not a retry
        return replies

    async def _send(self, calls: Sequence[Call], after: Sequence[Arg], load: Collection[str] = ()) -> list[Any]:
        batch: Any = glide.ClusterBatch(is_atomic=False) if self.clustered else glide.Batch(is_atomic=False)
        for source in load:
            batch.custom_command(["SCRIPT", "LOAD", source])
        for call in calls:
            evalsha = _texts(_script("EVALSHA", call.script.sha, call))
            for command in (self._time(call), evalsha, self._time(call)) if call.timed else (evalsha,):
                batch.custom_command(command)
        if after:
            batch.custom_command(_texts(after))
        answers = iter((await (await self._connected()).exec(batch, raise_on_error=False))[len(load) :])
        replies = [*(_reply_to(call, answers) for call in calls), *answers]
        return [translate(reply, self._where) if isinstance(reply, Exception) else reply for reply in replies]

    def _time(self, call: Call) -> list[bytes | str]:
        """Return the clock of the server that the call goes to: a cluster sends a command without a key to any node."""
        return ["EVAL", "return redis.call('TIME')", "1", call.keys[0]] if self.clustered else ["TIME"]

    async def _command(self, args: Sequence[Arg]) -> Any:
        return await (await self._connected()).custom_command(_texts(args))

    async def _publish(self, channel: bytes) -> None:
        await self._guard(self._command((b"PUBLISH", channel, b"")))

    async def _subscribed(self, heard: Heard) -> Any:
        if not await self._guard(self._command(("EVAL", MAY_SUBSCRIBE, 0, self._layout.channels))):
            raise server_error(
                "User has no permissions to run the 'psubscribe' command or to access its channels", "NOPERM"
            )

        def hear(message: Any, context: Any) -> None:
            heard(bytes(message.channel), bytes(message.message))

        configuration: Any = glide.GlideClusterClientConfiguration if self.clustered else glide.GlideClientConfiguration
        modes = configuration.PubSubChannelModes
        wanted = configuration.PubSubSubscriptions({modes.Pattern: {self._layout.channels}}, hear, None)
        return await self._made(pubsub_subscriptions=wanted)


def _reply_to(call: Call, answers: Iterator[Any]) -> Any:
    if not call.timed:
        return next(answers)
    before, reply, after = next(answers), next(answers), next(answers)
    return reply if isinstance(reply, Exception) else Timed(reply, between_ms(before, after))


def _script(command: str, script: str, call: Call) -> list[Arg]:
    return [command, script, len(call.keys), *call.keys, *call.args]


def _texts(args: Sequence[Arg]) -> list[bytes | str]:
    return [str(arg) if isinstance(arg, int) else arg for arg in args]
