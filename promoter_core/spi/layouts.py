"""`Layout`: the keys and formats of a queue in a Redis-protocol store, and where due jobs go.

`CHASQUIMQ` is the default. Other layouts deliver to the consumers of another framework: a plugin registers them with
`promoter_register_layouts`, and `connect(url, layout="name:key=value,…")` selects one.

All keys of a queue share one hash tag, so that they live in one cluster slot. Source: docs/reference/wire-format.md.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from itertools import takewhile

from promoter_core.spi.errors import ConfigError
from promoter_core.spi.model import ChangeKind
from promoter_core.spi.queue_keys import STREAM, WAKE, QueueKeys, under
from promoter_core.spi.wire import to_bytes, to_text

QUEUE = "{queue}"  # placeholder for the queue's name in `Layout.target`
REHEARSAL = "promoter-doctor-"  # prefix of the queues on which a diagnosis tries all commands

# The minimum permissions of a server's user, for any layout.
COMMANDS = (
    *(
        "ping",
        "select",
        "evalsha",
        "eval",
        "script|load",
        "time",
        "get",
        "getdel",
        "getex",
        "set",
        "del",
        "exists",
        "pexpire",
    ),
    *("pttl", "publish", "subscribe", "xinfo|groups", "xpending", "wait", "zadd", "zrem", "zcard", "zcount", "zscore"),
    *("zrank", "zrange", "zrangebyscore", "zremrangebyrank", "xadd", "xlen", "xrange", "xtrim"),
    *("client|id", "client|tracking", "client|setinfo", "client|setname", "info"),
)


class Part(StrEnum):
    """A part of a job that a field of a stream entry can hold."""

    ENVELOPE = "envelope"  # the whole msgpack envelope
    PAYLOAD = "payload"  # the output of the producer's serializer
    ID = "id"
    NAME = "name"  # the field is absent when the job has no name
    TRACEPARENT = "traceparent"  # the producer's trace context (W3C); absent without one
    TRACESTATE = "tracestate"


OPTIONAL = frozenset({Part.NAME, Part.TRACEPARENT, Part.TRACESTATE})  # parts that a job may lack


class Side(StrEnum):
    """The end of a list to which jobs are pushed. Consumers pop from the other end."""

    LEFT = "left"
    RIGHT = "right"


@dataclass(frozen=True, slots=True)
class ToStream:
    """Turn due jobs into entries of a stream. `fields` lists the fields of an entry, in order. Raises ConfigError."""

    fields: tuple[tuple[str, Part], ...]

    def __post_init__(self) -> None:
        try:
            fields = tuple((name, Part(part)) for name, part in self.fields)
        except ValueError:
            raise ConfigError(f"a field of a stream entry holds {', '.join(Part)}, not {self.fields!r}") from None
        object.__setattr__(self, "fields", fields)
        names = [name for name, _ in fields]
        if not names or "" in names or len(set(names)) < len(names):
            raise ConfigError(f"a stream entry needs fields with different names, not {', '.join(names) or 'none'}")
        if all(part in OPTIONAL for _, part in self.fields):
            raise ConfigError("a stream entry needs a field that every job has: not only its name or trace context")

    @property
    def commands(self) -> tuple[str, ...]:
        """The server commands that run on the target."""
        return ("xadd", "xlen", "xtrim", "xinfo|groups", "xpending", "xrange")

    def command(self, envelope: bytes, name: str) -> tuple[bytes | str, ...]:
        """Return the command that adds a job, without the key. Raises ValueError when the envelope lacks a part."""
        fields: list[bytes | str] = []
        for field, part in self.fields:
            if part not in OPTIONAL or (part is Part.NAME and name):
                fields += (field, part_of(part, envelope, name))
        return ("XADD", "*", *fields)

    @property
    def traced(self) -> bool:
        """Whether an entry contains its job's trace context."""
        return any(part in (Part.TRACEPARENT, Part.TRACESTATE) for _, part in self.fields)


@dataclass(frozen=True, slots=True)
class ToList:
    """Push due jobs to a list, as their payloads, one by one in promotion order. Raises ConfigError."""

    side: Side = Side.RIGHT

    def __post_init__(self) -> None:
        if self.side not in tuple(Side):
            raise ConfigError(f"side must be left or right, not {self.side!r}")
        object.__setattr__(self, "side", Side(self.side))

    @property
    def commands(self) -> tuple[str, ...]:
        """The server commands that run on the target."""
        return ("lpush" if self.side is Side.LEFT else "rpush", "llen", "ltrim")

    def command(self, envelope: bytes, name: str) -> tuple[bytes | str, ...]:
        """Like `ToStream.command`."""
        return ("LPUSH" if self.side is Side.LEFT else "RPUSH", part_of(Part.PAYLOAD, envelope, name))


Move = ToStream | ToList


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Key names, member format, the move of due jobs, and marker lifetime. Raises ConfigError for inconsistent data."""

    name: str
    start: bytes  # before the queue's name in a key
    end: bytes  # after it
    delayed: bytes  # suffix of the key of the sorted set …
    lock: bytes  # … of the lock …
    members: bytes  # … and of a group's members
    move: Move  # how a due job is added to the target
    target: str = ""  # the key of due jobs, with QUEUE for the queue's name; "": a stream beside the other keys
    serializer: str = "msgpack"  # the default serializer of producers
    tested: tuple[str, ...] = ()  # the consumers it is tested with, such as "celery 5.7"

    def __post_init__(self) -> None:
        if not self.start or not self.end:
            raise ConfigError(f"layout {self.name!r}: a key needs something before and after the queue's name")
        if self.target and self.target.encode().startswith(self.start):
            raise ConfigError(f"layout {self.name!r}: the target {self.target!r} is among its own keys")

    @property
    def to_stream(self) -> bool:
        """Whether due jobs go to a stream rather than a list."""
        return isinstance(self.move, ToStream)

    @property
    def one_slot(self) -> bool:
        """Whether the target is in the same slot as the queue's other keys, as a cluster requires."""
        k = self.keys_of("q")
        return hash_tag(k.stream) == hash_tag(k.delayed)

    def acl(self, queue: str = "*") -> tuple[str, ...]:
        """Return the arguments of ACL SETUSER that let a user promote, and schedule for, a queue; by default all."""
        p = self.start.decode()
        name = glob(queue) if queue != "*" else queue
        keys = [f"~{p}{name}{self.end.decode()}*"] if queue != "*" else [f"~{p}*"]
        if self.target:
            keys.append("~" + name.join(map(glob, self.target.split(QUEUE))))
        if queue != "*":
            keys.append(f"~{p}{REHEARSAL}*")
        commands = dict.fromkeys((*COMMANDS, *self.move.commands))
        channels = (f"&{self.channels}", "&__redis__:invalidate")
        return (*keys, "resetchannels", *channels, "-@all", *(f"+{command}" for command in commands))

    def acl_advice(self, queue: str = "*") -> str:
        """Return advice with the rules of `acl` that a user may lack: to follow it takes no permission away."""
        words = (word for word in self.acl(queue) if word not in ("resetchannels", "-@all"))
        return f"rules of ACL SETUSER that it needs: {' '.join(words)}"

    def check_queue(self, queue: str) -> None:
        """Raise ConfigError for a queue, or a pattern of queues, that the layout does not allow."""

    def keys_of(self, queue: str) -> QueueKeys:
        """Return all keys of `queue`. Recently used queues are cached."""
        return _keys(self, queue)

    def group_keys(self, group: str) -> tuple[bytes, bytes]:
        """Return the key of a group's members (a sorted set by expiry), and the channel that announces changes."""
        p = self.start + b"promoter-fleet-" + group.encode() + self.end
        return p + self.members, p + WAKE

    @property
    def channels(self) -> str:
        """The pattern of all wake channels; an ACL has to allow it literally."""
        return f"{self.start.decode()}*"

    @property
    def probes(self) -> bytes:
        """The prefix of the channels on which a client checks its subscription with empty messages."""
        return self.start + b"promoter-probe-"

    def queue_of(self, key: bytes) -> tuple[str, bytes] | None:
        """Return the queue of a key and the rest of the key after its prefix. None for a key of something else."""
        if not key.startswith(self.start):
            return None
        name, end, rest = key[len(self.start) :].partition(self.end)
        return (to_text(name), rest) if end else None

    def change_of(self, key: bytes) -> tuple[ChangeKind, str] | None:
        """Return the change that a write to `key` means, and its queue or group. None if nothing waits for the key."""
        if (found := self.queue_of(key)) is None:
            return None
        queue, rest = found
        kinds = {self.delayed: ChangeKind.JOBS, self.lock: ChangeKind.LOCK, self.members: ChangeKind.MEMBERS}
        return (kinds[rest], queue) if rest in kinds else None

    def head_of(self, key: bytes) -> str | None:
        """Return the queue whose sorted set or lock has this key. None for any other key."""
        found = self.queue_of(key)
        return found[0] if found is not None and found[1] in (self.delayed, self.lock) else None

    def heads_globs(self, patterns: Sequence[str]) -> tuple[bytes, ...]:
        """Return SCAN patterns for the sorted sets and locks of all queues that can match, and few other keys.

        The server's globs differ from those of `fnmatch`, so they contain only the common prefix of the patterns.
        """
        return (self.start + beginning(patterns).encode() + b"*" + self.end + b"[dp][er]*[dk]",)

    def encode_member(self, name: str, envelope: bytes) -> bytes:
        """Return the sorted set's member: the length of the name (u32, little-endian), the name, the envelope."""
        return _member_head(name) + envelope

    def decode_member(self, member: bytes) -> tuple[str, bytes]:
        """Return the name and the envelope. Raises ValueError for a malformed member, as the promote script does."""
        if len(member) < 4:
            raise ValueError("shorter than its header")
        start = 4 + int.from_bytes(member[:4], "little")
        if start > len(member):
            raise ValueError("the name runs past the end")
        if start == len(member):
            raise ValueError("empty payload")
        return to_text(member[4:start]), member[start:]

    def entry_fields(self, envelope: bytes, name: str, traceparent: str = "", tracestate: str = "") -> dict[str, bytes]:
        """Return the fields of a job's stream entry; empty for a list. Raises ValueError when a part is missing."""
        fields = self.move.fields if isinstance(self.move, ToStream) else ()
        optional = {Part.NAME: name, Part.TRACEPARENT: traceparent, Part.TRACESTATE: traceparent and tracestate}
        return {
            field: to_bytes(optional[part]) if part in OPTIONAL else part_of(part, envelope, name)
            for field, part in fields
            if part not in OPTIONAL or optional[part]
        }


def part_of(part: Part, envelope: bytes, name: str) -> bytes:
    """Return a part of a job, byte for byte. Raises ValueError when it cannot be read, by the rules of the scripts.

    The trace context is not in the envelope, so its parts raise ValueError.
    """
    if part is Part.ENVELOPE:
        return envelope
    if part in (Part.TRACEPARENT, Part.TRACESTATE):
        raise ValueError(f"{part} is not in the envelope")
    if part is Part.NAME:
        return to_bytes(name)
    id, payload = _id_and_payload(envelope)
    return id if part is Part.ID else payload


def _id_and_payload(envelope: bytes) -> tuple[bytes, bytes]:
    array = envelope[0] if envelope else 0
    at = 1 if 0x91 <= array <= 0x9F else {0xDC: 3, 0xDD: 5}.get(array, 0)
    if not at:
        raise ValueError("no envelope")
    id, at = _sized(envelope, at, 0xD9)
    payload, at = _sized(envelope, at, 0xC4)
    if at >= len(envelope):
        raise ValueError("the envelope ends with its payload")
    return id, payload


def _sized(envelope: bytes, at: int, first_tag: int) -> tuple[bytes, int]:
    """Return a msgpack str (`first_tag` 0xD9) or bin (0xC4) at `at`, and where it ends. Raises ValueError."""
    tag = envelope[at] if at < len(envelope) else 0
    if first_tag == 0xD9 and 0xA0 <= tag <= 0xBF:
        size, start = tag - 0xA0, at + 1
    elif first_tag <= tag <= first_tag + 2:
        width = 1 << (tag - first_tag)
        size, start = int.from_bytes(envelope[at + 1 : at + 1 + width], "big"), at + 1 + width
    else:
        raise ValueError("no id" if first_tag == 0xD9 else "no payload of bytes")
    if start + size > len(envelope):
        raise ValueError("the envelope ends too early")
    return envelope[start : start + size], start + size


def hash_tag(key: bytes) -> bytes:
    """Return the part of a key that a cluster hashes."""
    _, brace, rest = key.partition(b"{")
    tag, closed, _ = rest.partition(b"}")
    return tag if brace and closed and tag else key


def beginning(patterns: Sequence[str]) -> str:
    """Return the common prefix of these patterns, as a glob of the server."""
    starts = [re.split(r"[*?[]", pattern, maxsplit=1)[0] for pattern in patterns] or [""]
    both = takewhile(lambda pair: pair[0] == pair[1], zip(min(starts), max(starts), strict=False))
    return "".join(c for c, _ in both).replace("\\", "\\\\")


def glob(text: str) -> str:
    """Escape text for an ACL pattern."""
    return re.sub(r"([*?\[\]\\])", r"\\\1", text)


@lru_cache(maxsize=1_024)
def _member_head(name: str) -> bytes:
    encoded = to_bytes(name)
    return len(encoded).to_bytes(4, "little") + encoded


@lru_cache(maxsize=16_384)
def _keys(layout: Layout, queue: str) -> QueueKeys:
    p = layout.start + queue.encode() + layout.end
    target = layout.target.replace(QUEUE, queue).encode()
    if not target or queue.startswith(REHEARSAL):  # a rehearsal must not reach a consumer
        target = p + STREAM
    return under(p, delayed=p + layout.delayed, stream=target, lock=p + layout.lock)


# The layout of ChasquiMQ 1.x.
CHASQUIMQ = Layout(
    name="chasqui",
    start=b"{chasqui:",
    end=b"}:",
    delayed=b"delayed",
    lock=b"promoter:lock",
    members=b"members",
    move=ToStream(
        (
            ("d", Part.ENVELOPE),
            ("n", Part.NAME),
            ("traceparent", Part.TRACEPARENT),
            ("tracestate", Part.TRACESTATE),
        )
    ),
)


def outward(
    name: str, move: Move, *, key: str = QUEUE, serializer: str = "raw", tested: tuple[str, ...] = ()
) -> Layout:
    """Return a layout that delivers due jobs to the key of another framework's consumers.

    Its own keys are `promoter-NAME:{QUEUE}:…`. A target is in their slot if it is the queue's name or has that name as
    its hash tag. Raises ConfigError.
    """
    if not key.strip() or any(c in key for c in "\0\t\r\n"):
        raise ConfigError(f"layout {name!r}: key must be the name of the target, such as {QUEUE}, not {key!r}")
    return Layout(
        name=name,
        start=b"promoter-" + name.encode() + b":{",
        end=b"}:",
        delayed=b"delayed",
        lock=b"promoter:lock",
        members=b"members",
        move=move,
        target=key,
        serializer=serializer,
        tested=tested,
    )
