"""`PubSubEvents`: publishes promoted jobs on a channel. Only current subscribers receive them."""

from __future__ import annotations

import json
from typing import Any

from redis.asyncio import Redis

from promoter_core.spi import ConfigError, PromotedJob, parse_url, to_bytes

TIMEOUT_S = 5.0


class PubSubEvents:
    """An event sink that publishes JSON, `{"event": "waiting", "queue": …, "id": …, …}`, one message per job.

    `url` is that of a Redis or Valkey server. In `channel`, `{queue}` stands for the queue's name.
    """

    def __init__(self, url: str = "", channel: str = "promoter:{queue}", *, client: Any = None) -> None:
        """Raises ConfigError for an invalid URL, or a channel with another placeholder."""
        try:
            self._channel = channel
            self._name("queue")
        except (KeyError, ValueError, IndexError):
            raise ConfigError(f"pubsub: in channel {channel!r} only {{queue}} is a placeholder") from None
        if not channel:
            raise ConfigError("pubsub: the channel is empty")
        scheme, _, rest = url.partition("://")
        schemes = {"valkey": "redis", "valkeys": "rediss", "redis": "redis", "rediss": "rediss", "unix": "unix"}
        if client is None and (scheme not in schemes or not rest):
            raise ConfigError("pubsub: url must be that of a server, as pubsub:url=redis://localhost:6379")
        if client is None:
            parse_url(url)
        self._url = f"{schemes[scheme]}://{rest}" if client is None else ""
        try:
            self._client: Any = client or self._connect()
        except ValueError:  # the exception may quote the password
            raise ConfigError("pubsub: the url cannot be read: expected that of a server, percent-encoded") from None

    def _connect(self) -> Any:
        """Return a client that is not connected yet. Raises ValueError."""
        return Redis.from_url(self._url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S)

    async def emit(self, queue: str, jobs: tuple[PromotedJob, ...]) -> None:
        if self._client is None:
            self._client = self._connect()
        channel = to_bytes(self._name(queue))
        pipeline = self._client.pipeline(transaction=False)
        for job in jobs:
            pipeline.execute_command("PUBLISH", channel, _message(queue, job))
        await pipeline.execute()

    async def close(self) -> None:
        client, self._client = self._client, None if self._url else self._client  # bound to the event loop
        if client is not None:
            await client.aclose()

    def _name(self, queue: str) -> str:
        return self._channel.format_map({"queue": queue})


def _message(queue: str, job: PromotedJob) -> bytes:
    message: dict[str, Any] = {
        "event": "waiting",
        "queue": queue,
        "id": job.id,
        "name": job.name,
        "due_ms": job.due_ms,
        "promoted_ms": job.promoted_ms,
        "stream_id": job.stream_id,
    }
    if job.traceparent:
        message["traceparent"] = job.traceparent
        if job.tracestate:
            message["tracestate"] = job.tracestate
    return json.dumps(message).encode()
