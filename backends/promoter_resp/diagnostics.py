"""Diagnose a server, for `promoter doctor`: its settings, and a rehearsal of a job's whole life."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

from ulid import ULID

from promoter_core.spi import (
    QUEUE,
    REHEARSAL,
    BackendError,
    Finding,
    FleetBackend,
    JobQuery,
    JobRequest,
    Layout,
    LayoutSupport,
    Lease,
    LeaseHeld,
    ManagementSupport,
    PromotionRequest,
    Replace,
    Reschedule,
    RunNow,
    Severity,
    Wake,
    pack_envelope,
)
from promoter_resp.driver import Driver

Ask = Callable[..., Awaitable[Any]]

LOSSY = "allkeys-"  # prefix of policies that also evict keys without a time to live
FLEET_RULES = "+scan +psubscribe +zremrangebyscore"
CLOCK_S = 1.0
SLOW_S = 0.05  # for one command
ASKED = 3  # commands that are timed; the fastest counts
DUE_S = 0.01  # delay of the rehearsed job


class FleetOfLayout(FleetBackend, LayoutSupport, Protocol):
    """A backend that serves several queues."""


class _Rehearsed(FleetOfLayout, ManagementSupport, Protocol):
    """A backend whose every command is tried."""


async def diagnose(backend: _Rehearsed, driver: Driver, *, wait_replicas: int) -> list[Finding]:
    """Check the server, and rehearse a job's whole life on a temporary queue, of which nothing is left behind."""
    queue = f"{REHEARSAL}{ULID()}"
    key = backend.layout.keys_of(queue).lock
    findings = await look_at_server(lambda *command: driver.command(key, *command), wait_replicas=wait_replicas)
    if backend.layout.target:
        findings.append(delivery(backend.layout))
    try:
        act = partial(_rehearse_job, backend, driver)
        return [*findings, *await rehearse(backend, driver, queue, act, "a job cannot be scheduled and promoted")]
    finally:
        await _clean(backend.layout, driver, queue)


async def look_at_server(ask: Ask, *, wait_replicas: int = 0) -> list[Finding]:
    """Check the server's settings. `ask(*command)` sends a command; `wait_replicas` is the URL's."""

    async def _replicas(ask: Ask) -> Finding:
        return await _replication(ask, wait_replicas)

    findings: list[Finding] = []
    for check in (_version, _role, _latency, _clock, _memory, _persistence, _disk, _replicas, _cluster):
        try:
            found = await check(ask)
        except BackendError as error:
            what = f"{check.__name__.strip('_')} could not be checked: {error}"
            found = Finding(Severity.WARNING, what, "allow INFO, CONFIG GET and TIME to see it")
        if found is not None:
            findings.append(found)
    return findings


def delivery(layout: Layout) -> Finding:
    """Report where due jobs go, and the consumers with which that is tested."""
    target = layout.target.replace(QUEUE, "<queue>")
    tested = f", tested with {', '.join(layout.tested)}" if layout.tested else ""
    return Finding(Severity.OK, f"layout {layout.name}: due jobs go to the key {target}{tested}")


def woken(wake: Wake) -> Finding:
    """Report how a promoter notices changes on this server."""
    if wake is Wake.ANY_WRITE:
        return Finding(Severity.OK, "the server announces every write (client tracking)")
    if wake is Wake.ANNOUNCED:
        return Finding(Severity.OK, "jobs of this library are announced; for others the promoter polls")
    advice = "allow CLIENT TRACKING and SUBSCRIBE to its user"
    return Finding(Severity.WARNING, "changes are not announced: the promoter polls", advice)


def rules(error: BackendError, layout: Layout) -> str:
    """Return advice with the rules that a promoter's user needs; empty for another error than a missing permission."""
    return f"{layout.acl_advice()}, and for a fleet {FLEET_RULES}" if error.code == "NOPERM" else ""


async def _version(ask: Ask) -> Finding:
    info = await _info(ask, "server")
    name = "Valkey" if "valkey_version" in info else "Redis"
    version = info.get("valkey_version") or info.get("redis_version", "0")
    major = int(version.split(".")[0] or 0)
    if major < 7:
        return Finding(Severity.PROBLEM, f"{name} {version} is too old", "use Redis 7.0, Valkey 7.2 or newer")
    return Finding(Severity.OK, f"{name} {version}")


async def _role(ask: Ask) -> Finding:
    role = (await _info(ask, "replication")).get("role", "unknown")
    if role not in ("master", "primary"):
        return Finding(
            Severity.PROBLEM,
            f"the server is a {role}: it refuses writes",
            "give the primary, or redis+sentinel:// or a cluster URL",
        )
    return Finding(Severity.OK, "the server is a primary")


async def _latency(ask: Ask) -> Finding:
    took: list[float] = []
    for _ in range(ASKED):
        began_s = time.perf_counter()
        await ask(b"TIME")
        took.append(time.perf_counter() - began_s)
    what = f"a command takes {min(took) * 1000:.1f} ms"
    if min(took) < SLOW_S:
        return Finding(Severity.OK, what)
    return Finding(
        Severity.WARNING,
        f"{what}: the network to the server, or the server, is slow, and jobs are up to a few times that late",
        "run the promoter near the server; `redis-cli --latency` on another host shows which of the two it is",
    )


async def _clock(ask: Ask) -> Finding:
    before = time.time()
    seconds, micros = await ask(b"TIME")
    now = (before + time.time()) / 2
    ahead = int(seconds) + int(micros) / 1e6 - now
    if abs(ahead) > CLOCK_S:
        return Finding(
            Severity.WARNING,
            f"the server's clock is {ahead:+.1f} s from this machine's",
            "delays are exact; jobs for a time by this machine's clock are promoted that much too "
            f"{'early' if ahead > 0 else 'late'}: synchronize both by NTP",
        )
    return Finding(Severity.OK, f"clocks agree to {abs(ahead) * 1000:.0f} ms")


async def _memory(ask: Ask) -> Finding:
    info = await _info(ask, "memory")
    policy, limit = info.get("maxmemory_policy", "noeviction"), int(info.get("maxmemory", 0))
    if policy.startswith(LOSSY):
        return Finding(
            Severity.PROBLEM,
            f"maxmemory-policy is {policy}: the server may evict whole queues",
            "CONFIG SET maxmemory-policy noeviction",
        )
    if policy != "noeviction":
        return Finding(
            Severity.WARNING,
            f"maxmemory-policy is {policy}: locks and the dedup markers of promoted jobs may be evicted, and with "
            "ChasquiMQ's producers those of waiting jobs",
            "CONFIG SET maxmemory-policy noeviction",
        )
    if limit and int(info.get("used_memory", 0)) > limit * 0.9:
        return Finding(Severity.WARNING, "memory is nearly full: writes will be refused", "raise maxmemory")
    return Finding(Severity.OK, "nothing is evicted (noeviction)")


async def _persistence(ask: Ask) -> Finding:
    info = await _info(ask, "persistence")
    if info.get("aof_enabled") == "1":
        fsync = await _setting(ask, "appendfsync")
        if fsync == "no":
            return Finding(
                Severity.WARNING,
                "the append-only file is on, but appendfsync is no: a crash of the machine loses what the kernel had "
                "not written yet, up to half a minute",
                "CONFIG SET appendfsync everysec",
            )
        loses = {
            "always": "nothing that was acknowledged",
            "everysec": "at most about two seconds (appendfsync everysec)",
        }.get(fsync, "what appendfsync says")
        return Finding(Severity.OK, f"the append-only file is on: a crash of the machine loses {loses}")
    if await _setting(ask, "save") == "":
        return Finding(
            Severity.PROBLEM, "nothing is written to disk: a restart loses every job", "CONFIG SET appendonly yes"
        )
    return Finding(
        Severity.WARNING,
        "only snapshots are written: a crash loses what came after the last",
        "CONFIG SET appendonly yes",
    )


async def _disk(ask: Ask) -> Finding | None:
    info = await _info(ask, "persistence")
    if info.get("aof_enabled") == "1" and info.get("aof_last_write_status", "ok") != "ok":
        return Finding(
            Severity.PROBLEM,
            "the last write to the append-only file failed: the server refuses writes until it succeeds",
            "look at the disk, and at the server's log",
        )
    if info.get("rdb_last_bgsave_status", "ok") != "ok":
        return Finding(
            Severity.PROBLEM,
            "the last snapshot failed: by default the server refuses writes until one succeeds",
            "look at the disk, and at the server's log",
        )
    return None


async def _replication(ask: Ask, wait_replicas: int) -> Finding:
    """Check that a fail-over loses no acknowledged job: every replica that can be promoted must have it."""
    count = int((await _info(ask, "replication")).get("connected_slaves", 0))
    least = await _setting(ask, "min-replicas-to-write")
    needed = int(least) if least.isdigit() else 0
    if max(needed, wait_replicas) > count:
        setting = f"min-replicas-to-write {needed}" if needed > count else f"wait_replicas={wait_replicas}"
        return Finding(
            Severity.PROBLEM,
            f"{count} replicas are connected, and {setting} requires more: scheduling fails with NOREPLICAS",
            "bring the replicas back, or require fewer",
        )
    if not count:
        return Finding(
            Severity.WARNING,
            "no replica is connected",
            "a lost disk loses the jobs; with replicas, wait_replicas=N (all of them) is safer",
        )
    if max(needed, wait_replicas) < count:
        return Finding(
            Severity.WARNING,
            f"{count} replicas are connected; wait_replicas={wait_replicas} and min-replicas-to-write {needed}: a "
            "fail-over to a replica that lacks the last jobs loses them",
            f"?wait_replicas={count} in the producers' URLs, or min-replicas-to-write {count} on every node with any "
            "wait_replicas",
        )
    return Finding(
        Severity.OK,
        f"{count} replicas are connected; wait_replicas={wait_replicas}, min-replicas-to-write {needed}",
    )


async def _setting(ask: Ask, name: str) -> str:
    """Return a setting of the server; "?" if reading it is not permitted."""
    try:
        reply = await ask(b"CONFIG", b"GET", name)
        return _text(next(iter(reply.values())) if isinstance(reply, dict) else reply[1])
    except (BackendError, IndexError, StopIteration):
        return "?"


async def _cluster(ask: Ask) -> Finding | None:
    if (await _info(ask, "cluster")).get("cluster_enabled") != "1":
        return None
    state = _parse(await ask(b"CLUSTER", b"INFO")).get("cluster_state")
    if state != "ok":
        return Finding(Severity.PROBLEM, f"the cluster's state is {state}", "see CLUSTER NODES for what has failed")
    return Finding(Severity.OK, "the cluster's state is ok")


async def _info(ask: Ask, section: str) -> dict[str, str]:
    return _parse(await ask(b"INFO", section))


def _parse(reply: Any) -> dict[str, str]:
    """Parse INFO's text. redis-py has parsed it into a mapping; a cluster client can return one for each node."""
    if isinstance(reply, dict):
        if reply and all(isinstance(v, bytes | str) and "\r\n" in _text(v) for v in reply.values()):
            reply = next(iter(reply.values()))
        else:
            return {_text(k): _text(v) for k, v in reply.items()}
    lines = (line.partition(":") for line in _text(reply).splitlines() if not line.startswith("#"))
    return {key: value.strip() for key, colon, value in lines if colon}


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


async def rehearse(
    backend: FleetOfLayout, driver: Driver, queue: str, act: Callable[[Lease], Awaitable[list[Finding]]], failure: str
) -> list[Finding]:
    """Lead a temporary queue while `act` promotes, to find missing permissions. They are reported after `failure`."""
    try:
        lease = await backend.lock(queue, "promoter doctor", 5_000)
        if isinstance(lease, LeaseHeld):
            return []  # no other process uses this name
        found = await act(lease)
        await backend.stats(queue)
        await backend.unlock(lease)
    except BackendError as error:
        return [Finding(Severity.PROBLEM, f"{failure}: {error}", rules(error, backend.layout))]
    return [
        Finding(Severity.OK, "scripts and all their commands are permitted"),
        *found,
        await _rehearse_fleet(backend, driver, queue),
    ]


async def _rehearse_job(backend: _Rehearsed, driver: Driver, lease: Lease) -> list[Finding]:
    """Schedule, promote and manage a job."""
    job = JobRequest("doctor", pack_envelope("doctor", b"", 0, 0), delay_ms=60_000, unique=True)
    due = JobRequest("due", pack_envelope("due", b"", 0, 0), name="name", delay_ms=1, unique=True, keep_id_ms=0)
    await backend.schedule(lease.queue, [job, due])
    await asyncio.sleep(DUE_S)
    await backend.promote(lease, PromotionRequest(limit=10, max_stream_len=10, want_traces=True))
    wake = woken(driver.wake)
    (again,) = await backend.schedule(lease.queue, [due])
    await _rehearse_management(backend, lease.queue, job)
    return [wake] if again.created else [wake, _ids_stay_taken()]


async def _rehearse_management(backend: _Rehearsed, queue: str, job: JobRequest) -> None:
    """List, change and cancel waiting jobs, and run one now."""
    await backend.get_jobs(queue, [job.id])
    await backend.list_jobs(queue, JobQuery(want_details=True))
    await backend.count_jobs(queue, [0])
    await backend.change_jobs(queue, [Reschedule(job=job.id, delay_ms=60_000), Replace(request=job), RunNow(job="due")])
    await backend.cancel(queue, [job.id])


def _ids_stay_taken() -> Finding:
    what = "ids stay taken for an hour after the promotion, whatever keep_id_for says"
    return Finding(Severity.WARNING, what, "allow GETDEL, if producers use keep_id_for")


async def _rehearse_fleet(backend: FleetOfLayout, driver: Driver, queue: str) -> Finding:
    """Rehearse what only a fleet needs."""
    try:
        await backend.announce([queue])
        await backend.join_group(queue, "promoter doctor", 5_000)
        await backend.leave_group(queue, "promoter doctor")
        await driver.command(backend.layout.keys_of(queue).lock, b"SCAN", b"0", b"COUNT", 1)
    except BackendError as error:
        what = f"a promoter with a pattern or several queues ends with an error: {error}"
        return Finding(Severity.WARNING, what, rules(error, backend.layout) and f"for a fleet: {FLEET_RULES}")
    return Finding(Severity.OK, "several queues can be served in one process")


async def _clean(layout: Layout, driver: Driver, queue: str) -> None:
    """Leave nothing behind after a failure: delete each key separately, or let it expire if DEL is refused."""
    k = layout.keys_of(queue)
    ids = [prefix + id for prefix in (k.index, k.marker, k.trace, k.keep) for id in (b"", b"doctor", b"due")]
    keys = [k.delayed, k.lock, k.stream, k.events, k.dlq, layout.group_keys(queue)[0], *ids]
    for key in keys:
        try:
            await driver.command(key, b"DEL", key)
        except BackendError:
            with suppress(BackendError):
                await driver.command(key, b"PEXPIRE", key, 1_000)
