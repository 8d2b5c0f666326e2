"""The keys of a queue. All share one hash tag, so that they live in one cluster slot."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from promoter_core.signals import What

START, END = b"{chasqui:", b"}:"  # around the queue's name
DELAYED, LOCK, MEMBERS = b"delayed", b"promoter:lock", b"members"
WAKES = {DELAYED: What.SET, LOCK: What.LOCK, MEMBERS: What.MEMBERS}  # what a write to such a key changes
CHANNELS = "{chasqui:*"  # of every queue; also the pattern that an ACL has to allow, word for word
PROBES = START + b"promoter-probe-"  # channels on which a client tries, with empty messages, whether it still hears


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
    trace: bytes  # prefix of the producers' trace contexts
    wake: bytes  # channel on which scripts announce a new head or a released lock, by the key's name


@lru_cache(maxsize=16_384)
def keys_of(queue: str) -> QueueKeys:
    p = START + queue.encode() + END
    return QueueKeys(
        prefix=p,
        delayed=p + DELAYED,
        stream=p + b"stream",
        lock=p + LOCK,
        events=p + b"events",
        dlq=p + b"dlq",
        index=p + b"didx:",
        marker=p + b"dlid:",
        trace=p + b"trace:",
        wake=p + b"promoter:wake",
    )


def group_keys(group: str) -> tuple[bytes, bytes]:
    """The sorted set of a group's members, by when they cease to be, and the channel on which changes are announced."""
    p = START + b"promoter-fleet-" + group.encode() + END
    return p + MEMBERS, p + b"promoter:wake"


def queue_of(key: bytes) -> tuple[str, bytes] | None:
    """The queue that a key belongs to, and what follows its prefix. None for a key of something else."""
    if not key.startswith(START):
        return None
    name, end, rest = key[len(START) :].partition(END)
    return (name.decode("utf-8", "replace"), rest) if end else None
