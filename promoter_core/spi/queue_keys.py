"""`QueueKeys`: the keys of one queue. Most of them have the same suffixes in every layout."""

from __future__ import annotations

from dataclasses import dataclass

STREAM = b"stream"
WAKE = b"promoter:wake"


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueKeys:
    """The encoded keys of one queue."""

    prefix: bytes
    delayed: bytes  # sorted set: member by due time
    stream: bytes  # the target of due jobs: a stream, or a list with some layouts
    lock: bytes
    events: bytes
    dlq: bytes
    index: bytes  # prefix of the cancel indexes, which hold an id's exact member
    marker: bytes  # prefix of the dedup markers
    trace: bytes  # prefix of the producers' trace contexts
    keep: bytes  # prefix of the keep keys: how long an id stays taken after the promotion
    wake: bytes  # channel on which scripts publish the key of a new head or a released lock


def under(prefix: bytes, *, delayed: bytes, stream: bytes, lock: bytes) -> QueueKeys:
    """Return the keys of a queue: three that the layout gives, and the others, which start with `prefix`."""
    return QueueKeys(
        prefix=prefix,
        delayed=delayed,
        stream=stream,
        lock=lock,
        events=prefix + b"events",
        dlq=prefix + b"dlq",
        index=prefix + b"didx:",
        marker=prefix + b"dlid:",
        trace=prefix + b"trace:",
        keep=prefix + b"keep:",
        wake=prefix + WAKE,
    )
