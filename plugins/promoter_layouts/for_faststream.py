"""`DelayedPublisher`, a FastStream publisher with a delay, and `message`, which returns what it would publish."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from datetime import datetime
from typing import Any, Generic, TypeVar

from faststream.redis import RedisBroker, RedisClusterBroker

from promoter_core.spi import ConfigError, JobError, ToStream
from promoter_layouts.delivering import Delay, Schedules, check_target
from promoter_layouts.outward import faststream, faststream_list

Answer = TypeVar("Answer")


class DelayedPublisher(Generic[Answer]):
    """Publishes later what `broker.publish` would publish now, to the stream or list of a queue.

    The broker and its middlewares encode the body and create the headers at the time of the call.
    """

    def __init__(
        self,
        broker: RedisBroker,
        queue: Schedules[Awaitable[Answer]],
        *,
        headers: Mapping[str, Any] | None = None,
        reply_to: str = "",
    ) -> None:
        """`headers` and `reply_to` apply to every message, as in a publisher of FastStream.

        Raises ConfigError when `queue` does not deliver to a subscriber of FastStream.
        """
        _check_broker(broker)
        check_target(queue, [faststream(), faststream_list()], "a FastStream subscriber", None)
        self._broker, self._queue = broker, queue
        assert queue.layout is not None
        kind = "stream" if isinstance(queue.layout.move, ToStream) else "list"
        self._where = {kind: queue.layout.keys_of(queue.name).stream.decode()}
        self._headers, self._reply_to = dict(headers or {}), reply_to

    async def publish(
        self,
        body: Any = None,
        *,
        delay: Delay | None = None,
        at: datetime | None = None,
        job_id: str | None = None,
        headers: Mapping[str, Any] | None = None,
        correlation_id: str | None = None,
        reply_to: str = "",
    ) -> Answer:
        """Schedule a message: `delay` in seconds or as a timedelta, `at` a datetime with a time zone, or due now.

        A `job_id` lets the message be cancelled, and prevents a second one with this id.
        """
        made = self._headers | dict(headers or {})
        reply_to = reply_to or self._reply_to
        sent = await _message(self._broker, body, self._where, made, correlation_id, reply_to)
        return await self._queue.schedule(sent, delay=delay, at=at, job_id=job_id)


async def message(
    broker: RedisBroker,
    body: Any = None,
    *,
    headers: Mapping[str, Any] | None = None,
    correlation_id: str | None = None,
    reply_to: str = "",
) -> bytes:
    """Return the message that `broker.publish(body, …)` puts into a stream or a list, made by it and its middlewares.

    Raises ConfigError for a RedisClusterBroker, which always sends its messages, and JobError for a body that cannot be
    encoded: models and dataclasses need a connected broker.
    """
    _check_broker(broker)
    return await _message(broker, body, {"list": "delayed"}, headers, correlation_id, reply_to)


class _Outbox:
    """Replaces a pipeline, and keeps what is put into it."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    async def rpush(self, name: str, *values: bytes) -> int:
        self.sent += values
        return len(self.sent)

    async def xadd(self, name: str, fields: Mapping[str, bytes], **_: Any) -> bytes:
        self.sent += fields.values()
        return b"0-1"


async def _message(
    broker: RedisBroker,
    body: Any,
    where: Mapping[str, str],
    headers: Mapping[str, Any] | None,
    correlation_id: str | None,
    reply_to: str,
) -> bytes:
    outbox = _Outbox()
    publish: Any = broker.publish
    options: dict[str, Any] = {"headers": dict(headers or {}), "correlation_id": correlation_id, "reply_to": reply_to}
    try:
        await publish(body, pipeline=outbox, **where, **options)
    except TypeError as exc:
        how = "models and dataclasses need a broker that is connected: await broker.connect()"
        raise JobError(f"FastStream cannot encode the body: {exc}; {how}") from exc
    if len(outbox.sent) != 1:
        raise ConfigError("a middleware of the broker has not passed the message on: it cannot be scheduled")
    sent: bytes = outbox.sent[0]
    return sent


def _check_broker(broker: Any) -> None:
    if isinstance(broker, RedisClusterBroker) or not isinstance(broker, RedisBroker):
        raise ConfigError(
            f"messages are made by a RedisBroker, and not by a {type(broker).__name__}: in a cluster, give "
            "RedisBroker() with the same middlewares, which needs no connection"
        )
