"""The job's msgpack envelope: `[id, payload, created_at_ms, attempt]`, as ChasquiMQ 1.x writes it.

The payload is msgpack *bin* that is itself msgpack of the user's data. A fifth element (retry overrides) is read
over. Source: docs/reference/wire-format.md.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any

import msgpack

from promoter_core.spi.errors import JobError

UNPACKABLE = (TypeError, ValueError, OverflowError, RecursionError)  # raised by msgpack


@dataclass(frozen=True, slots=True)
class Envelope:
    """The content of a stream entry's `d`. `payload` is the user's data, still packed."""

    id: str
    payload: bytes
    _: KW_ONLY
    created_at_ms: int
    attempt: int

    def data(self) -> Any:
        """The user's data. Raises ValueError when the payload is not msgpack."""
        return msgpack.unpackb(self.payload, strict_map_key=False)


def pack_envelope(id: str, payload: bytes, created_at_ms: int, attempt: int, *, index: bool = True) -> bytes:
    """The envelope, as consumers get it in a stream entry's `d`. `payload` is the user's data, packed.

    With `index=False` an id of up to 31 bytes has its length in a separate byte. That is valid msgpack, and no packer
    writes it unasked: so a promotion sees that the job has no cancel index.
    """
    packed = bytes(msgpack.packb([id, payload, created_at_ms, attempt], unicode_errors="surrogateescape"))
    return packed if index else _without_index(packed)


def _without_index(packed: bytes) -> bytes:
    if 0xA0 <= packed[1] <= 0xBF:
        return packed[:1] + b"\xd9" + bytes((packed[1] - 0xA0,)) + packed[2:]
    return packed


def unpack_envelope(packed: bytes) -> Envelope:
    """Raises ValueError when `packed` is no envelope."""
    try:
        parts = msgpack.unpackb(packed, unicode_errors="surrogateescape", strict_map_key=False)
    except Exception as exc:  # msgpack raises a dozen classes on hostile input, some of them no subclass of ValueError
        raise ValueError(f"no msgpack envelope: {exc}") from None
    match parts:
        case [str(id), payload, int(created), int(attempt), *_]:
            # A producer in another language may put plain msgpack where the bindings put bin.
            data = payload if isinstance(payload, bytes) else msgpack.packb(payload)
            return Envelope(id, data, created_at_ms=created, attempt=attempt)
    raise ValueError("no envelope: expected [id, payload, created_at_ms, attempt]")


def pack_data(data: object) -> bytes:
    """Pack the user's data. Raises JobError that names the type that cannot be packed, and where it is."""
    try:
        return bytes(msgpack.packb(data))
    except UNPACKABLE as exc:
        raise _data_error(data, exc) from None


class EnvelopePacker:
    """`pack_data` and `pack_envelope` for many jobs, on a packer that it keeps. For one thread; ids are Unicode."""

    def __init__(self) -> None:
        self._pack = msgpack.Packer().pack

    def pack(self, id: str, data: object, created_at_ms: int, *, index: bool) -> bytes:
        """The envelope of a job that is new. Raises JobError as `pack_data` does."""
        try:
            payload = self._pack(data)
        except UNPACKABLE as exc:
            raise _data_error(data, exc) from None
        packed: bytes = self._pack([id, payload, created_at_ms, 0])
        return packed if index else _without_index(packed)


def _data_error(data: object, exc: Exception) -> JobError:
    where, what = _culprit(data, "data", 0) or ("data", f"{exc}")
    return JobError(
        f"{where} cannot be packed as msgpack: {what}; allowed are None, bool, int (64 bits), float, str, bytes, "
        "list, tuple and dict"
    )


def _culprit(value: object, where: str, depth: int) -> tuple[str, str] | None:
    if depth > 500:
        return where[:60] + "…", "nested more than 500 deep"
    if isinstance(value, dict):
        for key, item in value.items():
            found = _culprit(key, f"{where} key {key!r}", depth + 1) or _culprit(item, f"{where}[{key!r}]", depth + 1)
            if found:
                return found
        return None
    if isinstance(value, list | tuple):
        for i, item in enumerate(value):
            if found := _culprit(item, f"{where}[{i}]", depth + 1):
                return found
        return None
    try:
        msgpack.packb(value)
    except OverflowError:
        return where, f"{value} does not fit 64 bits"
    except UnicodeEncodeError:
        return where, "text that is not valid Unicode (a lone surrogate)"
    except (TypeError, ValueError):
        return where, f"a {type(value).__module__}.{type(value).__qualname__}"
    return None


def to_bytes(text: str) -> bytes:
    """UTF-8; a surrogate escape becomes the byte that it stands for."""
    return text.encode("utf-8", "surrogateescape")


def to_text(data: bytes) -> str:
    """The opposite of `to_bytes`: a byte that is no UTF-8 becomes a surrogate escape."""
    return data.decode("utf-8", "surrogateescape")
