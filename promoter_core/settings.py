"""`PromoterSettings`, validated once, and the rules for queue names and job names."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, field, fields

from ulid import ULID

from promoter_core.errors import ConfigError
from promoter_core.model import Overflow

MAX_QUEUE_BYTES = 200


def new_holder_id() -> str:
    """A holder id that no other promoter has: host, process and a ULID, so that an operator can find it."""
    return f"{socket.gethostname()}-{os.getpid()}-{ULID()}"


def check_queue_name(queue: object) -> str:
    """Return `queue` if it can be part of a key.

    Raises ConfigError: not text, empty, over 200 bytes of UTF-8, or with `{`, `}` or a control character (braces
    would change the hash tag that keeps a queue's keys in one cluster slot).
    """
    if not isinstance(queue, str):
        raise ConfigError(f"queue name must be text, not {type(queue).__name__}")
    if not queue:
        raise ConfigError("queue name is empty: give the name of a queue, such as 'emails'")
    bad = next((c for c in queue if c in "{}" or ord(c) < 32 or 127 <= ord(c) < 160), None)
    if bad is not None:
        raise ConfigError(f"queue name {queue!r} holds {bad!r}: braces and control characters are not allowed")
    try:
        size = len(queue.encode())
    except UnicodeEncodeError:
        raise ConfigError(f"queue name {queue!r} is not valid Unicode text") from None
    if size > MAX_QUEUE_BYTES:
        raise ConfigError(f"queue name is {size} bytes long, at most {MAX_QUEUE_BYTES} are allowed")
    return queue


def _whole(low: int, high: int, default: int) -> int:
    whole: int = field(default=default, metadata={"range": (low, high)})
    return whole


@dataclass(frozen=True, slots=True, kw_only=True)
class PromoterSettings:
    """How one promoter works on one queue. The defaults are those of ChasquiMQ's promoter.

    Raises ConfigError when a value cannot work; it names the setting, the value and what is allowed.
    """

    queue: str
    poll_interval_ms: int = _whole(1, 3_600_000, 100)  # between ticks, where the backend can only poll
    promote_batch: int = _whole(1, 10_000, 256)  # jobs a tick, to start with
    max_tick_ms: int = _whole(0, 10_000, 5)  # the batch grows and shrinks so that a tick takes no longer; 0: it stays
    max_stream_len: int = _whole(1, 2**53, 1_000_000)  # entries in the stream
    overflow: Overflow = Overflow.HOLD  # "hold" or "trim" once the stream is that long
    lock_ttl_ms: int = _whole(100, 3_600_000, 5_000)  # the lease: how long a dead leader blocks the queue
    follower_poll_ms: int = _whole(1, 3_600_000, 2_000)  # a follower looks at the lock at least this often
    holder_id: str = field(default_factory=new_holder_id)  # unique among the promoters of a queue
    events: bool = True  # write a `waiting` event for each promoted job
    events_max_stream_len: int = _whole(1, 2**53, 100_000)  # entries in the events stream, trimmed beyond

    def __post_init__(self) -> None:
        check_queue_name(self.queue)
        for f in fields(self):
            if "range" not in f.metadata:
                continue
            value = getattr(self, f.name)
            low, high = f.metadata["range"]
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise ConfigError(f"{f.name} must be a whole number from {low} to {high}, not {value!r}")
        try:
            object.__setattr__(self, "overflow", Overflow(self.overflow))
        except ValueError:
            choices = " or ".join(repr(str(o)) for o in Overflow)
            raise ConfigError(f"overflow must be {choices}, not {self.overflow!r}") from None
        if not isinstance(self.events, bool):
            raise ConfigError(f"events must be True or False, not {self.events!r}")
        if not isinstance(self.holder_id, str) or not 0 < len(self.holder_id.encode(errors="replace")) <= 512:
            raise ConfigError("holder_id must be text of 1 to 512 bytes, and unique among the queue's promoters")
