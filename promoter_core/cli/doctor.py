"""`promoter doctor`: check a store for problems that lose jobs or stop a promoter, in plain words."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Annotated

import typer

from promoter_core import Backend, DelayedQueue, QueueStats
from promoter_core.cli import near, options, output, session
from promoter_core.cli.arguments import Option
from promoter_core.spi import BackendError, DiagnosticsSupport, Finding, LayoutSupport, Severity

OVERDUE_MS = 1_000
AGAIN_S = 1.0  # between two looks at entries that are not delivered
LONG_LEASE_MS = 60_000

MARKS = {Severity.OK: "[green]ok[/]     ", Severity.WARNING: "[yellow]warning[/]", Severity.PROBLEM: "[red]problem[/]"}


def doctor(
    url: options.Url,
    queue: Annotated[
        str | None,
        Option("--queue", "-q", envvar="PROMOTER_QUEUE", help="Also check this queue.", callback=options.one_queue),
    ] = None,
    layout: options.Layout = None,
    json: options.Json = False,
) -> None:
    """Check a server for problems that lose jobs or stop a promoter. Exits with 1 if it finds any."""

    async def go(backend: Backend) -> list[Finding]:
        findings = [Finding(Severity.OK, "the store can be reached")]
        if isinstance(backend, DiagnosticsSupport):
            findings += await backend.diagnose()
        else:
            if not backend.capabilities.durable:
                findings.append(Finding(Severity.PROBLEM, "jobs end with the process", "use a durable backend"))
            what = f"the backend {type(backend).__name__} offers no further checks (DiagnosticsSupport)"
            findings.append(Finding(Severity.OK, what))
        if queue is not None:
            findings += await _look_at(backend, queue)
        return findings

    try:
        findings = session.with_backend(url, go, layout)
    except BackendError as error:
        if (advice := _advice(error, url, layout)) is None:
            raise
        findings = [Finding(Severity.PROBLEM, str(error), advice)]
    if json:
        output.print_json([asdict(f) for f in findings])
    else:
        _print(findings)
    if any(f.severity is Severity.PROBLEM for f in findings):
        raise typer.Exit(1)


def _advice(error: BackendError, url: str, layout: str | None) -> str | None:
    """Return advice where even connecting is refused, such as the rules that the user needs; None for other errors."""
    if error.code == "MISCONF":  # it refuses even PING
        return "look at the disk, and at the server's log"
    if error.code != "NOPERM":
        return None
    backend = session.registry().backend(url, layout=layout)
    return backend.layout.acl_advice() if isinstance(backend, LayoutSupport) else None


async def _look_at(backend: Backend, queue: str) -> list[Finding]:
    try:
        stats = await DelayedQueue(backend, queue).stats()
    except BackendError as error:
        return [Finding(Severity.PROBLEM, f"queue {queue!r} cannot be read: {error}", "nor can its promoter work")]
    findings = []
    if near.is_empty(stats) and (hint := await near.hint(backend, queue)):
        findings.append(Finding(Severity.WARNING, f"the store has no job of queue {queue!r}{hint}"))
    before = {group.name: group.undelivered for group in stats.groups if group.undelivered}
    if before:
        await asyncio.sleep(AGAIN_S)
        stats = await DelayedQueue(backend, queue).stats()
    # A backend without layouts has no consumer groups: its users run their own consumers.
    grouped = isinstance(backend, LayoutSupport) and session.to_stream(backend)
    return findings + _queue(stats, before, grouped=grouped)


def _queue(s: QueueStats, undelivered: Mapping[str, int], *, grouped: bool) -> list[Finding]:
    """Report a queue. `undelivered` is how many entries groups had not received a moment before."""
    findings = []
    if s.holder is None:
        advice = "start `promoter run`; if one runs, its log and its /readyz name the error"
        findings.append(Finding(Severity.WARNING, "no promoter leads this queue", advice))
    else:
        findings.append(_leader(s, s.holder))
    if s.dlq_len:
        what = output.count(s.dlq_len, "dead letter")
        findings.append(Finding(Severity.WARNING, what, "see `promoter dead-letters list`"))
    if s.parked:
        what = f"{output.count(s.parked, 'job')} parked: due after the year 9999, and so never"
        advice = (
            "a producer may have mixed up seconds and milliseconds: give them another time by `promoter reschedule`"
        )
        findings.append(Finding(Severity.WARNING, what, advice))
    if grouped and s.stream_len and not s.groups:
        findings.append(
            Finding(Severity.WARNING, "the stream has no consumer group", "nothing is ever trimmed; start a consumer")
        )
    busy = [g for g in s.groups if g.pending or g.undelivered]
    for g in busy:
        who = f", the oldest with consumer {g.oldest_pending_consumer}" if g.oldest_pending_consumer else ""
        waiting = "an unknown number" if g.undelivered is None else g.undelivered
        what = f"group {g.name} has {g.pending} entries unacknowledged{who}, and {waiting} not delivered"
        if g.undelivered and g.undelivered >= undelivered.get(g.name, g.undelivered + 1):
            what += ", no fewer than a second before"
            advice = "if no consumer of the group reads, start one; otherwise they do not keep up"
            findings.append(Finding(Severity.WARNING, what, advice))
        else:
            findings.append(Finding(Severity.OK, what))
    if s.due and s.oldest_pending_lag_ms > OVERDUE_MS:
        what = f"{output.count(s.due, 'job')} due, the oldest for {output.show_ms(s.oldest_pending_lag_ms)}"
        advice = "see the log of its promoter"
        if s.holder is None:
            advice = "start `promoter run`"
        elif busy:
            names = ", ".join(g.name for g in busy)
            advice = (
                f"if {s.stream_len} entries are the promoter's --max-stream-len, they wait for room: see the consumers "
                f"of {names}; otherwise see the log of the promoter"
            )
        findings.append(Finding(Severity.WARNING, what, advice))
    return findings


def _leader(s: QueueStats, holder: str) -> Finding:
    """Report the leader, and whether a promoter seems to renew its lock."""
    left_ms, overdue = s.lease_remaining_ms, s.oldest_pending_lag_ms > OVERDUE_MS
    left = "a lock that does not expire" if left_ms is None else f"{output.show_ms(left_ms)} of its lease left"
    what = f"{holder} leads, with {left}"
    if overdue:
        what += f"; {output.count(s.due, 'job')} overdue, the oldest by {output.show_ms(s.oldest_pending_lag_ms)}"
    if left_ms is None or (overdue and left_ms > LONG_LEASE_MS):
        return Finding(
            Severity.PROBLEM if overdue else Severity.WARNING, what, "if that process is gone, delete the lock"
        )
    if overdue:
        return Finding(Severity.WARNING, what, "see its log: it is draining a backlog, or the stream is full")
    return Finding(Severity.OK, what)


def _print(findings: Sequence[Finding]) -> None:
    for f in findings:
        output.out.print(f"{MARKS[f.severity]}  {output.plain(f.summary)}", highlight=False, soft_wrap=True)
        if f.advice:
            output.out.print(f"         → {output.plain(f.advice)}", style="dim", highlight=False, soft_wrap=True)
