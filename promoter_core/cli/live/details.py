"""Format a queue's figures and a job's details as lines of text."""

from __future__ import annotations

import json
from datetime import datetime, timedelta

from promoter_core import DelayedJob
from promoter_core.cli import jobs, output
from promoter_core.cli.live import frame
from promoter_core.cli.live.words import NOTHING, short_rate, short_s, sparkline
from promoter_core.monitor import LatenessProbe, QueueSnapshot

GROUPS = 4  # consumer groups shown
DATA = 20_000  # characters shown of a job's data


def leader(queue: QueueSnapshot) -> str:
    """Return the leader and its remaining lease."""
    if queue.stats is None:
        return ""
    if queue.stats.holder is None:
        return "no leader" + (": start `promoter run`" if queue.unled_jobs else "")
    lease = "" if queue.lease_s is None else f", lease {short_s(queue.lease_s)}"
    return f"leader {output.shown(queue.stats.holder)}{lease}"


def figures(queue: QueueSnapshot | None, probe: LatenessProbe | None, width: int) -> list[str]:
    """Return the figures of an opened queue."""
    if queue is None or queue.stats is None:
        why = "not read yet" if queue is None or queue.error is None else output.shown(str(queue.error))
        return [why]
    s = queue.stats
    lines = [f"delayed {s.depth:,}   due {s.due:,}   next {frame.next_due(queue)}   {short_rate(queue.added_per_s)} /s"]
    lines[0] += f"   parked {s.parked:,}" if s.parked else ""
    if queue.led and s.due and queue.overdue_s > 5:
        lines.append("due jobs wait although the queue has a leader: is the stream full? See the leader's log")
    if queue.coming is not None:
        lines.append(
            f"due within 1 min: {queue.coming.minute:,}   1 h: {queue.coming.hour:,}   1 day: {queue.coming.day:,}"
        )
    late = None if probe is None else probe.lateness
    if probe is not None and late is not None:
        seen = (
            f"lateness p50 {short_s(late.p50_ms / 1000)}   p99 {short_s(late.p99_ms / 1000)}   ({late.jobs:,} jobs)   "
        )
        lines.append(seen + sparkline(probe.recent_ms, max(min(40, width - len(seen)), 1)))
    else:
        lines.append("lateness: no promotion seen yet")
    lines.append(f"stream {s.stream_len:,}   events {s.events_len:,}   dead letters {s.dlq_len:,}")
    for group in s.groups[:GROUPS]:
        new = NOTHING if group.undelivered is None else f"{group.undelivered:,}"
        text = f"group {output.shown(group.name)}: {group.pending:,} pending, {new} undelivered"
        if group.pending and group.oldest_pending_ms is not None:
            age = short_s(max(s.now_ms - group.oldest_pending_ms, 0) / 1000)
            text += f", the oldest {age} old, with {output.shown(group.oldest_pending_consumer or NOTHING)}"
        lines.append(text)
    if len(s.groups) > GROUPS:
        lines.append(f"and {len(s.groups) - GROUPS:,} more groups")
    if queue.error is not None:
        lines.append(output.shown(str(queue.error)))
    return lines


def short(job: DelayedJob, now: datetime) -> str:
    """Return a job in a few words."""
    name = f" ({output.shown(job.name)})" if job.name else ""
    id = "(malformed)" if job.malformed else "(unreadable)" if job.id is None else output.shown(job.id)
    return f"job {id}{name}, {jobs.due_of(job, now)}"


def job(job: DelayedJob, now: datetime) -> str:
    """Return a job with all details and its data."""
    at = "" if job.due is None else f"{job.due.isoformat(sep=' ', timespec='milliseconds')}, "
    keep = output.show_ms((job.keep_id_for or timedelta()) / timedelta(milliseconds=1))
    taken = {None: "unknown", True: f"yes; for {keep} after it ran", False: "no"}[job.unique]
    created = NOTHING if job.created is None else job.created.isoformat(sep=" ", timespec="milliseconds")
    rows = [
        ("id", "malformed" if job.malformed else job.id or "unreadable"),
        ("name", job.name or NOTHING),
        ("due", at + jobs.due_of(job, now)),
        ("created", created),
        ("attempts", str(job.attempt)),
        ("id is taken", taken),
        ("traceparent", job.traceparent or NOTHING),
        ("size", f"{len(job.stored.envelope):,} bytes"),
    ]
    lines = [f"{label + ':':<13}{output.shown(value)}" for label, value in rows]
    return "\n".join([*lines, "", *(output.shown(line) for line in _data(job).split("\n"))])


def _data(job: DelayedJob) -> str:
    """Return the data as indented JSON, or as its Python repr if JSON cannot represent it."""
    try:
        text = json.dumps(job.data(), indent=2, ensure_ascii=False)
    except Exception:  # not JSON-serializable, which json reports with several types
        text = jobs.data_of(job)
    return text if len(text) <= DATA else f"{text[:DATA]}\n… of {len(text):,} characters"
