"""`WebhookEvents`: promoted jobs as CloudEvents 1.0 over HTTP."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from promoter_core import options
from promoter_core.clock import SystemClock
from promoter_core.contracts import Clock
from promoter_core.errors import ConfigError
from promoter_core.model import PromotedJob
from promoter_webhook.delivery import Delivery, Post
from promoter_webhook.events import CONTENT_TYPE, body_of, cloud_event, secret_bytes, signature


class WebhookEvents:
    """An event sink that posts to `url`, at most `batch` events at a time, and again until it has worked.

    With a `secret` (or the environment variable that `secret_env` names) each request is signed as Standard Webhooks
    says. At most `buffer` events are kept here; while the receiver is away or slow, newer ones are dropped and counted
    by the core. A request may take `timeout_s` seconds.
    """

    def __init__(
        self,
        url: str = "",
        secret: str = "",
        secret_env: str = "",
        batch: str = "100",
        buffer: str = "1000",
        timeout_s: str = "10",
        *,
        clock: Clock | None = None,
        post: Post | None = None,
    ) -> None:
        """`post` sends in place of HTTP, in tests. Raises ConfigError for an option that cannot work."""
        if not _is_http(url):
            raise ConfigError("webhook: url must be http://… or https://…, as webhook:url=https://example.com/hook")
        if secret and secret_env:
            raise ConfigError("webhook: give either secret or secret_env, not both")
        if secret_env and not os.environ.get(secret_env):
            raise ConfigError(f"webhook: the environment variable {secret_env} that secret_env names is not set")
        try:
            self._secret = secret_bytes(os.environ[secret_env] if secret_env else secret)
        except ValueError:
            raise ConfigError("webhook: the secret starts with whsec_ and is not base64 after that") from None
        self._url = url
        self._timeout = aiohttp.ClientTimeout(total=options.number("webhook", "timeout_s", timeout_s, 1, 100_000))
        self._session: aiohttp.ClientSession | None = None
        self._delivery = Delivery(
            post or self._post,
            clock or SystemClock(),
            batch=int(options.number("webhook", "batch", batch, 1, 100_000)),
            buffer=int(options.number("webhook", "buffer", buffer, 1, 100_000)),
        )

    @property
    def refused(self) -> int:
        """Events that the receiver answered with a status that says: never."""
        return self._delivery.refused

    def __len__(self) -> int:
        """Events that are kept here until they can be posted."""
        return len(self._delivery)

    async def emit(self, queue: str, jobs: tuple[PromotedJob, ...]) -> None:
        await self._delivery.add([cloud_event(queue, job) for job in jobs])

    async def close(self) -> None:
        try:
            await self._delivery.close()
        finally:
            if self._session is not None:
                await self._session.close()
                self._session = None

    async def _post(self, events: Sequence[Any]) -> int:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=self._timeout)
        body = body_of(events)
        headers = {"content-type": CONTENT_TYPE}
        if self._secret:
            id, now = f"msg_{uuid.uuid4().hex}", int(time.time())
            headers |= {"webhook-id": id, "webhook-timestamp": str(now)}
            headers["webhook-signature"] = signature(self._secret, id, now, body)
        async with self._session.post(self._url, data=body, headers=headers, allow_redirects=False) as answer:
            return answer.status


def _is_http(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:  # its text may quote a password
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)
