"""A promoted job as a CloudEvent 1.0, a batch of them as JSON, the secret, and the header `Retry-After`.

Sources: https://github.com/cloudevents/spec (JSON batch format), https://www.standardwebhooks.com (secrets), RFC 9110.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any
from urllib.parse import quote

from promoter_core.spi import PromotedJob, to_bytes

CONTENT_TYPE = "application/cloudevents-batch+json"
TYPE = "promoter.job.waiting"


def cloud_event(queue: str, job: PromotedJob) -> dict[str, Any]:
    """Return the event of a job. Its `id` is unique for a queue's `source`, and the same when it is sent again."""
    event: dict[str, Any] = {
        "specversion": "1.0",
        "id": job.stream_id,
        "source": _source(queue),
        "type": TYPE,
        "time": _time(job.promoted_ms),
        "datacontenttype": "application/json",
        "data": {
            "queue": _text(queue),
            "id": None if job.id is None else _text(job.id),
            "name": _text(job.name),
            "due_ms": job.due_ms,
            "promoted_ms": job.promoted_ms,
            "stream_id": job.stream_id,
        },
    }
    if job.id:
        event["subject"] = _text(job.id)
    if job.traceparent:  # the extension "distributed tracing"
        event["traceparent"] = _text(job.traceparent)
        if job.tracestate:
            event["tracestate"] = _text(job.tracestate)
    return event


@lru_cache(maxsize=1_024)
def _source(queue: str) -> str:
    return f"/promoter/queues/{quote(_text(queue), safe='')}"


@lru_cache(maxsize=64)
def _time(ms: int) -> str:
    """Format a time, cached: jobs of one tick share it."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")


def body_of(events: Sequence[dict[str, Any]]) -> bytes:
    return json.dumps(events, ensure_ascii=False, separators=(",", ":")).encode()


def secret_bytes(secret: str) -> bytes:
    """Return the key of a secret in the form of the specification, `whsec_` and base64, or of any other text as it is.

    Raises ValueError when no base64 follows `whsec_`.
    """
    if not secret.startswith("whsec_"):
        return secret.encode()
    text = secret.removeprefix("whsec_")
    key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    if not key:
        raise ValueError("empty")
    return key


def retry_after_s(headers: Mapping[str, str], now_ms: int) -> float | None:
    """Return how many seconds the header `Retry-After` asks to wait: a number of seconds, or an HTTP date.

    A date is compared with that of the answer if it has one, because clocks differ. None without a valid header.
    """
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return float(value[:10])
    until = _http_date(value)
    if until is None:
        return None
    now = _http_date(headers.get("date", "")) or datetime.fromtimestamp(now_ms / 1000, UTC)
    return max((until - now).total_seconds(), 0.0)


def _http_date(value: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)


def _text(text: str) -> str:
    r"""Escape text for JSON, which is Unicode: bytes that are not UTF-8 become \x..."""
    return text if text.isascii() else to_bytes(text).decode("utf-8", "backslashreplace")
