"""The job's msgpack envelope: `[id, payload, created_at_ms, attempt]`, as ChasquiMQ 1.x writes it.

The payload is msgpack *bin* that is itself msgpack of the user's data. A fifth element has the job's own retry
overrides. Source: docs/reference/wire-format.md.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field
from typing import Any

import msgpack

from promoter_core.spi.errors import PromoterError
from promoter_core.spi.serializers import MSGPACK, Serializer, packing_error, packing_with, read_payload

UNPACKABLE = (TypeError, ValueError, OverflowError, RecursionError)  # raised by msgpack


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryOverrides:
    """The retry settings of a job, which override those of its consumers. None: not set.

    These are ChasquiMQ's. `max_attempts` counts all runs, including the first. Before run `n`, counted from 0, a job
    waits `delay_ms * multiplier ** (n - 1)` ("exponential") or `delay_ms` ("fixed"), at most `max_delay_ms`, plus up to
    `jitter_ms`. Any other kind counts as exponential.
    """

    max_attempts: int | None = None
    kind: str | None = None  # the kind of back-off; None: no back-off, and the fields below do not apply
    delay_ms: int | None = None
    max_delay_ms: int | None = None
    multiplier: float | None = None
    jitter_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Envelope:
    """The content of a stream entry's `d`. `payload` is the user's data, still packed."""

    id: str
    payload: bytes
    _: KW_ONLY
    created_at_ms: int
    attempt: int  # number of earlier runs
    retry: RetryOverrides | None = None
    raw: bytes = field(default=b"", repr=False, compare=False)  # the whole envelope, as read

    def data(self, serializer: str | Serializer = "msgpack", type: Any = None) -> Any:
        """Return the user's data: plain, or an object of `type` if the serializer is typed, such as `"msgspec"`.

        `serializer` is the one that the producer used: the name of an installed one, or an object. Raises JobError (a
        ValueError) for data that it cannot read, ConfigError or PluginError for an unusable serializer.
        """
        return read_payload(self.payload, serializer, type, f"job {self.id!r}")


def pack_envelope(id: str, payload: bytes, created_at_ms: int, attempt: int, *, index: bool = True) -> bytes:
    """Pack an envelope, as consumers receive it in a stream entry's `d`. `payload` is the packed data of the user.

    With `index=False`, the length of an id of up to 31 bytes is encoded in a separate byte. This is valid msgpack that
    no packer writes by default, so a promotion can see that the job has no cancel index.
    """
    packed = bytes(msgpack.packb([id, payload, created_at_ms, attempt], unicode_errors="surrogateescape"))
    return packed if index else _without_index(packed)


def _without_index(packed: bytes) -> bytes:
    if 0xA0 <= packed[1] <= 0xBF:
        return packed[:1] + b"\xd9" + bytes((packed[1] - 0xA0,)) + packed[2:]
    return packed


def unpack_envelope(packed: bytes) -> Envelope:
    """Read an envelope. Raises ValueError when `packed` is not one."""
    try:
        parts = msgpack.unpackb(packed, unicode_errors="surrogateescape", strict_map_key=False)
    except Exception as exc:  # msgpack raises many types on hostile input, some not subclasses of ValueError
        raise ValueError(f"not a msgpack envelope: {exc}") from None
    match parts:
        case [str(id), payload, int(created), int(attempt), *rest]:
            # A producer in another language may store plain msgpack instead of a bin value.
            data = payload if isinstance(payload, bytes) else msgpack.packb(payload)
            retry = _overrides(rest[0]) if rest else None
            return Envelope(id, data, created_at_ms=created, attempt=attempt, retry=retry, raw=bytes(packed))
    raise ValueError("not an envelope: expected [id, payload, created_at_ms, attempt]")


def _overrides(packed: object) -> RetryOverrides | None:
    """Read the retry overrides; None if there are none, or if they are unreadable."""
    match packed:
        case [attempts, *_]:
            most = _number(attempts, int)
        case _:
            return None
    match packed:
        case [_, [str(kind), delay_ms, *more], *_] if _number(delay_ms, int) is not None:
            max_ms, factor, jitter_ms = (*more, None, None, None)[:3]
            return RetryOverrides(
                max_attempts=most,
                kind=kind,
                delay_ms=_number(delay_ms, int),
                max_delay_ms=_number(max_ms, int),
                multiplier=_number(factor, int | float),
                jitter_ms=_number(jitter_ms, int),
            )
        case [_, *_] if most is not None:
            return RetryOverrides(max_attempts=most)
    return None


def _number(value: Any, kind: Any) -> Any:
    return value if isinstance(value, kind) and not isinstance(value, bool) and value >= 0 else None


def repack_attempt(packed: bytes, attempt: int) -> bytes:
    """Return the envelope with another `attempt`, otherwise unchanged. `packed` must be valid for `unpack_envelope`."""
    unpacker = msgpack.Unpacker(max_buffer_size=0, strict_map_key=False)
    unpacker.feed(packed)
    unpacker.read_array_header()
    for _ in range(3):
        unpacker.skip()
    first = unpacker.tell()
    unpacker.skip()
    return packed[:first] + bytes(msgpack.packb(attempt)) + packed[unpacker.tell() :]


def says_no_index(packed: bytes) -> bool:
    """Return whether an envelope has the form that `pack_envelope` writes for `index=False`."""
    header = {b"\xdc": 3, b"\xdd": 5}.get(packed[:1], 1)
    return packed[header : header + 1] == b"\xd9" and packed[header + 1 : header + 2] < b" "


def pack_data(data: object) -> bytes:
    """Pack the user's data as msgpack. Raises JobError with the unsupported type and its path."""
    return packing_with(MSGPACK)(data)


class EnvelopePacker:
    """Packs the data and envelopes of many jobs with one packer. Not thread-safe."""

    def __init__(self, serializer: Serializer = MSGPACK) -> None:
        self._pack = msgpack.Packer().pack
        self._dumps = self._pack if serializer is MSGPACK else packing_with(serializer)

    def pack(self, id: str, data: object, created_at_ms: int, *, index: bool, attempt: int = 0) -> bytes:
        """Pack the envelope of a new job. Raises JobError with the unsupported type and its path."""
        try:
            payload = self._dumps(data)
        except PromoterError:
            raise
        except UNPACKABLE as exc:
            raise packing_error(MSGPACK, data, exc) from None
        try:
            packed: bytes = self._pack([id, payload, created_at_ms, attempt])
        except UnicodeEncodeError:  # an id from another producer
            return pack_envelope(id, payload, created_at_ms, attempt, index=index)
        return packed if index else _without_index(packed)


def to_bytes(text: str) -> bytes:
    """Encode text as UTF-8. A surrogate escape becomes the byte that it stands for."""
    return text.encode("utf-8", "surrogateescape")


def to_text(data: bytes) -> str:
    """Decode UTF-8, the opposite of `to_bytes`. A byte that is not UTF-8 becomes a surrogate escape."""
    return data.decode("utf-8", "surrogateescape")


def pack_trace(traceparent: str, tracestate: str = "") -> str:
    """Join a trace context into one text, for a store; "" without a `traceparent`."""
    return f"{traceparent}\n{tracestate}" if traceparent and tracestate else traceparent


def unpack_trace(text: str) -> tuple[str, str]:
    """Return `(traceparent, tracestate)` from the output of `pack_trace`."""
    traceparent, _, tracestate = text.partition("\n")
    return traceparent, tracestate
