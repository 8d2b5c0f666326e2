"""The keys of a queue. All share one hash tag, so that they live in one cluster slot."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True, slots=True)
class QueueKeys:
    """Source: docs/reference/wire-format.md."""

    prefix: bytes
    delayed: bytes  # sorted set: member by due time
    stream: bytes
    lock: bytes
    events: bytes
    dlq: bytes
    index: bytes  # prefix of the keys that hold an id's exact member
    marker: bytes  # prefix of the dedup markers
    wake: bytes  # channel on which scripts announce a new head or a released lock, by the key's name


@lru_cache(maxsize=4096)
def keys_of(queue: str) -> QueueKeys:
    p = b"{chasqui:" + queue.encode() + b"}:"
    return QueueKeys(
        prefix=p,
        delayed=p + b"delayed",
        stream=p + b"stream",
        lock=p + b"promoter:lock",
        events=p + b"events",
        dlq=p + b"dlq",
        index=p + b"didx:",
        marker=p + b"dlid:",
        wake=p + b"promoter:wake",
    )
