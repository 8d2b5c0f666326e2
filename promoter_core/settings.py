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
    """Tuning of promoters. Any number of them can share one. The defaults are those of ChasquiMQ's promoter.

    Raises ConfigError for an invalid value, with the setting, the value and the allowed range.
    """

    poll_interval_ms: int = _whole(1, 3_600_000, 100)  # time between ticks, if the backend can only poll
    promote_batch: int = _whole(1, 10_000, 256)  # initial number of jobs a tick
    max_tick_ms: int = _whole(0, 10_000, 5)  # the batch adapts so that a tick takes no longer; 0: fixed batch
    max_stream_len: int = _whole(1, 2**53, 1_000_000)  # entries in the stream
    overflow: Overflow = Overflow.HOLD  # "hold" or "trim" at that length
    lock_ttl_ms: int = _whole(100, 3_600_000, 5_000)  # the lease: how long a dead leader can block the queue
    follower_poll_ms: int = _whole(1, 3_600_000, 2_000)  # a follower checks the lock at least this often
    events: bool = True  # write a `waiting` event for each promoted job
    events_max_stream_len: int = _whole(1, 2**53, 100_000)  # entries in the events stream; the oldest are trimmed

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
