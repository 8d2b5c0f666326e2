"""What was made faster for users, beside the revision before: a section of `make bench`, with the aim of each row.

Both revisions run in turns and in random order, so the ratios hold on any machine. The modules that measure each row
(`trickle`, `scheduling`, `startup`, `script_ratio`, `fleet`) show more cases and take any revision.
"""

from __future__ import annotations

import asyncio
from itertools import groupby
from pathlib import Path
from statistics import median

from redis.asyncio import Redis

from benchmarks import fleet, scheduling, script_ratio, startup, trickle
from benchmarks.report import Report, Section
from benchmarks.servers import valkey

BEFORE = "41068c7"
COMMANDS = ("version", "options", "commands", "run")
STARTED = {"version": 0.25, "options": 0.25, "commands": 0.25, "run": 0.6}  # 404 ms of CPU before, 100 asked for
FLEET_QUEUES = 5_000


async def measure(report: Report, rounds: int) -> None:
    """All rows. `rounds` is a round of each comparison."""
    table = report.section(
        f"What is faster than at {BEFORE}",
        *("", "then", "now", "ratio", "aim"),
        note="Medians. CPU is that of the promoter's process.",
    )
    with startup.tree(BEFORE) as then:
        await asyncio.to_thread(_by_commit, report, table, then, rounds)
    with valkey() as url:
        async with Redis.from_url(url) as client:
            ours, theirs, _ = await fleet.idle(url, client, FLEET_QUEUES, 20)
    seen = f"{ours:.1f}% and {theirs:.1f}%"
    report.aim(f"{FLEET_QUEUES:,} idle queues, promoter and server", "≤ 2% of a core", seen, max(ours, theirs) <= 2)


def _by_commit(report: Report, table: Section, then: Path, rounds: int) -> None:
    with valkey() as url:
        for case, aim in (("redis", 0.6), ("uvloop", 0.5), ("glide", 1.0)):
            before, now, _ = trickle.measure(then, case, url, rounds * 2)
            what = f"a trickle of 500 jobs/s, {case}: µs of CPU a tick"
            table.add(what, before, now, now / before, f"≤ {aim:.2f}")
            if case != "glide":
                report.aim(what, f"≤ {aim:.2f} of before", f"{now / before:.2f}", now / before <= aim)
    for name in scheduling.CLIENTS:
        for kind, made in (("made", "Jobs made before"), ("new", "Jobs made as well")):
            found = scheduling.compare(then, name, kind, rounds)
            what = f"scheduling in bulk, {name}, {made}"
            table.add(f"{what}: jobs/s", found.then, found.now, found.now_then, "≥ 75,000/s")
            if name == "redis-py":
                report.aim(what, "≥ 75,000/s", f"{found.now:,.0f}/s", found.now >= 75_000)
                report.aim(f"{what}, of a bare loop", "≥ 1.50", f"{found.now_bare:.2f}", found.now_bare >= 1.5)
    with valkey() as url:
        for name in COMMANDS:
            cpu, took, cpu_now, took_now = startup.compare(then, url, name, rounds)
            leads = name == "run"  # how soon it leads, by the clock
            before, now = (took, took_now) if leads else (cpu, cpu_now)
            what = "promoter run leads: ms" if leads else f"promoter, {name}: ms of CPU"
            table.add(what, before, now, now / before, f"≤ {STARTED[name]:.2f}")
            report.aim(what, f"≤ {STARTED[name]:.2f} of before", f"{now / before:.2f}", now / before <= STARTED[name])
    _scripts(report, table, rounds)


def _scripts(report: Report, table: Section, rounds: int) -> None:
    """The promote script, batches by themselves and small ticks together."""
    found = script_ratio.compare(BEFORE, script_ratio.cases(), rounds * 10)
    for small, group in groupby(found, key=lambda each: each[0].name.startswith("small")):
        speeds = []
        for case, seen in group:
            speeds.append(seen.speed)
            if not small:
                named = case.name in ("named", "named with index", "named with events", "named with index+events")
                table.add(f"promote script, {case.name}: µs", seen.then_us, seen.now_us, seen.speed, "≥ 1.08" * named)
                if named:
                    report.aim(f"promote script, {case.name}", "≥ 1.08×", f"{seen.speed:.2f}×", seen.speed >= 1.08)
        if small:
            table.add(f"promote script, {len(speeds)} small ticks: median speed", "", "", median(speeds), "")
