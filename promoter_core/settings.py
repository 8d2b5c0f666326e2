"""`PromoterSettings`: how a promoter works; not which queue it serves, nor who it is."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from promoter_core.spi.errors import ConfigError
from promoter_core.spi.model import Overflow


def _whole(low: int, high: int, default: int) -> int:
    whole: int = field(default=default, metadata={"range": (low, high)})
    return whole


@dataclass(frozen=True, slots=True, kw_only=True)
class PromoterSettings:
    """How promoters work. Any number of them may share one. The defaults are those of ChasquiMQ's promoter.

    Raises ConfigError when a value cannot work; it names the setting, the value and what is allowed.
    """

    poll_interval_ms: int = _whole(1, 3_600_000, 100)  # between ticks, where the backend can only poll
    promote_batch: int = _whole(1, 10_000, 256)  # jobs a tick, to start with
    max_tick_ms: int = _whole(0, 10_000, 5)  # the batch grows and shrinks so that a tick takes no longer; 0: it stays
    max_stream_len: int = _whole(1, 2**53, 1_000_000)  # entries in the stream
    overflow: Overflow = Overflow.HOLD  # "hold" or "trim" once the stream is that long
    lock_ttl_ms: int = _whole(100, 3_600_000, 5_000)  # the lease: how long a dead leader blocks the queue
    follower_poll_ms: int = _whole(1, 3_600_000, 2_000)  # a follower looks at the lock at least this often
    events: bool = True  # write a `waiting` event for each promoted job
    events_max_stream_len: int = _whole(1, 2**53, 100_000)  # entries in the events stream, trimmed beyond

    def __post_init__(self) -> None:
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
