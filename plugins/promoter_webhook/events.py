"""A promoted job as a CloudEvent 1.0, a batch of them as JSON, and its signature.

Sources: https://github.com/cloudevents/spec (JSON batch format), https://www.standardwebhooks.com (signatures).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from promoter_core.model import PromotedJob

CONTENT_TYPE = "application/cloudevents-batch+json"
TYPE = "promoter.job.waiting"


def cloud_event(queue: str, job: PromotedJob) -> dict[str, Any]:
    """`id` is unique for a queue's `source`, and the same when the event is sent again."""
    event: dict[str, Any] = {
        "specversion": "1.0",
        "id": job.stream_id,
        "source": f"/promoter/queues/{quote(_text(queue), safe='')}",
        "type": TYPE,
        "time": datetime.fromtimestamp(job.promoted_ms / 1000, UTC).isoformat(timespec="milliseconds"),
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
    return event


def body_of(events: Sequence[dict[str, Any]]) -> bytes:
    return json.dumps(events, ensure_ascii=False, separators=(",", ":")).encode()


def signature(secret: bytes, id: str, timestamp: int, body: bytes) -> str:
    """The header `webhook-signature`: HMAC-SHA256 of id, timestamp and body."""
    digest = hmac.new(secret, f"{id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


def secret_bytes(secret: str) -> bytes:
    """A secret as the specification writes it, `whsec_` and base64, or any other text as it is."""
    if secret.startswith("whsec_"):
        return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    return secret.encode()


def _text(text: str) -> str:
    """JSON is Unicode: bytes that are not UTF-8 are shown as \\x.. ."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
