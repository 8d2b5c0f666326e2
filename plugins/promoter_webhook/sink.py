"""`WebhookEvents`: promoted jobs as CloudEvents 1.0 over HTTP."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from urllib.parse import urlsplit

import aiohttp
from standardwebhooks import Webhook

from promoter_core.spi import Clock, ConfigError, PromotedJob, SinkFailure, SystemClock, sink_options
from promoter_webhook.delivery import Answer, Delivery, Message, Post
from promoter_webhook.events import CONTENT_TYPE, body_of, cloud_event, retry_after_s, secret_bytes


class WebhookEvents:
    """An event sink that posts to `url`, at most `batch` events at a time, and retries until it succeeds.

    Requests follow Standard Webhooks: each message has an id, the same for all attempts, and is signed if there is a
    `secret` (or the environment variable named by `secret_env`). At most `buffer` events are kept here; while the
    receiver is away or slow, newer ones are dropped and counted by the core. A request can take `timeout_s` seconds.
    """

    def __init__(
        self,
        url: str = "",
        secret: str = "",
        secret_env: str = "",
        batch: str = "100",
        buffer: str = "1000",
        timeout_s: str = "15",
        *,
        clock: Clock | None = None,
        post: Post | None = None,
    ) -> None:
        """`post` replaces HTTP in tests. Raises ConfigError for an invalid option."""
        if not _is_http(url):
            raise ConfigError("webhook: url must be http://… or https://…, as webhook:url=https://example.com/hook")
        if secret and secret_env:
            raise ConfigError("webhook: give either secret or secret_env, not both")
        if secret_env and not os.environ.get(secret_env):
            raise ConfigError(f"webhook: the environment variable {secret_env} that secret_env names is not set")
        try:
            key = secret_bytes(os.environ[secret_env] if secret_env else secret)
        except ValueError:
            raise ConfigError("webhook: the secret starts with whsec_ and is not base64 after that") from None
        self._webhook = Webhook(key) if key else None
        self._clock = clock or SystemClock()
        self._url = url
        self._timeout = aiohttp.ClientTimeout(total=sink_options.number("webhook", "timeout_s", timeout_s, 1, 100_000))
        self._session: aiohttp.ClientSession | None = None
        self._delivery = Delivery(
            post or self._post,
            self._clock,
            batch=int(sink_options.number("webhook", "batch", batch, 1, 100_000)),
            buffer=int(sink_options.number("webhook", "buffer", buffer, 1, 100_000)),
        )

    @property
    def refused(self) -> int:
        """The number of events that the receiver refused permanently."""
        return self._delivery.refused

    def __len__(self) -> int:
        """The number of events kept here until they can be posted."""
        return len(self._delivery)

    def report_to(self, report: Callable[[SinkFailure], None]) -> None:
        self._delivery.report = report

    async def emit(self, queue: str, jobs: tuple[PromotedJob, ...]) -> None:
        await self._delivery.add([cloud_event(queue, job) for job in jobs])

    async def close(self) -> None:
        try:
            await self._delivery.close()
        finally:
            session, self._session = self._session, None
            if session is not None:
                await session.close()

    async def _post(self, message: Message) -> Answer:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=self._timeout)
        body = body_of(message.events)
        sent = datetime.fromtimestamp(self._clock.time_ms() // 1000, UTC)
        headers = {
            "content-type": CONTENT_TYPE,
            "webhook-id": message.id,
            "webhook-timestamp": str(int(sent.timestamp())),
        }
        if self._webhook is not None:
            headers["webhook-signature"] = self._webhook.sign(message.id, sent, body.decode())
        try:
            async with self._session.post(self._url, data=body, headers=headers, allow_redirects=False) as answer:
                return Answer(answer.status, retry_after_s(answer.headers, self._clock.time_ms()))
        except aiohttp.ClientResponseError as exc:  # the exception contains the URL, which may include a secret
            words = " ".join(exc.message.split())[:200]
            raise ConnectionError(f"{type(exc).__name__}: {words}") from None


def _is_http(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:  # the exception may quote a password
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)
