"""The lines of a file of jobs, as `promoter export` writes them: JSON, one header, a job a line, and one last line.

docs/how-to/move-jobs.md describes the format.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from promoter_core.client.ulids import ULIDS
from promoter_core.spi.errors import ConfigError, JobError
from promoter_core.spi.model import KEEP_ID_MS, MAX_DUE_MS, JobRequest
from promoter_core.spi.names import check_job_id, check_queue_name
from promoter_core.spi.optional.management import StoredJob
from promoter_core.spi.wire import pack_data, pack_envelope, says_no_index, to_bytes, unpack_envelope

FORMAT = "promoter-jobs"  # the header's first key; its value is the version
VERSION = 1
YEAR_MS = 366 * 86_400_000

# Kept, because `json.dumps` with options creates an encoder for each call.
_readable = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_ascii = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode
_decode = json.JSONDecoder().decode


class TransferError(JobError):
    """A file of jobs cannot be read: foreign, damaged or truncated. The lines before the error have been imported."""


@dataclass(frozen=True, slots=True)
class Moving:
    """A job in transfer. `request.unique` is for the target, `unique` is the source's."""

    request: JobRequest
    unique: bool


@dataclass(frozen=True, slots=True)
class Header:
    queue: str


class End:
    """The last line: the export is complete."""


class Malformed:
    """A member that is not a job."""


def header_line(queue: str, now_ms: int) -> bytes:
    return _line({FORMAT: VERSION, "queue": queue, "exported": _iso(now_ms), "exported_ms": now_ms})


def end_line(jobs: int) -> bytes:
    return _line({"end": True, "jobs": jobs})


def job_line(job: StoredJob) -> bytes:
    """Return a waiting job as a line.

    Only `id`, `name`, `due_ms` and `envelope` are imported; the rest is for readers.
    """
    if job.malformed:
        row: dict[str, Any] = {"malformed": True, "due": _iso(job.due_ms), "due_ms": job.due_ms}
        return _line(row | {"member": base64.b64encode(job.envelope).decode()})
    row = {
        "id": job.id,
        "name": job.name,
        "due": _iso(job.due_ms),
        "due_ms": job.due_ms,
        "parked": job.due_ms is None,
        "unique": bool(job.unique),
        "keep_id_ms": job.keep_id_ms,
        "traceparent": job.traceparent,
    }
    if job.tracestate:
        row["tracestate"] = job.tracestate
    raw = {"envelope": base64.b64encode(job.envelope).decode()}
    try:
        envelope = unpack_envelope(job.envelope)
    except ValueError:
        return _line(row | raw)
    row |= {"created": _iso(envelope.created_at_ms), "attempt": envelope.attempt}
    try:
        return _line(row | {"data": envelope.data()} | raw)
    except Exception:  # not msgpack, or not JSON-serializable, which raise many types
        return _line(row | raw)


def parse_line(line: bytes, number: int) -> Header | End | Malformed | Moving | None:
    """Return the content of a line; None for an empty one. Raises TransferError with the line number."""
    if not line.strip():
        return None
    try:
        row = _decode(line.decode())
    except (ValueError, RecursionError):
        if number == 1:
            raise _foreign() from None
        cut = "" if line.endswith(b"\n") else ": the file was truncated here"
        raise TransferError(f"line {number} is not complete JSON{cut}") from None
    if not isinstance(row, dict):
        raise _foreign() if number == 1 else TransferError(f"line {number} is not a JSON object")
    if FORMAT in row:
        return _header(row, number)
    if number == 1:
        raise _foreign()
    if row.get("end") is True:
        return End()
    if row.get("malformed") is True:
        return Malformed()
    try:
        return _job(row)
    except (JobError, ValueError, TypeError) as exc:
        raise TransferError(f"line {number} is no job: {exc}") from None


def moving(job: StoredJob) -> Moving:
    """Return a job in the form for another store."""
    trace = job.traceparent, job.tracestate
    return _moving(job.id, job.envelope, job.name, job.due_ms, job.unique is True, trace, job.keep_id_ms)


def _header(row: Mapping[str, Any], number: int) -> Header:
    if row[FORMAT] != VERSION:
        raise TransferError(
            f"line {number}: the file has version {row[FORMAT]!r} of the format, and this program reads {VERSION}"
        )
    try:
        return Header(check_queue_name(row.get("queue")))
    except ConfigError as exc:
        raise TransferError(f"line {number}: {exc}") from None


def _job(row: Mapping[str, Any]) -> Moving:
    id, name, due_ms = row.get("id"), row.get("name", ""), row.get("due_ms")
    trace = row.get("traceparent") or "", row.get("tracestate") or ""
    keep_ms = row.get("keep_id_ms")
    if id is not None:
        check_job_id(id, foreign=True)
    texts = (name, *trace)
    if not all(isinstance(text, str) for text in texts):
        raise JobError("name, traceparent and tracestate must be text")
    for text in texts:
        to_bytes(text)
    if due_ms is None and row.get("parked") is not True:
        raise JobError("it has no due_ms, and is not parked")
    if due_ms is not None and not _is_whole(due_ms, None):
        raise JobError(f"due_ms must be a whole number of milliseconds since 1970, not {due_ms!r:.40}")
    if keep_ms is not None and not _is_whole(keep_ms, YEAR_MS):
        raise JobError(f"keep_id_ms must be a whole number from 0 to {YEAR_MS}, not {keep_ms!r:.40}")
    return _moving(id, _envelope(row, id), name, due_ms, row.get("unique") is True, trace, keep_ms)


def _envelope(row: Mapping[str, Any], id: str | None) -> bytes:
    text = row.get("envelope")
    if text is None:
        if id is None or "data" not in row:
            raise JobError("it has no envelope; without one, it needs an id and data")
        return pack_envelope(id, pack_data(row["data"]), _whole(row, "created_ms"), _whole(row, "attempt"))
    if not isinstance(text, str):
        raise JobError("envelope must be base64 text")
    try:
        envelope = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise JobError("envelope is not base64") from None
    if not envelope:
        raise JobError("envelope is empty")
    try:
        its = unpack_envelope(envelope).id
    except ValueError:
        return envelope
    if id is not None and its != id:
        raise JobError(f"its envelope has another id, {its!r:.60}; leave envelope out to have it made from data")
    return envelope


def _moving(
    id: str | None,
    envelope: bytes,
    name: str,
    due_ms: int | None,
    unique: bool,
    trace: tuple[str, str],
    keep_ms: int | None,
) -> Moving:
    index = not says_no_index(envelope)
    request = JobRequest(
        ULIDS.take(1)[0] if id is None else id,
        envelope,
        name=name,
        due_ms=MAX_DUE_MS if due_ms is None else min(max(due_ms, 0), MAX_DUE_MS),
        unique=id is not None and (unique or index),
        index=id is not None and index,
        traceparent=trace[0],
        tracestate=trace[1],
        keep_id_ms=KEEP_ID_MS if keep_ms is None else keep_ms,
    )
    return Moving(request, unique)


def _is_whole(value: object, end: int | None) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0 and (end is None or value <= end)


def _whole(row: Mapping[str, Any], key: str) -> int:
    value = row.get(key, 0)
    if not _is_whole(value, 2**63 - 1):
        raise JobError(f"{key} must be a whole number, not {value!r:.40}")
    return int(value)


def _foreign() -> TransferError:
    return TransferError(
        f'line 1 is not the first line of a file by `promoter export`, which begins with {{"{FORMAT}": {VERSION}, …}}'
    )


def _iso(ms: int | None) -> str | None:
    if ms is None:
        return None
    try:
        return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):
        return None


def _line(row: Mapping[str, Any]) -> bytes:
    """Return readable text if it is all printable; otherwise ASCII, for terminals and for bytes that are not UTF-8."""
    text = _readable(row)
    if not text.isprintable():
        text = _ascii(row)
    return text.encode() + b"\n"
