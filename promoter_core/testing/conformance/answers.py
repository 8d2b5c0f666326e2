"""Check the shape of every answer: its type, and the types of its contents. An AssertionError describes the problem."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import singledispatch
from typing import Any

from promoter_core.spi import (
    BackendError,
    ChangeFeed,
    Changes,
    Finding,
    JobOutcome,
    JobPage,
    Lease,
    LeaseHeld,
    LeaseLost,
    Members,
    PromotedJob,
    Promotion,
    QueueStats,
    Renewal,
    Scheduled,
    Severity,
    StoredJob,
    StreamEntry,
)

ANSWERS: dict[str, tuple[type, ...]] = {
    "open": (type(None),),
    "close": (type(None),),
    "lock": (Lease, LeaseHeld),
    "promote": (Promotion, LeaseLost),
    "unlock": (bool,),
    "wait": (bool,),
    "schedule": (tuple,),
    "cancel": (tuple,),
    "stats": (QueueStats,),
    "read": (tuple,),
    "cleanup": (type(None),),
    "emit": (type(None),),
    "lock_many": (Sequence,),
    "promote_many": (Sequence,),
    "renew_many": (Sequence,),
    "subscribe": (ChangeFeed,),
    "find_queues": (Sequence,),  # each page
    "announce": (type(None),),
    "join_group": (Members,),
    "leave_group": (type(None),),
    "get_jobs": (Sequence,),
    "list_jobs": (JobPage,),
    "count_jobs": (Sequence,),
    "change_jobs": (Sequence,),
    "requeue_dead_letter": (bool,),
    "delete_dead_letters": (int,),
    "diagnose": (Sequence,),
}
ITEMS: dict[str, tuple[type, ...]] = {
    "schedule": (Scheduled,),
    "cancel": (JobOutcome,),
    "read": (StreamEntry,),
    "lock_many": (Lease, LeaseHeld, BackendError),
    "promote_many": (Promotion, LeaseLost, BackendError),
    "renew_many": (Renewal, LeaseLost, BackendError),
    "find_queues": (str,),
    "get_jobs": (StoredJob, type(None)),
    "count_jobs": (int,),
    "change_jobs": (JobOutcome,),
    "diagnose": (Finding,),
}
ONE_EACH = {  # which argument has one item for each answer
    "schedule": 1,
    "cancel": 1,
    "lock_many": 0,
    "promote_many": 0,
    "renew_many": 0,
    "get_jobs": 1,
    "count_jobs": 1,
    "change_jobs": 1,
}
NUMBERS = ("promoted", "depth", "oldest_pending_lag_ms", "now_ms", "malformed", "held_back")


STORED: dict[str, tuple[type, ...]] = {
    "id": (str, type(None)),
    "name": (str,),
    "envelope": (bytes,),
    "handle": (bytes,),
    "malformed": (bool,),
    "unique": (bool, type(None)),
    "traceparent": (str,),
    "tracestate": (str,),
}


def check_answer(name: str, where: str, args: Sequence[Any], answer: Any) -> None:
    """Check the answer of the method `name` to `args`. `where` is the method's name in messages."""
    expected = ANSWERS[name]
    if not isinstance(answer, expected) or (isinstance(answer, str) and Sequence in expected):
        raise AssertionError(f"{where} must return {_names(expected)}, not {type(answer).__name__}: {answer!r}")
    items: Any = answer if name in ITEMS else (answer,)
    for item in items:
        if name in ITEMS and not isinstance(item, ITEMS[name]):
            outer = "a tuple" if tuple in expected else "a sequence"
            raise AssertionError(f"{where} must return {outer} of {_names(ITEMS[name])}, not of {item!r}")
        _check_value(item)
    if name == "delete_dead_letters" and not _is_count(answer):
        raise AssertionError(f"{where} must return a whole number from 0, not {answer!r}")
    position = ONE_EACH.get(name, len(args))
    if position < len(args) and len(items) != len(args[position]):
        raise AssertionError(f"{where} must give one answer each: {len(items)} for {len(args[position])}")


def check_changes(changes: Any) -> None:
    """Check the answer of a feed."""
    if not isinstance(changes, Changes):
        raise AssertionError(f"ChangeFeed.next must return Changes, not {type(changes).__name__}: {changes!r}")
    for field in ("everything", "members"):
        if not isinstance(getattr(changes, field), bool):
            raise AssertionError(f"Changes.{field} must be bool, not {getattr(changes, field)!r}")
    for field in ("jobs", "locks"):
        if not _is_names(getattr(changes, field)):
            raise AssertionError(f"Changes.{field} must be a frozenset of str, not {getattr(changes, field)!r}")


def _names(types: tuple[type, ...]) -> str:
    return " or ".join("None" if t is type(None) else t.__name__ for t in types)


@singledispatch
def _check_value(value: Any) -> None:
    """Check what is in a value, by its type; the others have no parts to check."""


@_check_value.register
def _check_page(page: JobPage) -> None:
    if not isinstance(page.jobs, Sequence) or not all(isinstance(job, StoredJob) for job in page.jobs):
        raise AssertionError(f"JobPage.jobs must be a sequence of StoredJob, not {page.jobs!r}")
    if not isinstance(page.cursor, str):
        raise AssertionError(f"JobPage.cursor must be text, not {page.cursor!r}")
    if not _is_count(page.now_ms):
        raise AssertionError(f"JobPage.now_ms must be a whole number from 0, not {page.now_ms!r}")
    for job in page.jobs:
        _check_stored(job)


@_check_value.register
def _check_stored(job: StoredJob) -> None:
    for field, expected in STORED.items():
        if not isinstance(getattr(job, field), expected):
            raise AssertionError(f"StoredJob.{field} must be {_names(expected)}, not {getattr(job, field)!r}")
    for field in ("due_ms", "keep_id_ms"):
        if not _is_int_or_none(getattr(job, field)):
            raise AssertionError(f"StoredJob.{field} must be int or None, not {getattr(job, field)!r}")


@_check_value.register
def _check_promotion(p: Promotion) -> None:
    for field in NUMBERS:
        if not _is_count(getattr(p, field)):
            raise AssertionError(f"Promotion.{field} must be a whole number from 0, not {getattr(p, field)!r}")
    if not _is_int_or_none(p.next_due_ms):
        raise AssertionError(f"Promotion.next_due_ms must be int or None, not {p.next_due_ms!r}")
    if not (p.work_ms is None or (isinstance(p.work_ms, int | float) and 0 <= p.work_ms < float("inf"))):
        raise AssertionError(f"Promotion.work_ms must be a number of ms from 0, or None, not {p.work_ms!r}")
    if not isinstance(p.jobs, Sequence) or not all(isinstance(job, PromotedJob) for job in p.jobs):
        raise AssertionError(f"Promotion.jobs must be a sequence of PromotedJob, not {p.jobs!r}")
    for job in p.jobs:
        if not isinstance(job.id, str | None) or not isinstance(job.name, str) or not _is_int(job.due_ms):
            raise AssertionError(f"PromotedJob must have id: str | None, name: str and due_ms: int: {job!r}")


@_check_value.register
def _check_held(held: LeaseHeld) -> None:
    if not _is_int_or_none(held.remaining_ms):
        raise AssertionError(f"LeaseHeld.remaining_ms must be int or None, not {held.remaining_ms!r}")
    if not isinstance(held.holder, str | None):
        raise AssertionError(f"LeaseHeld.holder must be text or None, not {held.holder!r}")
    if not _is_count(held.oldest_pending_lag_ms):
        raise AssertionError(
            f"LeaseHeld.oldest_pending_lag_ms must be a whole number from 0, not {held.oldest_pending_lag_ms!r}"
        )


@_check_value.register
def _check_stats(s: QueueStats) -> None:
    for field in ("now_ms", "depth", "due", "oldest_pending_lag_ms", "stream_len", "events_len", "dlq_len", "parked"):
        if not _is_count(getattr(s, field)):
            raise AssertionError(f"QueueStats.{field} must be a whole number from 0, not {getattr(s, field)!r}")
    for field in ("next_due_ms", "lease_remaining_ms", "stream_added"):
        if not _is_int_or_none(getattr(s, field)):
            raise AssertionError(f"QueueStats.{field} must be int or None, not {getattr(s, field)!r}")
    if not isinstance(s.holder, str | None):
        raise AssertionError(f"QueueStats.holder must be text or None, not {s.holder!r}")


@_check_value.register
def _check_scheduled(scheduled: Scheduled) -> None:
    if not isinstance(scheduled.id, str) or not isinstance(scheduled.created, bool):
        raise AssertionError(f"Scheduled must have id: str and created: bool: {scheduled!r}")


@_check_value.register
def _check_renewal(r: Renewal) -> None:
    if not _is_int(r.now_ms):
        raise AssertionError(f"Renewal.now_ms must be int, not {r.now_ms!r}")
    if not isinstance(r.due, bool):
        raise AssertionError(f"Renewal.due must be bool, not {r.due!r}")
    if not _is_int_or_none(r.next_due_ms):
        raise AssertionError(f"Renewal.next_due_ms must be int or None, not {r.next_due_ms!r}")


@_check_value.register
def _check_entry(entry: StreamEntry) -> None:
    if not isinstance(entry.fields, Mapping):
        raise AssertionError(f"StreamEntry.fields must map str to bytes, not {entry.fields!r}")
    wrong = next(((k, v) for k, v in entry.fields.items() if not (isinstance(k, str) and isinstance(v, bytes))), None)
    if wrong is not None:
        raise AssertionError(f"StreamEntry.fields must map str to bytes, not {wrong!r}")


@_check_value.register
def _check_members(members: Members) -> None:
    if not _is_names(members.names):
        raise AssertionError(f"Members.names must be a frozenset of str, not {members.names!r}")
    if not _is_int_or_none(members.next_expiry_ms):
        raise AssertionError(f"Members.next_expiry_ms must be int or None, not {members.next_expiry_ms!r}")


@_check_value.register
def _check_finding(finding: Finding) -> None:
    if not isinstance(finding.severity, Severity):
        raise AssertionError(f"Finding.severity must be a Severity, not {finding.severity!r}")
    if not isinstance(finding.summary, str) or not finding.summary.strip():
        raise AssertionError(f"Finding.summary must be text that says something, not {finding.summary!r}")
    if not isinstance(finding.advice, str):
        raise AssertionError(f"Finding.advice must be text, not {finding.advice!r}")


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_int_or_none(value: object) -> bool:
    return value is None or _is_int(value)


def _is_count(value: Any) -> bool:
    return _is_int(value) and value >= 0


def _is_names(value: object) -> bool:
    return isinstance(value, frozenset) and all(isinstance(name, str) for name in value)
