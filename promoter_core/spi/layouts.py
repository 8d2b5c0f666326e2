"""`Layout`: under which keys, and in which form, a Redis-protocol store keeps a queue. `CHASQUIMQ` is the one there is.

All keys of a queue share one hash tag, so that they live in one cluster slot. Source: docs/reference/wire-format.md.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import takewhile

from promoter_core.spi.model import ChangeKind
from promoter_core.spi.wire import to_bytes, to_text


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueKeys:
    """The keys of one queue, ready to send."""

    prefix: bytes
    delayed: bytes  # sorted set: member by due time
    stream: bytes
    lock: bytes
    events: bytes
    dlq: bytes
    index: bytes  # prefix of the keys that hold an id's exact member
    marker: bytes  # prefix of the dedup markers
    trace: bytes  # prefix of the producers' trace contexts
    keep: bytes  # prefix of the keys that say how long an id stays taken after the promotion
    wake: bytes  # channel on which scripts announce a new head or a released lock, by the key's name


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Key names, member format and entry fields."""

    name: str
    start: bytes  # before the queue's name in a key
    end: bytes  # after it
    delayed: bytes  # what follows the prefix in the key of the sorted set …
    lock: bytes  # … of the lock …
    members: bytes  # … and of a group's members
    envelope_field: str  # of a stream entry
    name_field: str  # of a stream entry; absent when the job has no name

    def keys_of(self, queue: str) -> QueueKeys:
        """All keys of `queue`; remembered for the queues asked for last."""
        return _keys(self, queue)

    def group_keys(self, group: str) -> tuple[bytes, bytes]:
        """The sorted set of a group's members by expiry, and the channel on which changes of it are announced."""
        p = self.start + b"promoter-fleet-" + group.encode() + self.end
        return p + self.members, p + b"promoter:wake"

    @property
    def channels(self) -> str:
        """The pattern of every queue's wake channel; an ACL has to allow it word for word."""
        return f"{self.start.decode()}*"

    @property
    def probes(self) -> bytes:
        """The prefix of the channels on which a client checks, with empty messages, whether it still hears."""
        return self.start + b"promoter-probe-"

    def queue_of(self, key: bytes) -> tuple[str, bytes] | None:
        """The queue that a key belongs to, and what follows its prefix. None for a key of something else."""
        if not key.startswith(self.start):
            return None
        name, end, rest = key[len(self.start) :].partition(self.end)
        return (to_text(name), rest) if end else None

    def change_of(self, key: bytes) -> tuple[ChangeKind, str] | None:
        """The change that a write to `key` makes, with its queue or group. None for a key that nobody waits for."""
        if (found := self.queue_of(key)) is None:
            return None
        queue, rest = found
        kinds = {self.delayed: ChangeKind.JOBS, self.lock: ChangeKind.LOCK, self.members: ChangeKind.MEMBERS}
        return (kinds[rest], queue) if rest in kinds else None

    def head_of(self, key: bytes) -> str | None:
        """The queue whose sorted set or lock this is. None for any other key."""
        found = self.queue_of(key)
        return found[0] if found is not None and found[1] in (self.delayed, self.lock) else None

    def heads_glob(self, patterns: Sequence[str]) -> bytes:
        """For SCAN: the sorted sets and the locks of all queues that can match one of the patterns, and little else.

        The server's globs differ from `fnmatch`'s, so it gets what the patterns begin with and no more of them.
        """
        starts = [re.split(r"[*?[]", pattern, maxsplit=1)[0] for pattern in patterns] or [""]
        both = takewhile(lambda pair: pair[0] == pair[1], zip(min(starts), max(starts), strict=False))
        start = "".join(c for c, _ in both)
        return self.start + start.encode().replace(b"\\", b"\\\\") + b"*" + self.end + b"[dp][er]*[dk]"

    def encode_member(self, name: str, envelope: bytes) -> bytes:
        """The sorted set's member: a little-endian u32 with the name's length, the name, the envelope."""
        return _member_head(name) + envelope

    def decode_member(self, member: bytes) -> tuple[str, bytes]:
        """The name and the envelope. Raises ValueError when it is malformed, by the rules of the promote script."""
        if len(member) < 4:
            raise ValueError("shorter than its header")
        start = 4 + int.from_bytes(member[:4], "little")
        if start > len(member):
            raise ValueError("the name runs past the end")
        if start == len(member):
            raise ValueError("empty payload")
        return to_text(member[4:start]), member[start:]

    def entry_fields(self, envelope: bytes, name: str) -> dict[str, bytes]:
        """The fields of a job's stream entry."""
        if not name:
            return {self.envelope_field: envelope}
        return {self.envelope_field: envelope, self.name_field: to_bytes(name)}


@lru_cache(maxsize=1_024)
def _member_head(name: str) -> bytes:
    encoded = to_bytes(name)
    return len(encoded).to_bytes(4, "little") + encoded


@lru_cache(maxsize=16_384)
def _keys(layout: Layout, queue: str) -> QueueKeys:
    p = layout.start + queue.encode() + layout.end
    return QueueKeys(
        prefix=p,
        delayed=p + layout.delayed,
        stream=p + b"stream",
        lock=p + layout.lock,
        events=p + b"events",
        dlq=p + b"dlq",
        index=p + b"didx:",
        marker=p + b"dlid:",
        trace=p + b"trace:",
        keep=p + b"keep:",
        wake=p + b"promoter:wake",
    )


# The layout of ChasquiMQ 1.x, which its consumers read.
CHASQUIMQ = Layout(
    name="chasquimq",
    start=b"{chasqui:",
    end=b"}:",
    delayed=b"delayed",
    lock=b"promoter:lock",
    members=b"members",
    envelope_field="d",
    name_field="n",
)
