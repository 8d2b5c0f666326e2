"""The keys of a queue. All share one hash tag, so that they live in one cluster slot."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import takewhile

from promoter_core.signals import What

SCRATCH = "promoter-doctor-"  # begins the names of queues on which a doctor tries everything: no pattern finds them
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
    return (name.decode("utf-8", "surrogateescape"), rest) if end else None


def heads_glob(patterns: Sequence[str]) -> bytes:
    """For SCAN: the sorted sets and the locks of all queues that can match one of the patterns, and little else.

    The server's globs differ from `fnmatch`'s, so it is given what the patterns begin with and nothing more of them.
    """
    starts = [re.split(r"[*?[]", pattern, maxsplit=1)[0] for pattern in patterns] or [""]
    both = takewhile(lambda pair: pair[0] == pair[1], zip(min(starts), max(starts), strict=False))
    start = "".join(c for c, _ in both)
    return START + start.encode().replace(b"\\", b"\\\\") + b"*" + END + b"[dp][er]*[dk]"


def head_of(key: bytes) -> str | None:
    """The queue whose sorted set or lock this is. None for any other key."""
    found = queue_of(key)
    return found[0] if found is not None and found[1] in (DELAYED, LOCK) else None
