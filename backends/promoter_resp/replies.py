"""Read the scripts' replies. Short, legacy or odd replies read as zeros and empty; nothing here ever raises.

Replies come from the server, which may run a newer script than this library, or through a proxy that changes them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast, overload

from promoter_core.spi import (
    BackendError,
    ConsumerGroup,
    JobOutcome,
    Lease,
    LeaseHeld,
    LeaseLost,
    Members,
    PromotedJob,
    Promotion,
    QueueStats,
    Renewal,
    Scheduled,
    StreamEntry,
    unpack_trace,
)
from promoter_resp.driver import Timed
from promoter_resp.errors import server_error

JOB_FIELDS = 4  # id, name, score, stream id; flat
LARGEST = 9e15  # a later due time counts as none
NO_TRACE = ("", "")


def lock_reply(reply: Any, lease: Lease) -> Lease | LeaseHeld:
    """`[1]` granted, `[0, PTTL, holder, lag]` held; a bare integer as the reference's script has it."""
    granted, remaining = _at(reply, 0) if isinstance(reply, list) else reply, _at(reply, 1)
    if isinstance(granted, int) and granted > 0:
        return lease
    return LeaseHeld(
        remaining_ms=remaining if isinstance(remaining, int) and remaining >= 0 else None,
        holder=_text(_at(reply, 2)) or None,
        oldest_pending_lag_ms=_count(_at(reply, 3)),
    )


def promote_reply(reply: Any, *, want_traces: bool = True) -> Promotion | LeaseLost:
    """`[promoted, depth, lag, next due | nil, now, malformed, held back, [jobs], [late], [place, id, trace, …]]`,
    or `[-1]`: not ours. Timed, if that was asked for."""
    reply, work_ms = reply if isinstance(reply, Timed) else (reply, None)
    if isinstance(reply, int):
        return Promotion(promoted=_count(reply), work_ms=work_ms)
    if isinstance(reply, list) and reply and reply[0] == -1:
        return LeaseLost()
    promoted, depth, lag, next_due, now, malformed, held_back, jobs, late, traces = _fields(reply, 10)
    now_ms, traced = _count(now), _traces(traces)
    return Promotion(
        promoted=_count(promoted),
        depth=_count(depth),
        oldest_pending_lag_ms=_count(lag),
        next_due_ms=next_due if isinstance(next_due, int) else None,
        now_ms=now_ms,
        malformed=_count(malformed),
        held_back=_count(held_back),
        jobs=_jobs(jobs, now_ms, traced),
        lateness_counts=_counts(late),
        traces=tuple(trace.context[0] for trace in traced) if want_traces else (),
        trace_ids=tuple(trace.id for trace in traced) if want_traces else (),
        work_ms=work_ms,
    )


def renew_reply(reply: Any, length: int) -> list[Renewal | LeaseLost | BackendError]:
    """`[now, state, next due | nil, …]`; a state is 2 due, 1 nothing due, 0 not ours, -1 with the error's text."""
    answers: list[Renewal | LeaseLost | BackendError] = []
    now, *rest = _fields(reply, 2 * length + 1)
    now_ms = _count(now)
    for state, next_due in zip(rest[::2], rest[1::2], strict=True):
        if state == 1 or state == 2:
            answers.append(Renewal(now_ms, state == 2, next_due if isinstance(next_due, int) else None))
        elif state == -1:
            answers.append(server_error(_text(next_due)))
        else:
            answers.append(LeaseLost())
    return answers


def members_reply(reply: Any) -> Members:
    """`[ms until the first of the others goes | -1, member, …]`."""
    first = _at(reply, 0)
    names = frozenset(_text(name) for name in (reply[1:] if isinstance(reply, list) else ()))
    return Members(names, first if isinstance(first, int) and first >= 0 else None)


def stats_reply(reply: Any) -> QueueStats:
    """`[now, depth, due, next due | nil, stream, events, dlq, holder | nil, PTTL, groups, parked, added | nil]`."""
    now_ms, next_due, holder, remaining = _count(_at(reply, 0)), _at(reply, 3), _at(reply, 7), _at(reply, 8)
    next_due = next_due if isinstance(next_due, int) else None
    return QueueStats(
        now_ms=now_ms,
        depth=_count(_at(reply, 1)),
        due=_count(_at(reply, 2)),
        oldest_pending_lag_ms=max(now_ms - next_due, 0) if next_due is not None else 0,
        next_due_ms=next_due,
        stream_len=_count(_at(reply, 4)),
        events_len=_count(_at(reply, 5)),
        dlq_len=_count(_at(reply, 6)),
        holder=_text(holder) if holder is not None else None,
        lease_remaining_ms=remaining if isinstance(remaining, int) and remaining >= 0 else None,
        groups=_groups(_at(reply, 9)),
        parked=_count(_at(reply, 10)),
        stream_added=added if isinstance(added := _at(reply, 11), int) else None,
    )


def _groups(reply: Any) -> tuple[ConsumerGroup, ...]:
    return tuple(
        ConsumerGroup(
            name=_text(_at(group, 0)),
            pending=_count(_at(group, 1)),
            undelivered=group[2] if isinstance(_at(group, 2), int) else None,
            oldest_pending_id=_text(_at(group, 3)) or None,
            oldest_pending_consumer=_text(_at(group, 4)) or None,
            oldest_pending_ms=_added_ms(_text(_at(group, 3))),
        )
        for group in (reply if isinstance(reply, list) else ())
    )


def _added_ms(entry_id: str) -> int | None:
    """Return when an entry was added. A server-generated id starts with that time."""
    text = entry_id.partition("-")[0]
    return int(text) if text.isdecimal() and len(text) <= 15 else None


class _Open:
    """A Scheduled to be: its `__init__` takes less time than a frozen dataclass's."""

    __slots__ = Scheduled.__slots__

    def __init__(self, id: str, outcome: JobOutcome) -> None:
        self.id = id
        self.outcome = outcome


def scheduled(id: str, outcome: JobOutcome) -> Scheduled:
    """Return `Scheduled(id, outcome)`, faster: many are created."""
    answer: Any = _Open(id, outcome)
    answer.__class__ = Scheduled
    return cast("Scheduled", answer)


def integers(reply: Any, length: int) -> list[int]:
    """Return `length` integers, zeros for missing ones."""
    if isinstance(reply, list) and len(reply) == length and set(map(type, reply)) == {int} and min(reply) >= 0:
        return reply  # the expected type
    return [_count(_at(reply, i)) for i in range(length)]


def change_reply(reply: Any, length: int) -> tuple[bool, list[int]]:
    """`[1 | 0, outcome, …]`: whether the head is another one, and the first outcomes of `length`, one at least."""
    items = reply if isinstance(reply, list) and len(reply) > 1 else [0] * (length + 1)
    return items[0] == 1, integers(items[1 : length + 1], min(len(items) - 1, length))


def stream_entries(reply: Any) -> tuple[StreamEntry, ...]:
    """Read the reply of XRANGE: pairs, or a mapping of id to field pairs, as GLIDE returns it."""
    if isinstance(reply, Mapping):
        reply = list(reply.items())
    entries = []
    for item in reply or ():
        id, pairs = item
        if isinstance(pairs, Mapping):
            pairs = list(pairs.items())
        if pairs and isinstance(pairs[0], bytes):  # a flat list: field, value, field, value
            pairs = list(zip(pairs[::2], pairs[1::2], strict=False))
        entries.append(StreamEntry(_text(id), {_text(k): bytes(v) for k, v in pairs or ()}))
    return tuple(entries)


class _Trace(NamedTuple):
    """The trace context of a job."""

    place: int  # index among the jobs of the reply, or -1
    id: str
    context: tuple[str, str]


def _traces(flat: Any) -> list[_Trace]:
    """`[place, id, trace context, …]`"""
    items = flat if isinstance(flat, list) else []
    return [
        _Trace(place, _text(id), unpack_trace(_text(context)))
        for place, id, context in zip(items[::3], items[1::3], items[2::3], strict=False)
        if isinstance(place, int)
    ]


class _OpenJob:
    """A PromotedJob to be: creating it takes a third of the time of a frozen dataclass."""

    __slots__ = PromotedJob.__slots__


def _due_ms(score: Any) -> int:
    """Return the due time in ms; 0 for an invalid one."""
    try:
        due = float(score)
    except (TypeError, ValueError):
        return 0
    return int(due) if 0 <= due <= LARGEST else 0


class Jobs(Sequence[PromotedJob]):
    """The jobs of a reply, parsed on access: by sinks, while the server works on the next tick."""

    def __init__(self, flat: list[Any], now_ms: int, traces: Mapping[int, tuple[str, str]]) -> None:
        self._flat = flat
        self._now_ms = now_ms
        self._traces = traces

    def __len__(self) -> int:
        return len(self._flat) // JOB_FIELDS

    @overload
    def __getitem__(self, index: int) -> PromotedJob: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[PromotedJob, ...]: ...
    def __getitem__(self, index: int | slice) -> PromotedJob | tuple[PromotedJob, ...]:
        numbers = range(len(self))[index]
        return self._job(numbers) if isinstance(numbers, int) else tuple(map(self._job, numbers))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and tuple(self) == tuple(other)

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return repr(tuple(self))

    def _job(self, i: int) -> PromotedJob:
        id, name, due, stream_id = self._flat[i * JOB_FIELDS : (i + 1) * JOB_FIELDS]
        job: Any = _OpenJob()
        job.id = _text(id) if isinstance(id, bytes | str) else None
        job.name = _text(name)
        job.due_ms = int(due) if isinstance(due, bytes) and len(due) < 16 and due.isdigit() else _due_ms(due)
        job.promoted_ms = self._now_ms
        job.stream_id = _text(stream_id)
        job.traceparent, job.tracestate = self._traces.get(i, NO_TRACE)
        job.__class__ = PromotedJob
        return cast("PromotedJob", job)


def _jobs(flat: Any, now_ms: int, traces: Sequence[_Trace]) -> Sequence[PromotedJob]:
    contexts = {trace.place: trace.context for trace in traces}
    return Jobs(flat, now_ms, contexts) if isinstance(flat, list) and len(flat) >= JOB_FIELDS else ()


def _at(reply: Any, i: int) -> Any:
    return reply[i] if isinstance(reply, list) and len(reply) > i else None


def _fields(reply: Any, length: int) -> list[Any]:
    """Return the first `length` elements, None for missing ones."""
    fields = reply[:length] if isinstance(reply, list) else []
    return fields if len(fields) == length else fields + [None] * (length - len(fields))


def _counts(reply: Any) -> tuple[int, ...]:
    """Return the counts without trailing zeros."""
    counts = [_count(value) for value in reply] if isinstance(reply, list) else []
    while counts and not counts[-1]:
        counts.pop()
    return tuple(counts)


def _count(value: Any) -> int:
    return max(value, 0) if isinstance(value, int) else 0


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    return value if isinstance(value, str) else ""
