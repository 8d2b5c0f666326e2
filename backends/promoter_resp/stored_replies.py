"""Read what scripts return about waiting jobs. As in `replies.py`, nothing here ever raises for an odd reply."""

from __future__ import annotations

import math
import re
from base64 import b64decode, urlsafe_b64encode
from dataclasses import dataclass
from typing import Any

from promoter_core.spi import CHASQUIMQ, KEEP_ID_MS, MAX_DUE_MS, PermanentError, StoredJob, to_text, unpack_trace

SHORT, DETAILED = 2, 5  # fields of a job in the reply of list.lua: score and member; with details, three more
_SCORE = re.compile(rb"[+-]?(inf|\d+(\.\d+)?(e[+-]?\d+)?)", re.I)


@dataclass(frozen=True, slots=True)
class LookedAt:
    """A step of look.lua, and where the next one starts. The default is before the first step."""

    looked: int = 0
    score: bytes = b""
    member: bytes = b""
    found: tuple[tuple[bytes, bytes], ...] = ()  # ids and their members
    end: bool = False


@dataclass(frozen=True, slots=True)
class Listed:
    """A step of list.lua. `score` and `member` are where to continue; `score` is empty at the end."""

    now_ms: int
    looked: int
    size: int  # total size of the members found, in bytes
    jobs: list[StoredJob]
    score: bytes = b""
    member: bytes = b""


def look_reply(reply: Any) -> LookedAt:
    """`[looked at, score | "", member, id, score, member, …]`; without a score it was the last step."""
    items = reply if isinstance(reply, list) else []
    looked = _count(items[0]) if items else 0
    found = tuple(
        (id, member)
        for id, member in zip(items[3::3], items[5::3], strict=False)
        if isinstance(id, bytes) and isinstance(member, bytes)
    )
    score, member = (*items[1:3], b"", b"")[:2]
    if not (looked and score and isinstance(score, bytes) and isinstance(member, bytes)):
        return LookedAt(looked, found=found, end=True)
    return LookedAt(looked, score, member, found)


def list_reply(reply: Any, *, details: bool) -> Listed:
    """`[now, looked at, score | "", member, then the fields of each job, …]`."""
    items = reply if isinstance(reply, list) else []
    fields = DETAILED if details else SHORT
    rows = [items[i : i + fields] for i in range(4, len(items), fields)]
    jobs = [job for row in rows if (job := stored_job(row, details=details)) is not None]
    now_ms, looked, score, member = (*items[:4], None, None, None, None)[:4]
    size = sum(len(job.handle) for job in jobs)
    if not (score and isinstance(score, bytes) and isinstance(member, bytes) and _count(looked)):
        return Listed(_count(now_ms), _count(looked), size, jobs)
    return Listed(_count(now_ms), _count(looked), size, jobs, score, member)


def stored_job(row: Any, *, details: bool = True) -> StoredJob | None:
    """Read a job from `[score, member, …]`, None for no job.

    With details it is `[score, member, unique, keep in ms or -1, trace context]`.
    """
    if not (isinstance(row, list) and len(row) >= SHORT and isinstance(row[1], bytes)):
        return None
    due_ms, member = _due_ms(row[0]), row[1]
    unique, keep, trace = (*row[2:DETAILED], None, None, None)[:3] if details else (None, None, None)
    try:
        name, envelope = CHASQUIMQ.decode_member(member)
    except ValueError:
        return StoredJob(
            id=None,
            name="",
            envelope=member,
            due_ms=due_ms,
            malformed=True,
            handle=member,
            unique=False if details else None,
        )
    id = id_of(envelope)
    traceparent, tracestate = unpack_trace(to_text(trace) if isinstance(trace, bytes) else "")
    return StoredJob(
        id=None if id is None else to_text(id),
        name=name,
        envelope=envelope,
        due_ms=due_ms,
        handle=member,
        unique=unique == 1 if details else None,
        keep_id_ms=(keep if isinstance(keep, int) and keep >= 0 else KEEP_ID_MS) if unique == 1 else None,
        traceparent=traceparent,
        tracestate=tracestate,
    )


def member_of(job: StoredJob) -> bytes:
    """Return the member of a job."""
    return job.handle or (job.envelope if job.malformed else CHASQUIMQ.encode_member(job.name, job.envelope))


def id_of(envelope: bytes) -> bytes | None:
    """Return the id of an envelope, by the rules of id_of.lua, which determine the job's keys."""
    tag = envelope[0] if envelope else 0
    at = 1 if 0x91 <= tag <= 0x9F else 3 if tag == 0xDC else 5 if tag == 0xDD else 0
    if not at or len(envelope) <= at:
        return None
    tag, width = envelope[at], 0
    if 0xA0 <= tag <= 0xBF:
        size = tag - 0xA0
    elif 0xD9 <= tag <= 0xDB:
        width = 1 << (tag - 0xD9)
        if len(envelope) <= at + width:
            return None
        size = int.from_bytes(envelope[at + 1 : at + 1 + width], "big")
    else:
        return None
    start = at + 1 + width
    return envelope[start : start + size] if start + size < len(envelope) else None


def cursor_of(score: bytes, member: bytes) -> str:
    """Return the position after a job as text; "" without one."""
    return urlsafe_b64encode(score + b"\n" + member).decode() if score else ""


def place_of(cursor: str) -> tuple[bytes, bytes]:
    """Return the score and the member of a cursor. Raises PermanentError for an invalid one."""
    if not cursor:
        return b"", b""
    try:
        score, newline, member = b64decode(cursor, altchars="-_", validate=True).partition(b"\n")
        if newline and _SCORE.fullmatch(score):
            return score, member
    except ValueError:
        pass
    raise PermanentError(f"{cursor[:80]!r} is not a cursor of a page of jobs", code="BADCURSOR")


def _due_ms(score: Any) -> int | None:
    """Return the first whole millisecond in which a job is due; None when it is parked."""
    try:
        due = float(score)
    except (TypeError, ValueError, OverflowError):
        return 0
    if due != due or due <= 0:
        return 0
    return math.ceil(due) if due <= MAX_DUE_MS else None


def _count(value: Any) -> int:
    return max(value, 0) if isinstance(value, int) else 0
