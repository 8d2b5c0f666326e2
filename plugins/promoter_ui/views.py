"""The contents of each page, as values for its template. Nothing here changes anything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from promoter_core import BackendError, ConfigError, JobError
from promoter_core.spi import DeadLetterSupport, is_pattern
from promoter_ui import charts, jobs, text
from promoter_ui.board import ROWS, SORTS, STATES, Asked, Board, Summary

LEADERS = 200  # maximum number shown
COLUMNS = {
    "name": "queue",
    "jobs": "jobs",
    "due": "due",
    "overdue": "overdue by",
    "next": "next due",
    "hour": "within an hour",
    "rate": "per second",
    "stream": "stream",
    "dead": "dead letters",
    "leader": "leader",
}
assert list(COLUMNS) == list(SORTS)

Params = Mapping[str, str]
Values = dict[str, Any]


async def overview(board: Board, params: Params) -> Values:
    asked = Asked.of(params)
    rows, total = await board.rows(asked)
    _, summary = board.queues()
    pages = max(-(-total // ROWS), 1)
    return _store(board) | {
        "asked": asked,
        "rows": rows,
        "total": total,
        "pages": pages,
        "summary": summary,
        "said": _said(summary),
        "ahead": charts.ahead(summary.due, summary.minute, summary.hour, summary.day),
        "late": _late(board, ""),
        "columns": list(COLUMNS.items()),
        "sort_links": {
            column: asked.link(
                sort=column, order="desc" if asked.sort == column and not asked.descending else None, page=None
            )
            for column in COLUMNS
        },
        "previous": asked.link(page=asked.page - 1) if asked.page > 1 else "",
        "next": asked.link(page=asked.page + 1) if asked.page < pages else "",
        "nothing": _nothing(board, asked, summary),
    }


def _late(board: Board, name: str) -> charts.Line:
    values = board.trail(name)
    return charts.line(values, len(values) * board.sampler.every_s)


def _said(summary: Summary) -> str:
    if not summary.queues:
        return ""
    words = [f"{n:,} {STATES[state]}" for state, n in summary.states.items() if n]
    return f"Queues with problems: {', '.join(words)}." if words else "No queue has a problem."


def _nothing(board: Board, asked: Asked, summary: Summary) -> str:
    if asked.find or asked.state or asked.leader or asked.page > 1:
        return "No queue matches."
    state = board.sampler.state()
    searching = state.discovery_s is None and not summary.queues
    return "Looking for queues." if searching else "No queue has jobs or a leader."


async def leaders(board: Board, params: Params) -> Values:
    found = board.leaders()
    return _store(board) | {
        "leaders": found,
        "shown_leaders": LEADERS,
        "led": sum(leader.queues for leader in found),
        "unled": board.queues()[1].states.get("unled", 0),
    }


async def queue(board: Board, params: Params) -> Values:
    """Return the page of a queue. Raises ConfigError, BackendError."""
    name = name_of(board, params)
    seen = await board.one(name)
    span = params.get("span", "")
    span = span if span in charts.SPANS else "hour"
    future = None
    if seen.stats is not None and seen.error is None:
        total = seen.stats.depth - seen.stats.parked
        try:
            future = await jobs.future(board.backend, name, span, seen.stats.now_ms, total)
        except BackendError:
            future = None  # show the other figures
    probe = None if is_pattern(name) else await board.probe(name)
    recent_s = [late_ms / 1000 for late_ms in probe.recent_ms] if probe is not None else []
    return _store(board) | {
        "lateness": None if probe is None else probe.lateness,
        "promoted": charts.line(recent_s, 0.0, f"the last {len(recent_s):,} jobs observed, newest on the right"),
        "queue": seen,
        "future": future,
        "late": _late(board, name),
    }


async def waiting(board: Board, params: Params) -> Values:
    """Return the jobs for a queue's page. Raises BackendError."""
    name, id, job_name = name_of(board, params), params.get("id", ""), params.get("name", "")
    found, unseen = None, ""
    try:
        if jobs.manageable(board.backend):
            found = await jobs.find(board.backend, name, id=id, name=job_name, after=params.get("after", ""))
        else:
            unseen = "This backend cannot show its waiting jobs."
    except (JobError, ConfigError) as exc:  # an invalid job id, job name or queue name
        unseen = str(exc)
    return {
        "name": name,
        "plain_name": name.isprintable(),
        "id": id,
        "job_name": job_name,
        "after": params.get("after", ""),
        "found": found,
        "unseen": unseen,
        "none_found": "No waiting job matches." if id or job_name or params.get("after") else "No waiting jobs.",
    }


async def job(board: Board, params: Params, *, show_data: bool) -> Values:
    """Return the page of a job. Raises ConfigError, JobError, BackendError."""
    name, id = name_of(board, params), params.get("id", "")
    found, now_ms = await jobs.get(board.backend, name, id, text.whole_number(params, "due"))
    return {
        "name": name,
        "id": id,
        "job": found,
        "details": {} if found is None else jobs.details(found, now_ms),
        "data": None if found is None or not show_data else jobs.data_of(found),
    }


async def dead(board: Board, params: Params, *, show_data: bool) -> Values:
    """Return the page of dead letters. Raises ConfigError, BackendError."""
    name, after = name_of(board, params), params.get("after", "")
    letters, cursor = await jobs.letters(board.backend, name, after)
    return {
        "name": name,
        "after": after,
        "letters": letters,
        "cursor": cursor,
        "show_data": show_data,
        "can_requeue": isinstance(board.backend, DeadLetterSupport),
    }


def name_of(board: Board, params: Params) -> str:
    """Return the requested queue. Raises ConfigError unless it can be seen here."""
    name = params.get("q", "")
    if not name or not board.allows(name):
        raise ConfigError(f"the queue {text.shown(name)[:100]!r} is not shown here")
    return name


def _store(board: Board) -> Values:
    """Return a notice about the store; empty while it answers."""
    state, reasons = board.sampler.state(), board.sampler.unready()
    said = ""
    if state.last_read_s is None:
        failed = state.failed_reads or state.failed_discoveries
        said = "The store has not answered yet." if failed else ""
    elif reasons or not state.reached:
        said = f"{reasons[0] if reasons else 'the store does not answer'}; showing the last known figures."
    return {"unready": said[:1].upper() + said[1:]}
